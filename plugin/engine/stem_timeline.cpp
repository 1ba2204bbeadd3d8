#include "engine/stem_timeline.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace stemline {

namespace {

/// Bits of the frames `first` to `first + count` of a page.
std::uint32_t run(int first, int count) noexcept {
    return static_cast<std::uint32_t>((std::uint64_t{1} << count) - 1) << first;
}

/// A frame's place in its page of 32.
int placeIn(std::int64_t frame) noexcept { return static_cast<int>(frame & 31); }

} // namespace

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

StemTimeline::StemTimeline(int capacityFrames, int channels)
    : channels_(std::clamp(channels, 1, maxChannels)), capacity_(std::max(capacityFrames, 1)),
      ringFrames_(((capacity_ + pageFrames - 1) / pageFrames + 1) * pageFrames),
      planes_(static_cast<std::size_t>(numSeparated * channels_),
              std::vector<float>(static_cast<std::size_t>(ringFrames_))),
      ready_(static_cast<std::size_t>(ringFrames_ / pageFrames)),
      givenUp_(static_cast<std::size_t>(ringFrames_ / pageFrames)) {
    static_assert(pageFrames == 32, "a tag has 32 bits for frames");
}

std::size_t StemTimeline::pageOf(std::int64_t frame) const noexcept {
    return static_cast<std::size_t>(frame % ringFrames_ / pageFrames);
}

std::uint32_t StemTimeline::bitsOf(const std::vector<Tag>& tags, std::int64_t frame) const noexcept {
    // acquire: the samples of the frames whose bits we see are there.
    const std::uint64_t tag = tags[pageOf(frame)].load(std::memory_order_acquire);
    const auto number = static_cast<std::uint32_t>(frame / pageFrames);
    return static_cast<std::uint32_t>(tag >> 32) == number ? static_cast<std::uint32_t>(tag) : 0;
}

void StemTimeline::setBits(std::vector<Tag>& tags, std::int64_t frame, std::uint32_t bits) noexcept {
    const std::uint64_t number = static_cast<std::uint32_t>(frame / pageFrames);
    // release: the samples are there before their bits. An older page's bits go away with its number.
    tags[pageOf(frame)].store(number << 32 | bits | bitsOf(tags, frame), std::memory_order_release);
}

StemTimeline::Written StemTimeline::write(std::int64_t frame, std::uint32_t stemMask, const float* const* stems,
                                          int frames) noexcept {
    Written result;
    // acquire: the audio thread has read what we are about to overwrite.
    const std::int64_t begin = played_.load(std::memory_order_acquire);
    const std::int64_t end = begin + capacity_;
    if (frames <= 0)
        return result;
    if (frame >= end) {
        result.refused = frames;
        return result;
    }
    if (frame <= begin - frames) {
        result.late = frames;
        return result;
    }
    const std::int64_t from = std::max(frame, begin);
    const std::int64_t to = std::min(frame + frames, end);
    result.late = static_cast<int>(from - frame);
    result.refused = static_cast<int>(frame + frames - to);
    for (std::int64_t at = from; at < to;) {
        const int first = placeIn(at);
        const int count = static_cast<int>(std::min<std::int64_t>(pageFrames - first, to - at));
        const std::uint32_t all = run(first, count);
        const std::uint32_t absent = all & ~bitsOf(ready_, at);
        const std::uint32_t wanted = finiteOf(stemMask, stems, at - frame, first, absent);
        place(at, stemMask, stems, at - frame, wanted);
        setBits(ready_, at, wanted);
        result.repeated += count - std::popcount(absent);
        result.refused += std::popcount(absent ^ wanted);
        result.placed += std::popcount(wanted);
        at += count;
    }
    return result;
}

std::uint32_t StemTimeline::finiteOf(std::uint32_t stemMask, const float* const* stems, std::int64_t offset, int first,
                                     std::uint32_t wanted) const noexcept {
    for (int plane = 0; plane < numSeparated * channels_; ++plane) {
        if ((stemMask >> (plane / channels_) & 1u) == 0 || stems[plane] == nullptr)
            continue;
        for (std::uint32_t left = wanted; left != 0; left &= left - 1) {
            const int bit = std::countr_zero(left);
            if (!std::isfinite(stems[plane][offset + bit - first]))
                wanted &= ~(1u << bit);
        }
    }
    return wanted;
}

