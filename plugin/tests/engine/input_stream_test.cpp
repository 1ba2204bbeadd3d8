#include "engine/input_stream.h"
#include "support.h"

#include <catch2/catch.hpp>

#include <map>

using namespace stemline;
using namespace stemline::test;

namespace {

/// Writes frames that carry their own number.
void writeNamed(InputStream& stream, int frames) {
    Planes block(stream.channels(), std::max(frames, 1));
    for (int c = 0; c < stream.channels(); ++c)
        for (int i = 0; i < frames; ++i)
            block.at(c, i) = nameOf(c, stream.framesWritten() + i);
    stream.write(block.data(), frames);
}

void checkNamed(const InputStream::Run& run, const Planes& samples) {
    bool right = true;
    for (int c = 0; c < samples.count(); ++c)
        for (int i = 0; i < run.frames; ++i)
            right = right && samples.at(c, i) == nameOf(c, run.frame + i);
    CHECK(right);
}

} // namespace

TEST_CASE("Every frame arrives once, in order, with its number and its host position") {
    InputStream stream(1000, 2);
    Random random(1);
    Planes out(2, 400);
    std::map<std::int64_t, std::int64_t> positionOf; // what the host said of each frame
    std::int64_t position = 0, next = 0;
    std::uint32_t epoch = 0;
    for (int round = 0; round < 3000; ++round) {
        if (random.oneIn(7)) {
            position = random.from(-100000, 100000);
            stream.beginSegment(position, random.oneIn(2));
        }
        const int frames = random.oneOf({0, 1, 1, 17, 64, 200});
        for (int i = 0; i < frames; ++i)
            positionOf[stream.framesWritten() + i] = position++;
        writeNamed(stream, frames);
        for (;;) {
            const auto run = stream.read(out.data(), random.from(1, 400));
            if (run.frames == 0)
                break;
            REQUIRE(run.frame == next);
            REQUIRE(run.segment.position + run.frame - run.segment.firstFrame == positionOf.at(run.frame));
            REQUIRE(run.segment.position + run.frame + run.frames - 1 - run.segment.firstFrame ==
                    positionOf.at(run.frame + run.frames - 1));
            REQUIRE(run.begins == (run.frame == run.segment.firstFrame));
            if (run.begins && run.frame != 0)
                ++epoch;
            REQUIRE(run.segment.epoch == epoch);
            checkNamed(run, out);
            next += run.frames;
        }
    }
    CHECK(next == stream.framesWritten());
    CHECK(stream.lostFrames() == 0);
}

TEST_CASE("A segment without frames is never seen and takes no epoch") {
    InputStream stream(64, 1);
    Planes out(1, 64);
    stream.beginSegment(5, true);
    stream.beginSegment(700, false);
    writeNamed(stream, 10);
    const auto run = stream.read(out.data(), 64);
    CHECK(run.frames == 10);
    CHECK(run.segment.position == 700);
    CHECK_FALSE(run.segment.playing);
    CHECK(run.segment.epoch == 0);
}

TEST_CASE("A full ring loses frames, counts them, and what follows keeps its frame and its position") {
    InputStream stream(64, 2);
    Planes out(2, 256);
    stream.beginSegment(1000, true);
    writeNamed(stream, 50);
    writeNamed(stream, 50); // 14 of them fit
    writeNamed(stream, 500);
    CHECK(stream.lostFrames() == 536);
    CHECK(stream.framesWritten() == 600);
    auto run = stream.read(out.data(), 256);
    CHECK(run.frames == 64);
    checkNamed(run, out);
    writeNamed(stream, 30);
    run = stream.read(out.data(), 256);
    CHECK(run.frames == 30);
    CHECK(run.frame == 600);
    CHECK(run.begins);
    CHECK(run.segment.position == 1600);
    CHECK(run.segment.playing);
    CHECK(run.segment.epoch == 1);
    checkNamed(run, out);
}

TEST_CASE("More jumps than the worker keeps up with lose frames, never their places") {
    InputStream stream(100000, 1);
    Planes out(1, 64);
    for (int i = 0; i < 1000; ++i) {
        stream.beginSegment(i * 1000, true);
        writeNamed(stream, 10);
    }
    CHECK(stream.lostFrames() > 0);
    std::int64_t seen = 0;
    for (auto run = stream.read(out.data(), 64); run.frames > 0; run = stream.read(out.data(), 64)) {
        CHECK(run.segment.position == run.segment.firstFrame / 10 * 1000);
        checkNamed(run, out);
        seen += run.frames;
    }
    CHECK(seen == stream.framesWritten() - stream.lostFrames());
}
