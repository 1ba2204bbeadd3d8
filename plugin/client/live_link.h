// One instance's live stream: what the host plays goes to the server, stems come back to their frames.
#pragma once

#include "client/endpoint.h"
#include "client/server_status.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace stemline {
class InputStream;
class StemTimeline;
} // namespace stemline

namespace stemline::client {

struct LiveSettings {
    std::string model;               // empty: the server's default
    std::optional<int> refinerSteps; // absent: the model's own
    std::uint64_t seed = 0;
    double sampleRate = 44100;
    int channels = 2;
    int askLatency = 0; // most samples the server may take (LatencyPlan::askServer); 0: the least it can promise
    int chunk = 512;    // samples in a message
    bool offline =
        false; // the host waits: send at once, nothing is dropped, stems are those of a bounce if they can be
    bool separate = true; // false: stay connected and informed, open no session

    bool operator==(const LiveSettings&) const = default;
};

/// Owns one worker thread (and while connecting a second one, so that the input is always drained). The worker is the
/// only reader of `input` and the only writer of `timeline`, which both must outlive the link. The audio thread never
/// meets it. All methods may be called from any other thread; none of them waits for the server, only `stop` waits for
/// the worker.
class LiveLink {
  public:
    LiveLink(InputStream& input, StemTimeline& timeline, ServerChoice, LiveSettings);
    ~LiveLink();
    LiveLink(const LiveLink&) = delete;
    LiveLink& operator=(const LiveLink&) = delete;

    /// Fewer refiner steps or another seed take effect in the open session from its next window on; anything else
    /// finishes the session (what was sent still comes back) and opens a new one at the next frame.
    void reconfigure(LiveSettings);
    void choose(ServerChoice);

    /// Ends a wait for the next try, and allows the server to be started even if it was shut down on purpose or
    /// `startAutomatically` is off ("Start", "Try now").
    void tryNow();
    /// Ends this user's own server and starts it again ("Restart server"), in the background.
    void restartServer();

    ServerStatus status() const;

    /// Ends everything within a second, whatever the server does. Idempotent; the destructor does it, too.
    void stop();

  private:
    class Worker;
    std::unique_ptr<Worker> worker_;
};

} // namespace stemline::client
