// One thread a process for what may wait for the disk.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <thread>

namespace stemline::capture {

/// Runs jobs in order, and between them whatever wants a turn every `tick`. Any thread but the audio thread.
class DiskThread {
  public:
    static constexpr std::chrono::milliseconds tick{50};

    /// Wants turns as long as somebody else keeps it.
    class Regular {
      public:
        virtual ~Regular() = default;
        virtual void turn() noexcept = 0;
    };

    DiskThread();
    /// Waits for the job under way, unless that is who calls; the others are not done any more.
    ~DiskThread();

    /// The future has what the job throws.
    std::future<void> post(std::function<void()> job);
    void add(std::weak_ptr<Regular>);

    /// The one of this process, made when there is none, gone with its last user.
    static std::shared_ptr<DiskThread> shared();

  private:
    struct State;

    const std::shared_ptr<State> state_; // the thread has it too: the last user may be one of its jobs
    std::jthread thread_;
};

} // namespace stemline::capture
