#pragma once

#include "engine/stems.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace stemline {

inline constexpr int stalePageFrames = 4096;
inline constexpr double settleSeconds = 0.1; // after a jump, when hosts fade their tracks in: not compared
inline constexpr float staleTolerance = 1e-4f; // of full scale, between the input and what was captured

/// Stems of a stretch of the host's timeline. What the pointers show to is kept by whoever made it
/// (`CapturedSet::keep`), and is in memory: the audio thread reads it.
struct CapturedRange {
    std::int64_t start = 0; // host position
    std::int64_t length = 0;
    int channels = 2;
    std::array<const float*, numStems> stems{}; // interleaved; null: silent
    const float* source = nullptr;              // interleaved; null: nothing to compare the input with
    std::atomic<std::uint8_t>* stale = nullptr; // one for each stalePageFrames from `start` on; the player sets 1
    bool hardStart = false, hardEnd = false;    // the material itself begins or ends here: no fade, exact to the frame
};

/// Immutable once published. Ranges are sorted by start and do not overlap.
struct CapturedSet {
    std::vector<CapturedRange> ranges;
    std::shared_ptr<const void> keep; // the memory behind the ranges
};

/// Captured mode on the audio thread: stems at the playhead's position, without latency.
///
/// Where the transport plays and a range covers its position, all seven stems play as stored; elsewhere the input goes
/// to the residual. Between the two is a fade, inside the range. At a jump, a stop or a new set, what played fades out
/// and the residual makes up for it. So the sum is the input wherever the input is what was captured. While the host
/// renders offline a jump is cut instead: exact from the first frame.
class CapturedPlayer {
  public:
    /// Not on the audio thread.
    void prepare(int channels, double rate);

    /// Audio thread. Like LivePlayer::process; `delayed` is the input. The set of the call before has to be alive still
    /// (SnapshotSlot sees to that). Null: nothing is captured.
    void process(const Transport&, const CapturedSet*, const float* const* in, int frames, float* const* stems,
                 float* const* delayed) noexcept;

  private:
    static constexpr int sliceFrames = 256;

    void beginAnew(const Transport&, const CapturedSet*, bool moved) noexcept;
    void renderTail() noexcept;
    int playSlice(const float* const* in, int frames, float* const* stems) noexcept;
    void playRange(const CapturedRange&, const float* const* in, int frames, float* const* stems) noexcept;
    void playDry(const float* const* in, int frames, float* const* stems) noexcept;
    void addTail(float* const* stems, int frames) noexcept;
    void compare(const CapturedRange&, const float* const* in, int frames) noexcept;
    void listen(const float* const* in, int frames) noexcept;

    int channels_ = 0;
    int settleFrames_ = 0; // after a jump, how long hosts fade their own signal: not compared

    // Audio thread's own.
    const CapturedSet* set_ = nullptr;
    bool playing_ = false;
    bool started_ = false;
    std::int64_t position_ = 0;
    std::int64_t sinceJump_ = 0;
    int gain_ = 0;            // of what is stored, in steps of 1 / fadeFrames
    int quietFrames_ = 0;     // how long the input has been silent
    std::vector<float> tail_; // [(stem * channels + channel) * fadeFrames + i]
    int tailLeft_ = 0;
};

} // namespace stemline
