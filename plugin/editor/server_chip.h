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
    void mouseUp(const juce::MouseEvent&) override;
    bool keyPressed(const juce::KeyPress&) override;
    std::unique_ptr<juce::AccessibilityHandler> createAccessibilityHandler() override;

    std::function<void()> onSettings;

  private:
    void openMenu();

    const LookAndFeel& look_;
    EditorActions& actions_;
    ServerChip chip_;
    PushButton action_;
};

} // namespace stemline::editor
