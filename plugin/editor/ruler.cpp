#include "editor/ruler.h"
#include "editor/texts.h"
#include <cmath>

namespace stemline::editor {
namespace {

constexpr int pillWidth = 111, pillHeight = 18;

} // namespace

Ruler::StalePill::StalePill(const LookAndFeel& look) : juce::Button("Stale"), look_(look) {
    setComponentID("stale.update");
    setTitle(utf8("Stale · Update"));
    setTooltip("The source changed here. You hear the stems as captured. Play it again, or update.");
    setMouseClickGrabsKeyboardFocus(false);
    setWantsKeyboardFocus(true);
}

void Ruler::StalePill::paintButton(juce::Graphics& g, bool hover, bool down) {
    const auto area = getLocalBounds().toFloat();
    const auto& theme = look_.theme;
    g.setColour(theme[Token::warnbg].interpolatedWith(theme[Token::warn], down ? 0.25f : hover ? 0.15f : 0.0f));
    g.fillRoundedRectangle(area, 9);
    g.setColour(theme[Token::warn]);
    g.drawRoundedRectangle(area.reduced(0.5f), 8.5f, 1);
    drawLine(g, utf8("Stale · Update"), area, font(12, Weight::medium), theme[Token::warn],
             juce::Justification::horizontallyCentred);
}

Ruler::Ruler(const LookAndFeel& look, EditorActions& actions) : look_(look), pill_(look) {
    setComponentID("ruler");
    addChildComponent(pill_);
    pill_.onClick = [&actions] { actions.updateStale(); };
}

void Ruler::show(const EditorState& state, const TimeView& view) {
    const auto text = rulerText(state);
    const bool changed = text != text_ || view != view_ || state.captured != captured_ || state.stale != stale_ ||
                         live_ == state.capturedMode;
    if (!changed && state.playhead == playhead_)
        return;
    text_ = text;
    view_ = view;
    captured_ = state.captured;
    stale_ = state.stale;
    live_ = !state.capturedMode;
    playhead_ = state.playhead;
    setTitle(timelineName(state));
    placePill();
    repaint();
}

void Ruler::resized() { placePill(); }

void Ruler::placePill() {
    pill_.setVisible(!live_ && !stale_.empty());
    if (!pill_.isVisible())
        return;
    const auto& range = stale_.front();
    const int centre = juce::roundToInt(view_.x((range.start + range.stop) / 2));
    const int x = juce::jlimit(0, juce::jmax(0, getWidth() - pillWidth), centre - pillWidth / 2);
    pill_.setBounds(x, 1, pillWidth, pillHeight);
}

void Ruler::paint(juce::Graphics& g) {
    const auto& theme = look_.theme;
    const float height = static_cast<float>(getHeight());
    const double step = view_.step();
    for (double second = std::ceil(view_.first / step) * step; view_.x(second) < getWidth(); second += step) {
        const auto x = static_cast<float>(std::round(view_.x(second)));
        g.setColour(theme[Token::line]);
        g.fillRect(juce::Rectangle<float>(x, height - 6, 1, 6));
        drawLine(g, timeText(second), juce::Rectangle<float>(x + 4, 0, 60, height), font(12), theme[Token::dim]);
    }
    if (!live_) {
        g.setColour(theme[Token::on]);
        for (const auto& range : captured_)
            g.fillRect(juce::Rectangle<float>::leftTopRightBottom(static_cast<float>(view_.x(range.start)), height - 3,
                                                                  static_cast<float>(view_.x(range.stop)), height));
        g.setColour(theme[Token::warn]);
        for (const auto& range : stale_)
            g.fillRect(juce::Rectangle<float>::leftTopRightBottom(static_cast<float>(view_.x(range.start)), height - 3,
                                                                  static_cast<float>(view_.x(range.stop)), height));
    }
    const float width = widthOf(text_, font(12, Weight::medium)) + 12;
    const juce::Rectangle<float> box(static_cast<float>(getWidth()) - width, 0, width, height - 4);
    g.setColour(theme[Token::window]);
    g.fillRect(box);
    drawLine(g, text_, box.reduced(6, 0), font(12, Weight::medium), theme[Token::mid], juce::Justification::right);
    const auto x = static_cast<float>(view_.x(playhead_));
    juce::Path head;
    head.addTriangle(x - 5, height - 7, x + 5, height - 7, x, height);
    g.setColour(theme[Token::hi]);
    g.fillPath(head);
}

} // namespace stemline::editor
