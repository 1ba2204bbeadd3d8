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

/** A push button: text, or an icon, or both. */
class PushButton : public juce::Button {
  public:
    enum class Kind { normal, primary, quiet };

    PushButton(const juce::String& id, const juce::String& text, const LookAndFeel&, Kind = Kind::normal);

    void setIcon(juce::Path);
    void setKind(Kind);
    void setShown(const juce::String& text, bool iconOnly);
    void setRadius(float radius) { radius_ = radius; }

    void paintButton(juce::Graphics&, bool hover, bool down) override;
    bool keyPressed(const juce::KeyPress&) override;

  private:
    const LookAndFeel& look_;
    Kind kind_;
    juce::String text_;
    juce::Path icon_;
    bool iconOnly_ = false;
    float radius_ = cornerRadius;
};

/** S or M of a lane, bound to its parameter. */
class LaneToggle final : public juce::Button {
  public:
    LaneToggle(const juce::String& id, const juce::String& letter, Token on, const LookAndFeel&,
               juce::RangedAudioParameter&);

    std::function<void()> onAlone; // with Ctrl or Cmd: after this one was set

    void paintButton(juce::Graphics&, bool hover, bool down) override;
    void clicked(const juce::ModifierKeys&) override;
    void mouseDown(const juce::MouseEvent&) override;
    bool keyPressed(const juce::KeyPress&) override;

  private:
    const LookAndFeel& look_;
    const Token on_;
    juce::RangedAudioParameter& parameter_;
    juce::ButtonParameterAttachment attachment_;
};

/** A parameter's choices side by side. */
class ChoiceSwitch final : public juce::Component, public juce::SettableTooltipClient {
  public:
    ChoiceSwitch(const juce::String& id, const LookAndFeel&, juce::RangedAudioParameter&);

    int chosen() const { return chosen_; }
    void choose(int);
    const juce::StringArray& choices() const { return choices_; }

    void paint(juce::Graphics&) override;
    void mouseDown(const juce::MouseEvent&) override;
    void mouseMove(const juce::MouseEvent&) override;
    void mouseExit(const juce::MouseEvent&) override;
    bool keyPressed(const juce::KeyPress&) override;
    void enablementChanged() override { repaint(); }
    std::unique_ptr<juce::AccessibilityHandler> createAccessibilityHandler() override;

  private:
    int at(float x) const;

    const LookAndFeel& look_;
    juce::RangedAudioParameter& parameter_;
    const juce::StringArray choices_;
    int chosen_ = 0, hovered_ = -1;
    juce::ParameterAttachment attachment_; // last: it tells us the first value
};

/** A drop-down; of a parameter's choices, or of what it is given. */
class DropDown : public juce::ComboBox {
  public:
    DropDown(const juce::String& id, const LookAndFeel&);
    DropDown(const juce::String& id, const LookAndFeel&, juce::RangedAudioParameter&);

    std::function<juce::String()> onShow; // what the closed box says, where that is not the item's text
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
