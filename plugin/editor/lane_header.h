#pragma once
// The left part of a lane: number, name, gain, solo, mute, level.

#include "editor/editor_state.h"
#include "editor/fader.h"
#include "editor/geometry.h"

namespace stemline::editor {

/** Two bars, read only. */
class LevelMeter final : public juce::Component, public juce::SettableTooltipClient {
  public:
    LevelMeter(int lane, const LookAndFeel&);
    void show(const Meter&, int channels);
    void paint(juce::Graphics&) override;
    std::unique_ptr<juce::AccessibilityHandler> createAccessibilityHandler() override;

  private:
    const LookAndFeel& look_;
    const int lane_;
    Meter meter_;
    int channels_ = 2;
};

/** Message thread. The source's has neither gain nor buttons. */
class LaneHeader final : public juce::Component {
  public:
    LaneHeader(int lane, const LookAndFeel&, juce::AudioProcessorValueTreeState&);

    /** Boxes in this component's own coordinates. */
    void place(const LaneBoxes&, bool compact);
    void show(const EditorState&, int number);
    void paint(juce::Graphics&) override;

    bool soloed() const { return solo_ != nullptr && solo_->getToggleState(); }
    bool muted() const { return mute_ != nullptr && mute_->getToggleState(); }
    void setSolo(bool);
    void setMute(bool);

    std::function<void(int lane)> onAlone;

  private:
    const LookAndFeel& look_;
    const int lane_;
    int number_ = 0;
    juce::String subtitle_;
    bool asleep_ = false;
    LaneBoxes boxes_;
    std::unique_ptr<Fader> fader_;
    std::unique_ptr<GainValue> value_;
    std::unique_ptr<LaneToggle> solo_, mute_;
    LevelMeter meter_;
};

} // namespace stemline::editor
