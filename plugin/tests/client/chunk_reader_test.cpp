#include "client/chunk_reader.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

using namespace stemline;
using namespace stemline::client;
using namespace std::chrono_literals;

namespace {

/// Frames that carry their own number.
void feed(InputStream& input, int frames) {
    std::vector<float> samples;
    for (int i = 0; i < frames; ++i)
        samples.push_back(static_cast<float>(input.framesWritten() + i));
    const float* channels[] = {samples.data(), samples.data()};
    input.write(channels, frames);
}

void checkSamples(const Chunk& chunk) {
    for (int i = 0; i < chunk.frames; ++i)
        REQUIRE(chunk.planes[0][static_cast<std::size_t>(i)] == static_cast<float>(chunk.frame + i));
}

const auto start = Clock::time_point{} + 1h;

} // namespace

TEST_CASE("live, whole chunks are gathered from small blocks and a rest goes out in time") {
    InputStream input(1 << 14, 2);
    ChunkReader reader(input);
    reader.configure(512, 48000, false);
    for (int block = 0; block < 16; ++block)
        feed(input, 50);
    const Chunk* chunk = reader.next(start);
    REQUIRE(chunk != nullptr);
    CHECK(chunk->frames == 512);
    checkSamples(*chunk);
    reader.pop();
    CHECK(reader.next(start) == nullptr); // 288 frames are not worth a message yet
    CHECK(reader.backlog() == 288);
    chunk = reader.next(start + 11ms);
    REQUIRE(chunk != nullptr);
    CHECK(chunk->frames == 288);
    CHECK(chunk->follows);
    checkSamples(*chunk);
}

TEST_CASE("a chunk ends where the transport jumps") {
    for (const bool offline : {false, true}) {
        InputStream input(1 << 14, 2);
        ChunkReader reader(input);
        reader.configure(512, 48000, offline);
        input.beginSegment(1000, true);
        feed(input, 300);
        input.beginSegment(7000, true);
        feed(input, 300);
        const Chunk* chunk = reader.next(start);
        REQUIRE(chunk != nullptr);
        CHECK(chunk->frames == 300);
        CHECK(chunk->position() == 1000);
        checkSamples(*chunk);
        reader.pop();
        CHECK((reader.next(start) != nullptr) == offline);
        chunk = reader.next(start + 1s);
        REQUIRE(chunk != nullptr);
        CHECK(chunk->follows);
        CHECK(chunk->begins);
        CHECK(chunk->position() == 7000);
        checkSamples(*chunk);
    }
}

TEST_CASE("frames that were lost are named, and what comes behind them does not follow") {
    InputStream input(1024, 2);
    ChunkReader reader(input);
    reader.configure(256, 48000, true);
    feed(input, 1024);
    feed(input, 500); // no room
    while (reader.next(start) != nullptr)
        reader.pop();
    feed(input, 200);
    const Chunk* chunk = reader.next(start);
    REQUIRE(chunk != nullptr);
    CHECK(chunk->frame == 1524);
    CHECK_FALSE(chunk->follows);
    CHECK(chunk->lost.frame == 1024);
    CHECK(chunk->lost.count == 500);
    checkSamples(*chunk);
}

TEST_CASE("what is skipped is named, staged or not, and the next chunk does not follow") {
    InputStream input(1 << 14, 2);
    ChunkReader reader(input);
    reader.configure(512, 48000, false);
    feed(input, 100);
    CHECK(reader.next(start) == nullptr); // staged
    feed(input, 2000);
    const FrameRange skipped = reader.skip();
    CHECK(skipped.frame == 0);
    CHECK(skipped.count == 2100);
    CHECK(reader.skip().count == 0);
    feed(input, 512);
    const Chunk* chunk = reader.next(start);
    REQUIRE(chunk != nullptr);
    CHECK(chunk->frame == 2100);
    CHECK_FALSE(chunk->follows);
    CHECK(chunk->lost.count == 0);
}

TEST_CASE("of what an offline host has gone on without, only what it has played is skipped") {
    InputStream input(1 << 14, 2);
    ChunkReader reader(input);
    reader.configure(256, 48000, true);
    feed(input, 1000);
    CHECK(reader.skipTooLate(100, start).count == 0);
    const FrameRange skipped = reader.skipTooLate(600, start);
    CHECK(skipped.frame == 0);
    CHECK(skipped.count == 512);
    const Chunk* chunk = reader.next(start);
    REQUIRE(chunk != nullptr);
    CHECK(chunk->frame == 512);
    CHECK_FALSE(chunk->follows);
    checkSamples(*chunk);
    reader.pop();
    CHECK(reader.next(start)->follows);
    CHECK(reader.skipTooLate(1000, start).count == 232);
    feed(input, 100);
    CHECK_FALSE(reader.next(start)->follows);
    CHECK(reader.next(start)->lost.count == 0);
}

TEST_CASE("what waits for a server live is what can still be sent a quarter second before it is played") {
    InputStream input(1 << 16, 2);
    ChunkReader reader(input);
    reader.configure(480, 48000, false);
    for (int block = 0; block < 60; ++block)
        feed(input, 480);
    CHECK(reader.skipTooLate(-20000, start).count == 0);
    CHECK(reader.oldest() == 0);
    CHECK(reader.skipTooLate(0, start).count == 12000);
    CHECK(reader.skipTooLate(100, start).count == 0); // never a part of a chunk
    CHECK(reader.next(start)->frame == 12000);
    CHECK_FALSE(reader.next(start)->follows);
    for (int block = 0; block < 50; ++block)
        feed(input, 480);
    CHECK(reader.skipTooLate(100, start).count == 0);
    for (int block = 0; block < 20; ++block)
        feed(input, 480);
    // Three quarters of the ring are kept at most, however early it is.
    CHECK(reader.skipTooLate(100, start).count > 0);
    CHECK(reader.backlog() <= reader.capacity() * 3 / 4 + 480);
}

TEST_CASE("a chunk that holds NaN or Inf is marked") {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        InputStream input(1 << 14, 1);
        ChunkReader reader(input);
        reader.configure(64, 48000, false);
        std::vector<float> samples(64, 0.5f);
        const float* channels[] = {samples.data()};
        input.write(channels, 64);
        samples[17] = bad;
        input.write(channels, 64);
        CHECK(reader.next(start)->finite);
        reader.pop();
        CHECK_FALSE(reader.next(start)->finite);
    }
}
