#include "editor/time_view.h"
#include <algorithm>
#include <array>
#include <cmath>

namespace stemline::editor {
namespace {

constexpr double closest = 0.0005, furthest = 20.0; // seconds a pixel
constexpr double beyondEnd = 24.0;                  // pixels behind the last sound of Live
constexpr double narrowestStep = 90.0;              // pixels between the ruler's numbers

} // namespace

void TimeView::zoom(double atX, double factor) {
    const double held = second(atX);
    secondsPerPixel = std::clamp(secondsPerPixel * factor, closest, furthest);
    first = held - atX * secondsPerPixel;
}

void TimeView::follow(double playhead, int width) {
    if (const double at = x(playhead); at < 0 || at > width)
        first = playhead - 0.1 * width * secondsPerPixel;
}

void TimeView::followLive(double playhead, double ahead, int width) {
    constexpr double finest = 0.02, widestAhead = 0.3;
    secondsPerPixel = std::max(finest, ahead / (widestAhead * std::max(1, width)));
    keepRight(playhead + ahead, width);
}

void TimeView::keepRight(double second, int width) { first = second - (width - beyondEnd) * secondsPerPixel; }

void TimeView::show(TimeRange range, int width) {
    secondsPerPixel = std::clamp((range.stop - range.start) / std::max(1, width), closest, furthest);
    const double whole = step(); // begins and ends with one of the ruler's numbers
    first = std::floor(range.start / whole) * whole;
    const double last = std::max(std::ceil(range.stop / whole), first / whole + 1) * whole;
    secondsPerPixel = std::clamp((last - first) / std::max(1, width), closest, furthest);
}

double TimeView::step() const {
    static constexpr std::array steps{1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0};
    for (const double step : steps)
        if (step / secondsPerPixel >= narrowestStep)
            return step;
    return 3600.0;
}

} // namespace stemline::editor
