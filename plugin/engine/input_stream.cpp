#include "engine/input_stream.h"

#include <algorithm>
#include <bit>

namespace stemline {

static_assert(std::atomic<std::int64_t>::is_always_lock_free);

namespace {

std::size_t index(std::int64_t value) noexcept { return static_cast<std::size_t>(value); }

} // namespace

InputStream::InputStream(int capacityFrames, int channels)
    : mask_(static_cast<std::int64_t>(std::bit_ceil(static_cast<unsigned>(std::max(capacityFrames, 1)))) - 1),
      ring_(static_cast<std::size_t>(std::clamp(channels, 1, maxChannels)),
            std::vector<float>(static_cast<std::size_t>(mask_ + 1))) {}

void InputStream::beginSegment(std::int64_t position, bool playing) noexcept {
    position_ = position;
    playing_ = playing;
    pending_ = true;
}

bool InputStream::write(const float* const* channels, int frames) noexcept {
    // acquire: the worker has read what we are about to overwrite.
    const std::int64_t room = mask_ + 1 - (framesStored_ - read_.load(std::memory_order_acquire));
    int fits = static_cast<int>(std::min<std::int64_t>(room, frames));
    if (fits > 0 && pending_ && !publishSegment())
        fits = 0;
    if (fits > 0)
        store(channels, fits);
    frame_ += frames;
    position_ += frames;
    if (fits < frames) {
        lost_.fetch_add(frames - fits, std::memory_order_relaxed); // a figure to show, orders nothing
        pending_ = true;
    }
    written_.store(frame_, std::memory_order_relaxed); // likewise
    return fits == frames;
}

bool InputStream::publishSegment() noexcept {
    // acquire: the worker has copied the entry that we are about to overwrite.
    if (bordersPushed_ - bordersBegin_.load(std::memory_order_acquire) == borderCapacity)
        return false;
    borders_[index(bordersPushed_ % borderCapacity)] = {{frame_, position_, epoch_, playing_}, framesStored_};
    ++epoch_;
    pending_ = false;
    // release: the entry is complete before it is counted. It precedes its first frame (`stored_`), too.
    bordersEnd_.store(++bordersPushed_, std::memory_order_release);
    return true;
}

void InputStream::store(const float* const* channels, int frames) noexcept {
    const std::int64_t begin = framesStored_ & mask_;
    const std::int64_t first = std::min<std::int64_t>(frames, mask_ + 1 - begin);
    for (std::size_t c = 0; c < ring_.size(); ++c) {
        std::copy_n(channels[c], first, ring_[c].data() + begin);
        std::copy_n(channels[c] + first, frames - first, ring_[c].data());
    }
    framesStored_ += frames;
    stored_.store(framesStored_, std::memory_order_release); // release: the samples are there before they are counted
}

InputStream::Run InputStream::read(float* const* channels, int maxFrames) noexcept {
    // acquire: the samples counted here are there, and so are the borders before them.
    std::int64_t end = stored_.load(std::memory_order_acquire);
    if (framesRead_ == end || maxFrames <= 0)
        return {};
    const std::int64_t bordersEnd = bordersEnd_.load(std::memory_order_acquire); // acquire: these entries are complete
    for (; bordersTaken_ < bordersEnd; ++bordersTaken_) {
        const Border& next = borders_[index(bordersTaken_ % borderCapacity)];
        if (next.storedAt > framesRead_) {
            end = std::min(end, next.storedAt);
            break;
        }
        reading_ = next;
        begins_ = true;
    }
    bordersBegin_.store(bordersTaken_, std::memory_order_release); // release: our copies are made

    const std::int64_t frames = std::min<std::int64_t>(end - framesRead_, maxFrames);
    const std::int64_t begin = framesRead_ & mask_;
    const std::int64_t first = std::min(frames, mask_ + 1 - begin);
    for (std::size_t c = 0; c < ring_.size(); ++c) {
        std::copy_n(ring_[c].data() + begin, first, channels[c]);
        std::copy_n(ring_[c].data(), frames - first, channels[c] + first);
    }
    const Run run{reading_.segment, reading_.segment.firstFrame + framesRead_ - reading_.storedAt,
                  static_cast<int>(frames), begins_};
    begins_ = false;
    framesRead_ += frames;
    read_.store(framesRead_, std::memory_order_release); // release: the samples are copied
    return run;
}

} // namespace stemline
