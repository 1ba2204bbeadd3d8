#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace stemline {

/// In the order of the buses 1 to 7 (bus 0 is Main), of the parameters and of every array of stems.
enum class Stem { drums, bass, guitar, piano, vocals, other, residual };

inline constexpr int numStems = 7;
inline constexpr int numSeparated = 6; // all but the residual, which is what the others leave of the mix
inline constexpr int maxChannels = 2;

/// Length of every fade between stems and dry signal, in frames.
inline constexpr int fadeFrames = 256;

const char* stemName(Stem) noexcept;
std::optional<Stem> stemFromName(std::string_view) noexcept;

/// What the host says about a block's first frame. `offline`: nobody is listening, the host renders to a file.
struct Transport {
    bool playing = false;
    std::int64_t position = 0;
    bool offline = false;
};

} // namespace stemline
