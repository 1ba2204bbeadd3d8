#pragma once
// How the server is.

#include "editor/controls.h"
#include "editor/editor_state.h"

namespace stemline::editor {

/** Message thread. */
class ServerChipView final : public juce::Component, public juce::SettableTooltipClient {
  public:
    ServerChipView(const LookAndFeel&, EditorActions&);

    void show(const ServerChip&);
    void paint(juce::Graphics&) override;
    void resized() override;

  private:
    const LookAndFeel& look_;
    ServerChip chip_;
    PushButton action_;
};

} // namespace stemline::editor
