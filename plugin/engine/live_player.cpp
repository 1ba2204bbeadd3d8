#include "engine/live_player.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace stemline {

namespace {

/// Frames that the worker may be behind before any are lost.
constexpr double backlogSeconds = 2.0; // beyond the latency: what is younger may still come back in time

} // namespace

void LiveCounters::reset() noexcept {
    for (auto* counter : {&lateFrames, &lateBlocks, &jumps})
        counter->store(0, std::memory_order_relaxed); // figures to show, here and below: they order nothing
}

void LivePlayer::prepare(int channels, int maxBlock, int latency, double rate) {
    channels_ = std::clamp(channels, 1, maxChannels);
    latency_ = std::max(latency, minLatency);
    const int block = std::max(maxBlock, sliceFrames);
    const int backlog = latency_ + static_cast<int>(std::lround(backlogSeconds * rate));
    input_ = std::make_unique<InputStream>(backlog + 4 * block, channels_);
    timeline_ = std::make_unique<StemTimeline>(latency_ + 4 * block, channels_);
    line_.assign(static_cast<std::size_t>(channels_),
                 std::vector<float>(std::bit_ceil(static_cast<std::size_t>(latency_ + sliceFrames))));
    frame_ = 0;
    follower_ = {};
    gain_ = fadeFrames;
    next_.store(0, std::memory_order_release); // release: whoever asks `readyFor` sees the new timeline
    shownGain_.store(1.0f, std::memory_order_relaxed);
    counters_.reset();
}

void LivePlayer::process(const Transport& transport, const float* const* in, int frames, float* const* stems,
                         float* const* delayed) noexcept {
    follow(transport, frames);
    input_->write(in, frames);
    int late = 0;
    std::array<const float*, maxChannels> inSlice{};
    std::array<float*, maxChannels> delayedSlice{};
    std::array<float*, numStems * maxChannels> stemsSlice{};
    for (int done = 0; done < frames; done += sliceFrames) {
        for (std::size_t c = 0; c < static_cast<std::size_t>(channels_); ++c) {
            inSlice[c] = in[c] + done;
            delayedSlice[c] = delayed[c] + done;
        }
        for (std::size_t plane = 0; plane < static_cast<std::size_t>(numStems * channels_); ++plane)
            stemsSlice[plane] = stems[plane] + done;
        late +=
            processSlice(inSlice.data(), std::min(sliceFrames, frames - done), stemsSlice.data(), delayedSlice.data());
    }
    if (late > 0) {
        counters_.lateFrames.fetch_add(late, std::memory_order_relaxed);
        counters_.lateBlocks.fetch_add(1, std::memory_order_relaxed);
    }
    shownGain_.store(static_cast<float>(gain_) / fadeFrames, std::memory_order_relaxed);
    next_.store(frame_, std::memory_order_release); // release: the input up to here is on its way
}

bool LivePlayer::readyFor(int frames) const noexcept {
    // What is not yet sent cannot come: nothing beyond the latency is waited for.
    const int wanted = std::min(frames + fadeFrames, latency_);
    return input_->room() >= frames && timeline_->settledFrom(nextFrame() - latency_, wanted) >= wanted;
}

void LivePlayer::follow(const Transport& transport, int frames) noexcept {
    if (!follower_.begins(transport, frames))
        return;
    input_->beginSegment(follower_.position(), follower_.playing());
    if (frame_ > 0)
        counters_.jumps.fetch_add(1, std::memory_order_relaxed);
}

int LivePlayer::processSlice(const float* const* in, int frames, float* const* stems, float* const* delayed) noexcept {
    std::array<float, sliceFrames> gains; // filled before it is read
    const std::int64_t due = frame_ - latency_;
    const int ready = timeline_->readyFrom(due, frames + fadeFrames);
    delay(in, frames, delayed);
    const int absent = timeline_->read(due, frames, stems);
    const bool fading = slewGain(ready, frames, gains.data());
    split(fading ? gains.data() : nullptr, frames, stems, delayed);
    timeline_->played(due + frames);
    frame_ += frames;
    return absent;
}

void LivePlayer::delay(const float* const* in, int frames, float* const* delayed) noexcept {
    const std::size_t size = line_.front().size();
    const auto copied = static_cast<std::size_t>(frames);
    const std::size_t to = static_cast<std::size_t>(frame_) & (size - 1);
    const std::size_t from = static_cast<std::size_t>(frame_ - latency_) & (size - 1);
    const std::size_t untilEndTo = std::min(copied, size - to);
    const std::size_t untilEndFrom = std::min(copied, size - from);
    for (std::size_t c = 0; c < static_cast<std::size_t>(channels_); ++c) {
        float* const line = line_[c].data();
        std::copy_n(in[c], untilEndTo, line + to);
        std::copy_n(in[c] + untilEndTo, copied - untilEndTo, line);
        std::copy_n(line + from, untilEndFrom, delayed[c]);
        std::copy_n(line, copied - untilEndFrom, delayed[c] + untilEndFrom);
    }
}

/// Whole steps of 1 / fadeFrames, one a frame at most: down so that it is 0 at the first frame that is not there (which
/// is seen a fade's length ahead), up only when the end of the slice and a fade more are there. False: all of it is 1.
bool LivePlayer::slewGain(int ready, int frames, float* gains) noexcept {
    const int up = ready >= frames + fadeFrames ? 1 : 0;
    if (up != 0 && gain_ == fadeFrames)
        return false;
    for (int i = 0; i < frames; ++i) {
        gain_ = std::min({gain_ + up, fadeFrames, std::max(ready - i, 0)});
        gains[i] = static_cast<float>(gain_) / fadeFrames;
    }
    return true;
}

/// Sums in double: then what the residual adds to the stems is the delayed input to half a step of its last bit.
void LivePlayer::split(const float* gains, int frames, float* const* stems,
                       const float* const* delayed) const noexcept {
    std::array<double, sliceFrames> rest; // filled before it is read
    for (int c = 0; c < channels_; ++c) {
        std::copy_n(delayed[c], frames, rest.data());
        for (int stem = 0; stem < numSeparated; ++stem) {
            float* const samples = stems[stem * channels_ + c];
            if (gains != nullptr)
                for (int i = 0; i < frames; ++i)
                    samples[i] *= gains[i];
            for (int i = 0; i < frames; ++i)
                rest[static_cast<std::size_t>(i)] -= static_cast<double>(samples[i]);
        }
        float* const residual = stems[numSeparated * channels_ + c];
        for (int i = 0; i < frames; ++i)
            residual[i] = static_cast<float>(rest[static_cast<std::size_t>(i)]);
    }
}

} // namespace stemline
