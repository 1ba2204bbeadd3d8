// Two threads on everything they share; meant for the thread sanitizer, and true without it.
#include "live_rig.h"

#include "engine/captured_player.h"
#include "engine/mixer.h"
#include "engine/snapshot.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <thread>

using namespace stemline;
using namespace stemline::test;

TEST_CASE("Audio thread and worker at once: the sum holds, stems are at their frames, nothing is lost unseen") {
    constexpr int channels = 2, latency = 3000;
    LivePlayer player;
    player.prepare(channels, 128, latency, 8000.0);
    std::atomic<bool> over{false};
    std::atomic<std::int64_t> wrongInput{0};

    std::thread worker([&] {
        Random random(21);
        Planes in(channels, 700), stems(numSeparated * channels, 700);
        while (!over.load(std::memory_order_relaxed)) {
            const auto run = player.input().read(in.data(), random.from(1, 700));
            std::int64_t wrong = 0;
            for (int c = 0; c < channels; ++c)
                for (int i = 0; i < run.frames; ++i)
                    wrong += in.at(c, i) == nameOf(c, run.frame + i) ? 0 : 1;
            wrongInput += wrong;
            for (int p = 0; p < stems.count(); ++p)
                for (int i = 0; i < run.frames; ++i)
                    stems.at(p, i) = nameOf(p + 1, run.frame + i);
            if (random.oneIn(30))
                player.timeline().giveUp(run.frame, run.frames);
            else
                player.timeline().write(run.frame, LiveRig::everyStem, stems.data(), run.frames);
            if (random.oneIn(10)) // a second time, and far too late: neither may do harm
                player.timeline().write(run.frame - random.from(0, 4 * latency), 1u, stems.data(), run.frames);
        }
    });

    Random random(22);
    Planes in(channels, 1000), out(numStems * channels, 1000), delayed(channels, 1000);
    Transport transport{true, 0};
    std::int64_t frame = 0;
    double worst = 0.0;
    bool placed = true;
    std::int64_t withStems = 0;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(3);
    while (std::chrono::steady_clock::now() < until) {
        const int frames = random.oneOf({1, 64, 128, 300, 1000});
        if (random.oneIn(100))
            transport = {random.oneIn(2), random.from(0, 100000)};
        for (int c = 0; c < channels; ++c)
            for (int i = 0; i < frames; ++i)
                in.at(c, i) = nameOf(c, frame + i);
        const int patience = random.oneIn(2) ? 1000 : 0;
        for (int waited = 0; waited < patience && !player.readyFor(frames); ++waited)
            std::this_thread::yield();
        player.process(transport, in.data(), frames, out.data(), delayed.data());
        for (int c = 0; c < channels; ++c)
            for (int i = 0; i < frames; ++i) {
                const std::int64_t due = frame + i - latency;
                const float own = due < 0 ? 0.0f : nameOf(c, due);
                double sum = 0.0;
                for (int s = 0; s < numStems; ++s)
                    sum += static_cast<double>(out.at(s * channels + c, i));
                worst = std::max(worst, std::abs(sum - static_cast<double>(own)));
                if (due < 0 || i < frames - 1 || player.stemGain() < 1.0f)
                    continue;
                ++withStems;
                for (int s = 0; s < numSeparated; ++s) {
                    const float got = out.at(s * channels + c, i);
                    const bool onlyDrums = s > 0 && got == 0.0f; // where the misplaced second write came first
                    placed = placed && (onlyDrums || s == 0 || got == nameOf(s * channels + c + 1, due));
                }
            }
        frame += frames;
        transport.position += frames;
    }
    over = true;
    worker.join();
    CHECK(wrongInput == 0);
    CHECK(worst <= 1e-6);
    CHECK(placed);
    CHECK(withStems > 0);
    CHECK(player.input().framesWritten() == frame);
}

TEST_CASE("Sets change under a playing thread without a leak or a torn read") {
    SnapshotSlot<CapturedSet> slot;
    std::atomic<bool> over{false};
    std::thread owner([&] {
        for (int round = 0; !over.load(std::memory_order_relaxed); ++round) {
            auto samples = std::make_shared<std::vector<float>>(2 * 5000, 0.01f * static_cast<float>(round % 50));
            auto set = std::make_unique<CapturedSet>();
            CapturedRange range;
            range.start = round % 1000;
            range.length = 5000;
            range.stems.fill(samples->data());
            set->ranges.push_back(range);
            set->keep = samples;
            slot.publish(std::move(set));
            if (round % 5 == 0)
                std::this_thread::yield();
        }
    });
    CapturedPlayer player;
    player.prepare(2, 48000.0);
    Planes in(2, 512), stems(numStems * 2, 512), delayed(2, 512);
    Transport transport{true, 0};
    Random random(23);
    std::int64_t changes = 0;
    const CapturedSet* last = nullptr;
    float highest = 0.0f;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    while (std::chrono::steady_clock::now() < until) {
        const CapturedSet* const set = slot.current();
        changes += set != last ? 1 : 0;
        last = set;
        player.process(transport, set, in.data(), 64, stems.data(), delayed.data());
        transport.position = random.oneIn(10) ? random.from(0, 6000) : transport.position + 64;
        for (int i = 0; i < 64; ++i)
            highest = std::max(highest, stems.at(0, i));
    }
    over = true;
    owner.join();
    CHECK(changes > 5);
    CHECK(highest > 0.0f);
    CHECK(highest <= 0.5f * 1.01f);
}
