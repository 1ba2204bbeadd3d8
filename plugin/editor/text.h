#pragma once
// Type: Roboto, shipped with the editor, and lines of it centred by their capitals.

#include <juce_gui_basics/juce_gui_basics.h>
#include <memory>
#include <string>

namespace stemline::editor {

enum class Weight { regular, medium };

/** Keeps the typefaces loaded while an editor is open; without it every call of font() loads them anew. */
std::shared_ptr<void> holdFonts();

/** Roboto of so many pixels an em. Message thread. */
juce::Font font(float pixels, Weight = Weight::regular);

inline juce::String utf8(const std::string& text) {
    return juce::String::fromUTF8(text.data(), static_cast<int>(text.size()));
}
inline juce::String utf8(const char* text) { return juce::String::fromUTF8(text); }

float widthOf(const juce::String&, const juce::Font&);
/** Ends in "…" where it is too long. */
juce::String fitted(const juce::String&, const juce::Font&, float width);

/** One line, its capitals centred in the box's height. */
void drawLine(juce::Graphics&, const juce::String&, juce::Rectangle<float>, const juce::Font&, juce::Colour,
              juce::Justification = juce::Justification::left);
inline void drawLine(juce::Graphics& g, const juce::String& text, juce::Rectangle<int> box, const juce::Font& font,
                     juce::Colour colour, juce::Justification justification = juce::Justification::left) {
    drawLine(g, text, box.toFloat(), font, colour, justification);
}

/** Several lines, broken at spaces; the first one's capitals begin at the top. Gives the height used. */
float drawParagraph(juce::Graphics&, const juce::String&, juce::Rectangle<float>, const juce::Font&, juce::Colour,
                    float lineHeight, int maxLines = 8);

} // namespace stemline::editor
