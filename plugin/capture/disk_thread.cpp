#include "capture/disk_thread.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

namespace stemline::capture {

struct DiskThread::State {
    void work(const std::stop_token&);

    std::mutex mutex;
    std::condition_variable_any wake;
    std::deque<std::packaged_task<void()>> jobs;
    std::vector<std::weak_ptr<Regular>> regulars;
};

DiskThread::DiskThread()
    : state_(std::make_shared<State>()), thread_([state = state_](const std::stop_token& stop) { state->work(stop); }) {
}

DiskThread::~DiskThread() {
    thread_.request_stop();
    if (thread_.get_id() == std::this_thread::get_id())
        thread_.detach();
}

std::future<void> DiskThread::post(std::function<void()> job) {
    std::packaged_task<void()> task(std::move(job));
    std::future<void> done = task.get_future();
    const std::lock_guard lock(state_->mutex);
    state_->jobs.push_back(std::move(task));
    state_->wake.notify_all();
    return done;
}

void DiskThread::add(std::weak_ptr<Regular> regular) {
    const std::lock_guard lock(state_->mutex);
    state_->regulars.push_back(std::move(regular));
    state_->wake.notify_all();
}

void DiskThread::State::work(const std::stop_token& stop) {
    auto next = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex);
    while (!stop.stop_requested()) {
        std::erase_if(regulars, [](const auto& regular) { return regular.expired(); });
        if (regulars.empty())
            wake.wait(lock, stop, [this] { return !jobs.empty() || !regulars.empty(); });
        else
            wake.wait_until(lock, stop, next, [this] { return !jobs.empty(); });
        if (stop.stop_requested())
            return;
        if (!jobs.empty()) {
            std::packaged_task<void()> job = std::move(jobs.front());
            jobs.pop_front();
            lock.unlock();
            job();
            job = {}; // what it holds may want this mutex
            lock.lock();
        }
        if (std::chrono::steady_clock::now() < next)
            continue;
        next = std::chrono::steady_clock::now() + tick;
        std::vector<std::shared_ptr<Regular>> turns;
        for (const auto& regular : regulars)
            if (auto kept = regular.lock())
                turns.push_back(std::move(kept));
        lock.unlock();
        for (const auto& regular : turns)
            regular->turn();
        turns.clear();
        lock.lock();
    }
}

std::shared_ptr<DiskThread> DiskThread::shared() {
    static std::mutex mutex;
    static std::weak_ptr<DiskThread> last;
    const std::lock_guard lock(mutex);
    std::shared_ptr<DiskThread> thread = last.lock();
    if (thread == nullptr)
        last = thread = std::make_shared<DiskThread>();
    return thread;
}

} // namespace stemline::capture
