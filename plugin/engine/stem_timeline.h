#pragma once

#include "engine/stems.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace stemline {

/// Finished stems on their way from one worker (writes) to the audio thread (reads), keyed by frame. Wait-free.
///
/// Frames come in any order and with holes; each is set once (the first writer wins) and stays until it was played.
/// The ring is cut into pages of 32 frames. A page's tag holds its number and a bit for each frame that is there, in
/// one atomic word, so the reader never looks at a frame that the writer may touch: the writer only touches frames
/// without a bit, and only from `played` up to `played + capacity`, where no older page can still be wanted.
/// Frames before 0 are silence and always there.
class StemTimeline {
  public:
    /// Neither thread.
    StemTimeline(int capacityFrames, int channels);

    struct Written {
        int placed = 0;
        int late = 0;     // the audio thread was already past them
        int repeated = 0; // had been there before; the first ones stay
        int refused = 0;  // `capacity` or more ahead of what is played, or not finite
    };

    /// Worker. `stems`: one pointer for each separated stem and channel, [stem * channels + channel]; those of a stem
    /// that is not in `stemMask` (bit 0: drums) are not looked at, and the stem is silent in these frames.
    Written write(std::int64_t frame, std::uint32_t stemMask, const float* const* stems, int frames) noexcept;

    /// Worker: these will not come (the server dropped them, or forgot them at a jump). Nobody needs to wait for them.
    void giveUp(std::int64_t frame, std::int64_t frames) noexcept;

    /// Audio thread: how many frames from `frame` on are there without a hole.
    int readyFrom(std::int64_t frame, int atMost) const noexcept;

    /// Any thread: the same, but frames that were given up count as well.
    int settledFrom(std::int64_t frame, int atMost) const noexcept;

    /// Audio thread: [stem * channels + channel]; what is absent is zero. Returns how many frames are absent.
    int read(std::int64_t frame, int frames, float* const* stems) const noexcept;

    /// Audio thread: everything before `frame` is given back, and never asked for again.
    void played(std::int64_t frame) noexcept;

    /// Any thread: the first frame that is not yet played.
    std::int64_t playedUpTo() const noexcept { return played_.load(std::memory_order_acquire); }

    int channels() const noexcept { return channels_; }
    int capacity() const noexcept { return static_cast<int>(capacity_); }

  private:
    static constexpr int pageFrames = 32;
    /// High half: the page's number (it wraps after 33 days at 48 kHz). Low half: a bit for each frame.
    using Tag = std::atomic<std::uint64_t>;

    std::size_t pageOf(std::int64_t frame) const noexcept;
    std::uint32_t bitsOf(const std::vector<Tag>& tags, std::int64_t frame) const noexcept;
    void setBits(std::vector<Tag>& tags, std::int64_t frame, std::uint32_t bits) noexcept;
    template <class Bits> int countFrom(std::int64_t frame, int atMost, Bits bitsAt) const noexcept;
    std::uint32_t finiteOf(std::uint32_t stemMask, const float* const* stems, std::int64_t offset, int first,
                           std::uint32_t wanted) const noexcept;
    void place(std::int64_t frame, std::uint32_t stemMask, const float* const* stems, std::int64_t offset,
               std::uint32_t wanted) noexcept;

    int channels_;
    std::int64_t capacity_;
    std::int64_t ringFrames_; // capacity and a page more, in whole pages
    std::vector<std::vector<float>> planes_;
    std::vector<Tag> ready_;
    std::vector<Tag> givenUp_;
    alignas(64) std::atomic<std::int64_t> played_{0};
};

} // namespace stemline
