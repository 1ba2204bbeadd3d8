// A model on its way to the server.
#pragma once

#include "client/models.h"

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace stemline::client {

/// Has a server download a model, in the background. One thread of its own while it does; any thread but the audio
/// thread may call. It stops with its owner; what the server has by then it need not fetch again.
class ModelDownload {
  public:
    struct Status {
        std::string model; // of the last one that was asked for; empty: none was
        bool running = false;
        DownloadProgress progress;
        std::optional<Problem> problem; // why the last one did not end well; none if it was cancelled
    };

    /// `arrived` is called on the thread when a model is there.
    explicit ModelDownload(std::function<void()> arrived) : arrived_(std::move(arrived)) {}

    /// Ignored while one is running.
    void start(const ServerChoice&, const std::string& model);
    void cancel();
    Status status() const;

  private:
    void run(const ServerChoice&, const std::string& model, const std::stop_token&);

    const std::function<void()> arrived_;
    mutable std::mutex mutex_; // held for moments
    Status status_;
    std::jthread thread_; // last: it uses all of the above
};

} // namespace stemline::client
