#include "engine/steady_playhead.h"

#include <catch2/catch.hpp>

using namespace stemline;

namespace {

struct Playhead {
    SteadyPlayhead steady;

    std::int64_t plays(std::int64_t position, int frames, bool silent = false) {
        return steady.follow({.playing = true, .position = position}, frames, silent);
    }
    std::int64_t stands(std::int64_t position, int frames) {
        return steady.follow({.playing = false, .position = position}, frames, true);
    }
};

} // namespace

TEST_CASE("A playhead that moves with its audio is what the host says, jumps and stops included") {
    Playhead host;
    CHECK(host.stands(300, 512) == 300);
    CHECK(host.stands(300, 512) == 300);
    CHECK(host.plays(300, 512) == 300);
    CHECK(host.plays(812, 17) == 812);
    CHECK(host.plays(829, 64) == 829);
    CHECK(host.plays(100, 64) == 100);
    CHECK(host.plays(164, 64) == 164);
    CHECK(host.stands(228, 64) == 228);
    CHECK(host.plays(228, 64) == 228);
}

TEST_CASE("Ardour's playhead stands while the latency is played into, and is behind its audio from then on") {
    Playhead host;
    CHECK(host.stands(0, 1024) == 0);
    CHECK(host.plays(0, 976, true) == 0); // what is left of a block
    CHECK(host.plays(0, 48) == 0);        // the song's first sample
    CHECK(host.plays(0, 1024) == 48);
    CHECK(host.plays(0, 768) == 1072);
    CHECK(host.plays(0, 256) == 1840); // here the playhead sets off
    CHECK(host.plays(256, 1024) == 2096);
    CHECK(host.plays(1280, 1024) == 3120);
    CHECK(host.plays(5000, 1024) == 5000);
}

TEST_CASE("A song that begins at once begins with Ardour's first block, and one with silence is no later for it") {
    Playhead host;
    CHECK(host.plays(0, 1024) == 0);
    CHECK(host.plays(0, 1024, true) == 1024);
    CHECK(host.plays(0, 1024, true) == 2048);

    Playhead moving;
    CHECK(moving.plays(0, 1024, true) == 0);
    CHECK(moving.plays(1024, 1024, true) == 1024);
    CHECK(moving.plays(2048, 1024) == 2048);
}
