#pragma once

#include "engine/stems.h"

#include <cstdint>

namespace stemline {

/// The host's playhead as its audio moves. Ardour, where anything in the session has latency, plays that much of a
/// track into it before the playhead leaves its start: position after position is the same, yet the audio goes on, and
/// it is so far ahead from then on. It fills up what is left of its first block with silence: the start is behind that.
/// Audio thread's own.
class SteadyPlayhead {
  public:
    /// Of the block that begins now, from what the host says about it. `silent`: there is nothing but zeros in it.
    std::int64_t follow(const Transport& host, int frames, bool silent) noexcept {
        const std::int64_t moved = host.position - said_;
        const bool playsOn = host.playing && playing_;
        const bool filledUp = filling_ && moved == 0;
        const bool goesOn = playsOn && !filledUp && (moved == frames_ || moved == 0);
        position_ = goesOn ? position_ + frames_ : host.position;
        filling_ = host.playing && !playing_ && silent;
        playing_ = host.playing;
        said_ = host.position;
        frames_ = frames;
        return position_;
    }

  private:
    std::int64_t position_ = 0;
    std::int64_t said_ = 0;
    int frames_ = 0;
    bool playing_ = false;
    bool filling_ = false;
};

} // namespace stemline
