#include "editor/welcome.h"

namespace stemline::editor {

Welcome::DropArea::DropArea(const LookAndFeel& look) : look_(look) {
    setComponentID("welcome.drop");
    setInterceptsMouseClicks(false, false);
}

void Welcome::DropArea::paint(juce::Graphics& g) {
    const auto& theme = look_.theme;
    juce::Path outline;
    outline.addRoundedRectangle(getLocalBounds().toFloat().reduced(0.5f), cornerRadius);
    juce::Path dashed;
    constexpr float dashes[] = {5, 4};
    juce::PathStrokeType(1).createDashedStroke(dashed, outline, dashes, 2);
    g.setColour(theme[Token::edge]);
    g.fillPath(dashed);
    drawLine(g, "Drop an audio file", getLocalBounds(), font(13), theme[Token::mid],
             juce::Justification::horizontallyCentred);
}

Welcome::Welcome(const LookAndFeel& look, EditorActions& actions)
    : look_(look), start_("welcome.start", "Start server", look, PushButton::Kind::primary), drop_(look) {
    setComponentID("welcome");
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
    g.setColour(theme[Token::bar]);
    g.fillRoundedRectangle(getLocalBounds().toFloat(), cornerRadius);
    g.setColour(theme[Token::line]);
    g.drawRoundedRectangle(getLocalBounds().toFloat().reduced(0.5f), cornerRadius, 1);
}

} // namespace stemline::editor
