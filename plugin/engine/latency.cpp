#include "engine/latency.h"

#include "engine/live_player.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace stemline {

namespace {

constexpr double longestSeconds = 60.0;
constexpr int shortestChunk = 512, longestChunk = 4096;
constexpr int chunksInLatency = 24;

int framesOf(double seconds, double rate) noexcept {
    return static_cast<int>(std::ceil(std::clamp(seconds, 0.0, longestSeconds) * rate));
}

/// What lies between the server's latency and ours: a block is asked for as a whole, and a fade ahead of that.
int between(double rate, int hostBlock, double jitterSeconds) noexcept {
    return std::max(hostBlock, 1) + fadeFrames + framesOf(jitterSeconds, rate);
}

int chunkFor(int latency) noexcept {
    const auto most = static_cast<unsigned>(std::max(latency / chunksInLatency, 1));
    return std::clamp(static_cast<int>(std::bit_floor(most)), shortestChunk, longestChunk);
}

} // namespace

LatencyPlan planLatency(double chosenSeconds, double rate, int hostBlock, double jitterSeconds) noexcept {
    const int chosen = static_cast<int>(std::lround(std::clamp(chosenSeconds, 0.0, longestSeconds) * rate));
    const int total = std::max(chosen, LivePlayer::minLatency);
    const int askServer = total - between(rate, hostBlock, jitterSeconds);
    return {total, askServer, chunkFor(askServer)};
}

int totalLatency(int serverLatency, double rate, int hostBlock, double jitterSeconds) noexcept {
    return std::max(serverLatency + between(rate, hostBlock, jitterSeconds), LivePlayer::minLatency);
}

} // namespace stemline
