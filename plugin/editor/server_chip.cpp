#include "editor/server_chip.h"
#include "editor/geometry.h"

namespace stemline::editor {
namespace {

constexpr int narrowest = 50;

Token colourOf(Tone tone) {
    switch (tone) {
    case Tone::ok:
        return Token::ok;
    case Tone::busy:
        return Token::focus;
    case Tone::warn:
        return Token::warn;
    case Tone::err:
        return Token::err;
    case Tone::idle:
        break;
    }
    return Token::dim;
}

} // namespace

ServerChipView::ServerChipView(const LookAndFeel& look, EditorActions& actions)
    : look_(look), action_("server_action", "Start", look) {
    setComponentID("server_chip");
    action_.setRadius(12);
    action_.onClick = [&actions] { actions.startServer(); };
    addChildComponent(action_);
}

void ServerChipView::show(const ServerChip& chip) {
    if (chip.text == chip_.text && chip.tone == chip_.tone && chip.button == chip_.button && getTitle().isNotEmpty())
        return;
    chip_ = chip;
    setTitle("Server: " + utf8(chip.text));
    setTooltip(utf8(chip.text));
    action_.setShown(utf8(chip.button), false);
    action_.setTitle(utf8(chip.button) + " server");
    resized();
    repaint();
}

void ServerChipView::resized() {
    action_.setVisible(!chip_.button.empty());
    const int width = juce::jmax(narrowest, static_cast<int>(widthOf(utf8(chip_.button), font(13))) + 20);
    action_.setBounds(chipButton(getLocalBounds(), width));
}

void ServerChipView::paint(juce::Graphics& g) {
    const auto& theme = look_.theme;
    const auto area = getLocalBounds().toFloat();
    g.setColour(theme[Token::inset]);
    g.fillRoundedRectangle(area, 15);
    g.setColour(theme[chip_.tone == Tone::err ? Token::err : Token::line]);
    g.drawRoundedRectangle(area.reduced(0.5f), 14.5f, 1);
    g.setColour(theme[colourOf(chip_.tone)]);
    g.fillEllipse(juce::Rectangle<float>(8, 8).withCentre({16, area.getCentreY()}));
    auto text = area.withTrimmedLeft(28).withTrimmedRight(12);
    if (action_.isVisible())
        text.setRight(static_cast<float>(action_.getX()) - 8);
    drawLine(g, utf8(chip_.text), text, font(12), theme[Token::hi]);
}

} // namespace stemline::editor
