#pragma once

#include "engine/stems.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

namespace stemline {

/// An unbroken run of the host's timeline: its frame `firstFrame + i` is the host's position `position + i`.
struct Segment {
    std::int64_t firstFrame = 0;
    std::int64_t position = 0;
    std::uint32_t epoch = 0; // grows by one with every segment that has frames; the first is 0
    bool playing = false;
};

/// What the host sent, on its way from the audio thread (writes) to one worker (reads). Wait-free on both sides.
///
/// Frames are counted from the stream's beginning and never jump; when the ring is full, frames are lost but counted,
/// and a new segment begins behind them, so that what follows keeps its place on both axes.
class InputStream {
  public:
    /// Neither thread. The capacity is rounded up to a power of two.
    InputStream(int capacityFrames, int channels);

    /// Audio thread: the next frame written is at `position`. Without a call the first segment is at 0, stopped.
    void beginSegment(std::int64_t position, bool playing) noexcept;

    /// Audio thread: false when frames were lost. Any number of frames.
    bool write(const float* const* channels, int frames) noexcept;

    struct Run {
        Segment segment;
        std::int64_t frame = 0; // of the first one
        int frames = 0;         // 0: nothing is there
        bool begins = false;    // the first run of its segment
    };

    /// Worker: the oldest unread frames, at most `maxFrames`, never across the border of a segment.
    Run read(float* const* channels, int maxFrames) noexcept;

    /// Any thread: how many frames came, lost ones included; so the next one's number.
    std::int64_t framesWritten() const noexcept { return written_.load(std::memory_order_relaxed); }
    std::int64_t lostFrames() const noexcept { return lost_.load(std::memory_order_relaxed); }

    /// Any thread but the worker: how many frames can be written at least without losing any.
    int room() const noexcept {
        // acquire: as `write` does, for whoever waits for room and then writes.
        return static_cast<int>(mask_ + 1 -
                                (stored_.load(std::memory_order_relaxed) - read_.load(std::memory_order_acquire)));
    }

    int channels() const noexcept { return static_cast<int>(ring_.size()); }
    int capacity() const noexcept { return static_cast<int>(mask_ + 1); }

  private:
    struct Border {
        Segment segment;
        std::int64_t storedAt = 0; // how many frames had been stored when it began
    };
    static constexpr std::int64_t borderCapacity = 256;

    bool publishSegment() noexcept;
    void store(const float* const* channels, int frames) noexcept;

    std::int64_t mask_;
    std::vector<std::vector<float>> ring_;
    std::array<Border, borderCapacity> borders_;

    // Audio thread's own.
    bool pending_ = true; // the next frame begins a segment
    bool playing_ = false;
    std::uint32_t epoch_ = 0;
    std::int64_t position_ = 0; // the host's, of the next frame
    std::int64_t frame_ = 0;
    std::int64_t bordersPushed_ = 0;
    std::int64_t framesStored_ = 0;

    // Worker's own.
    alignas(64) Border reading_;
    bool begins_ = false;
    std::int64_t framesRead_ = 0;
    std::int64_t bordersTaken_ = 0;

    // Shared. Each has one writer.
    alignas(64) std::atomic<std::int64_t> stored_{0};
    std::atomic<std::int64_t> bordersEnd_{0};
    std::atomic<std::int64_t> written_{0};
    std::atomic<std::int64_t> lost_{0};
    alignas(64) std::atomic<std::int64_t> read_{0};
    std::atomic<std::int64_t> bordersBegin_{0};
};

} // namespace stemline
