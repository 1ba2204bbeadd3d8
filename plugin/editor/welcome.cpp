#include "editor/welcome.h"

namespace stemline::editor {

Welcome::DropArea::DropArea(const LookAndFeel& look) : look_(look) {
    setComponentID("welcome.drop");
    setInterceptsMouseClicks(false, false);
}

namespace {

void drawStep(juce::Graphics& g, const Theme& theme, juce::Rectangle<float> card, int number, bool filled,
              const juce::String& title, const juce::String& text) {
    const auto circle = juce::Rectangle<float>(30, 30).withCentre({card.getCentreX(), card.getY() + 34});
    g.setColour(theme[Token::on]);
    if (filled)
        g.fillEllipse(circle);
    else
        g.drawEllipse(circle.reduced(0.75f), 1.5f);
    const auto line = [&](float y) { return card.withY(card.getY() + y).withHeight(16).reduced(6, 0); };
    const auto centred = juce::Justification::horizontallyCentred;
    drawLine(g, juce::String(number), circle, font(16, Weight::medium), theme[filled ? Token::ink : Token::hi],
             centred);
    drawLine(g, title, line(62), font(16, Weight::medium), theme[Token::hi], centred);
    drawLine(g, text, line(87), font(13), theme[Token::mid], centred);
}

} // namespace

void Welcome::DropArea::paint(juce::Graphics& g) {
    const auto& theme = look_.theme;
    const auto area = getLocalBounds().toFloat();
    juce::Path outline;
    outline.addRoundedRectangle(area.reduced(1), 8);
    juce::Path dashed;
    constexpr float dashes[] = {7, 5};
    juce::PathStrokeType(1.5f).createDashedStroke(dashed, outline, dashes, 2);
    g.setColour(theme[Token::edge]);
    g.fillPath(dashed);
    drawStep(g, theme, area, 2, false, "Press play, or drop a file", "Stems appear in these lanes.");
    drawIcon(g, downloadIcon(), juce::Rectangle<float>(28, 28).withCentre({area.getCentreX(), area.getY() + 140}),
             theme[Token::mid]);
}

Welcome::Welcome(const LookAndFeel& look, EditorActions& actions)
    : look_(look), start_("welcome.start", "Start server", look, PushButton::Kind::primary), drop_(look) {
    setComponentID("welcome");
    start_.setTooltip("Starts the server on this computer");
    start_.onClick = [&actions] { actions.startServer(); };
    addAndMakeVisible(start_);
    addAndMakeVisible(drop_);
}

void Welcome::place(const Boxes& boxes) {
    setBounds(boxes.welcome);
    start_.setBounds(boxes.welcomeStart - boxes.welcome.getPosition());
    drop_.setBounds(boxes.welcomeDrop - boxes.welcome.getPosition());
}

void Welcome::paint(juce::Graphics& g) {
    const auto& theme = look_.theme;
    const auto area = getLocalBounds().toFloat();
    g.setColour(theme[Token::window]);
    g.fillRoundedRectangle(area, 12);
    g.setColour(theme[Token::line]);
    g.drawRoundedRectangle(area.reduced(0.5f), 11.5f, 1);
    const auto first = drop_.getBounds().withX(16).toFloat();
    g.setColour(theme[Token::head]);
    g.fillRoundedRectangle(first, 8);
    drawStep(g, theme, first, 1, true, "Start the server", "It separates on this computer.");
    drawLine(g, "Until then your track plays through unchanged.", area.withTop(first.getBottom() - 4), font(13),
             theme[Token::mid], juce::Justification::horizontallyCentred);
}

} // namespace stemline::editor
