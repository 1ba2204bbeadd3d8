// Snapshot of a server and of one instance's work with it, for the editor and for tests.
#pragma once

#include "client/problem.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace stemline::client {

struct ModelInfo {
    enum class State { notDownloaded, available, ready, broken };

    std::string name, title, weightsSha256, licence;
    std::vector<std::string> stems;
    State state = State::notDownloaded;
    std::uint64_t fileBytes = 0;
    double nativeRateHz = 0;
    int defaultRefinerSteps = 0;
    double realtimeFactor = 0; // compute seconds per second of audio; 0: not measured yet
    std::string problem;       // why it is broken
};

/// What a server computes on, or could.
struct Device {
    int index = 0;
    std::string name, backend; // "torch-cuda", "torch-cpu"
    std::uint64_t totalBytes = 0;
    std::uint64_t freeBytes = 0; // 0: not known
    bool active = false;

    bool isGpu() const { return backend.ends_with("cuda"); }
    bool operator==(const Device&) const = default;
};

/// Counts since the link was made; they survive reconnection.
struct LiveStatistics {
    std::int64_t framesSent = 0;
    std::int64_t framesReceived = 0;
    std::int64_t framesDropped = 0;   // the server said that they will not come
    std::int64_t framesLate = 0;      // came, but after their time
    std::int64_t framesSkipped = 0;   // were not sent: no server, or it was too far behind
    std::int64_t nonFiniteChunks = 0; // held NaN or Inf and were sent as silence
    int reconnections = 0;
    int engineRestarts = 0;
};

/// A plain value; `LiveLink::status()` makes one.
struct ServerStatus {
    enum class State {
        stopped,      // none runs, and it is not for us to start one; `problem` if it did not come up
        starting,     // its process is coming up
        connecting,   // it is asked who it is
        loadingModel, // it is there, the session is not open yet
        ready,        // session open (or, where none was asked for, server there); nothing comes just now
        separating,   // stems have come within the last second
        lost,         // was there, is gone: `tryNumber`, `secondsToNextTry`, `problem`
        untrusted,    // something answers that does not hold our token: it was sent nothing
        refused       // the server will not do it: `problem` (UNKNOWN_MODEL, LATENCY_NOT_POSSIBLE, WRONG_TOKEN, ...)
    };

    State state = State::stopped;
    std::optional<Problem> problem; // why it is not ready; stays until it is
    std::string notice;             // the last thing the server announced: engine restarted, shutting down
    int tryNumber = 0;
    double secondsToNextTry = 0;
    std::chrono::system_clock::time_point lostAt;

    std::string address, version, device;
    std::vector<Device> devices;
    std::string defaultModel;
    std::vector<ModelInfo> models;

    // Of the open session; empty and 0 without one.
    std::string model, weightsSha256;
    std::vector<std::string> stems; // in the server's order
    int latencySamples = 0;
    int hopSamples = 0;
    int refinerSteps = 0;
    bool bounceWindows = false; // offline: stems are those of a bounce
    double windowMs = 0;        // time the last window took

    LiveStatistics statistics;

    bool modelMissing() const; // refused for want of the model
};

/// What the chip in the editor says: "Ready · {device} · {ms} ms", "Server lost · try {n} in {s} s", ...
std::string chipText(const ServerStatus&);

} // namespace stemline::client
