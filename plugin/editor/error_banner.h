#pragma once
// What went wrong, what is heard instead, what to do.

#include "editor/controls.h"
#include "editor/editor_state.h"
#include "editor/geometry.h"

namespace stemline::editor {

/** Message thread. */
class ErrorBanner final : public juce::Component, public juce::SettableTooltipClient {
  public:
    explicit ErrorBanner(const LookAndFeel&);

    std::function<void(int index)> onButton;

    /** Announces it where it is another one than before. */
    void show(const std::optional<EditorError>&);
    void place(const Boxes&);
    void paint(juce::Graphics&) override;

  private:
    const LookAndFeel& look_;
    std::optional<EditorError> error_;
    PushButton first_, second_;
};

} // namespace stemline::editor
