// Which frame a position on the wire is, and how far the server has got with what was sent.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace stemline::client {

/// A run of frames, [frame, frame + count).
struct FrameRange {
    std::int64_t frame = 0;
    std::int64_t count = 0;
};

/// The runs sent in one session, by the epoch that the server gives their stems. Plain arithmetic; one thread.
class WireSegments {
  public:
    bool empty() const { return table_.empty(); }
    /// What is sent next begins anew. But for the first time, a flush goes before it.
    void begin(std::int64_t frame, std::int64_t position);
    void sent(int frames) { table_.back().sent += frames; }

    std::int64_t nextPosition() const { return table_.back().position + table_.back().sent; }
    std::int64_t sentInSegment() const { return table_.empty() ? 0 : table_.back().sent; }
    /// Samples of the current segment that the server has not read yet, as far as it has told.
    std::int64_t inFlight() const;
    /// What was sent, and has neither come back nor been dropped yet.
    std::vector<FrameRange> outstanding() const;

    /// Stems for `frames` samples from `position` on have come. The frame of the first; absent if nobody sent that.
    std::optional<std::int64_t> arrived(std::uint32_t epoch, std::int64_t position, std::int64_t frames,
                                        std::int64_t consumed);
    /// As `arrived`, for samples whose stems will not come.
    std::optional<std::int64_t> dropped(std::uint32_t epoch, std::int64_t position, std::int64_t frames);

  private:
    struct Entry {
        std::uint32_t epoch = 0;
        std::int64_t frame = 0;
        std::int64_t position = 0;
        std::int64_t sent = 0;
        std::int64_t settled = 0; // of these, up to here stems have come or were dropped
        std::int64_t consumed = 0;

        bool holds(std::int64_t from, std::int64_t frames) const {
            return from >= position && from + frames <= position + sent;
        }
    };

    Entry* find(std::uint32_t epoch, std::int64_t position, std::int64_t frames);

    std::deque<Entry> table_;
};

} // namespace stemline::client
