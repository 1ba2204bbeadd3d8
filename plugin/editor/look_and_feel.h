#pragma once
// How JUCE's own parts look here: drop-downs, menus, fields, tooltips, scroll bars; and the strokes all controls share.

#include "editor/text.h"
#include "editor/tokens.h"

namespace stemline::editor {

inline constexpr float cornerRadius = 6.0f;

struct ControlState {
    bool enabled = true, hover = false, down = false;
};

/** One an editor; message thread. */
class LookAndFeel final : public juce::LookAndFeel_V4 {
  public:
    LookAndFeel();

    void setLight(bool);
    const std::shared_ptr<void> fonts = holdFonts();
    Theme theme;

    /** The body of a neutral control. */
    void drawControl(juce::Graphics&, juce::Rectangle<float>, ControlState, float radius = cornerRadius) const;
    juce::Colour textColour(bool enabled) const { return theme[enabled ? Token::hi : Token::off]; }
    void drawChevron(juce::Graphics&, juce::Point<float> centre, juce::Colour) const;

    void drawComboBox(juce::Graphics&, int width, int height, bool down, int, int, int, int, juce::ComboBox&) override;
    void positionComboBoxText(juce::ComboBox&, juce::Label&) override;
    juce::Font getComboBoxFont(juce::ComboBox&) override { return font(13); }
    juce::Font getLabelFont(juce::Label&) override { return font(12); }

    void drawPopupMenuBackgroundWithOptions(juce::Graphics&, int width, int height,
                                            const juce::PopupMenu::Options&) override;
    void drawPopupMenuItem(juce::Graphics&, const juce::Rectangle<int>&, bool separator, bool active, bool highlighted,
                           bool ticked, bool subMenu, const juce::String& text, const juce::String& shortcut,
                           const juce::Drawable* icon, const juce::Colour* colour) override;
    void getIdealPopupMenuItemSize(const juce::String&, bool separator, int standardHeight, int& width,
                                   int& height) override;
    juce::Font getPopupMenuFont() override { return font(13); }

    juce::Rectangle<int> getTooltipBounds(const juce::String&, juce::Point<int>, juce::Rectangle<int> within) override;
    void drawTooltip(juce::Graphics&, const juce::String&, int width, int height) override;

    void fillTextEditorBackground(juce::Graphics&, int width, int height, juce::TextEditor&) override;
    void drawTextEditorOutline(juce::Graphics&, int width, int height, juce::TextEditor&) override;
    void drawScrollbar(juce::Graphics&, juce::ScrollBar&, int x, int y, int width, int height, bool vertical, int start,
                       int size, bool over, bool down) override;
    int getDefaultScrollbarWidth() override { return 8; }
};

} // namespace stemline::editor
