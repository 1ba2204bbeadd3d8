#include "editor/fader.h"
#include "editor/geometry.h"
#include "editor/texts.h"

namespace stemline::editor {
namespace {

constexpr float thumbWidth = 7, thumbHeight = 11, inset = 5;
constexpr double fine = 0.1;

} // namespace

Fader::Fader(const juce::String& id, int stem, const LookAndFeel& look, juce::RangedAudioParameter& parameter)
    : juce::Slider(juce::Slider::LinearHorizontal, juce::Slider::NoTextBox), look_(look), parameter_(parameter),
      stem_(stem), attachment_(parameter, *this) {
    setComponentID(id);
    setMouseClickGrabsKeyboardFocus(false);
    setWantsKeyboardFocus(true);
    setScrollWheelEnabled(false); // the wheel moves the timeline
    valueChanged();
}

void Fader::setDimmed(bool dimmed) {
    if (std::exchange(dimmed_, dimmed) != dimmed)
        repaint();
}

juce::Rectangle<int> Fader::focusBox() const {
    return juce::Rectangle<float>(thumbWidth, thumbHeight)
        .withCentre({thumbX(), static_cast<float>(getHeight()) / 2})
        .toNearestInt();
}

float Fader::thumbX() const {
    return inset + static_cast<float>(faderPosition(getValue())) * (static_cast<float>(getWidth()) - 2 * inset);
}

void Fader::paint(juce::Graphics& g) {
    const auto& theme = look_.theme;
    const auto area = getLocalBounds().toFloat();
    const float centre = area.getCentreY() - 0.5f, x = thumbX();
    const juce::Rectangle<float> track(0, centre - 2, area.getWidth(), 4);
    g.setColour(theme[Token::inset]);
    g.fillRoundedRectangle(track, 2);
    if (!isEnabled()) {
        g.setColour(theme[Token::line]);
        g.drawRoundedRectangle(track.reduced(0.5f), 1.5f, 1);
    } else {
        g.setColour(dimmed_ ? theme[Token::mid] : theme.lane(stem_));
        g.fillRoundedRectangle(track.withRight(x), 2);
    }
    const float zero = inset + 0.75f * (area.getWidth() - 2 * inset);
    g.setColour(theme[Token::edge]);
    g.fillRect(juce::Rectangle<float>(zero - 0.5f, centre - 6, 1, 12));
    const juce::Rectangle<float> thumb(x - thumbWidth / 2, centre - thumbHeight / 2, thumbWidth, thumbHeight);
    g.setColour(theme[Token::head]);
    g.fillRoundedRectangle(thumb.expanded(1.5f), 3);
    g.setColour(theme[isEnabled() ? Token::on : Token::off]);
    g.fillRoundedRectangle(thumb, 2);
}

void Fader::mouseDown(const juce::MouseEvent& event) {
    if (event.mods.isPopupMenu())
        return showHostMenu(*this, parameter_);
    if (!isEnabled())
        return;
    gesture_ = std::make_unique<ScopedDragNotification>(*this);
    lastX_ = event.position.x;
    proportion_ = faderPosition(getValue());
    if (std::abs(lastX_ - thumbX()) > thumbWidth) { // beside the thumb: it comes here
        proportion_ = (lastX_ - inset) / (static_cast<float>(getWidth()) - 2 * inset);
        setValue(faderDecibels(juce::jlimit(0.0, 1.0, proportion_)), juce::sendNotificationSync);
    }
}

void Fader::mouseDrag(const juce::MouseEvent& event) {
    if (gesture_ == nullptr)
        return;
    const double moved = (event.position.x - lastX_) / (static_cast<float>(getWidth()) - 2 * inset);
    proportion_ += event.mods.isShiftDown() ? fine * moved : moved;
    lastX_ = event.position.x;
    setValue(faderDecibels(juce::jlimit(0.0, 1.0, proportion_)), juce::sendNotificationSync);
}

void Fader::mouseUp(const juce::MouseEvent&) { gesture_.reset(); }

void Fader::mouseDoubleClick(const juce::MouseEvent&) {
    if (isEnabled())
        setValue(0, juce::sendNotificationSync);
}

bool Fader::keyPressed(const juce::KeyPress& key) {
    const int code = key.getKeyCode();
    if (code == juce::KeyPress::returnKey && isEnabled() && onType) {
        onType();
        return true;
    }
    const double step = key.getModifiers().isShiftDown() ? 0.1 : 0.5;
    double change = 0;
    if (code == juce::KeyPress::upKey || code == juce::KeyPress::rightKey)
        change = step;
    else if (code == juce::KeyPress::downKey || code == juce::KeyPress::leftKey)
        change = -step;
    else
        return false;
    const ScopedDragNotification gesture(*this);
    setValue(getValue() + change, juce::sendNotificationSync);
    return true;
}

void Fader::valueChanged() {
    setTitle(laneTitle(stem_) + " gain, " + gainText(getValue()) + " decibels");
    repaint();
    if (auto* parent = getParentComponent())
        parent->repaint(); // the value beside it
}

double Fader::proportionOfLengthToValue(double proportion) { return faderDecibels(proportion); }
double Fader::valueToProportionOfLength(double decibels) { return faderPosition(decibels); }

GainValue::GainValue(const LookAndFeel& look, Fader& fader) : look_(look), fader_(fader) {
    setTooltip("Double click to type a gain");
    fader.onType = [this] { type(true); };
    setAccessible(false); // the fader says it
}

void GainValue::setCompact(bool compact) {
    compact_ = compact;
    repaint();
}

void GainValue::paint(juce::Graphics& g) {
    if (field_ == nullptr)
        drawLine(g, gainText(fader_.getValue()) + (compact_ ? "" : " dB"), getLocalBounds(), font(12),
                 look_.theme[fader_.isEnabled() ? Token::mid : Token::off], juce::Justification::right);
}

void GainValue::resized() {
    if (field_ != nullptr)
        field_->setBounds(getLocalBounds());
}

void GainValue::type(bool byKey) {
    if (!fader_.isEnabled())
        return;
    byKey_ = byKey;
    field_ = std::make_unique<juce::TextEditor>();
    field_->setFont(font(12));
    field_->setJustification(juce::Justification::centredRight);
    field_->setBorder({});
    field_->setComponentID(fader_.getComponentID() + ".value");
    field_->setTitle(laneTitle(fader_.stem()) + " gain in decibels");
    field_->setText(gainText(fader_.getValue()));
    field_->onReturnKey = [this] { finish(true); };
    field_->onEscapeKey = [this] { finish(false); };
    field_->onFocusLost = [this] { finish(true); };
    addAndMakeVisible(*field_);
    resized();
    field_->selectAll();
    field_->grabKeyboardFocus();
}

void GainValue::finish(bool keep) {
    if (field_ == nullptr)
        return;
    const std::shared_ptr<juce::TextEditor> field = std::move(field_);
    field->onFocusLost = nullptr;
    if (double decibels = 0; keep && gainFromText(field->getText(), decibels)) {
        const juce::Slider::ScopedDragNotification gesture(fader_);
        fader_.setValue(decibels, juce::sendNotificationSync);
    }
    if (byKey_)
        fader_.grabKeyboardFocus();
    removeChildComponent(field.get());
    // Its own callback is still running.
    juce::MessageManager::callAsync([field] {});
    repaint();
}

} // namespace stemline::editor
