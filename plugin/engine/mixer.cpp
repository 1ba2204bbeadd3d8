#include "engine/mixer.h"

#include <algorithm>
#include <cmath>

namespace stemline {

namespace {

constexpr double rampSeconds = 0.02;

} // namespace

MixTargets fold(const std::array<float, numStems>& gainsDb, const std::array<bool, numStems>& solos,
                const std::array<bool, numStems>& mutes, int mainSource) noexcept {
    const bool anySolo = std::any_of(solos.begin(), solos.end(), [](bool solo) { return solo; });
    MixTargets targets;
    targets.mainSource = mainSource;
    for (std::size_t i = 0; i < numStems; ++i) {
        const bool sounds = !mutes[i] && (solos[i] || !anySolo) && gainsDb[i] > silentBelowDb;
        targets.gain[i] = sounds ? std::pow(10.0f, gainsDb[i] / 20.0f) : 0.0f;
    }
    return targets;
}

void Mixer::prepare(double rate, int channels) noexcept {
    channels_ = std::clamp(channels, 1, maxChannels);
    rampFrames_ = std::max(1, static_cast<int>(std::lround(rampSeconds * rate)));
    fresh_ = true;
}

void Mixer::process(const MixTargets& targets, const float* const* stems, float* const* main, int frames) noexcept {
    aim(targets);
    for (int done = 0; done < frames; done += sliceFrames)
        mixSlice(stems, main, done, std::min(sliceFrames, frames - done));
}

void Mixer::aim(const MixTargets& targets) noexcept {
    for (std::size_t i = 0; i < numStems; ++i) {
        Ramp& ramp = ramps_[i];
        const bool chosen = targets.mainSource == static_cast<int>(i);
        const float target = targets.mainSource < 0 ? targets.gain[i] : (chosen ? 1.0f : 0.0f);
        if (fresh_)
            ramp = {target, target, 0.0f, 0};
        else if (target != ramp.target)
            ramp = {ramp.now, target, (target - ramp.now) / static_cast<float>(rampFrames_), rampFrames_};
    }
    fresh_ = false;
}

/// Sums in double, so that unity gains give back, to the last bit or so, what the stems were made of.
void Mixer::mixSlice(const float* const* stems, float* const* main, int offset, int frames) noexcept {
    std::array<std::array<double, sliceFrames>, maxChannels> sums;
    std::array<double, sliceFrames> gains; // filled before it is read
    for (int c = 0; c < channels_; ++c)
        std::fill_n(sums[static_cast<std::size_t>(c)].data(), frames, 0.0);
    for (std::size_t stem = 0; stem < numStems; ++stem) {
        Ramp& ramp = ramps_[stem];
        if (ramp.left == 0 && ramp.now == 0.0f)
            continue;
        for (int i = 0; i < frames; ++i) {
            if (ramp.left > 0)
                ramp.now = ramp.target - ramp.step * static_cast<float>(--ramp.left);
            gains[static_cast<std::size_t>(i)] = static_cast<double>(ramp.now);
        }
        for (int c = 0; c < channels_; ++c) {
            const float* const samples = stems[static_cast<int>(stem) * channels_ + c] + offset;
            double* const sum = sums[static_cast<std::size_t>(c)].data();
            for (int i = 0; i < frames; ++i)
                sum[i] += gains[static_cast<std::size_t>(i)] * static_cast<double>(samples[i]);
        }
    }
    for (int c = 0; c < channels_; ++c)
        for (int i = 0; i < frames; ++i)
            main[c][offset + i] = static_cast<float>(sums[static_cast<std::size_t>(c)][static_cast<std::size_t>(i)]);
}

} // namespace stemline
