#include "engine/captured_player.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace stemline {

namespace {

constexpr float silence = 1e-6f;      // of full scale
constexpr int quietEnough = 64;       // frames of silence after which there is nothing to cross-fade with

/// One sample of an interleaved range, in as many channels as the player has.
float sampleOf(const CapturedRange& range, const float* samples, std::int64_t index, int channel,
               int channels) noexcept {
    if (range.channels == 1)
        return samples[index];
    if (channels == 1)
        return 0.5f * (samples[2 * index] + samples[2 * index + 1]);
    return samples[2 * index + channel];
}

float gainOf(int steps) noexcept { return static_cast<float>(steps) / fadeFrames; }

bool covers(const CapturedRange* range, std::int64_t position) noexcept {
    return range != nullptr && position >= range->start && position < range->start + range->length;
}

/// The range that covers the position, else the next one behind it, else null.
const CapturedRange* rangeFrom(const CapturedSet* set, std::int64_t position) noexcept {
    if (set == nullptr)
        return nullptr;
    const auto& ranges = set->ranges;
    const auto next = std::partition_point(ranges.begin(), ranges.end(), [position](const CapturedRange& range) {
        return range.start + range.length <= position;
    });
    return next != ranges.end() ? &*next : nullptr;
}

/// How many steps the gain may have at an offset: it is down when the range ends, unless what follows joins it.
int mostSteps(const CapturedRange& range, bool joined, std::int64_t offset) noexcept {
    if (range.hardEnd || joined)
        return fadeFrames;
    return static_cast<int>(std::min<std::int64_t>(range.length - offset, fadeFrames));
}

/// Whether the next range begins where this one ends.
bool joinedBehind(const CapturedSet* set, const CapturedRange& range) noexcept {
    return covers(rangeFrom(set, range.start + range.length), range.start + range.length);
}

} // namespace

void CapturedPlayer::prepare(int channels, double rate) {
    channels_ = std::clamp(channels, 1, maxChannels);
    settleFrames_ = static_cast<int>(std::lround(settleSeconds * rate));
    tail_.assign(static_cast<std::size_t>(numSeparated * channels_ * fadeFrames), 0.0f);
    tailLeft_ = 0;
    set_ = nullptr;
    playing_ = started_ = false;
    position_ = sinceJump_ = 0;
    gain_ = quietFrames_ = 0;
}

void CapturedPlayer::process(const Transport& transport, const CapturedSet* set, const float* const* in, int frames,
                             float* const* stems, float* const* delayed) noexcept {
    const bool jumped = transport.playing && transport.position != position_;
    if (!started_ || transport.playing != playing_ || jumped || set != set_)
        beginAnew(transport, set, jumped || transport.playing != playing_);
    std::array<const float*, maxChannels> inSlice{};
    std::array<float*, numStems * maxChannels> stemsSlice{};
    for (int done = 0; done < frames;) {
        for (std::size_t c = 0; c < static_cast<std::size_t>(channels_); ++c)
            inSlice[c] = in[c] + done;
        for (std::size_t plane = 0; plane < static_cast<std::size_t>(numStems * channels_); ++plane)
            stemsSlice[plane] = stems[plane] + done;
        done += playSlice(inSlice.data(), std::min(sliceFrames, frames - done), stemsSlice.data());
    }
    for (int c = 0; c < channels_; ++c)
        if (delayed[c] != in[c])
            std::copy_n(in[c], frames, delayed[c]);
}

void CapturedPlayer::beginAnew(const Transport& transport, const CapturedSet* set, bool moved) noexcept {
    const bool sounded = gain_ > 0;
    if (transport.offline)
        tailLeft_ = 0;
    else if (sounded)
        renderTail();
    const bool nothingToFadeWith = !started_ || (!sounded && tailLeft_ == 0 && quietFrames_ >= quietEnough);
    gain_ = transport.playing && (transport.offline || nothingToFadeWith) ? fadeFrames : 0;
    if (transport.playing)
        position_ = transport.position;
    if (moved)
        sinceJump_ = 0;
    set_ = set;
    playing_ = transport.playing;
    started_ = true;
}

/// What would have come next, fading out, on top of what is left of an earlier one.
void CapturedPlayer::renderTail() noexcept {
    const auto left = static_cast<std::size_t>(tailLeft_);
    for (int plane = 0; plane < numSeparated * channels_; ++plane) {
        float* const tail = tail_.data() + plane * fadeFrames;
        std::memmove(tail, tail + fadeFrames - tailLeft_, left * sizeof(float));
        std::fill(tail + tailLeft_, tail + fadeFrames, 0.0f);
    }
    tailLeft_ = fadeFrames;
    for (int done = 0; done < gain_;) {
        const std::int64_t position = position_ + done;
        const CapturedRange* const range = rangeFrom(set_, position);
        if (!covers(range, position))
            break;
        const std::int64_t offset = position - range->start;
        const auto count = static_cast<int>(std::min<std::int64_t>(gain_ - done, range->length - offset));
        for (int stem = 0; stem < numSeparated; ++stem)
            if (const float* const samples = range->stems[static_cast<std::size_t>(stem)])
                for (int c = 0; c < channels_; ++c) {
                    float* const tail = tail_.data() + (stem * channels_ + c) * fadeFrames + done;
                    for (int i = 0; i < count; ++i)
                        tail[i] += gainOf(gain_ - 1 - done - i) * sampleOf(*range, samples, offset + i, c, channels_);
                }
        done += count;
    }
}

