#include "editor/error_banner.h"

namespace stemline::editor {

ErrorBanner::ErrorBanner(const LookAndFeel& look)
    : look_(look), first_("error.retry", "", look), second_("error.restart", "", look) {
    setComponentID("error");
    addChildComponent(first_);
    addChildComponent(second_);
    first_.onClick = [this] { onButton(0); };
    second_.onClick = [this] { onButton(1); };
}

void ErrorBanner::show(const std::optional<EditorError>& error) {
    if (error == error_)
        return;
    error_ = error;
    setVisible(error.has_value());
    if (!error)
        return;
    PushButton* const buttons[] = {&first_, &second_};
    for (size_t index = 0; index < 2; ++index) {
        const bool used = index < error->buttons.size();
        buttons[index]->setVisible(used);
        if (used) {
            buttons[index]->setShown(utf8(error->buttons[index]), false);
            buttons[index]->setTitle(utf8(error->buttons[index]));
        }
    }
    const auto all = utf8(error->title + ". " + error->what + " " + error->hear + " " + error->doText);
    setTitle(all);
    juce::AccessibilityHandler::postAnnouncement(all, juce::AccessibilityHandler::AnnouncementPriority::high);
    repaint();
}

void ErrorBanner::place(const Boxes& boxes) {
    if (!boxes.error)
        return;
    setBounds(*boxes.error);
    first_.setBounds(boxes.errorButton[0] - boxes.error->getPosition());
    second_.setBounds(boxes.errorButton[1] - boxes.error->getPosition());
}

void ErrorBanner::paint(juce::Graphics& g) {
    if (!error_)
        return;
    const auto& theme = look_.theme;
    const auto area = getLocalBounds().toFloat();
    g.setColour(theme[Token::errbg]);
    g.fillRoundedRectangle(area, cornerRadius);
    g.setColour(theme[Token::err]);
    g.drawRoundedRectangle(area.reduced(0.5f), cornerRadius - 0.5f, 1);
    auto text = area.withTrimmedLeft(16).withTrimmedRight(error_->buttons.empty() ? 16.0f : 168.0f);
    const float row = (area.getHeight() - 16) / 4;
    text.removeFromTop(8);
    drawLine(g, utf8(error_->title), text.removeFromTop(row), font(14, Weight::medium), theme[Token::err]);
    const std::pair<const char*, const std::string*> lines[] = {
        {"What happened", &error_->what}, {"What you hear", &error_->hear}, {"What to do", &error_->doText}};
    for (const auto& [label, line] : lines) {
        auto box = text.removeFromTop(row);
        drawLine(g, label, box.removeFromLeft(96), font(12), theme[Token::dim]);
        drawLine(g, utf8(*line), box, font(12), theme[Token::hi]);
    }
}

} // namespace stemline::editor
