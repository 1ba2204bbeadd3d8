#include "editor/controls.h"

namespace stemline::editor {
namespace {

bool triggeredBySpace(juce::Button& button, const juce::KeyPress& key) {
    if (!button.isEnabled() || key != juce::KeyPress(juce::KeyPress::spaceKey))
        return false;
    button.triggerClick();
    return true;
}

} // namespace

void showHostMenu(juce::Component& control, juce::RangedAudioParameter& parameter) {
    const auto* editor = control.findParentComponentOfClass<juce::AudioProcessorEditor>();
    const auto* context = editor == nullptr ? nullptr : editor->getHostContext();
    if (context == nullptr)
        return;
    if (const auto menu = context->getContextMenuForParameter(&parameter))
        menu->showNativeMenu(editor->getMouseXYRelative());
}

PushButton::PushButton(const juce::String& id, const juce::String& shown, const LookAndFeel& look, Kind kind)
    : juce::Button(shown), look_(look), kind_(kind), text_(shown) {
    setComponentID(id);
    setTitle(shown);
    setMouseClickGrabsKeyboardFocus(false);
    setWantsKeyboardFocus(true);
}

void PushButton::setIcon(juce::Path icon) {
    icon_ = std::move(icon);
    repaint();
}

void PushButton::setKind(Kind kind) {
    if (std::exchange(kind_, kind) != kind)
        repaint();
}

void PushButton::setShown(const juce::String& shown, bool iconOnly) {
    if (shown == text_ && iconOnly == iconOnly_)
        return;
    text_ = shown;
    iconOnly_ = iconOnly;
    repaint();
}

void PushButton::setLit(bool lit) {
    if (std::exchange(lit_, lit) != lit)
        repaint();
}

void PushButton::paintButton(juce::Graphics& g, bool hover, bool down) {
    const auto area = getLocalBounds().toFloat();
    auto colour = look_.textColour(isEnabled());
    if ((kind_ == Kind::primary || lit_) && isEnabled()) {
        const auto on = look_.theme[Token::on];
        const auto away = look_.theme[Token::ink];
        g.setColour(down    ? on.interpolatedWith(away, 0.2f)
                    : hover ? on.interpolatedWith(away.contrasting(), 0.5f)
                            : on);
        g.fillRoundedRectangle(area, radius_);
        colour = look_.theme[Token::ink];
    } else if (kind_ != Kind::quiet || hover || down) {
        look_.drawControl(g, area, {isEnabled(), hover, down}, radius_);
    }
    auto label = area.reduced(8, 0);
    if (!icon_.isEmpty()) {
        const float width = iconOnly_ ? 0 : 9 + widthOf(text_, font(13, Weight::medium));
        auto box = area.withSizeKeepingCentre(18 + width, 18).translated(iconOnly_ ? 0.0f : -3.0f, 0);
        drawIcon(g, icon_, box.removeFromLeft(18), colour);
        label = box.withTrimmedLeft(9).expanded(1, 0).withY(area.getY()).withHeight(area.getHeight());
    }
    if (!iconOnly_)
        drawLine(g, text_, label, font(13, Weight::medium), colour, juce::Justification::horizontallyCentred);
}

bool PushButton::keyPressed(const juce::KeyPress& key) {
    return triggeredBySpace(*this, key) || juce::Button::keyPressed(key);
}

LaneToggle::LaneToggle(const juce::String& id, const juce::String& letter, Token on, const LookAndFeel& look,
                       juce::RangedAudioParameter& parameter)
    : juce::Button(letter), look_(look), on_(on), parameter_(parameter), attachment_(parameter, *this) {
    setComponentID(id);
    setClickingTogglesState(true);
    setMouseClickGrabsKeyboardFocus(false);
    setWantsKeyboardFocus(true);
}

void LaneToggle::paintButton(juce::Graphics& g, bool hover, bool down) {
    const auto area = getLocalBounds().toFloat();
    const bool lit = getToggleState() && isEnabled();
    if (lit) {
        g.setColour(look_.theme[on_]);
        g.fillRoundedRectangle(area, 5);
    } else {
        look_.drawControl(g, area, {isEnabled(), hover, down}, 5);
    }
    const auto colour = lit ? look_.theme[Token::ink] : isEnabled() ? look_.theme[Token::hi] : look_.theme[Token::off];
    drawLine(g, getName(), area, font(13, Weight::medium), colour, juce::Justification::horizontallyCentred);
}

void LaneToggle::clicked() {
    if (!alone_ || !onAlone)
        return;
    setToggleState(true, juce::dontSendNotification); // the attachment reads this right after
    onAlone();
}

void LaneToggle::mouseDown(const juce::MouseEvent& event) {
    if (event.mods.isPopupMenu())
        showHostMenu(*this, parameter_);
    else
        juce::Button::mouseDown(event);
}

/** Only this click's: `clicked` is also told of keys that are held while others switch this one. */
void LaneToggle::mouseUp(const juce::MouseEvent& event) {
    const juce::ScopedValueSetter alone(alone_, event.mods.isCommandDown());
    juce::Button::mouseUp(event);
}

bool LaneToggle::keyPressed(const juce::KeyPress& key) {
    return triggeredBySpace(*this, key) || juce::Button::keyPressed(key);
}

ChoiceSwitch::ChoiceSwitch(const juce::String& id, const LookAndFeel& look, const juce::StringArray& choices)
    : look_(look), choices_(choices) {
    setComponentID(id);
    setMouseClickGrabsKeyboardFocus(false);
    setWantsKeyboardFocus(true);
}

ChoiceSwitch::ChoiceSwitch(const juce::String& id, const LookAndFeel& look, juce::RangedAudioParameter& parameter)
    : ChoiceSwitch(id, look, parameter.getAllValueStrings()) {
    parameter_ = &parameter;
    attachment_ =
        std::make_unique<juce::ParameterAttachment>(parameter, [this](float value) { show(juce::roundToInt(value)); });
    attachment_->sendInitialUpdate();
}

void ChoiceSwitch::show(int choice) {
    if (std::exchange(chosen_, choice) == choice)
        return;
    repaint();
    if (auto* handler = getAccessibilityHandler())
        handler->notifyAccessibilityEvent(juce::AccessibilityEvent::valueChanged);
}

void ChoiceSwitch::choose(int choice) {
    if (!isEnabled() || choice < 0 || choice >= choices_.size() || choice == chosen_)
        return;
    if (attachment_ != nullptr)
        return attachment_->setValueAsCompleteGesture(static_cast<float>(choice));
    show(choice);
    if (onChoose)
        onChoose(choice);
}

/** Longer texts get more room, but only half as much as they are longer. */
juce::Rectangle<float> ChoiceSwitch::cell(int choice) const {
    const auto type = font(13, Weight::medium);
    float texts = 0, before = 0;
    for (int index = 0; index < choices_.size(); ++index) {
        const float half = widthOf(choices_[index], type) / 2;
        texts += half;
        before += index < choice ? half : 0;
    }
    const float padding = (static_cast<float>(getWidth()) - texts) / static_cast<float>(choices_.size());
    return {before + padding * static_cast<float>(choice), 0, widthOf(choices_[choice], type) / 2 + padding,
            static_cast<float>(getHeight())};
}

int ChoiceSwitch::at(juce::Point<float> point) const {
    for (int choice = 0; choice < choices_.size(); ++choice)
        if (point.x < cell(choice).getRight())
            return choice;
    return choices_.size() - 1;
}

void ChoiceSwitch::paint(juce::Graphics& g) {
    const auto area = getLocalBounds().toFloat();
    const auto& theme = look_.theme;
    g.setColour(theme[isEnabled() ? Token::inset : Token::head]);
    g.fillRoundedRectangle(area, cornerRadius);
    g.setColour(theme[isEnabled() ? Token::edge : Token::line]);
    g.drawRoundedRectangle(area.reduced(0.5f), cornerRadius - 0.5f, 1);
    for (int choice = 0; choice < choices_.size(); ++choice) {
        const auto segment = cell(choice).reduced(3);
        const bool selected = choice == chosen_;
        if (selected || (choice == hovered_ && isEnabled())) {
            g.setColour(theme[!selected ? Token::hover : isEnabled() ? Token::on : Token::line]);
            g.fillRoundedRectangle(segment, 4);
        }
        const auto colour = !isEnabled() ? theme[Token::off] : theme[selected ? Token::ink : Token::hi];
        drawLine(g, choices_[choice], segment.expanded(3, 0), font(13, Weight::medium), colour,
                 juce::Justification::horizontallyCentred);
    }
}

void ChoiceSwitch::mouseDown(const juce::MouseEvent& event) {
    if (event.mods.isPopupMenu() && parameter_ != nullptr)
        showHostMenu(*this, *parameter_);
    else
        choose(at(event.position));
}

void ChoiceSwitch::mouseMove(const juce::MouseEvent& event) {
    hovered_ = at(event.position);
    repaint();
}

void ChoiceSwitch::mouseExit(const juce::MouseEvent&) {
    hovered_ = -1;
    repaint();
}

bool ChoiceSwitch::keyPressed(const juce::KeyPress& key) {
    const int code = key.getKeyCode();
    if (code == juce::KeyPress::leftKey || code == juce::KeyPress::upKey)
        choose(chosen_ - 1);
    else if (code == juce::KeyPress::rightKey || code == juce::KeyPress::downKey)
        choose(chosen_ + 1);
    else if (code == juce::KeyPress::spaceKey || code == juce::KeyPress::returnKey)
        choose((chosen_ + 1) % choices_.size());
    else
        return false;
    return true;
}

std::unique_ptr<juce::AccessibilityHandler> ChoiceSwitch::createAccessibilityHandler() {
    struct Value final : juce::AccessibilityTextValueInterface {
        explicit Value(ChoiceSwitch& owner) : owner_(owner) {}
        bool isReadOnly() const override { return false; }
        juce::String getCurrentValueAsString() const override { return owner_.choices_[owner_.chosen_]; }
        void setValueAsString(const juce::String& value) override { owner_.choose(owner_.choices_.indexOf(value)); }
        ChoiceSwitch& owner_;
    };
    return std::make_unique<juce::AccessibilityHandler>(
        *this, juce::AccessibilityRole::comboBox,
        juce::AccessibilityActions().addAction(juce::AccessibilityActionType::press,
                                               [this] { choose((chosen_ + 1) % choices_.size()); }),
        juce::AccessibilityHandler::Interfaces{std::make_unique<Value>(*this)});
}

DropDown::DropDown(const juce::String& id, const LookAndFeel&) {
    setComponentID(id);
    setMouseClickGrabsKeyboardFocus(false);
    setWantsKeyboardFocus(true);
}

DropDown::DropDown(const juce::String& id, const LookAndFeel& look, juce::RangedAudioParameter& parameter)
    : DropDown(id, look) {
    parameter_ = &parameter;
    addItemList(parameter.getAllValueStrings(), 1);
    attachment_ = std::make_unique<juce::ComboBoxParameterAttachment>(parameter, *this);
}

void DropDown::mouseDown(const juce::MouseEvent& event) {
    if (event.mods.isPopupMenu() && parameter_ != nullptr)
        showHostMenu(*this, *parameter_);
    else
        juce::ComboBox::mouseDown(event);
}

bool DropDown::keyPressed(const juce::KeyPress& key) {
    if (isEnabled() && key == juce::KeyPress(juce::KeyPress::spaceKey)) {
        showPopup();
        return true;
    }
    return juce::ComboBox::keyPressed(key);
}

Switch::Switch(const juce::String& id, const LookAndFeel& look) : juce::Button(id), look_(look) {
    setComponentID(id);
    setClickingTogglesState(true);
    setMouseClickGrabsKeyboardFocus(false);
    setWantsKeyboardFocus(true);
}

void Switch::paintButton(juce::Graphics& g, bool, bool) {
    const auto area = getLocalBounds().toFloat();
    const bool on = getToggleState(), forced = on && !isEnabled();
    const float radius = area.getHeight() / 2;
    g.setColour(look_.theme[forced ? Token::mid : !isEnabled() ? Token::head : on ? Token::on : Token::inset]);
    g.fillRoundedRectangle(area, radius);
    if (!on) {
        g.setColour(look_.theme[isEnabled() ? Token::edge : Token::line]);
        g.drawRoundedRectangle(area.reduced(0.5f), radius - 0.5f, 1);
    }
    auto knob = area.reduced(3);
    knob = on ? knob.withLeft(knob.getRight() - knob.getHeight()) : knob.withWidth(knob.getHeight());
    g.setColour(look_.theme[forced ? Token::bar : !isEnabled() ? Token::off : on ? Token::ink : Token::mid]);
    g.fillEllipse(knob);
}

bool Switch::keyPressed(const juce::KeyPress& key) {
    return triggeredBySpace(*this, key) || juce::Button::keyPressed(key);
}

} // namespace stemline::editor
