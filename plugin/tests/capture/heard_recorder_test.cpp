#include "capture/heard_recorder.h"

#include "parts.h"

#include <catch2/catch.hpp>

using namespace stemline;
using namespace stemline::capture;
using namespace stemline::capture::tests;

namespace {

constexpr double rate = 48000;
constexpr std::int64_t settle = 4800;

/// A captured song of ten seconds at 1000, and a host that plays another one over it.
struct Place {
    static constexpr std::int64_t start = 1000, frames = 480000;

    const Folder folder;
    const std::shared_ptr<CaptureStore> store = std::make_shared<CaptureStore>(folder.path / "store");
    const std::vector<float> song = noise(2 * frames);
    std::vector<float> track = song; // what the host has there now
    CaptureMap map;
    std::unique_ptr<const CapturedSet> set;
    CaptureLibrary library{store, rate};
    HeardRecorder recorder{store, rate, 2};

    Place() {
        map.overlay(addPiece(*store, song, start));
        Capture capture;
        capture.map = map;
        set = library.open(capture);
        recorder.compareWith(*set);
    }

    /// The host's track in [from, to) of the timeline, in blocks of 700, as the control thread gets it.
    void play(std::int64_t from, std::int64_t to, bool playing = true) {
        std::vector<float> left(700), right(700);
        const float* const channels[] = {left.data(), right.data()};
        InputStream::Run run;
        run.segment = {0, from, 0, playing};
        for (std::int64_t at = from; at < to; at += run.frames) {
            run.begins = at == from;
            run.frame = at - from;
            run.frames = static_cast<int>(std::min<std::int64_t>(700, to - at));
            for (std::int64_t i = 0; i < run.frames; ++i) {
                const std::int64_t frame = at + i - start;
                const bool there = frame >= 0 && frame < frames;
                left[static_cast<std::size_t>(i)] = there ? track[static_cast<std::size_t>(2 * frame)] : 0.3f;
                right[static_cast<std::size_t>(i)] = there ? track[static_cast<std::size_t>(2 * frame + 1)] : 0.3f;
            }
            recorder.take(run, channels);
        }
    }

    void change(std::int64_t from, std::int64_t to) {
        for (std::int64_t i = 2 * (from - start); i < 2 * (to - start); ++i)
            track[static_cast<std::size_t>(i)] *= 0.5f;
    }

    /// The source of the whole song with what was heard in it.
    std::vector<float> updated(const Heard& heard) {
        const CaptureMap joined = joinSources(*store, withHeard(map, heard.map));
        REQUIRE(joined.pieces().size() == 1);
        const Piece& piece = joined.pieces()[0];
        REQUIRE(piece.start == start);
        REQUIRE(piece.length == frames);
        const auto source = store->source(piece.source, frames, 2);
        REQUIRE(source != nullptr);
        return {source->samples(), source->samples() + 2 * frames};
    }
};

} // namespace

TEST_CASE("a track that did not change costs no disk, and was listened to") {
    Place place;
    const auto before = place.store->sizeBytes();
    place.play(0, 500000);
    CHECK(fs::is_empty(place.store->root() / "unfinished"));
    const Heard heard = place.recorder.finish();
    CHECK(heard.map.empty());
    CHECK(heard.listened.covers({Place::start + settle, Place::start + Place::frames}));
    CHECK_FALSE(heard.listened.touches({0, Place::start}));
    CHECK(place.store->sizeBytes() == before);
}

TEST_CASE("where a track changed, the updated source is the changed track, sample for sample") {
    Place place;
    place.change(200000, 260000);
    place.change(400000, 400010);
    place.play(150000, 450000);
    const Heard heard = place.recorder.finish();
    CHECK(bytesOf(place.updated(heard)) == bytesOf(place.track));
    CHECK(heard.listened.covers({150000 + settle, 450000}));
    REQUIRE(heard.map.pieces().size() == 2);
    const std::int64_t second = 48000, reads = 2 * 700;
    CHECK(heard.map.pieces()[0].length <= 60000 + second + reads); // and not all that was played
    CHECK(heard.map.pieces()[1].length <= 10 + second + reads);
}

