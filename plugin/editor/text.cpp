#include "editor/text.h"
#include "stemline_fonts.h"

namespace stemline::editor {
namespace {

constexpr float capitals = 0.711f; // their height in ems

constexpr float zeroWidth = 1150.0f / 2048.0f; // of Roboto's digits, in ems

struct Fonts {
    juce::Typeface::Ptr regular = juce::Typeface::createSystemTypefaceFor(stemline_fonts::RobotoRegular_ttf,
                                                                          stemline_fonts::RobotoRegular_ttfSize);
    juce::Typeface::Ptr medium =
        juce::Typeface::createSystemTypefaceFor(stemline_fonts::RobotoMedium_ttf, stemline_fonts::RobotoMedium_ttfSize);
    // What JUCE calls a font's height is another part of the em on each system; its digits tell which.
    float heightOfEm = 100.0f * zeroWidth / juce::Font(regular).withHeight(100).getStringWidthFloat("0");
};

void drawBaseline(juce::Graphics& g, const juce::String& text, float x, float baseline, const juce::Font& font,
                  juce::Colour colour) {
    juce::GlyphArrangement glyphs;
    glyphs.addLineOfText(font, text, x, baseline);
    g.setColour(colour);
    glyphs.draw(g);
}

float capitalHeight(const juce::Font& font) {
    const juce::SharedResourcePointer<Fonts> fonts;
    return capitals * font.getHeight() / fonts->heightOfEm;
}

juce::StringArray lines(const juce::String& text, const juce::Font& font, float width) {
    juce::StringArray result;
    juce::String line;
    for (const auto& word : juce::StringArray::fromTokens(text, " ", "")) {
        const auto longer = line.isEmpty() ? word : line + " " + word;
        if (line.isNotEmpty() && widthOf(longer, font) > width) {
            result.add(line);
            line = word;
        } else {
            line = longer;
        }
    }
    if (line.isNotEmpty())
        result.add(line);
    return result;
}

} // namespace

std::shared_ptr<void> holdFonts() { return std::make_shared<juce::SharedResourcePointer<Fonts>>(); }

juce::Font font(float pixels, Weight weight) {
    // Shared by all open editors, gone with the last; what a font holds keeps its typeface.
    const juce::SharedResourcePointer<Fonts> fonts;
    return juce::Font(weight == Weight::medium ? fonts->medium : fonts->regular).withHeight(pixels * fonts->heightOfEm);
}

float widthOf(const juce::String& text, const juce::Font& font) { return font.getStringWidthFloat(text); }

juce::String fitted(const juce::String& text, const juce::Font& font, float width) {
    if (widthOf(text, font) <= width)
        return text;
    const auto ellipsis = utf8("…");
    int length = text.length();
    while (length > 0 && widthOf(text.substring(0, length).trimEnd() + ellipsis, font) > width)
        --length;
    return text.substring(0, length).trimEnd() + ellipsis;
}

void drawLine(juce::Graphics& g, const juce::String& text, juce::Rectangle<float> box, const juce::Font& font,
              juce::Colour colour, juce::Justification justification) {
    const auto shown = fitted(text, font, box.getWidth() + 0.5f);
    const float spare = box.getWidth() - widthOf(shown, font);
    float x = box.getX();
    if (justification.testFlags(juce::Justification::horizontallyCentred))
        x += spare / 2;
    else if (justification.testFlags(juce::Justification::right))
        x += spare;
    drawBaseline(g, shown, x, box.getCentreY() + capitalHeight(font) / 2, font, colour);
}

float drawParagraph(juce::Graphics& g, const juce::String& text, juce::Rectangle<float> box, const juce::Font& font,
                    juce::Colour colour, float lineHeight, int maxLines) {
    auto broken = lines(text, font, box.getWidth());
    if (broken.size() > maxLines) {
        broken.set(maxLines - 1, broken.joinIntoString(" ", maxLines - 1));
        broken.removeRange(maxLines, broken.size());
    }
    float y = box.getY();
    for (const auto& line : broken) {
        drawLine(g, line, juce::Rectangle<float>(box.getX(), y, box.getWidth(), capitalHeight(font)), font, colour);
        y += lineHeight;
    }
    return y - box.getY();
}

} // namespace stemline::editor
