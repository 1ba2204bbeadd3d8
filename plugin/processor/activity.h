#pragma once
// What the editor shows of the sound while it runs.

#include "engine/stems.h"
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <span>

namespace stemline {

/** Meters, and the peaks of the last minutes by their place on the host's timeline. The audio thread writes, the
   message thread reads; all of it is for the eye, so relaxed atomics that order nothing suffice. */
class Activity {
  public:
    static constexpr int numLanes = numStems + 1; // the source, then the stems
    static constexpr int bucketFrames = 1024;
    static constexpr int buckets = 16384; // 5 minutes at 48 kHz

    struct Level {
        std::array<float, maxChannels> peak{}, rms{};
    };
    struct Bucket {
        float peak = 0.0f, rms = 0.0f;
    };

    /** Audio thread. `position`: the host's, of the first frame. */
    void add(int lane, std::int64_t position, bool playing, int channels, int frames,
             const float* const* audio) noexcept {
        Lane& to = lanes_[static_cast<std::size_t>(lane)];
        float loudest = 0.0f, squares = 0.0f;
        for (std::size_t channel = 0; channel < static_cast<std::size_t>(channels); ++channel) {
            float peak = 0.0f, sum = 0.0f;
            for (int n = 0; n < frames; ++n) {
                peak = std::max(peak, std::abs(audio[channel][n]));
                sum += audio[channel][n] * audio[channel][n];
            }
            const float fall = std::exp(-static_cast<float>(frames) / 12000.0f); // about a quarter of a second
            store(to.peak[channel], std::max(peak, load(to.peak[channel]) * fall));
            store(to.square[channel], load(to.square[channel]) * fall + sum / static_cast<float>(frames) * (1 - fall));
            loudest = std::max(loudest, peak);
            squares += sum / static_cast<float>(frames * channels);
        }
        if (playing && position >= 0)
            mark(to, position / bucketFrames, loudest, squares);
    }

    Level level(int lane) const noexcept {
        const Lane& from = lanes_[static_cast<std::size_t>(lane)];
        Level level;
        for (std::size_t channel = 0; channel < maxChannels; ++channel) {
            level.peak[channel] = load(from.peak[channel]);
            level.rms[channel] = std::sqrt(load(from.square[channel]));
        }
        return level;
    }

    /** Any thread: of frames [first, first + width) of the timeline; nothing where nothing was played. */
    Bucket bucket(int lane, double first, double width) const noexcept {
        const Lane& from = lanes_[static_cast<std::size_t>(lane)];
        Bucket all;
        const auto begin = static_cast<std::int64_t>(first / bucketFrames);
        const auto end = std::max(begin + 1, static_cast<std::int64_t>((first + width) / bucketFrames));
        for (auto number = std::max<std::int64_t>(0, begin); number < std::min(end, begin + buckets); ++number) {
            const auto at = static_cast<std::size_t>(number % buckets);
            if (from.number[at].load(std::memory_order_relaxed) != number)
                continue;
            all.peak = std::max(all.peak, load(from.peaks[at]));
            all.rms = std::max(all.rms, std::sqrt(load(from.squares[at])));
        }
        return all;
    }

  private:
    using Value = std::atomic<float>;
    struct Lane {
        std::array<Value, maxChannels> peak{}, square{};
        std::array<std::atomic<std::int64_t>, buckets> number{};
        std::array<Value, buckets> peaks{}, squares{};
    };

    static float load(const Value& value) noexcept { return value.load(std::memory_order_relaxed); }
    static void store(Value& value, float what) noexcept { value.store(what, std::memory_order_relaxed); }

    static void mark(Lane& lane, std::int64_t number, float peak, float square) noexcept {
        const auto at = static_cast<std::size_t>(number % buckets);
        const bool same = lane.number[at].load(std::memory_order_relaxed) == number;
        store(lane.peaks[at], same ? std::max(load(lane.peaks[at]), peak) : peak);
        store(lane.squares[at], same ? std::max(load(lane.squares[at]), square) : square);
        lane.number[at].store(number, std::memory_order_relaxed);
    }

    std::array<Lane, numLanes> lanes_{};
};

} // namespace stemline
