#pragma once
// Where nothing is captured and nothing streams yet: the two ways to begin.

#include "editor/controls.h"
#include "editor/editor_state.h"
#include "editor/geometry.h"

namespace stemline::editor {

/** Message thread. */
class Welcome final : public juce::Component {
  public:
    Welcome(const LookAndFeel&, EditorActions&);

    void place(const Boxes&);
    void paint(juce::Graphics&) override;

  private:
    class DropArea final : public juce::Component {
      public:
        explicit DropArea(const LookAndFeel&);
        void paint(juce::Graphics&) override;

      private:
        const LookAndFeel& look_;
    };

    const LookAndFeel& look_;
    PushButton start_;
    DropArea drop_;
};

} // namespace stemline::editor
