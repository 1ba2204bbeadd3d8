#pragma once

#include "engine/input_stream.h"
#include "engine/stem_timeline.h"
#include "engine/stems.h"
#include "engine/transport_follower.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace stemline {

/// Readable from anywhere, reset from anywhere.
struct LiveCounters {
    std::atomic<std::int64_t> lateFrames{0}; // were played dry because their stems were not there
    std::atomic<std::int64_t> lateBlocks{0}; // calls of `process` with such frames
    std::atomic<std::int64_t> jumps{0};      // segments begun after the first
    void reset() noexcept;
};

/// All of Live on the audio thread: a pure delay of `latency` frames, whose input goes out to the worker and whose
/// output is split into stems where they have come back in time.
///
/// Output frame n is input frame n - latency, whatever the transport does. The residual is the delayed input without
/// the separated stems, so the seven always sum to the delayed input. Where stems are missing they fade out before the
/// gap and the residual takes over; they fade in again when the block and a fade's length of them are there.
class LivePlayer {
  public:
    static constexpr int minLatency = 2 * fadeFrames;

    /// Not while the audio or worker thread is using it: makes new streams, so whoever holds `input()` or `timeline()`
    /// lets go of them first. `maxBlock` is the host's word; larger blocks work too.
    void prepare(int channels, int maxBlock, int latency, double rate);

    /// Audio thread. `in`: [channels]. `stems`: [stem * channels + channel], all seven are written. `delayed`:
    /// [channels]. `delayed` may be the same memory as `in`, the stems may not.
    void process(const Transport&, const float* const* in, int frames, float* const* stems,
                 float* const* delayed) noexcept;

    /// Any thread: would the next `frames` be taken whole, and played without anything that can still come? A host that
    /// renders offline is held until this is true, for at most the announced block at a time.
    bool readyFor(int frames) const noexcept;

    /// Any thread: the frame that `process` takes next.
    std::int64_t nextFrame() const noexcept { return next_.load(std::memory_order_acquire); }

    InputStream& input() noexcept { return *input_; }
    StemTimeline& timeline() noexcept { return *timeline_; }
    LiveCounters& counters() noexcept { return counters_; }
    const LiveCounters& counters() const noexcept { return counters_; }
    int latency() const noexcept { return latency_; }

    /// Any thread: 1 while stems play, 0 while all is in the residual.
    float stemGain() const noexcept { return shownGain_.load(std::memory_order_relaxed); }

  private:
    static constexpr int sliceFrames = 256;

    void follow(const Transport&, int frames) noexcept;
    int processSlice(const float* const* in, int frames, float* const* stems, float* const* delayed) noexcept;
    void delay(const float* const* in, int frames, float* const* delayed) noexcept;
    bool slewGain(int ready, int frames, float* gains) noexcept;
    void split(const float* gains, int frames, float* const* stems, const float* const* delayed) const noexcept;

    int channels_ = 0;
    int latency_ = 0;
    std::unique_ptr<InputStream> input_;
    std::unique_ptr<StemTimeline> timeline_;
    LiveCounters counters_;

    // Audio thread's own.
    std::vector<std::vector<float>> line_; // the delay, a power of two long
    std::int64_t frame_ = 0;
    TransportFollower follower_;
    int gain_ = fadeFrames; // of the stems, in steps of 1 / fadeFrames

    std::atomic<std::int64_t> next_{0};
    std::atomic<float> shownGain_{1.0f};
};

} // namespace stemline
