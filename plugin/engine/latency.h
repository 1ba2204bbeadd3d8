#pragma once

namespace stemline {

/// In frames at the host's rate.
struct LatencyPlan {
    int total = 0;     // what the host is told, and what LivePlayer is prepared with
    int askServer = 0; // LiveOpen.max_latency; 0 or less: there is no room for a server at all
    int chunk = 0;     // LiveOpen.block_samples
};

/// What remains for the server of a chosen latency. Stems of frame p have arrived when p + latency of the server has
/// been sent; the audio thread wants them, for a block of `hostBlock` frames, that block and a fade's length earlier,
/// and `jitterSeconds` pass between the audio thread and the wire. The chunks on the wire are in the server's own
/// number: they are as long as a small part of it allows, since what a message costs does not depend on its length.
LatencyPlan planLatency(double chosenSeconds, double rate, int hostBlock, double jitterSeconds) noexcept;

/// The other way round: what the host has to be told for a server that needs `serverLatency` frames.
int totalLatency(int serverLatency, double rate, int hostBlock, double jitterSeconds) noexcept;

} // namespace stemline
