// From the input stream to pieces of a size worth a message.
#pragma once

#include "client/wire_segments.h"
#include "engine/input_stream.h"

#include <chrono>
#include <optional>
#include <vector>

namespace stemline::client {

using Clock = std::chrono::steady_clock;

/// A piece of the input, planar. `planes` may hold more than `frames`.
struct Chunk {
    std::int64_t frame = 0;
    int frames = 0;
    Segment segment;     // of the host's timeline, where the first frame lies
    bool begins = false; // the first of its segment
    bool finite = true;
    FrameRange lost;     // right before it: never came through, or was skipped
    bool follows = true; // follows the chunk before it without a gap
    std::vector<std::vector<float>> planes;

    std::int64_t position() const { return segment.position + frame - segment.firstFrame; }
};

/// The worker's end of an InputStream. A chunk never crosses the border of a segment. In real time whole chunks are
/// gathered, and a rest goes out when it has waited for as long as a chunk lasts; offline all goes out as it comes.
class ChunkReader {
  public:
    explicit ChunkReader(InputStream& input);

    /// What was read and not yet popped stays.
    void configure(int chunkFrames, double sampleRate, bool offline);

    /// The oldest chunk that is to be sent; null while there is none. Stays the same until `pop`.
    const Chunk* next(Clock::time_point now);
    void pop();

    /// Throws away everything that is there; the next chunk does not follow.
    FrameRange skip();

    /// The same, but keeps what may still come back before it is played (offline: what was not played yet), and room in
    /// the ring.
    FrameRange skipTooLate(std::int64_t playedUpTo, Clock::time_point now);

    /// The first frame that was not popped yet.
    std::int64_t oldest() const { return popped_; }
    /// Frames written but not yet popped.
    std::int64_t backlog() const;
    int capacity() const { return input_.capacity(); }

  private:
    /// As `skip`, but only of chunks that lie before `frame` as a whole.
    FrameRange skipBefore(std::int64_t frame, Clock::time_point now);
    bool read(int most);
    bool joins() const;
    void join();

    InputStream& input_;
    int chunkFrames_ = 512;
    int leadFrames_ = 0; // how long before it is played a frame must at least be sent
    std::chrono::duration<double> patience_{0.01};
    bool offline_ = false;
    Chunk current_, held_; // `held_`: read, but does not belong to `current_`
    Clock::time_point since_;
    std::optional<std::int64_t> expected_; // the next frame to be read
    std::int64_t popped_ = 0;
    bool skipped_ = false;
};

} // namespace stemline::client
