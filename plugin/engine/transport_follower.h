#pragma once

#include "engine/stems.h"

#include <cstdint>

namespace stemline {

/// Where the transport should be next, and whether it jumped. Audio thread's own.
class TransportFollower {
  public:
    /// True if a new segment begins with this block: the first one, after a jump, where playing begins or ends.
    bool begins(const Transport& transport, int frames) noexcept {
        const bool turned = transport.playing != playing_;
        const bool jumped = transport.playing && transport.position != expected_;
        const bool begins = !started_ || turned || jumped;
        // A stopped host repeats its position; ours runs on, so that no sample's name is given twice.
        if (begins && (!started_ || transport.playing))
            expected_ = transport.position;
        started_ = true;
        playing_ = transport.playing;
        position_ = expected_;
        expected_ += frames;
        return begins;
    }

    /// Of the block that `begins` was asked about last.
    std::int64_t position() const noexcept { return position_; }
    bool playing() const noexcept { return playing_; }

  private:
    std::int64_t position_ = 0;
    std::int64_t expected_ = 0;
    bool playing_ = false;
    bool started_ = false;
};

} // namespace stemline
