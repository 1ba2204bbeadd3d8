#pragma once

#include "engine/stems.h"

#include <array>

namespace stemline {

/// What Main shall be. Solos and mutes are folded into the gains, which are linear.
struct MixTargets {
    std::array<float, numStems> gain{1, 1, 1, 1, 1, 1, 1};
    int mainSource = -1; // -1: the mix; else the stem of that number, without its gain
};

inline constexpr float silentBelowDb = -60.0f; // the lower end of a fader: -inf

/// Any thread. A mute is stronger than a solo; where anything is soloed, only what is soloed sounds.
MixTargets fold(const std::array<float, numStems>& gainsDb, const std::array<bool, numStems>& solos,
                const std::array<bool, numStems>& mutes, int mainSource) noexcept;

/// Audio thread: Main from the stems. Every change, solo, mute and source included, is a ramp of 20 ms.
class Mixer {
  public:
    /// Not on the audio thread. The next block begins at its targets, without a ramp.
    void prepare(double rate, int channels) noexcept;

    /// `stems`: [stem * channels + channel]. `main`: [channels].
    void process(const MixTargets&, const float* const* stems, float* const* main, int frames) noexcept;

  private:
    struct Ramp {
        float now = 1.0f, target = 1.0f, step = 0.0f;
        int left = 0;
    };
    static constexpr int sliceFrames = 256;

    void aim(const MixTargets&) noexcept;
    void mixSlice(const float* const* stems, float* const* main, int offset, int frames) noexcept;

    int channels_ = 0;
    int rampFrames_ = 1;
    bool fresh_ = true;
    std::array<Ramp, numStems> ramps_;
};

} // namespace stemline
