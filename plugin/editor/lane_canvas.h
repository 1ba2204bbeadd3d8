#pragma once
// A lane's waveform over the host's timeline.

#include "editor/editor_state.h"
#include "editor/look_and_feel.h"
#include "editor/time_view.h"

namespace stemline::editor {

/** Message thread. Paints only what it was last given; what did not change is not painted again. */
class LaneCanvas final : public juce::Component {
  public:
    LaneCanvas(int lane, const LookAndFeel&);

    struct Audible {
        bool soloedOut = false, muted = false;
        bool operator==(const Audible&) const = default;
    };
    /** `redraw`: the sound may have changed, not only the playhead. */
    void show(const EditorState&, const TimeView&, Audible, EditorActions&, bool redraw);
    void paint(juce::Graphics&) override;

  private:
    struct Colours {
        juce::Colour peak, rms;
    };
    Colours coloursAt(double second) const;
    void paintWave(juce::Graphics&) const;
    void paintDots(juce::Graphics&, double fromX, double toX) const;
    void paintStale(juce::Graphics&, juce::Rectangle<float>) const;

    const LookAndFeel& look_;
    const int lane_;
    TimeView view_;
    Audible audible_;
    std::vector<WaveBucket> pixels_, drawn_;
    bool hasSound_ = false;
    bool live_ = true;
    bool asleep_ = false;
    double playhead_ = 0, ahead_ = 0;  // seconds
    std::optional<double> lost_;       // seconds: no stems since
    std::optional<TimeRange> pending_; // is being separated
    std::vector<TimeRange> captured_, stale_;
};

} // namespace stemline::editor