void StemTimeline::place(std::int64_t frame, std::uint32_t stemMask, const float* const* stems, std::int64_t offset,
                         std::uint32_t wanted) noexcept {
    const int first = placeIn(frame);
    const std::int64_t page = static_cast<std::int64_t>(pageOf(frame)) * pageFrames;
    for (std::uint32_t left = wanted; left != 0;) {
        const int bit = std::countr_zero(left);
        const int count = std::countr_one(left >> bit);
        left &= ~run(bit, count);
        for (int plane = 0; plane < numSeparated * channels_; ++plane) {
            float* const to = planes_[static_cast<std::size_t>(plane)].data() + page + bit;
            if ((stemMask >> (plane / channels_) & 1u) != 0 && stems[plane] != nullptr)
                std::copy_n(stems[plane] + offset + bit - first, count, to);
            else
                std::fill_n(to, count, 0.0f);
        }
    }
}

void StemTimeline::giveUp(std::int64_t frame, std::int64_t frames) noexcept {
    const std::int64_t begin = played_.load(std::memory_order_acquire); // acquire: as in `write`
    const std::int64_t end = begin + capacity_;
    if (frames <= 0 || frame >= end || frame <= begin - frames)
        return;
    const std::int64_t to = frames > end - frame ? end : frame + frames;
    for (std::int64_t at = std::max(frame, begin); at < to;) {
        const int first = placeIn(at);
        const int count = static_cast<int>(std::min<std::int64_t>(pageFrames - first, to - at));
        setBits(givenUp_, at, run(first, count));
        at += count;
    }
}

template <class Bits> int StemTimeline::countFrom(std::int64_t frame, int atMost, Bits bitsAt) const noexcept {
    int count = static_cast<int>(std::clamp<std::int64_t>(-frame, 0, atMost));
    while (count < atMost) {
        const int first = placeIn(frame + count);
        const int whole = std::min(pageFrames - first, atMost - count);
        const int there = std::min(whole, std::countr_one(bitsAt(frame + count) >> first));
        count += there;
        if (there < whole)
            break;
    }
    return count;
}

int StemTimeline::readyFrom(std::int64_t frame, int atMost) const noexcept {
    return countFrom(frame, atMost, [this](std::int64_t at) { return bitsOf(ready_, at); });
}

int StemTimeline::settledFrom(std::int64_t frame, int atMost) const noexcept {
    return countFrom(frame, atMost, [this](std::int64_t at) { return bitsOf(ready_, at) | bitsOf(givenUp_, at); });
}

int StemTimeline::read(std::int64_t frame, int frames, float* const* stems) const noexcept {
    const int silent = static_cast<int>(std::clamp<std::int64_t>(-frame, 0, frames));
    for (int plane = 0; plane < numSeparated * channels_; ++plane)
        std::fill_n(stems[plane], silent, 0.0f);
    int absent = 0;
    for (int done = silent; done < frames;) {
        const std::int64_t at = frame + done;
        const int first = placeIn(at);
        const int count = std::min(pageFrames - first, frames - done);
        const std::uint32_t all = run(first, count);
        const std::uint32_t there = all & bitsOf(ready_, at);
        const std::int64_t page = static_cast<std::int64_t>(pageOf(at)) * pageFrames;
        for (int plane = 0; plane < numSeparated * channels_; ++plane) {
            const float* const from = planes_[static_cast<std::size_t>(plane)].data() + page + first;
            float* const to = stems[plane] + done;
            if (there == all)
                std::copy_n(from, count, to);
            else // a frame without a bit is the writer's: it is not even looked at
                for (int i = 0; i < count; ++i)
                    to[i] = (there >> (first + i) & 1u) != 0 ? from[i] : 0.0f;
        }
        absent += count - std::popcount(there);
        done += count;
    }
    return absent;
}

void StemTimeline::played(std::int64_t frame) noexcept {
    // release: our reads of what we give back are done.
    if (frame > played_.load(std::memory_order_relaxed))
        played_.store(frame, std::memory_order_release);
}

} // namespace stemline