TEST_CASE("what was heard last counts, also where it is again what was captured") {
    Place place;
    place.change(200000, 260000);
    place.play(150000, 300000);
    place.track = place.song;
    place.change(220000, 230000);
    place.play(210000 - settle, 300000);
    place.track = place.song;
    place.change(200000, 210000);
    place.change(220000, 230000);
    CHECK(bytesOf(place.updated(place.recorder.finish())) == bytesOf(place.track));
    CHECK(place.recorder.finish().map.empty());
}

TEST_CASE("a host's fade after a jump is not taken for the track's sound") {
    Place place;
    place.change(200000, 300000);
    place.play(250000, 280000);
    const Heard heard = place.recorder.finish();
    REQUIRE(heard.map.pieces().size() == 1);
    CHECK(heard.map.pieces()[0].start == 250000 + settle);
    CHECK_FALSE(heard.listened.touches({250000, 250000 + settle}));
}

TEST_CASE("where the capture itself begins, the beginning is taken if what comes next differs") {
    Place place;
    SECTION("it does") {
        place.change(Place::start, Place::start + 100000);
        place.play(Place::start, Place::start + 200000);
        const Heard heard = place.recorder.finish();
        CHECK(bytesOf(place.updated(heard)) == bytesOf(place.track));
        CHECK(heard.listened.covers({Place::start, Place::start + 200000}));
    }
    SECTION("it does not") {
        place.change(Place::start, Place::start + 2000); // the host's fade
        place.play(Place::start, Place::start + 200000);
        CHECK(place.recorder.finish().map.empty());
    }
}

TEST_CASE("what is not captured, stands still or has no source is not recorded") {
    Place place;
    place.change(Place::start, Place::start + Place::frames);
    place.play(Place::start + Place::frames - 10000, Place::start + Place::frames + 50000);
    place.play(100000, 200000, false);
    CapturedSet lost = *place.set;
    lost.ranges[0].source = nullptr;
    place.recorder.compareWith(lost);
    place.play(100000, 200000);
    const Heard heard = place.recorder.finish();
    REQUIRE(heard.map.pieces().size() == 1);
    CHECK(heard.map.pieces()[0].stop() == Place::start + Place::frames);
    CHECK(heard.map.pieces()[0].length == 10000 - settle);
}

TEST_CASE("what was heard keeps a file's hard edges, and lies within what was captured") {
    CaptureMap map, heard;
    Piece song;
    song.start = 0;
    song.length = song.sourceFrames = 1000;
    song.source = "song";
    song.hardStart = song.hardEnd = true;
    map.overlay(song);
    Piece later = song;
    later.start = -100;
    later.length = later.sourceFrames = 600;
    later.source = "later";
    later.hardStart = later.hardEnd = false;
    heard.overlay(later);
    const CaptureMap result = withHeard(map, heard);
    REQUIRE(result.pieces().size() == 2);
    CHECK(result.pieces()[0].source == "later");
    CHECK(result.pieces()[0].start == 0);
    CHECK(result.pieces()[0].offset == 100);
    CHECK(result.pieces()[0].hardStart);
    CHECK_FALSE(result.pieces()[0].hardEnd);
    CHECK(result.pieces()[1].hardEnd);
}

TEST_CASE("on a full disk nothing more is recorded, and it says why") {
    const Folder folder;
    CHECK(inChild([] {
              Place place;
              place.change(100000, 400000);
              limitFiles(100000);
              place.play(50000, 450000);
              return place.recorder.problem() ? 0 : 1;
          }) == 0);
}

TEST_CASE("extents join where they touch and are cut where they are erased") {
    ExtentSet extents;
    extents.add({10, 20});
    extents.add({30, 40});
    extents.add({20, 25});
    extents.add({5, 5});
    CHECK(extents.all() == std::vector<Extent>{{10, 25}, {30, 40}});
    CHECK(extents.covers({12, 25}));
    CHECK_FALSE(extents.covers({12, 26}));
    CHECK(extents.touches({24, 30}));
    CHECK_FALSE(extents.touches({25, 30}));
    extents.add({0, 35});
    CHECK(extents.all() == std::vector<Extent>{{0, 40}});
    extents.erase({10, 20});
    extents.erase({35, 50});
    CHECK(extents.all() == std::vector<Extent>{{0, 10}, {20, 35}});
}
