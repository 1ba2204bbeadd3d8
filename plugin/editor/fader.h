#pragma once
// A lane's gain.

#include "editor/controls.h"
#include "engine/stems.h"

namespace stemline::editor {

/** Drag (Shift: fine), double click for 0 dB, arrows in steps of 0.5 dB (Shift: 0.1). Values are dB. Message thread. */
class Fader final : public juce::Slider, public FocusBox {
  public:
    Fader(const juce::String& id, int stem, const LookAndFeel&, juce::RangedAudioParameter&);

    std::function<void()> onType; // Enter: the gain is typed

    int stem() const { return stem_; }
    /** Of a muted stem: without its colour. */
    void setDimmed(bool);
    juce::Rectangle<int> focusBox() const override;

    void paint(juce::Graphics&) override;
    void mouseDown(const juce::MouseEvent&) override;
    void mouseDrag(const juce::MouseEvent&) override;
    void mouseUp(const juce::MouseEvent&) override;
    void mouseDoubleClick(const juce::MouseEvent&) override;
    bool keyPressed(const juce::KeyPress&) override;
    void valueChanged() override;
    double proportionOfLengthToValue(double) override;
    double valueToProportionOfLength(double) override;

  private:
    float thumbX() const;

    const LookAndFeel& look_;
    juce::RangedAudioParameter& parameter_;
    const int stem_;
    juce::SliderParameterAttachment attachment_;
    std::unique_ptr<ScopedDragNotification> gesture_;
    double proportion_ = 0; // where a drag is, before it is rounded to tenths
    float lastX_ = 0;
    bool dimmed_ = false;
};

/** The gain as text; double click to type. */
class GainValue final : public juce::Component, public juce::SettableTooltipClient {
  public:
    GainValue(const LookAndFeel&, Fader&);

    void setCompact(bool);
    void paint(juce::Graphics&) override;
    void resized() override;
    void mouseDoubleClick(const juce::MouseEvent&) override { type(false); }
    /** `byKey`: the keyboard goes back to the fader afterwards. */
    void type(bool byKey);

  private:
    void finish(bool keep);

    const LookAndFeel& look_;
    Fader& fader_;
    bool compact_ = false, byKey_ = false;
    std::unique_ptr<juce::TextEditor> field_;
};

} // namespace stemline::editor
