#include "engine/stem_timeline.h"
#include "support.h"

#include <catch2/catch.hpp>

#include <limits>
#include <set>

using namespace stemline;
using namespace stemline::test;

namespace {

constexpr std::uint32_t everyStem = (1u << numSeparated) - 1;

Planes named(std::int64_t frame, int frames, int channels) {
    Planes planes(numSeparated * channels, frames);
    for (int p = 0; p < planes.count(); ++p)
        for (int i = 0; i < frames; ++i)
            planes.at(p, i) = nameOf(p, frame + i);
    return planes;
}

} // namespace

TEST_CASE("Stems lie where their frame says, whatever the order, the holes and the repetitions") {
    const int channels = GENERATE(1, 2);
    Random random(static_cast<unsigned>(channels));
    StemTimeline timeline(1000, channels);
    Planes out(numSeparated * channels, 300);
    std::set<std::int64_t> there;
    std::int64_t played = 0;
    for (int round = 0; round < 4000; ++round) {
        const std::int64_t frame = played + random.from(-200, 1100);
        const int frames = random.from(1, 150);
        const auto written = timeline.write(frame, everyStem, named(frame, frames, channels).data(), frames);
        StemTimeline::Written expected;
        for (std::int64_t f = frame; f < frame + frames; ++f) {
            if (f < played)
                ++expected.late;
            else if (f >= played + 1000)
                ++expected.refused;
            else
                ++(there.insert(f).second ? expected.placed : expected.repeated);
        }
        REQUIRE(written.placed == expected.placed);
        REQUIRE(written.late == expected.late);
        REQUIRE(written.refused == expected.refused);
        REQUIRE(written.repeated == expected.repeated);

        const int ahead = random.from(0, 300);
        int contiguous = 0;
        while (contiguous < ahead && there.count(played + contiguous) != 0)
            ++contiguous;
        REQUIRE(timeline.readyFrom(played, ahead) == contiguous);

        const int absent = timeline.read(played, ahead, out.data());
        int expectedAbsent = 0;
        bool right = true;
        for (int i = 0; i < ahead; ++i) {
            const bool isThere = there.count(played + i) != 0;
            expectedAbsent += isThere ? 0 : 1;
            for (int p = 0; p < out.count(); ++p)
                right = right && out.at(p, i) == (isThere ? nameOf(p, played + i) : 0.0f);
        }
        REQUIRE(right);
        REQUIRE(absent == expectedAbsent);
        played += random.oneIn(50) ? random.from(0, 3000) : random.from(0, 100);
        timeline.played(played);
    }
}

TEST_CASE("A stem that the model lacks is silent, also where an older one was") {
    StemTimeline timeline(64, 1);
    Planes ones(numSeparated, 64), out(numSeparated, 64);
    for (int p = 0; p < numSeparated; ++p)
        for (float& sample : ones[p])
            sample = 1.0f;
    for (std::int64_t frame = 0; frame < 64 * 10; frame += 64) {
        const std::uint32_t mask = frame % 128 == 0 ? everyStem : 1u << static_cast<int>(Stem::vocals);
        timeline.write(frame, mask, ones.data(), 64);
        timeline.read(frame, 64, out.data());
        for (int p = 0; p < numSeparated; ++p)
            CHECK(out.at(p, 63) == ((mask >> p & 1u) != 0 ? 1.0f : 0.0f));
        timeline.played(frame + 64);
    }
}

TEST_CASE("A frame with a sample that is no number is refused and stays absent") {
    StemTimeline timeline(256, 2);
    Planes stems = named(0, 100, 2);
    stems.at(3, 40) = std::numeric_limits<float>::quiet_NaN();
    stems.at(11, 41) = std::numeric_limits<float>::infinity();
    const auto written = timeline.write(0, everyStem, stems.data(), 100);
    CHECK(written.placed == 98);
    CHECK(written.refused == 2);
    CHECK(timeline.readyFrom(0, 100) == 40);
    CHECK(timeline.readyFrom(42, 58) == 58);
}

TEST_CASE("What was given up need not be waited for, and is still not there") {
    StemTimeline timeline(1000, 1);
    Planes out(numSeparated, 300);
    timeline.write(0, everyStem, named(0, 50, 1).data(), 50);
    timeline.giveUp(50, 100);
    timeline.write(150, everyStem, named(150, 50, 1).data(), 50);
    CHECK(timeline.readyFrom(0, 300) == 50);
    CHECK(timeline.settledFrom(0, 300) == 200);
    CHECK(timeline.read(0, 200, out.data()) == 100);
    timeline.write(50, everyStem, named(50, 100, 1).data(), 100); // it came after all
    CHECK(timeline.readyFrom(0, 300) == 200);
    timeline.played(5000);
    CHECK(timeline.settledFrom(5000, 300) == 0);
}

TEST_CASE("Frames before the first are silence and always there") {
    StemTimeline timeline(1000, 1);
    Planes out(numSeparated, 100);
    out.at(0, 0) = 1.0f;
    CHECK(timeline.readyFrom(-1000, 500) == 500);
    CHECK(timeline.readyFrom(-60, 500) == 60);
    CHECK(timeline.read(-100, 100, out.data()) == 0);
    CHECK(out.at(0, 0) == 0.0f);
}

TEST_CASE("Numbers that no server should send are refused, not computed with") {
    StemTimeline timeline(1000, 1);
    const Planes stems = named(0, 10, 1);
    const auto far = std::numeric_limits<std::int64_t>::max();
    CHECK(timeline.write(far - 3, everyStem, stems.data(), 10).refused == 10);
    CHECK(timeline.write(std::numeric_limits<std::int64_t>::min(), everyStem, stems.data(), 10).late == 10);
    CHECK(timeline.write(0, everyStem, stems.data(), -5).placed == 0);
    timeline.giveUp(500, far);
    timeline.giveUp(-far, far);
    timeline.giveUp(far, far);
    CHECK(timeline.settledFrom(500, 600) == 500);
    CHECK(timeline.settledFrom(0, 600) == 0);
}
