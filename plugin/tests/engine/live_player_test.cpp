#include "live_rig.h"

#include <catch2/catch.hpp>

#include <set>

using namespace stemline;
using namespace stemline::test;

TEST_CASE("Output frame n is input frame n - latency, for any block size, through jumps, stops and losses") {
    const int channels = GENERATE(1, 2);
    const int maxBlock = GENERATE(1, 17, 64, 512, 2048);
    const int latency = GENERATE(512, 1000, 4099);
    LiveRig rig(channels, maxBlock, latency, 30000, 5);
    Random random(static_cast<unsigned>(maxBlock + latency));
    while (rig.left() > 0) {
        if (random.oneIn(20))
            rig.jump(random.from(-50000, 50000));
        if (random.oneIn(40))
            rig.stop();
        if (random.oneIn(3))
            rig.answerAll();
        const int block = maxBlock == 1 ? 1 : random.oneOf({0, 1, maxBlock, maxBlock, maxBlock / 2, 3 * maxBlock});
        rig.roll(std::min(block, rig.left()));
    }
    CHECK(rig.player.latency() == latency);
    CHECK(rig.delayIsExact());
    CHECK(rig.sumError() <= 1e-7);
}

TEST_CASE("Stems that come in time play at their frame, to the last bit") {
    const int channels = GENERATE(1, 2);
    const int block = GENERATE(1, 17, 64, 512, 2048);
    LiveRig rig(channels, block, 4096, 40000, 6);
    while (rig.left() > 0) {
        rig.roll(std::min(block, rig.left()));
        rig.answerAll();
    }
    bool right = true;
    for (int p = 0; p < numSeparated * channels; ++p)
        for (int n = 0; n < rig.done; ++n)
            right = right && rig.stems.at(p, n) == (n < 4096 ? 0.0f : LiveRig::stem(p, n - 4096));
    CHECK(right);
    CHECK(rig.player.counters().lateFrames == 0);
    CHECK(rig.player.counters().lateBlocks == 0);
    CHECK(rig.sumError() <= 1e-7);
}

TEST_CASE("Whatever arrives, late, in pieces or never, the sum is the delayed input and no stem is misplaced") {
    const auto seed = GENERATE(range(1u, 13u));
    Random random(seed);
    const int channels = random.from(1, 2);
    const int latency = random.from(LivePlayer::minLatency, 6000);
    LiveRig rig(channels, 512, latency, 60000, seed);
    std::set<std::int64_t> answered;
    while (rig.left() > 0) {
        if (random.oneIn(30))
            rig.jump(random.from(0, 100000));
        rig.roll(std::min(random.oneOf({1, 5, 64, 300, 512, 1500}), rig.left()));
        rig.drain();
        std::shuffle(rig.waiting.begin(), rig.waiting.end(), std::mt19937(seed));
        while (!rig.waiting.empty() && !random.oneIn(8)) {
            const auto run = rig.waiting.front();
            rig.waiting.pop_front();
            if (random.oneIn(12))
                continue; // the server dropped it
            rig.answer(run.frame, run.frames);
        }
    }
    CHECK(rig.delayIsExact());
    CHECK(rig.sumError() <= 1e-7);
    // Every sample of every stem is its own, times a gain that all stems share and that never leaves 0..1.
    for (int n = latency; n < rig.done; ++n) {
        const double own = static_cast<double>(LiveRig::stem(0, n - latency));
        const double gain = own != 0.0 ? static_cast<double>(rig.stems.at(0, n)) / own : 0.0;
        REQUIRE(gain >= 0.0);
        REQUIRE(gain <= 1.0 + 1e-6);
        for (int p = 1; p < numSeparated * channels && own > 0.1; ++p)
            REQUIRE(static_cast<double>(rig.stems.at(p, n)) ==
                    Approx(gain * static_cast<double>(LiveRig::stem(p, n - latency))).margin(1e-5));
    }
}

TEST_CASE("No click: the stems' gain moves by one step of the fade a frame, and is zero where stems are missing") {
    const int block = GENERATE(1, 16, 100, 512, 3000);
    constexpr int latency = 2048;
    LiveRig rig(1, 512, latency, 120000, 9);
    Random random(static_cast<unsigned>(block));
    const int length = 4096;
    Planes ones(numSeparated, length);
    for (int p = 0; p < numSeparated; ++p)
        std::fill(ones[p].begin(), ones[p].end(), 1.0f);
    std::vector<bool> there(static_cast<std::size_t>(rig.in.frames()));
    while (rig.left() > 0) {
        const int frames = std::min(block, rig.left());
        rig.roll(frames);
        rig.drain();
        for (; !rig.waiting.empty(); rig.waiting.pop_front()) {
            const auto run = rig.waiting.front();
            const auto late = static_cast<int>(run.frame / 5000 % 3); // stretches in time, with holes, missing
            if (late == 2 || (late == 1 && random.oneIn(3)))
                continue;
            rig.player.timeline().write(run.frame, LiveRig::everyStem, ones.data(), run.frames);
            std::fill_n(there.begin() + run.frame, run.frames, true);
        }
    }
    float largest = 0.0f, highest = 0.0f, wrongly = 0.0f;
    for (int n = latency + 1; n < rig.done; ++n) {
        largest = std::max(largest, std::abs(rig.stems.at(0, n) - rig.stems.at(0, n - 1)));
        highest = std::max(highest, rig.stems.at(0, n));
        if (!there[static_cast<std::size_t>(n - latency)])
            wrongly = std::max(wrongly, rig.stems.at(0, n));
    }
    CHECK(largest <= 1.0f / fadeFrames);
    if (block < latency) // a larger block asks for more than one latency at once
        CHECK(highest == 1.0f);
    CHECK(wrongly == 0.0f);
}

