#include "capture/disk_thread.h"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <stdexcept>

using namespace stemline::capture;

TEST_CASE("jobs are done in order, and what one throws is its owner's to hear") {
    DiskThread thread;
    std::vector<int> done;
    std::vector<std::future<void>> results;
    for (int i = 0; i < 100; ++i)
        results.push_back(thread.post([&done, i] {
            if (i == 50)
                throw std::runtime_error("fifty");
            done.push_back(i);
        }));
    for (std::size_t i = 0; i < results.size(); ++i)
        if (i == 50)
            CHECK_THROWS_WITH(results[i].get(), "fifty");
        else
            results[i].get();
    CHECK(done.size() == 99);
    CHECK(std::is_sorted(done.begin(), done.end()));
}

TEST_CASE("there is one thread as long as anybody uses it, and its last user may be a job") {
    std::shared_ptr<DiskThread> first = DiskThread::shared();
    CHECK(first == DiskThread::shared());
    const std::weak_ptr<DiskThread> watched = first;
    std::promise<void> go;
    std::future<void> done = first->post([user = first, wait = go.get_future().share()] { wait.get(); });
    first = nullptr;
    CHECK_FALSE(watched.expired());
    go.set_value();
    done.get();
    for (int tries = 0; !watched.expired() && tries < 1000; ++tries)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    CHECK(watched.expired());
    CHECK(DiskThread::shared() != nullptr);
}

TEST_CASE("regular work gets its turns until nobody keeps it, busy or not") {
    struct Counter : DiskThread::Regular {
        void turn() noexcept override { ++turns; }
        std::atomic<int> turns{0};
    };
    DiskThread thread;
    auto counter = std::make_shared<Counter>();
    thread.add(counter);
    for (int i = 0; i < 300; ++i) // one after the other, for longer than a tick
        thread.post([] { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }).get();
    CHECK(counter->turns >= 3);
    const std::weak_ptr<Counter> watched = counter;
    counter = nullptr;
    std::this_thread::sleep_for(2 * DiskThread::tick);
    CHECK(watched.expired());
}
