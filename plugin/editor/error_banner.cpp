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
    // What only counts on, as a download, is not announced again.
    const bool announced = error && error_ && error_->doText == error->doText && error_->buttons == error->buttons;
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
            buttons[index]->setKind(static_cast<int>(index) == error->primary ? PushButton::Kind::primary
                                                                              : PushButton::Kind::normal);
            buttons[index]->setTitle(utf8(error->buttons[index]));
            buttons[index]->setTooltip(utf8(error->doText));
        }
    }
    const auto all = utf8(error->title + ". " + error->what + " " + error->hear + " " + error->doText);
    setTitle(all);
    // Where its columns are too narrow.
    setTooltip(error->detail.empty() ? all : all + "\n" + utf8(error->detail));
    if (!announced)
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
    const bool narrow = getWidth() < compactBelow;
    drawIcon(g, warningIcon(), juce::Rectangle<float>(18, 18).withCentre({24, narrow ? 17.0f : 23.0f}),
             theme[Token::err]);
    const float room = area.getWidth() - 42 - 152;
    const auto type = font(narrow ? 12.0f : 13.0f);
    const auto column = [&](int index, const juce::String& title, bool first, const std::string& text) {
        static constexpr std::array starts{0.0f, 0.345f, 0.7008f};
        const float x = 42 + room * starts[static_cast<size_t>(index)], width = room * (narrow ? 0.295f : 0.252f);
        drawLine(g, title, juce::Rectangle<float>(x, narrow ? 9.0f : 15.0f, width + 8, 16),
                 font(first ? 14.0f : 12.0f, Weight::medium), theme[first ? Token::hi : Token::mid]);
        drawParagraph(g, utf8(text), {x, narrow ? 33.0f : 41.0f, width, area.getHeight() - 46}, type, theme[Token::hi],
                      narrow ? 14.0f : 17.0f, narrow ? 4 : 3);
    };
    column(0, utf8(error_->title), true, error_->what);
    column(1, "What you hear", false, error_->hear);
    column(2, "What you can do", false, error_->doText);
}

} // namespace stemline::editor