TEST_CASE("Late frames and blocks are counted, and stems come back by themselves") {
    LiveRig rig(2, 64, 1024, 48000, 10);
    while (rig.done < 9600) {
        rig.roll(64);
        rig.answerAll();
    }
    CHECK(rig.player.counters().lateFrames == 0);
    while (rig.done < 9600 + 6400) { // the server is gone; what it had sent lasts for the latency, less a block
        rig.roll(64);
        rig.drain();
    }
    CHECK(rig.player.counters().lateFrames == 6400 - 1024);
    CHECK(rig.player.counters().lateBlocks == (6400 - 1024) / 64);
    CHECK(rig.player.stemGain() == 0.0f);
    rig.waiting.clear();
    const auto before = rig.player.counters().lateFrames.load();
    while (rig.done < 9600 + 6400 + 1024 + 64 + 512) {
        rig.roll(64);
        rig.answerAll();
    }
    CHECK(rig.player.stemGain() == 1.0f);
    CHECK(rig.player.counters().lateFrames == before + 1024);
    CHECK(rig.delayIsExact());
    CHECK(rig.sumError() <= 1e-7);
}

TEST_CASE("A host that waits for readyFor never hears a fallback") {
    const int block = GENERATE(1, 232, 256, 768, 1024);
    LiveRig rig(2, 1024, 1500, 30000, 11);
    Random random(static_cast<unsigned>(block));
    while (rig.left() > 0) {
        const int frames = std::min(block, rig.left());
        rig.drain();
        while (!rig.player.readyFor(frames)) {
            REQUIRE_FALSE(rig.waiting.empty());
            rig.answer(rig.waiting.front().frame, rig.waiting.front().frames);
            rig.waiting.pop_front();
        }
        rig.roll(frames);
    }
    CHECK(rig.player.counters().lateFrames == 0);
    bool right = true;
    for (int n = 1500; n < rig.done; ++n)
        right = right && rig.stems.at(0, n) == LiveRig::stem(0, n - 1500);
    CHECK(right);
}

TEST_CASE("A host does not wait for what was given up") {
    LiveRig rig(1, 256, 1024, 10000, 12);
    for (int i = 0; i < 4; ++i)
        rig.roll(256);
    CHECK_FALSE(rig.player.readyFor(256));
    rig.answer(0, 300);
    rig.player.timeline().giveUp(300, 5000);
    CHECK(rig.player.readyFor(256));
}

TEST_CASE("A host that waits is held while the worker has not taken what was sent before: nothing is lost") {
    LiveRig rig(1, 64, 512, 400000, 15);
    int held = 0;
    while (rig.left() >= 64) {
        rig.player.timeline().giveUp(rig.player.nextFrame() - 512, 1024);
        if (!rig.player.readyFor(64)) {
            ++held;
            rig.drain();
            REQUIRE(rig.player.readyFor(64));
        }
        rig.roll(64);
    }
    CHECK(held > 0);
    CHECK(rig.player.input().lostFrames() == 0);
}

TEST_CASE("The worker learns of every jump, start and stop, and that a stopped host's position runs on") {
    LiveRig rig(1, 64, 512, 4096, 13);
    rig.play(64, {false, 500});
    rig.play(64, {false, 500});
    rig.play(64, {true, 500});
    rig.play(64, {true, 564});
    rig.play(64, {true, 0}); // a loop
    rig.play(0, {true, 64});
    rig.play(64, {true, 64});
    rig.play(64, {false, 128});
    rig.drain();
    std::vector<Segment> segments;
    for (const auto& run : rig.waiting)
        if (run.begins)
            segments.push_back(run.segment);
    REQUIRE(segments.size() == 4);
    CHECK((segments[0].position == 500 && segments[0].firstFrame == 0 && !segments[0].playing));
    CHECK((segments[1].position == 500 && segments[1].firstFrame == 128 && segments[1].playing));
    CHECK((segments[2].position == 0 && segments[2].firstFrame == 256 && segments[2].playing));
    CHECK((segments[3].position == 128 && segments[3].firstFrame == 384 && !segments[3].playing));
    CHECK(rig.player.counters().jumps == 3);
}

TEST_CASE("A new preparation begins from silence, with another latency, rate and channel count") {
    LivePlayer player;
    for (const int channels : {2, 1}) {
        player.prepare(channels, 64, channels * 1000, 44100.0 * channels);
        Planes in(channels, 2000), stems(numStems * channels, 2000), delayed(channels, 2000);
        std::fill(in[0].begin(), in[0].end(), 0.5f);
        player.process({true, 77}, in.data(), 2000, stems.data(), delayed.data());
        CHECK(delayed.at(0, channels * 1000 - 1) == 0.0f);
        CHECK((channels == 2 || delayed.at(0, 1000) == 0.5f));
        CHECK(player.nextFrame() == 2000);
        CHECK(player.input().channels() == channels);
    }
    player.prepare(2, 64, 1, 44100.0);
    CHECK(player.latency() == LivePlayer::minLatency);
}

TEST_CASE("The delayed signal may be written over the input") {
    LiveRig rig(2, 512, 700, 5000, 14);
    Planes copy(2, 5000);
    for (int c = 0; c < 2; ++c)
        copy[c] = rig.in[c];
    rig.player.process({true, 0}, copy.data(), 5000, rig.stems.data(), copy.data());
    for (int n = 700; n < 5000; ++n)
        REQUIRE(copy.at(1, n) == rig.in.at(1, n - 700));
}
