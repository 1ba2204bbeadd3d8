// Connecting takes as long as a server takes to start; the worker that must drain the input does it on another thread.
#pragma once

#include "client/models.h"
#include "client/obtain.h"

#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

namespace stemline::client {

/// One connection attempt at a time on a thread of its own. All methods belong to the worker.
class Connector {
  public:
    struct Result {
        std::shared_ptr<Connection> connection; // null: `problem` says why
        std::optional<Problem> problem;
        ModelList list;
        std::vector<Device> devices;
        std::string device; // that is active: "name (backend)"
    };
    enum class Stage { starting, connecting, loadingModel };

    ~Connector() { cancel(); }

    /// `refresh`: only ask this one what it has now.
    void begin(const ServerChoice&, const ObtainOptions&, std::shared_ptr<Connection> refresh = nullptr);
    bool busy() const { return thread_.joinable(); }
    Stage stage() const { return stage_.load(); }
    /// The result, once it is there; afterwards it is not busy any more.
    std::optional<Result> take();
    /// Gives the attempt up; returns within a fraction of a second.
    void cancel();

  private:
    void work(const ServerChoice&, ObtainOptions, std::stop_token);
    void uses(std::shared_ptr<Connection>);

    std::atomic<Stage> stage_{Stage::connecting};
    std::atomic<bool> done_{false};
    Result result_; // the thread's until done_
    std::mutex mutex_;
    std::shared_ptr<Connection> asked_; // to be severed if it does not let go of the thread
    std::jthread thread_;
};

} // namespace stemline::client
