#include "editor/time_overlay.h"
#include "editor/texts.h"
#include <cmath>

namespace stemline::editor {

TimeOverlay::TimeOverlay(const LookAndFeel& look) : look_(look) {
    setInterceptsMouseClicks(false, false);
    setAccessible(false);
}

void TimeOverlay::show(const EditorState& state, const TimeView& view) {
    std::vector<Line> lines;
    if (state.capturedMode) {
        for (const auto& range : state.stale) {
            lines.push_back({range.start, Token::warn, true});
            lines.push_back({range.stop, Token::warn, true});
        }
    } else if (state.sampleRate > 0) {
        lines.push_back({state.playhead + state.latencySamples / state.sampleRate, Token::edge, true});
        if (state.lostSince)
            lines.push_back({*state.lostSince, Token::err, true});
    }
    lines.push_back({state.playhead, Token::hi, false});
    if (isAsleep(state))
        lines.clear();
    if (lines == lines_ && view == view_)
        return;
    const auto touch = [this](const TimeView& of, const std::vector<Line>& drawn) {
        for (const auto& line : drawn)
            repaint(static_cast<int>(std::floor(of.x(line.second))) - 2, 0, 5, getHeight());
    };
    touch(view_, lines_);
    touch(view, lines);
    lines_ = std::move(lines);
    view_ = view;
}

void TimeOverlay::paint(juce::Graphics& g) {
    const float height = static_cast<float>(getHeight());
    for (const auto& line : lines_) {
        const auto x = static_cast<float>(std::floor(view_.x(line.second)));
        g.setColour(look_.theme[line.colour]);
        if (!line.dashed) {
            g.fillRect(juce::Rectangle<float>(x - 1, 0, 2, height));
            continue;
        }
        for (float y = 0; y < height; y += 6)
            g.fillRect(juce::Rectangle<float>(x, y, 1, 3));
    }
}

} // namespace stemline::editor
