#pragma once
// Shows where the keyboard is: clicks never take it, so what has it came there by Tab.

#include "editor/look_and_feel.h"

namespace stemline::editor {

/** Lies over everything in its parent. Message thread. */
class FocusRing final : public juce::Component, private juce::FocusChangeListener {
  public:
    explicit FocusRing(const LookAndFeel&);
    ~FocusRing() override;

    void place();
    void paint(juce::Graphics&) override;

  private:
    static void bringIntoView(juce::Component& focused);
    void globalFocusChanged(juce::Component*) override { place(); }

    const LookAndFeel& look_;
    const juce::Component* last_ = nullptr; // that had the keyboard; only compared
};

} // namespace stemline::editor
