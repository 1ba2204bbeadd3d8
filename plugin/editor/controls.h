#pragma once
// The small parts: buttons, the segmented switch, drop-downs. Message thread. Clicks leave the keyboard to the host;
// Tab gives it to a control.

#include "editor/look_and_feel.h"
#include <juce_audio_processors/juce_audio_processors.h>

namespace stemline::editor {

/** The host's own menu for a parameter, where the host has one. */
void showHostMenu(juce::Component& control, juce::RangedAudioParameter&);

void drawIcon(juce::Graphics&, const juce::Path&, juce::Rectangle<float>, juce::Colour);
juce::Path gearIcon();
juce::Path exportIcon();
juce::Path closeIcon();
juce::Path arrowIcon(); // to the right
juce::Path dragIcon();  // up and to the right
juce::Path downloadIcon();
juce::Path warningIcon();

/** A push button: text, or an icon, or both. */
class PushButton : public juce::Button {
  public:
    enum class Kind { normal, primary, quiet };

    PushButton(const juce::String& id, const juce::String& text, const LookAndFeel&, Kind = Kind::normal);

    void setIcon(juce::Path);
    void setKind(Kind);
    void setShown(const juce::String& text, bool iconOnly);
    void setRadius(float radius) { radius_ = radius; }
    void setLit(bool);

    void paintButton(juce::Graphics&, bool hover, bool down) override;
    bool keyPressed(const juce::KeyPress&) override;

  private:
    const LookAndFeel& look_;
    Kind kind_;
    juce::String text_;
    juce::Path icon_;
    bool iconOnly_ = false, lit_ = false;
    float radius_ = cornerRadius;
};

/** S or M of a lane, bound to its parameter. */
class LaneToggle final : public juce::Button {
  public:
    LaneToggle(const juce::String& id, const juce::String& letter, Token on, const LookAndFeel&,
               juce::RangedAudioParameter&);

    std::function<void()> onAlone; // with Ctrl or Cmd: after this one was set

    void paintButton(juce::Graphics&, bool hover, bool down) override;
    void clicked() override;
    void mouseDown(const juce::MouseEvent&) override;
    void mouseUp(const juce::MouseEvent&) override;
    bool keyPressed(const juce::KeyPress&) override;

  private:
    const LookAndFeel& look_;
    const Token on_;
    bool alone_ = false; // of the click under way
    juce::RangedAudioParameter& parameter_;
    juce::ButtonParameterAttachment attachment_;
};

/** Where the focus ring goes, where that is not around the whole control. In the control's coordinates. */
struct FocusBox {
    virtual ~FocusBox() = default;
    virtual juce::Rectangle<int> focusBox() const = 0;
};

/** Choices side by side: a parameter's, or any. */
class ChoiceSwitch final : public juce::Component, public juce::SettableTooltipClient, public FocusBox {
  public:
    ChoiceSwitch(const juce::String& id, const LookAndFeel&, juce::RangedAudioParameter&);
    ChoiceSwitch(const juce::String& id, const LookAndFeel&, const juce::StringArray& choices);

    std::function<void(int)> onChoose; // where there is no parameter

    int chosen() const { return chosen_; }
    void choose(int);
    void show(int);

    void paint(juce::Graphics&) override;
    void mouseDown(const juce::MouseEvent&) override;
    void mouseMove(const juce::MouseEvent&) override;
    void mouseExit(const juce::MouseEvent&) override;
    bool keyPressed(const juce::KeyPress&) override;
    void enablementChanged() override { repaint(); }
    juce::Rectangle<int> focusBox() const override { return cell(chosen_).reduced(3).toNearestInt(); }
    std::unique_ptr<juce::AccessibilityHandler> createAccessibilityHandler() override;

  private:
    juce::Rectangle<float> cell(int) const;
    int at(juce::Point<float>) const;

    const LookAndFeel& look_;
    juce::RangedAudioParameter* parameter_ = nullptr;
    const juce::StringArray choices_;
    int chosen_ = 0, hovered_ = -1;
    std::unique_ptr<juce::ParameterAttachment> attachment_; // last: it tells us the first value
};

/** A drop-down; of a parameter's choices, or of what it is given. */
class DropDown : public juce::ComboBox {
  public:
    DropDown(const juce::String& id, const LookAndFeel&);
    DropDown(const juce::String& id, const LookAndFeel&, juce::RangedAudioParameter&);

    juce::String label;                   // before the value
    std::function<juce::String()> onShow; // the value, where that is not the item's text
    juce::String shownText() const { return onShow ? onShow() : getText(); }

    void mouseDown(const juce::MouseEvent&) override;
    bool keyPressed(const juce::KeyPress&) override;

  private:
    juce::RangedAudioParameter* parameter_ = nullptr;
    std::unique_ptr<juce::ComboBoxParameterAttachment> attachment_;
};

/** On or off, as a sliding knob. */
class Switch final : public juce::Button {
  public:
    Switch(const juce::String& id, const LookAndFeel&);
    void paintButton(juce::Graphics&, bool hover, bool down) override;
    bool keyPressed(const juce::KeyPress&) override;

  private:
    const LookAndFeel& look_;
};

} // namespace stemline::editor
