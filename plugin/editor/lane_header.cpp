#include "editor/lane_header.h"
#include "editor/texts.h"

namespace stemline::editor {
namespace {

constexpr float meterFloorDb = -60.0f;

/** Height of a level in a meter, 0 to 1. */
float levelHeight(float linear) {
    return juce::jlimit(0.0f, 1.0f, 1.0f - juce::Decibels::gainToDecibels(linear, meterFloorDb) / meterFloorDb);
}

} // namespace

LevelMeter::LevelMeter(int lane, const LookAndFeel& look) : look_(look), lane_(lane) {
    setComponentID((lane < 0 ? juce::String("source") : juce::String(stemName(static_cast<Stem>(lane)))) + ".meter");
    setTitle(laneTitle(lane) + " level");
}

void LevelMeter::show(const Meter& meter, int channels) {
    if (meter.peak == meter_.peak && meter.rms == meter_.rms && channels == channels_)
        return;
    meter_ = meter;
    channels_ = channels;
    repaint();
}

void LevelMeter::paint(juce::Graphics& g) {
    const auto colour = look_.theme.lane(lane_);
    const float height = static_cast<float>(getHeight());
    for (size_t bar = 0; bar < 2; ++bar) {
        const size_t channel = channels_ == 1 ? 0 : bar;
        const juce::Rectangle<float> well(static_cast<float>(bar) * 5, 0, 3, height);
        g.setColour(look_.theme[Token::inset]);
        g.fillRect(well);
        g.setColour(colour);
        g.fillRect(well.withTop(height * (1 - levelHeight(meter_.rms[channel]))));
        if (const float peak = levelHeight(meter_.peak[channel]); peak > 0) {
            g.setColour(meter_.peak[channel] > 1 ? look_.theme[Token::err] : look_.theme[Token::hi]);
            g.fillRect(well.withTop(juce::jmin(height - 1, height * (1 - peak))).withHeight(1));
        }
    }
}

std::unique_ptr<juce::AccessibilityHandler> LevelMeter::createAccessibilityHandler() {
    struct Value final : juce::AccessibilityTextValueInterface {
        explicit Value(const LevelMeter& owner) : owner_(owner) {}
        bool isReadOnly() const override { return true; }
        juce::String getCurrentValueAsString() const override {
            const float peak = juce::jmax(owner_.meter_.peak[0], owner_.meter_.peak[1]);
            return gainText(juce::Decibels::gainToDecibels(peak, meterFloorDb)) + " decibels";
        }
        void setValueAsString(const juce::String&) override {}
        const LevelMeter& owner_;
    };
    return std::make_unique<juce::AccessibilityHandler>(
        *this, juce::AccessibilityRole::label, juce::AccessibilityActions(),
        juce::AccessibilityHandler::Interfaces{std::make_unique<Value>(*this)});
}

LaneHeader::LaneHeader(int lane, const LookAndFeel& look, juce::AudioProcessorValueTreeState& parameters)
    : look_(look), lane_(lane), meter_(lane, look) {
    addAndMakeVisible(meter_);
    if (lane < 0)
        return;
    const juce::String name = stemName(static_cast<Stem>(lane));
    const auto parameter = [&](const char* suffix) -> juce::RangedAudioParameter& {
        return *parameters.getParameter(name + suffix);
    };
    fader_ = std::make_unique<Fader>(name + ".gain", lane, look, parameter("_gain_db"));
    fader_->setTooltip(laneTitle(lane) + " gain. Double click: 0 dB; Shift: fine; Enter: type");
    value_ = std::make_unique<GainValue>(look, *fader_);
    solo_ = std::make_unique<LaneToggle>(name + ".solo", "S", Token::solo, look, parameter("_solo"));
    solo_->setTitle("Solo " + name);
    solo_->onAlone = [this] {
        if (onAlone)
            onAlone(lane_);
    };
    mute_ = std::make_unique<LaneToggle>(name + ".mute", "M", Token::mute, look, parameter("_mute"));
    mute_->setTitle("Mute " + name);
    fader_->setExplicitFocusOrder(1);
    solo_->setExplicitFocusOrder(2);
    mute_->setExplicitFocusOrder(3);
    for (juce::Component* child :
         {static_cast<juce::Component*>(fader_.get()), static_cast<juce::Component*>(value_.get()),
          static_cast<juce::Component*>(solo_.get()), static_cast<juce::Component*>(mute_.get())})
        addAndMakeVisible(child);
}

void LaneHeader::place(const LaneBoxes& boxes, bool compact) {
    boxes_ = boxes;
    meter_.setBounds(boxes.meter);
    if (lane_ < 0)
        return;
    fader_->setBounds(boxes.gain);
    value_->setBounds(boxes.value);
    value_->setCompact(compact);
    solo_->setBounds(boxes.solo);
    mute_->setBounds(boxes.mute);
}

void LaneHeader::show(const EditorState& state, int number) {
    meter_.show(state.meters[static_cast<size_t>(lane_ + 1)], state.channels);
    const bool asleep = isAsleep(state);
    if (fader_ != nullptr) {
        fader_->setDimmed(muted());
        for (auto* child : {static_cast<juce::Component*>(fader_.get()), static_cast<juce::Component*>(solo_.get()),
                            static_cast<juce::Component*>(mute_.get())})
            child->setEnabled(!asleep);
    }
    const auto subtitle = lane_ < 0 ? sourceText(state) : juce::String();
    if (number == number_ && subtitle == subtitle_ && asleep == asleep_)
        return;
    number_ = number;
    subtitle_ = subtitle;
    asleep_ = asleep;
    if (solo_ != nullptr) {
        solo_->setTooltip("Solo (" + juce::String(number) + "). Ctrl or Cmd: this alone");
        mute_->setTooltip("Mute (Shift+" + juce::String(number) + ")");
    }
    repaint();
}

void LaneHeader::paint(juce::Graphics& g) {
    const auto& theme = look_.theme;
    const auto tile = boxes_.tile.toFloat();
    if (asleep_) {
        g.setColour(theme[Token::line]);
        g.drawRoundedRectangle(tile.reduced(0.5f), 4.5f, 1);
    } else {
        g.setColour(theme.lane(lane_));
        g.fillRoundedRectangle(tile, 5);
    }
    const auto onTile = asleep_ ? theme[Token::off] : theme.onLane(lane_);
    if (lane_ < 0)
        drawIcon(g, arrowIcon(), tile.withSizeKeepingCentre(14, 14), theme[asleep_ ? Token::off : Token::ink]);
    else
        drawLine(g, juce::String(number_), tile, font(13, Weight::medium), onTile,
                 juce::Justification::horizontallyCentred);
    const auto row = boxes_.name.getUnion(boxes_.value);
    const auto name = lane_ < 0 ? row.withRight(boxes_.meter.getX() - 6) : boxes_.name;
    drawLine(g, laneTitle(lane_), name, font(13, Weight::medium), theme[asleep_ ? Token::dim : Token::hi]);
    if (lane_ < 0)
        drawLine(g, subtitle_, boxes_.gain.withRight(boxes_.meter.getX() - 6), font(12),
                 theme[asleep_ ? Token::dim : Token::mid]);
}

void LaneHeader::setSolo(bool on) {
    if (solo_ != nullptr && on != solo_->getToggleState())
        solo_->setToggleState(on, juce::sendNotificationSync);
}

void LaneHeader::setMute(bool on) {
    if (mute_ != nullptr && on != mute_->getToggleState())
        mute_->setToggleState(on, juce::sendNotificationSync);
}

} // namespace stemline::editor
