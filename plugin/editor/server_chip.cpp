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
        return Token::ok;
    case Tone::warn:
        return Token::warn;
    case Tone::err:
        return Token::err;
    case Tone::idle:
        break;
    }
    return Token::mid;
}

} // namespace

ServerChipView::ServerChipView(const LookAndFeel& look, EditorActions& actions)
    : look_(look), actions_(actions), action_("server_action", "Start", look, PushButton::Kind::primary) {
    setMouseClickGrabsKeyboardFocus(false);
    setWantsKeyboardFocus(true);
    setComponentID("server_chip");
    action_.setRadius(12);
    action_.setTooltip("Starts the server on this computer");
    action_.onClick = [&actions] { actions.startServer(); };
    addChildComponent(action_);
}

void ServerChipView::show(const ServerChip& chip) {
    if (chip.text == chip_.text && chip.tone == chip_.tone && chip.button == chip_.button && getTitle().isNotEmpty())
        return;
    chip_ = chip;
    setTitle("Server: " + utf8(chip.text));
    setTooltip(utf8(chip.text) + (chip.text.ends_with(" ms") ? utf8(" (time for the last window)") : juce::String()));
    action_.setShown(utf8(chip.button), false);
    action_.setTitle(utf8(chip.button) + " server");
    resized();
    repaint();
}

void ServerChipView::resized() {
    action_.setVisible(!chip_.button.empty());
    const int width =
        juce::jmax(narrowest, static_cast<int>(widthOf(utf8(chip_.button), font(13, Weight::medium))) + 20);
    action_.setBounds(chipButton(getLocalBounds(), width));
}

void ServerChipView::paint(juce::Graphics& g) {
    const auto& theme = look_.theme;
    const auto area = getLocalBounds().toFloat();
    g.setColour(theme[Token::inset]);
    g.fillRoundedRectangle(area, 15);
    g.setColour(theme[chip_.tone == Tone::err ? Token::err : Token::edge]);
    g.drawRoundedRectangle(area.reduced(0.5f), 14.5f, 1);
    const juce::Point<float> centre(16, area.getCentreY());
    const auto box = [&centre](float side) { return juce::Rectangle<float>(side, side).withCentre(centre); };
    g.setColour(theme[colourOf(chip_.tone)]);
    if (chip_.tone == Tone::idle) {
        g.fillRoundedRectangle(box(10), 1.5f);
    } else if (chip_.tone == Tone::busy) {
        juce::Path arc;
        arc.addCentredArc(centre.x, centre.y, 5, 5, 0, 0, 2.2f, true);
        g.strokePath(arc, juce::PathStrokeType(2));
        g.setColour(theme[Token::line]);
        arc.clear();
        arc.addCentredArc(centre.x, centre.y, 5, 5, 0, 2.2f, juce::MathConstants<float>::twoPi, true);
        g.strokePath(arc, juce::PathStrokeType(2));
    } else if (chip_.tone == Tone::ok) {
        g.fillEllipse(box(10));
    } else {
        drawIcon(g, warningIcon(), box(14), theme[colourOf(chip_.tone)]);
    }
    auto text = area.withTrimmedLeft(29).withTrimmedRight(28);
    if (action_.isVisible())
        text.setRight(static_cast<float>(action_.getX()) - 8);
    else
        look_.drawChevron(g, {area.getRight() - 16, centre.y}, theme[Token::mid]);
    drawLine(g, utf8(chip_.text), text, font(12), theme[Token::hi]);
}

void ServerChipView::openMenu() {
    juce::PopupMenu menu;
    menu.setLookAndFeel(&getLookAndFeel());
    menu.addItem("Try now", [this] { actions_.retryServer(); });
    menu.addItem("Restart server", [this] { actions_.restartServer(); });
    menu.addSeparator();
    menu.addItem(utf8("Settings…"), [this] { onSettings(); });
    menu.showMenuAsync(juce::PopupMenu::Options().withTargetComponent(this).withDeletionCheck(*this));
}

void ServerChipView::mouseUp(const juce::MouseEvent& event) {
    if (event.mouseWasClicked())
        openMenu();
}

bool ServerChipView::keyPressed(const juce::KeyPress& key) {
    if (key != juce::KeyPress(juce::KeyPress::returnKey) && key != juce::KeyPress(juce::KeyPress::spaceKey))
        return false;
    openMenu();
    return true;
}

std::unique_ptr<juce::AccessibilityHandler> ServerChipView::createAccessibilityHandler() {
    return std::make_unique<juce::AccessibilityHandler>(
        *this, juce::AccessibilityRole::button,
        juce::AccessibilityActions().addAction(juce::AccessibilityActionType::press, [this] { openMenu(); }));
}

} // namespace stemline::editor
