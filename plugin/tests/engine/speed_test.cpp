#include "live_rig.h"

#include "engine/captured_player.h"
#include "engine/mixer.h"

#include <catch2/catch.hpp>

#include <chrono>
#include <iostream>

using namespace stemline;
using namespace stemline::test;

TEST_CASE("Nothing that the audio thread calls allocates") {
    LiveRig rig(2, 64, 1024, 8192, 31);
    Mixer mixer;
    mixer.prepare(48000.0, 2);
    CapturedPlayer captured;
    captured.prepare(2, 48000.0);
    CapturedSet set;
    std::vector<float> samples(2 * 4000, 0.1f);
    CapturedRange range;
    range.start = 100;
    range.length = 4000;
    range.stems.fill(samples.data());
    set.ranges.push_back(range);
    Planes out(2, 2048);
    const auto before = allocationsOfThisThread();
    MixTargets targets;
    for (const int frames : {64, 1, 17, 2048, 512}) {
        targets.gain[0] = static_cast<float>(frames % 3);
        rig.player.process({frames != 17, frames}, rig.in.data(), frames, rig.stems.data(), rig.delayed.data());
        mixer.process(targets, rig.stems.data(), out.data(), frames);
        captured.process({frames != 17, frames}, frames != 1 ? &set : nullptr, rig.in.data(), frames, rig.stems.data(),
                         rig.delayed.data());
    }
    CHECK(allocationsOfThisThread() == before);
    std::vector<float> counted(10);
    CHECK(allocationsOfThisThread() > before); // the counter does count
}

TEST_CASE("A block of 64 frames with all its stems costs less than 1 % of its duration") {
    constexpr int block = 64, rounds = 4000;
    LiveRig rig(2, block, 4096, 64, 32);
    Mixer mixer;
    mixer.prepare(48000.0, 2);
    Planes main(2, block), answer(numSeparated * 2, block), read(2, block);
    std::vector<double> nanoseconds;
    MixTargets targets;
    targets.gain[1] = 0.5f;
    std::int64_t position = 0;
    for (int i = 0; i < rounds; ++i, position += block) {
        const auto begin = std::chrono::steady_clock::now();
        rig.player.process({true, position}, rig.in.data(), block, rig.stems.data(), rig.delayed.data());
        mixer.process(targets, rig.stems.data(), main.data(), block);
        nanoseconds.push_back(
            std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count());
        const auto run = rig.player.input().read(read.data(), block);
        rig.player.timeline().write(run.frame, LiveRig::everyStem, answer.data(), run.frames);
    }
    CHECK(rig.player.counters().lateFrames == 0);
    std::sort(nanoseconds.begin(), nanoseconds.end());
    const double median = nanoseconds[rounds / 2], rare = nanoseconds[rounds * 999 / 1000];
    std::cout << "64 frames, stereo, live and mix: median " << median << " ns, 99.9th percentile " << rare << " ns\n";
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) // they are ten to fifty times slower
    CHECK(median <= 0.01 * 1e9 * block / 48000.0);
#endif
}