int CapturedPlayer::playSlice(const float* const* in, int frames, float* const* stems) noexcept {
    const CapturedRange* const range = playing_ ? rangeFrom(set_, position_) : nullptr;
    if (covers(range, position_)) {
        frames = static_cast<int>(std::min<std::int64_t>(frames, range->start + range->length - position_));
        if (sinceJump_ >= settleFrames_)
            compare(*range, in, frames);
        playRange(*range, in, frames, stems);
    } else {
        if (range != nullptr)
            frames = static_cast<int>(std::min<std::int64_t>(frames, range->start - position_));
        playDry(in, frames, stems);
    }
    addTail(stems, frames);
    listen(in, frames);
    if (playing_)
        position_ += frames;
    sinceJump_ += frames;
    return frames;
}

void CapturedPlayer::playRange(const CapturedRange& range, const float* const* in, int frames,
                               float* const* stems) noexcept {
    std::array<float, sliceFrames> gains; // filled before it is read
    const std::int64_t offset = position_ - range.start;
    const bool joined = joinedBehind(set_, range);
    if (offset == 0 && range.hardStart)
        gain_ = fadeFrames;
    bool whole = true;
    for (int i = 0; i < frames; ++i) {
        gain_ = std::min({gain_ + 1, fadeFrames, mostSteps(range, joined, offset + i)});
        whole = whole && gain_ == fadeFrames;
        gains[static_cast<std::size_t>(i)] = gainOf(gain_);
    }
    for (int stem = 0; stem < numStems; ++stem)
        for (int c = 0; c < channels_; ++c) {
            const float* const samples = range.stems[static_cast<std::size_t>(stem)];
            float* const out = stems[stem * channels_ + c];
            for (int i = 0; i < frames; ++i)
                out[i] = samples != nullptr ? sampleOf(range, samples, offset + i, c, channels_) : 0.0f;
            if (whole)
                continue;
            const bool isResidual = stem == static_cast<int>(Stem::residual);
            for (int i = 0; i < frames; ++i) {
                const float gain = gains[static_cast<std::size_t>(i)];
                out[i] = gain * out[i] + (isResidual ? (1.0f - gain) * in[c][i] : 0.0f);
            }
        }
}

void CapturedPlayer::playDry(const float* const* in, int frames, float* const* stems) noexcept {
    gain_ = 0;
    for (int plane = 0; plane < numSeparated * channels_; ++plane)
        std::fill_n(stems[plane], frames, 0.0f);
    for (int c = 0; c < channels_; ++c)
        std::copy_n(in[c], frames, stems[numSeparated * channels_ + c]);
}

void CapturedPlayer::addTail(float* const* stems, int frames) noexcept {
    const int count = std::min(frames, tailLeft_);
    for (int stem = 0; stem < numSeparated; ++stem)
        for (int c = 0; c < channels_; ++c) {
            const float* const tail = tail_.data() + (stem * channels_ + c + 1) * fadeFrames - tailLeft_;
            for (int i = 0; i < count; ++i) {
                stems[stem * channels_ + c][i] += tail[i];
                stems[numSeparated * channels_ + c][i] -= tail[i];
            }
        }
    tailLeft_ -= count;
}

void CapturedPlayer::compare(const CapturedRange& range, const float* const* in, int frames) noexcept {
    if (range.source == nullptr || range.stale == nullptr)
        return;
    const std::int64_t offset = position_ - range.start;
    for (int c = 0; c < channels_; ++c)
        for (int i = 0; i < frames; ++i)
            // Written so that an input that is not a number counts as different.
            if (!(std::abs(in[c][i] - sampleOf(range, range.source, offset + i, c, channels_)) <= staleTolerance))
                // relaxed: a mark for the editor, orders nothing.
                range.stale[(offset + i) / stalePageFrames].store(1, std::memory_order_relaxed);
}

void CapturedPlayer::listen(const float* const* in, int frames) noexcept {
    float peak = 0.0f;
    for (int c = 0; c < channels_; ++c)
        for (int i = 0; i < frames; ++i)
            peak = std::max(peak, std::abs(in[c][i]));
    quietFrames_ = peak < silence ? std::min(quietFrames_ + frames, quietEnough) : 0;
}

} // namespace stemline
