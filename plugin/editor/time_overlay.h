#pragma once
// Lines through all lanes: the playhead, the edges of what is stale, the end of Live's latency, the loss of the server.

#include "editor/editor_state.h"
#include "editor/look_and_feel.h"
#include "editor/time_view.h"

namespace stemline::editor {

/** Lies over the waveforms and lets everything through. Message thread. */
class TimeOverlay final : public juce::Component {
  public:
    explicit TimeOverlay(const LookAndFeel&);
    void show(const EditorState&, const TimeView&);
    void paint(juce::Graphics&) override;

  private:
    struct Line {
        double second;
        Token colour;
        bool dashed;
        bool operator==(const Line&) const = default;
    };
    const LookAndFeel& look_;
    TimeView view_;
    std::vector<Line> lines_;
};

} // namespace stemline::editor
