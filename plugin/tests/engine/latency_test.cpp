#include "engine/latency.h"
#include "engine/live_player.h"

#include <catch2/catch.hpp>

using namespace stemline;

TEST_CASE("The host is told what the user chose, at any rate and block size") {
    for (const double rate : {22050.0, 44100.0, 48000.0, 96000.0, 192000.0})
        for (const int block : {1, 17, 64, 512, 2048, 8192})
            CHECK(planLatency(0.5, rate, block, 0.01).total == static_cast<int>(0.5 * rate));
}

TEST_CASE("What is asked of the server leaves room for the block, the fade and the jitter, and the way back agrees") {
    for (const double rate : {44100.0, 48000.0, 96000.0})
        for (const int block : {1, 17, 512, 2048}) {
            const LatencyPlan plan = planLatency(1.0, rate, block, 0.004);
            CHECK(plan.askServer <= plan.total - block - fadeFrames - static_cast<int>(0.004 * rate));
            CHECK(totalLatency(plan.askServer, rate, block, 0.004) == plan.total);
        }
}

TEST_CASE("A latency too small for anything is raised to what the player needs, and leaves the server nothing") {
    const LatencyPlan plan = planLatency(0.0, 48000.0, 512, 0.0);
    CHECK(plan.total == LivePlayer::minLatency);
    CHECK(plan.askServer <= 0);
    CHECK(totalLatency(0, 48000.0, 1, 0.0) == LivePlayer::minLatency);
    CHECK(planLatency(1e9, 48000.0, 512, 0.0).total == 60 * 48000);
}

TEST_CASE("Messages are long where the latency is, and never more than a small part of it") {
    CHECK(planLatency(0.25, 44100.0, 512, 0.03).chunk == 512);
    CHECK(planLatency(1.0, 44100.0, 512, 0.03).chunk == 1024);
    CHECK(planLatency(3.0, 44100.0, 512, 0.03).chunk == 4096);
    CHECK(planLatency(12.0, 192000.0, 512, 0.03).chunk == 4096);
    CHECK(planLatency(0.0, 48000.0, 512, 0.0).chunk == 512);
}
