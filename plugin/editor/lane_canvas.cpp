#include "editor/lane_canvas.h"
#include "editor/texts.h"
#include <cstring>

namespace stemline::editor {
namespace {

bool same(const std::vector<WaveBucket>& a, const std::vector<WaveBucket>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(WaveBucket)) == 0;
}

bool inside(const std::vector<TimeRange>& ranges, double second) {
    return std::any_of(ranges.begin(), ranges.end(),
                       [second](const TimeRange& range) { return second >= range.start && second < range.stop; });
}

} // namespace

LaneCanvas::LaneCanvas(int lane, const LookAndFeel& look) : look_(look), lane_(lane) {
    setComponentID((lane < 0 ? juce::String("source") : juce::String(stemName(static_cast<Stem>(lane)))) + ".canvas");
    setInterceptsMouseClicks(false, false);
    setAccessible(false); // what it shows is said by the timeline and the meters
}

void LaneCanvas::show(const EditorState& state, const TimeView& view, Audible audible, EditorActions& actions,
                      bool redraw) {
    const bool moved = view != view_;
    bool all = moved || audible != audible_ || state.captured != captured_ || state.stale != stale_ ||
               live_ == state.capturedMode;
    const double ahead = !state.capturedMode && state.sampleRate > 0 ? state.latencySamples / state.sampleRate : 0.0;
    all = all || std::abs(ahead - ahead_) > 1e-6;
    if (moved || redraw || pixels_.size() != static_cast<size_t>(getWidth())) {
        drawn_.resize(static_cast<size_t>(getWidth()));
        std::fill(drawn_.begin(), drawn_.end(), WaveBucket{});
        const bool has = actions.drawWave(lane_, view.first, view.secondsPerPixel, drawn_);
        if (has != hasSound_ || !same(drawn_, pixels_)) {
            hasSound_ = has;
            std::swap(pixels_, drawn_);
            all = true;
        }
    }
    std::optional<TimeRange> pending;
    if (const auto& progress = state.progress; progress.phase == CapturePhase::separating && lane_ >= 0)
        pending = TimeRange{progress.range.start + progress.fraction * (progress.range.stop - progress.range.start),
                            progress.range.stop};
    const bool asleep = isAsleep(state);
    all = all || pending != pending_ || asleep != asleep_ || lost_ != state.lostSince ||
          (!state.capturedMode && playhead_ != state.playhead);
    view_ = view;
    audible_ = audible;
    live_ = !state.capturedMode;
    captured_ = state.captured;
    stale_ = state.stale;
    playhead_ = state.playhead;
    ahead_ = ahead;
    pending_ = pending;
    asleep_ = asleep;
    lost_ = state.lostSince;
    if (all)
        repaint();
}

LaneCanvas::Colours LaneCanvas::coloursAt(double second) const {
    const auto lane = look_.theme.lane(lane_), dim = look_.theme[Token::dim];
    if (!live_ && inside(stale_, second))
        return {dim.withAlpha(0.25f), dim.withAlpha(0.55f)};
    if (audible_.muted)
        return {dim.withAlpha(0.20f), dim.withAlpha(0.38f)};
    if (audible_.soloedOut || (lane_ < 0 && live_ && second > playhead_))
        return {lane.withAlpha(0.20f), lane.withAlpha(0.38f)};
    return {lane.withAlpha(0.42f), lane};
}

void LaneCanvas::paint(juce::Graphics& g) {
    const auto& theme = look_.theme;
    const auto area = getLocalBounds().toFloat();
    g.fillAll(theme[Token::lane]);
    if (asleep_)
        return paintDots(g, 8, getWidth() - 12);
    if (live_ && ahead_ > 0) {
        g.setColour(theme[Token::ahead]);
        g.fillRect(area.withLeft(static_cast<float>(view_.x(playhead_)))
                       .withRight(static_cast<float>(view_.x(playhead_ + ahead_))));
    }
    if (hasSound_)
        paintWave(g);
    if (live_ && lost_ && lane_ >= 0 && lane_ != static_cast<int>(Stem::residual))
        paintDots(g, view_.x(*lost_) + 8, view_.x(playhead_) - 2);
    if (pending_) {
        const auto x = static_cast<float>(view_.x(pending_->start));
        g.setColour(theme[Token::hi].withAlpha(0.065f));
        g.fillRect(area.withLeft(x).withWidth(28));
        g.setColour(theme[Token::mid]);
        g.fillRect(area.withLeft(x).withWidth(1.5f));
        paintDots(g, x + 34, view_.x(pending_->stop));
    }
    if (!live_)
        for (const auto& range : stale_)
            paintStale(g, area.withLeft(static_cast<float>(view_.x(range.start)))
                              .withRight(static_cast<float>(view_.x(range.stop))));
}

void LaneCanvas::paintDots(juce::Graphics& g, double fromX, double toX) const {
    constexpr double pitch = 8;
    const float centre = std::floor(static_cast<float>(getHeight()) / 2);
    g.setColour(look_.theme[Token::edge]);
    for (double x = std::ceil(fromX / pitch) * pitch; x + 2 <= juce::jmin(toX, static_cast<double>(getWidth()));
         x += pitch)
        g.fillRect(juce::Rectangle<float>(static_cast<float>(x), centre - 1, 2, 2));
}

void LaneCanvas::paintWave(juce::Graphics& g) const {
    const float centre = static_cast<float>(getHeight()) / 2, half = centre - 3;
    const auto clip = g.getClipBounds();
    const int last = juce::jmin(static_cast<int>(pixels_.size()), clip.getRight());
    for (int x = juce::jmax(0, clip.getX()); x < last; ++x) {
        const auto& bucket = pixels_[static_cast<size_t>(x)];
        if (!(bucket.peak > 0))
            continue;
        const double second = view_.second(x + 0.5);
        const bool notHeard = lane_ >= 0 && live_ && second > playhead_;
        const bool notYet = pending_ && second > pending_->start && second < pending_->stop;
        if (notHeard || notYet)
            continue;
        const auto colours = coloursAt(second);
        const auto column = [&](float value, juce::Colour colour) {
            const float size = juce::jmax(0.5f, half * juce::jmin(1.0f, value));
            g.setColour(colour);
            g.fillRect(juce::Rectangle<float>(static_cast<float>(x), centre - size, 1, 2 * size));
        };
        column(bucket.peak, colours.peak);
        column(bucket.rms, colours.rms);
    }
}

void LaneCanvas::paintStale(juce::Graphics& g, juce::Rectangle<float> box) const {
    box = box.getIntersection(getLocalBounds().toFloat());
    if (box.isEmpty())
        return;
    const juce::Graphics::ScopedSaveState saved(g);
    g.reduceClipRegion(box.toNearestInt());
    g.setColour(look_.theme[Token::hi].withAlpha(0.30f));
    constexpr float pitch = 9;
    const float height = box.getHeight();
    for (float x = box.getX() - height; x < box.getRight(); x += pitch)
        g.drawLine(x, height, x + height, 0, 1.6f);
}

} // namespace stemline::editor
