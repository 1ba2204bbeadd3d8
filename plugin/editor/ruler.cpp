#include "editor/ruler.h"
#include "editor/texts.h"
#include <cmath>
#include <limits>

namespace stemline::editor {
namespace {

constexpr int pillWidth = 111, pillHeight = 18, besidePlayhead = 11;

int even(double value) { return static_cast<int>(std::lrint(value)); }

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
    drawIcon(g, warningIcon(), juce::Rectangle<float>(8, area.getCentreY() - 6, 12, 12), theme[Token::warn]);
    drawLine(g, utf8("Stale · Update"), area.withTrimmedLeft(24), font(12, Weight::medium), theme[Token::hi]);
}

Ruler::Ruler(const LookAndFeel& look, EditorActions& actions) : look_(look), pill_(look) {
    setComponentID("ruler");
    addChildComponent(pill_);
    pill_.onClick = [&actions] { actions.updateStale(); };
}

void Ruler::show(const EditorState& state, const TimeView& view) {
    const double ahead = state.capturedMode || state.sampleRate <= 0 ? 0 : state.latencySamples / state.sampleRate;
    const auto& progress = state.progress;
    const double separatedTo =
        progress.phase != CapturePhase::separating
            ? std::numeric_limits<double>::max()
            : progress.range.start + progress.fraction * (progress.range.stop - progress.range.start);
    const bool changed = isAsleep(state) != asleep_ || ahead != ahead_ || separatedTo != separatedTo_ ||
                         view != view_ || state.captured != captured_ || state.stale != stale_ ||
                         live_ == state.capturedMode;
    if (!changed && state.playhead == playhead_)
        return;
    asleep_ = isAsleep(state);
    ahead_ = ahead;
    separatedTo_ = separatedTo;
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
    int x = juce::jlimit(0, juce::jmax(0, getWidth() - pillWidth),
                         even(view_.x((range.start + range.stop) / 2) - pillWidth / 2.0));
    // Beside the playhead, not over it.
    const int playhead = even(view_.x(playhead_));
    if (playhead > x - besidePlayhead && playhead < x + pillWidth + besidePlayhead)
        x = playhead <= centre ? playhead + besidePlayhead : playhead - besidePlayhead - pillWidth;
    pill_.setBounds(x, 1, pillWidth, pillHeight);
}

void Ruler::paint(juce::Graphics& g) {
    const auto& theme = look_.theme;
    const float height = static_cast<float>(getHeight()), bottom = height - 1;
    if (asleep_)
        return;
    const auto playheadX = static_cast<float>(std::floor(view_.x(playhead_)));
    juce::Path head;
    head.startNewSubPath(playheadX - 6, height - 13);
    for (const auto& point :
         {juce::Point<float>(playheadX + 6, height - 13), juce::Point<float>(playheadX + 6, height - 6),
          juce::Point<float>(playheadX, height - 0.5f), juce::Point<float>(playheadX - 6, height - 6)})
        head.lineTo(point);
    head.closeSubPath();
    const double step = view_.step();
    for (double second = std::ceil(view_.first / step - 1e-9) * step; view_.x(second) < getWidth() - 24;
         second += step) {
        const auto x = static_cast<float>(std::round(view_.x(second)));
        const auto label = juce::Rectangle<float>(x, 0, 38, height);
        const bool ahead = live_ && second > playhead_;
        if (ahead || label.intersects(head.getBounds()) ||
            (pill_.isVisible() && label.intersects(pill_.getBounds().toFloat())))
            continue; // half a number is worse than none
        g.setColour(theme[Token::edge]);
        g.fillRect(juce::Rectangle<float>(x, 6, 1, height - 10));
        drawLine(g, timeText(second), juce::Rectangle<float>(x + 4, 0, 60, height - 2), font(12), theme[Token::mid]);
    }
    const auto bar = [&](TimeRange range, Token colour) {
        if (range.stop <= range.start)
            return;
        g.setColour(theme[colour]);
        g.fillRoundedRectangle(
            juce::Rectangle<float>::leftTopRightBottom(static_cast<float>(view_.x(range.start)), bottom - 3,
                                                       static_cast<float>(view_.x(range.stop)), bottom),
            1);
    };
    if (!live_) {
        for (const auto& range : captured_) {
            bar(range, Token::line);
            bar({range.start, std::min(range.stop, separatedTo_)}, Token::mid);
        }
        for (const auto& range : stale_)
            bar(range, Token::warn);
    }
    if (live_ && ahead_ > 0) {
        const auto end = static_cast<float>(view_.x(playhead_ + ahead_));
        drawLine(g, juce::String(ahead_, 2).trimCharactersAtEnd("0").trimCharactersAtEnd(".") + " s",
                 juce::Rectangle<float>(playheadX + 8, 0, juce::jmax(40.0f, end - playheadX - 8), height - 2),
                 font(12, Weight::medium), theme[Token::hi], juce::Justification::horizontallyCentred);
        g.setColour(theme[Token::mid]);
        g.drawArrow({playheadX + 9, bottom - 2, end, bottom - 2}, 1, 6, 5);
    }
    g.setColour(theme[Token::hi]);
    g.fillPath(head);
}

} // namespace stemline::editor
