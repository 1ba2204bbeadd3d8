// A stretch of audio through the server's Bounce service into files.
#pragma once

#include "client/endpoint.h"
#include "client/problem.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace stemline::client {

struct BounceRequest {
    /// The same id with the same settings finds the job that was begun before, whatever became of us or the server.
    std::string requestId;
    std::string model; // empty: the server's default
    std::optional<int> refinerSteps;
    std::uint64_t seed = 0;
    int sampleRateHz = 44100;
    int channels = 2;
    std::int64_t frames = 0;
    std::vector<std::string> stems; // empty: all
    std::filesystem::path folder;   // created; gets <stem>.f32 for each stem, and residual.f32
    double patienceSeconds = 60;    // without any server for so long: failed with SERVER_UNREACHABLE
};

struct BounceOutput {
    std::string stem;           // as the model names it, or "residual"
    std::filesystem::path file; // raw float32, little-endian, interleaved
    std::string sha256;
    float peak = 0;
    bool silent = false;
};

struct BounceProgress {
    enum class State { connecting, sending, queued, separating, saving, finished, failed, cancelled };

    State state = State::connecting;
    std::int64_t doneFrames = 0; // of sending or separating, whichever is under way
    std::int64_t totalFrames = 0;
    double fraction = 0; // of the whole
    std::optional<double> remainingSeconds;
    std::optional<Problem> problem; // failed, or why it waits to connect again
    std::string model, weightsSha256;
    std::vector<BounceOutput> outputs; // finished
    bool ended() const { return state >= State::finished; }
};

/// Owns one thread; the rest may be called from any thread but the audio thread.
class BounceJob {
  public:
    /// Gives `frames` interleaved frames from `frame` on; called on the job's thread, more than once for the same
    /// frames if an upload is taken up again. May throw ClientError.
    using Source = std::function<void(std::int64_t frame, int frames, float* interleaved)>;
    /// Called on the job's thread at every change; the last call has `ended()`. Must not destroy the job.
    using Listener = std::function<void(const BounceProgress&)>;

    BounceJob(ServerChoice, BounceRequest, Source, Listener = {});
    /// Cancels what has not ended and waits for the thread, at most a second.
    ~BounceJob();
    BounceJob(const BounceJob&) = delete;
    BounceJob& operator=(const BounceJob&) = delete;

    /// Returns at once. The job is cancelled and deleted on the server, too, if that answers soon enough.
    void cancel();
    BounceProgress progress() const;
    /// Waits until it has ended.
    BounceProgress wait();

  private:
    class Worker;
    std::unique_ptr<Worker> worker_;
};

} // namespace stemline::client
