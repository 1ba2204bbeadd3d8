#include "client/wire_segments.h"

#include <catch2/catch.hpp>

using namespace stemline::client;

TEST_CASE("stems go to the frames of the samples that they were made of") {
    WireSegments segments;
    segments.begin(1000, -500);
    segments.sent(512);
    segments.sent(512);
    CHECK(segments.nextPosition() == 524);
    CHECK(segments.arrived(0, -500, 100, 12) == 1000);
    CHECK(segments.arrived(0, 100, 50, 524) == 1600);
    CHECK_FALSE(segments.arrived(0, 500, 100, 524)); // beyond what was sent
    CHECK_FALSE(segments.arrived(0, -501, 10, 524));
    CHECK_FALSE(segments.arrived(3, 0, 10, 524));
}

TEST_CASE("after a jump back the same positions are other frames, by epoch") {
    WireSegments segments;
    segments.begin(0, 0);
    segments.sent(4096);
    segments.begin(4096, 0);
    segments.sent(4096);
    CHECK(segments.arrived(0, 100, 10, 4096) == 100);
    CHECK(segments.arrived(1, 100, 10, 2000) == 4196);
    CHECK_FALSE(segments.arrived(0, 200, 10, 4096)); // epochs come in order
}

TEST_CASE("stems of what was sent before a jump still have their place") {
    WireSegments segments;
    segments.begin(0, 0);
    segments.sent(4096);
    segments.begin(4096, 0);
    segments.sent(512);
    segments.arrived(0, 0, 1000, 4096);
    REQUIRE(segments.outstanding().size() == 2);
    CHECK(segments.outstanding()[0].frame == 1000);
    CHECK(segments.outstanding()[0].count == 3096);
    CHECK(segments.outstanding()[1].frame == 4096);
    CHECK(segments.arrived(0, 1000, 3096, 4096) == 1000);
    CHECK(segments.outstanding().size() == 1);
}

TEST_CASE("what the server has read of an older segment does not count for the newest") {
    WireSegments segments;
    segments.begin(0, 0);
    segments.sent(8192);
    segments.begin(8192, 0);
    segments.sent(1024);
    CHECK(segments.inFlight() == 1024);
    segments.arrived(0, 0, 512, 8192);
    CHECK(segments.inFlight() == 1024);
    segments.arrived(1, 0, 512, 768);
    CHECK(segments.inFlight() == 256);
    segments.arrived(1, 512, 100, 700); // never backwards
    CHECK(segments.inFlight() == 256);
}

TEST_CASE("a dropped run counts as read and as settled, or a client could wait for ever") {
    WireSegments segments;
    segments.begin(50, 0);
    segments.sent(2048);
    CHECK(segments.dropped(0, 0, 1500) == 50);
    CHECK(segments.inFlight() == 548);
    REQUIRE(segments.outstanding().size() == 1);
    CHECK(segments.outstanding()[0].frame == 1550);
    CHECK(segments.outstanding()[0].count == 548);
    CHECK_FALSE(segments.dropped(0, 2000, 100));
    CHECK_FALSE(segments.dropped(1, 0, 100));
}
