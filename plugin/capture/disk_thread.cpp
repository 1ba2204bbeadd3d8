#include "capture/disk_thread.h"

#include <algorithm>
#include <utility>

namespace stemline::capture {

DiskThread::DiskThread() : thread_([this](const std::stop_token& stop) { work(stop); }) {}

DiskThread::~DiskThread() = default;

std::future<void> DiskThread::post(std::function<void()> job) {
    std::packaged_task<void()> task(std::move(job));
    std::future<void> done = task.get_future();
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(task));
    wake_.notify_all();
    return done;
}

void DiskThread::add(std::weak_ptr<Regular> regular) {
    const std::lock_guard lock(mutex_);
    regulars_.push_back(std::move(regular));
    wake_.notify_all();
}

void DiskThread::work(const std::stop_token& stop) {
    auto next = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
        std::erase_if(regulars_, [](const auto& regular) { return regular.expired(); });
        if (regulars_.empty())
            wake_.wait(lock, stop, [this] { return !jobs_.empty() || !regulars_.empty(); });
        else
            wake_.wait_until(lock, stop, next, [this] { return !jobs_.empty(); });
        if (stop.stop_requested())
            return;
        if (!jobs_.empty()) {
            std::packaged_task<void()> job = std::move(jobs_.front());
            jobs_.pop_front();
            lock.unlock();
            job();
            job = {}; // what it holds may want this mutex
            lock.lock();
        }
        if (std::chrono::steady_clock::now() < next)
            continue;
        next = std::chrono::steady_clock::now() + tick;
        std::vector<std::shared_ptr<Regular>> turns;
        for (const auto& regular : regulars_)
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
