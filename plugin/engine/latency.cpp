#include "engine/latency.h"

#include "engine/live_player.h"

#include <algorithm>
#include <cmath>

namespace stemline {

namespace {

constexpr double longestSeconds = 60.0;

int framesOf(double seconds, double rate) noexcept {
    return static_cast<int>(std::ceil(std::clamp(seconds, 0.0, longestSeconds) * rate));
}

/// What lies between the server's latency and ours: a block is asked for as a whole, and a fade ahead of that.
int between(double rate, int hostBlock, double jitterSeconds) noexcept {
    return std::max(hostBlock, 1) + fadeFrames + framesOf(jitterSeconds, rate);
}

} // namespace

LatencyPlan planLatency(double chosenSeconds, double rate, int hostBlock, double jitterSeconds) noexcept {
    const int chosen = static_cast<int>(std::lround(std::clamp(chosenSeconds, 0.0, longestSeconds) * rate));
    const int total = std::max(chosen, LivePlayer::minLatency);
    return {total, total - between(rate, hostBlock, jitterSeconds)};
}

int totalLatency(int serverLatency, double rate, int hostBlock, double jitterSeconds) noexcept {
    return std::max(serverLatency + between(rate, hostBlock, jitterSeconds), LivePlayer::minLatency);
}

} // namespace stemline
