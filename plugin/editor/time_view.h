#pragma once
// Which part of the host's timeline is seen. A value; message thread; seconds and pixels.

#include "editor/editor_state.h"

namespace stemline::editor {

struct TimeView {
    double first = 0.0;
    double secondsPerPixel = 0.05;

    double x(double second) const { return (second - first) / secondsPerPixel; }
    double second(double x) const { return first + x * secondsPerPixel; }

    void zoom(double atX, double factor);
    void scroll(double pixels) { first += pixels * secondsPerPixel; }
    /** Turns the page when the playhead leaves it. */
    void follow(double playhead, int width);
    /** In Live the playhead stands still, with room for the latency at its right, and time goes by. */
    void followLive(double playhead, double ahead, int width);
    /** The scale as it is, and this at the right. */
    void keepRight(double second, int width);
    /** All of a range, with a little room around it. */
    void show(TimeRange, int width);

    /** Seconds between the ruler's numbers. */
    double step() const;
    bool operator==(const TimeView&) const = default;
};

} // namespace stemline::editor
