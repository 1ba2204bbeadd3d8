#include "capture/prefetch.h"

#include "capture/files.h"

#include <algorithm>
#include <cmath>

namespace stemline::capture {

void Prefetch::setRanges(const CapturedSet& set) {
    const std::lock_guard lock(mutex_);
    ranges_ = set.ranges;
    keep_ = set.keep;
    touchedFrom_ = touchedTo_ = 0;
    turns_ = 0;
    range_ = bytes_ = 0;
    offset_ = 0;
    touchAround();
}

void Prefetch::clear() { setRanges({}); }

void Prefetch::turn() noexcept {
    const std::lock_guard lock(mutex_);
    touchAround();
    touchSomeMore();
}

void Prefetch::touchAround() noexcept {
    const std::int64_t position = position_.load(std::memory_order_relaxed);
    const std::int64_t from = position - std::llround(behindSeconds * rateHz_);
    const std::int64_t to = position + std::llround(aheadSeconds * rateHz_);
    const bool goesOn = from >= touchedFrom_ && from <= touchedTo_ && to >= touchedTo_;
    if (goesOn && turns_ > 0) {
        touchSpan(touchedTo_, to);
        --turns_;
    } else {
        touchSpan(from, to);
        turns_ = refreshTurns;
    }
    touchedFrom_ = from;
    touchedTo_ = to;
}

void Prefetch::touchSomeMore() noexcept {
    constexpr std::int64_t frames = 1 << 16;
    const std::size_t until = std::min(bytes_ + bytesATurn, mostBytes);
    while (bytes_ < until && range_ < ranges_.size()) {
        const CapturedRange& range = ranges_[range_];
        const std::int64_t start = range.start + offset_;
        const std::int64_t stop = std::min(start + frames, range.start + range.length);
        touchRange(range, start, stop);
        offset_ += stop - start;
        bytes_ += static_cast<std::size_t>((stop - start) * range.channels * (numStems + 1)) * sizeof(float);
        if (offset_ == range.length) {
            offset_ = 0;
            ++range_;
        }
    }
}

void Prefetch::touchSpan(std::int64_t start, std::int64_t stop) const noexcept {
    for (const CapturedRange& range : ranges_)
        touchRange(range, std::max(start, range.start), std::min(stop, range.start + range.length));
}

void Prefetch::touchRange(const CapturedRange& range, std::int64_t start, std::int64_t stop) const noexcept {
    if (start >= stop)
        return;
    const std::int64_t first = (start - range.start) * range.channels;
    const auto bytes = static_cast<std::size_t>((stop - start) * range.channels) * sizeof(float);
    for (const float* const stem : range.stems)
        if (stem != nullptr)
            touch(stem + first, bytes);
    if (range.source != nullptr)
        touch(range.source + first, bytes);
}

} // namespace stemline::capture
