#pragma once
// Times, what is captured, and what of it has gone stale.

#include "editor/controls.h"
#include "editor/editor_state.h"
#include "editor/time_view.h"

namespace stemline::editor {

/** Message thread. */
class Ruler final : public juce::Component, public juce::SettableTooltipClient {
  public:
    Ruler(const LookAndFeel&, EditorActions&);

    void show(const EditorState&, const TimeView&);
    void paint(juce::Graphics&) override;
    void resized() override;

  private:
    class StalePill final : public juce::Button {
      public:
        explicit StalePill(const LookAndFeel&);
        void paintButton(juce::Graphics&, bool hover, bool down) override;

      private:
        const LookAndFeel& look_;
    };
    void placePill();

    const LookAndFeel& look_;
    TimeView view_;
    double playhead_ = 0, ahead_ = 0, separatedTo_ = 0;
    bool asleep_ = false;
    std::vector<TimeRange> captured_, stale_;
    bool live_ = true;
    StalePill pill_;
};

} // namespace stemline::editor
