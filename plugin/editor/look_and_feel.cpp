#include "editor/look_and_feel.h"
#include "editor/controls.h"

namespace stemline::editor {
namespace {

constexpr int menuRow = 28, menuPadding = 12, tooltipWidth = 320;

juce::TextLayout tooltipLayout(const juce::String& text, juce::Colour colour) {
    juce::AttributedString string(text);
    string.setFont(font(12));
    string.setColour(colour);
    juce::TextLayout layout;
    layout.createLayoutWithBalancedLineLengths(string, tooltipWidth);
    return layout;
}

} // namespace

LookAndFeel::LookAndFeel() { setLight(false); }

void LookAndFeel::setLight(bool light) {
    theme = Theme(light);
    setColour(juce::PopupMenu::backgroundColourId, theme[Token::head]);
    setColour(juce::ComboBox::textColourId, theme[Token::hi]);
    setColour(juce::Label::textColourId, theme[Token::hi]);
    setColour(juce::Label::textWhenEditingColourId, theme[Token::hi]);
    setColour(juce::TextEditor::textColourId, theme[Token::hi]);
    setColour(juce::TextEditor::highlightColourId, theme[Token::focus].withAlpha(0.4f));
    setColour(juce::TextEditor::highlightedTextColourId, theme[Token::hi]);
    setColour(juce::CaretComponent::caretColourId, theme[Token::focus]);
    setColour(juce::ScrollBar::thumbColourId, theme[Token::edge]);
    setDefaultSansSerifTypeface(font(13).getTypefacePtr());
}

void LookAndFeel::drawControl(juce::Graphics& g, juce::Rectangle<float> box, ControlState state, float radius) const {
    g.setColour(theme[!state.enabled ? Token::head
                      : state.down   ? Token::down
                      : state.hover  ? Token::hover
                                     : Token::control]);
    g.fillRoundedRectangle(box, radius);
    g.setColour(theme[state.enabled ? Token::edge : Token::line]);
    g.drawRoundedRectangle(box.reduced(0.5f), radius - 0.5f, 1.0f);
}

void LookAndFeel::drawChevron(juce::Graphics& g, juce::Point<float> centre, juce::Colour colour) const {
    juce::Path path;
    path.startNewSubPath(centre.x - 4, centre.y - 2);
    path.lineTo(centre.x, centre.y + 2);
    path.lineTo(centre.x + 4, centre.y - 2);
    g.setColour(colour);
    g.strokePath(path, juce::PathStrokeType(1.5f, juce::PathStrokeType::mitered, juce::PathStrokeType::rounded));
}

void LookAndFeel::drawComboBox(juce::Graphics& g, int width, int height, bool down, int, int, int, int,
                               juce::ComboBox& box) {
    const juce::Rectangle<float> area(0, 0, static_cast<float>(width), static_cast<float>(height));
    const bool enabled = box.isEnabled();
    drawControl(g, area, {enabled, box.isMouseOver(true), down});
    const auto* own = dynamic_cast<const DropDown*>(&box);
    auto line = area.withTrimmedLeft(10).withTrimmedRight(26);
    if (own != nullptr && own->label.isNotEmpty()) {
        drawLine(g, own->label, line, font(12), theme[enabled ? Token::mid : Token::off]);
        line.removeFromLeft(widthOf(own->label, font(12)) + 8);
    }
    drawLine(g, own != nullptr ? own->shownText() : box.getText(), line, font(13, Weight::medium), textColour(enabled));
    drawChevron(g, {area.getRight() - 14, area.getCentreY()}, theme[enabled ? Token::mid : Token::off]);
}

void LookAndFeel::positionComboBoxText(juce::ComboBox&, juce::Label& label) { label.setBounds({}); }

void LookAndFeel::drawPopupMenuBackgroundWithOptions(juce::Graphics& g, int width, int height,
                                                     const juce::PopupMenu::Options&) {
    g.fillAll(theme[Token::head]);
    g.setColour(theme[Token::edge]);
    g.drawRect(0, 0, width, height);
}

void LookAndFeel::drawPopupMenuItem(juce::Graphics& g, const juce::Rectangle<int>& area, bool separator, bool active,
                                    bool highlighted, bool ticked, bool, const juce::String& text,
                                    const juce::String& shortcut, const juce::Drawable*, const juce::Colour*) {
    if (separator) {
        g.setColour(theme[Token::line]);
        g.fillRect(area.withSizeKeepingCentre(area.getWidth() - 8, 1));
        return;
    }
    const bool lit = highlighted && active;
    if (lit) {
        g.setColour(theme[Token::hover]);
        g.fillRect(area.reduced(1, 0));
    }
    const auto row = area.reduced(menuPadding, 0);
    drawLine(g, text, row.withTrimmedRight(20), font(13), textColour(active));
    if (shortcut.isNotEmpty())
        drawLine(g, shortcut, row.withTrimmedRight(20), font(12), theme[Token::dim], juce::Justification::right);
    if (ticked) {
        const auto centre = row.withLeft(row.getRight() - 12).getCentre().toFloat();
        juce::Path tick;
        tick.startNewSubPath(centre.x - 5, centre.y);
        tick.lineTo(centre.x - 1.5f, centre.y + 3.5f);
        tick.lineTo(centre.x + 5, centre.y - 4);
        g.setColour(theme[Token::hi]);
        g.strokePath(tick, juce::PathStrokeType(1.6f));
    }
}

void LookAndFeel::getIdealPopupMenuItemSize(const juce::String& text, bool separator, int, int& width, int& height) {
    height = separator ? 9 : menuRow;
    width = separator ? 40 : static_cast<int>(widthOf(text, font(13))) + 2 * menuPadding + 30;
}

juce::Rectangle<int> LookAndFeel::getTooltipBounds(const juce::String& text, juce::Point<int> at,
                                                   juce::Rectangle<int> within) {
    const auto layout = tooltipLayout(text, {});
    const int width = static_cast<int>(layout.getWidth()) + 20, height = static_cast<int>(layout.getHeight()) + 14;
    return juce::Rectangle<int>(at.x > within.getCentreX() ? at.x - width : at.x + 16,
                                at.y > within.getCentreY() ? at.y - height - 6 : at.y + 18, width, height)
        .constrainedWithin(within);
}

void LookAndFeel::drawTooltip(juce::Graphics& g, const juce::String& text, int width, int height) {
    const juce::Rectangle<float> area(0, 0, static_cast<float>(width), static_cast<float>(height));
    g.fillAll(theme[Token::head]);
    g.setColour(theme[Token::edge]);
    g.drawRect(area, 1.0f);
    tooltipLayout(text, theme[Token::hi]).draw(g, area.reduced(10, 7));
}

void LookAndFeel::fillTextEditorBackground(juce::Graphics& g, int width, int height, juce::TextEditor& editor) {
    g.setColour(theme[editor.isEnabled() ? Token::inset : Token::head]);
    g.fillRoundedRectangle(0, 0, static_cast<float>(width), static_cast<float>(height), cornerRadius);
}

void LookAndFeel::drawTextEditorOutline(juce::Graphics& g, int width, int height, juce::TextEditor& editor) {
    g.setColour(theme[!editor.isEnabled() ? Token::line : editor.hasKeyboardFocus(true) ? Token::focus : Token::edge]);
    g.drawRoundedRectangle(juce::Rectangle<int>(width, height).toFloat().reduced(0.5f), cornerRadius - 0.5f, 1.0f);
}

void LookAndFeel::drawScrollbar(juce::Graphics& g, juce::ScrollBar&, int x, int y, int width, int height, bool vertical,
                                int start, int size, bool over, bool) {
    const auto thumb = vertical ? juce::Rectangle<int>(x + 2, start, width - 4, size)
                                : juce::Rectangle<int>(start, y + 2, size, height - 4);
    g.setColour(theme[over ? Token::mid : Token::edge]);
    g.fillRoundedRectangle(thumb.toFloat(), 2);
}

} // namespace stemline::editor
