#include "capture/audio_files.h"
#include "engine/snapshot.h"
#include "parts.h"

#include <catch2/catch.hpp>
#include <thread>

using namespace stemline;
using namespace stemline::capture;
using namespace stemline::capture::tests;

namespace {

constexpr double rate = 48000;

struct Place {
    const Folder folder;
    const std::shared_ptr<CaptureStore> store = std::make_shared<CaptureStore>(folder.path / "store");
    CaptureLibrary library{store, rate};
    Capture capture;
};

/// Plays [start, stop) offline; the stems, [stem * 2 + channel].
std::vector<std::vector<float>> played(const CapturedSet* set, std::int64_t start, std::int64_t stop,
                                       float input = 0.0f) {
    CapturedPlayer player;
    player.prepare(2, rate);
    std::vector<std::vector<float>> out(2 * numStems);
    std::vector<float> in(64, input), delayed(64);
    std::vector<std::vector<float>> scratch(2 * numStems, std::vector<float>(64));
    std::vector<float*> stems;
    for (auto& plane : scratch)
        stems.push_back(plane.data());
    const float* const inputs[] = {in.data(), in.data()};
    float* const delays[] = {delayed.data(), delayed.data()};
    for (std::int64_t at = start; at < stop; at += 64) {
        const int frames = static_cast<int>(std::min<std::int64_t>(64, stop - at));
        player.process({true, at, true}, set, inputs, frames, stems.data(), delays);
        for (std::size_t plane = 0; plane < scratch.size(); ++plane)
            out[plane].insert(out[plane].end(), scratch[plane].begin(), scratch[plane].begin() + frames);
    }
    return out;
}

void waitUntilDrawn(const CaptureLibrary& library, std::optional<Stem> stem) {
    std::vector<Bucket> pixels(1);
    for (int tries = 0; !library.draw(stem, 0, 100, pixels); ++tries) {
        REQUIRE(tries < 1000);
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
}

} // namespace

TEST_CASE("stems play where they were captured, sample for sample, and silent ones are silent") {
    Place place;
    const auto samples = noise(20000);
    Piece piece = addPiece(*place.store, samples, 5000);
    piece.hardStart = piece.hardEnd = true;
    // Without its first 1000 and its last 500 frames.
    place.capture.map.overlay(piece);
    place.capture.map.erase(0, 6000);
    place.capture.map.erase(14500, 20000);
    const auto set = place.library.open(place.capture);
    CHECK(place.library.states() == std::vector{PieceState::ready});
    const auto stems = played(set.get(), 6000 + fadeFrames, 14500 - fadeFrames);
    for (int stem = 0; stem < numStems; ++stem)
        for (std::size_t c = 0; c < 2; ++c)
            for (std::size_t i = 0; i < stems[0].size(); ++i)
                REQUIRE(stems[static_cast<std::size_t>(stem) * 2 + c][i] ==
                        samples[2 * (1000 + fadeFrames + i) + c] * shareOf(stem));
    std::vector<float> read(2 * 200);
    readStem(*set, Stem::bass, 5900, 200, 2, read.data());
    for (std::size_t i = 0; i < 200; ++i)
        for (std::size_t c = 0; c < 2; ++c)
            REQUIRE(read[2 * i + c] == (i < 100 ? 0.0f : samples[2 * (900 + i) + c] * shareOf(1)));
}

TEST_CASE("a file's own beginning and end are exact, a cut is not hard") {
    Place place;
    Piece piece = addPiece(*place.store, noise(20000), 0);
    piece.hardStart = piece.hardEnd = true;
    place.capture.map.overlay(piece);
    place.capture.map.erase(4000, 5000);
    const auto set = place.library.open(place.capture);
    REQUIRE(set->ranges.size() == 2);
    CHECK(set->ranges[0].hardStart);
    CHECK_FALSE(set->ranges[0].hardEnd);
    CHECK_FALSE(set->ranges[1].hardStart);
    CHECK(set->ranges[1].hardEnd);
}

TEST_CASE("what is missing is reported: to be separated again, unrepeatable, or lost") {
    Place place;
    const auto samples = noise(4000);
    const Piece piece = addPiece(*place.store, samples, 0);
    place.capture.map.overlay(piece);
    const fs::path source = place.store->root() / "source" / (piece.source + ".f32");
    const fs::path stems = place.store->root() / "stems" / piece.stems;
    SECTION("stems gone") {
        fs::remove_all(stems);
        CHECK(place.library.open(place.capture)->ranges.empty());
        CHECK(place.library.states() == std::vector{PieceState::unseparated});
        addStems(*place.store, samples);
        CHECK(place.library.open(place.capture)->ranges.size() == 1);
        CHECK(place.library.states() == std::vector{PieceState::ready});
    }
    SECTION("never separated") {
        Capture fresh;
        Piece bare = piece;
        bare.stems.clear();
        fresh.map.overlay(bare);
        CHECK(place.library.open(fresh)->ranges.empty());
        CHECK(place.library.states() == std::vector{PieceState::unseparated});
    }
    SECTION("source gone") {
        fs::remove(source);
        const auto set = place.library.open(place.capture);
        REQUIRE(set->ranges.size() == 1);
        CHECK(set->ranges[0].source == nullptr);
        CHECK(place.library.states() == std::vector{PieceState::unrepeatable});
    }
    SECTION("everything gone") {
        fs::remove_all(place.store->root());
        CHECK(place.library.open(place.capture)->ranges.empty());
        CHECK(place.library.states() == std::vector{PieceState::lost});
    }
}

TEST_CASE("a state that claims more than an object holds gets nothing of it") {
    Place place;
    const Piece piece = addPiece(*place.store, noise(4000), 0);
    Piece false1 = piece, false2 = piece;
    false1.start = 10000;
    false1.sourceFrames = 1 << 30;
    false1.offset = 1 << 29;
    false2.start = 20000;
    false2.channels = 1;
    place.capture.map.overlay(piece);
    place.capture.map.overlay(false1);
    place.capture.map.overlay(false2);
    CHECK(place.library.open(place.capture)->ranges.size() == 1);
    CHECK(place.library.states() == std::vector{PieceState::ready, PieceState::lost, PieceState::lost});
}

TEST_CASE("pieces of one source share its memory") {
    Place place;
    place.capture.map.overlay(addPiece(*place.store, noise(40000), 0));
    for (std::int64_t cut = 100; cut < 20000; cut += 200)
        place.capture.map.erase(cut, cut + 100);
    const auto descriptors = [] { return std::distance(fs::directory_iterator("/proc/self/fd"), {}); };
    const auto before = descriptors();
    const auto set = place.library.open(place.capture);
    CHECK(set->ranges.size() == 100);
    CHECK(descriptors() - before == 2); // the source's and the stems' locks
    CHECK(set->ranges[7].stems[0] == set->ranges[0].stems[0] + 2 * set->ranges[7].start);
}

TEST_CASE("a range is exported as it was stored, across pieces and gaps") {
    Place place;
    const auto first = noise(8000, 1), second = noise(6000, 2);
    place.capture.map.overlay(addPiece(*place.store, first, 0));
    place.capture.map.overlay(addPiece(*place.store, second, 5000));
    const auto set = place.library.peek(place.capture);
    const fs::path path = place.folder.path / "bass.wav";
    writeWav(path, 48000, 2, 6000, [&set](std::int64_t frame, int frames, float* out) {
        readStem(*set, Stem::bass, 1000 + frame, frames, 2, out);
    });
    std::vector<float> expected(2 * 6000);
    for (std::size_t i = 0; i < 6000; ++i) // 3000 frames, 1000 of silence, 2000 frames
        expected[i] = first[2000 + i] * shareOf(1);
    for (std::size_t i = 8000; i < 12000; ++i)
        expected[i] = second[i - 8000] * shareOf(1);
    const Piece back = importAudioFile(*place.store, path, 48000);
    CHECK(back.source == digest(expected));
    CHECK(place.library.states().empty()); // nothing was opened for the player
}

TEST_CASE("a set that is still played survives the deletion of its objects") {
    Place place;
    const auto samples = noise(20000);
    place.capture.map.overlay(addPiece(*place.store, samples, 0));
    auto set = place.library.open(place.capture);
    place.library.open(Capture{});
    fs::remove_all(place.store->root());
    const auto stems = played(set.get(), 1000, 9000);
    CHECK(stems[0][10] == samples[2 * 1010] * shareOf(0));
}

TEST_CASE("no object of an open set is deleted for want of room") {
    Place place;
    CaptureStore greedy(place.store->root(), 0);
    const auto samples = noise(4000);
    const Piece piece = addPiece(*place.store, samples, 0);
    place.capture.map.overlay(piece);
    auto set = place.library.open(place.capture);
    greedy.trim();
    CHECK(place.store->stems(piece.stems, 2000, 2) != nullptr);
    CHECK(place.store->source(piece.source, 2000, 2) != nullptr);
    place.library.open(Capture{});
    set = nullptr;
    std::this_thread::sleep_for(3 * DiskThread::tick); // its turn may be under way
    greedy.trim();
    CHECK(greedy.sizeBytes() == 0);
}

TEST_CASE("pages whose input has changed are stale until they are forgotten, also when other pieces come") {
    Place place;
    const auto samples = noise(40 * stalePageFrames);
    place.capture.map.overlay(addPiece(*place.store, samples, 1000));
    const auto set = place.library.open(place.capture);
    played(set.get(), 1000, 1000 + 3 * stalePageFrames, 0.9f);
    const std::vector<CaptureLibrary::Extent> all = place.library.stale();
    REQUIRE(all.size() == 1);
    CHECK(all[0].stop == 1000 + 3 * stalePageFrames);
    CHECK(all[0].start >= 1000);
    Capture more = place.capture;
    more.map.overlay(addPiece(*place.store, noise(4000, 2), 1000000));
    place.library.open(more);
    CHECK(place.library.stale() == all);
    place.library.forgetStale();
    CHECK(place.library.stale().empty());
}

TEST_CASE("what lies side by side becomes one source, so that its stems have no seam") {
    Place place;
    const auto first = noise(8000, 1), second = noise(6000, 2);
    Piece a = addPiece(*place.store, first, 0), b = addPiece(*place.store, second, 3000);
    b.stems.clear();
    CaptureMap map;
    map.overlay(a);
    map.overlay(b);
    map.overlay(addPiece(*place.store, noise(4000, 3), 50000));
    const CaptureMap joined = joinSources(*place.store, map);
    REQUIRE(joined.pieces().size() == 2);
    const Piece& whole = joined.pieces()[0];
    CHECK(whole.start == 0);
    CHECK(whole.length == 6000);
    CHECK(whole.offset == 0);
    CHECK(whole.stems.empty());
    CHECK(joined.pieces()[1] == map.pieces()[2]);
    std::vector<float> expected(first.begin(), first.begin() + 6000);
    expected.insert(expected.end(), second.begin(), second.end());
    CHECK(whole.source == digest(expected));
    const auto source = place.store->source(whole.source, 6000, 2);
    REQUIRE(source != nullptr);
    CHECK(source->samples()[11999] == second.back());
    // Nothing to do any more; and nothing that could be done without the source.
    CHECK(joinSources(*place.store, joined) == joined);
    fs::remove(place.store->root() / "source" / (a.source + ".f32"));
    CHECK(joinSources(*place.store, map) == map);
}

TEST_CASE("waveforms of the source and of every stem are there after a while") {
    Place place;
    std::vector<float> samples(2 * 48000, 0.25f);
    place.capture.map.overlay(addPiece(*place.store, samples, 48000));
    const auto set = place.library.open(place.capture);
    waitUntilDrawn(place.library, std::nullopt);
    waitUntilDrawn(place.library, Stem::vocals);
    std::vector<Bucket> pixels(4);
    place.library.draw(std::nullopt, 0, 24000, pixels);
    CHECK(pixels[1].peak == 0.0f);
    CHECK(pixels[2].peak == 0.25f);
    CHECK(pixels[3].rms() == Approx(0.25f));
    place.library.draw(Stem::vocals, 0, 24000, pixels);
    CHECK(pixels[3].peak == Approx(0.25f * shareOf(4)));
    CHECK(place.library.draw(Stem::piano, 0, 24000, pixels));
    CHECK(pixels[3].peak == 0.0f);
}

TEST_CASE("captures change while the player plays and the editor draws") {
    Place place;
    const auto samples = noise(2 * 20000);
    Piece piece = addPiece(*place.store, samples, 0);
    piece.hardStart = piece.hardEnd = true;
    Capture whole, part;
    whole.map.overlay(piece);
    part.map.overlay(piece);
    part.map.erase(9000, 11000);
    SnapshotSlot<CapturedSet> slot;
    slot.publish(place.library.open(whole));
    std::atomic<bool> done{false};
    std::atomic<int> wrong{0}, heard{0};
    std::thread audio([&] {
        CapturedPlayer player;
        player.prepare(2, rate);
        std::vector<float> in(2 * 100), delayed(2 * 100), out(2 * numStems * 100);
        std::vector<float*> stems;
        for (std::size_t plane = 0; plane < 2 * numStems; ++plane)
            stems.push_back(out.data() + 100 * plane);
        const float* const inputs[] = {in.data(), in.data() + 100};
        float* const delays[] = {delayed.data(), delayed.data() + 100};
        for (std::int64_t at = 0; !done; at = (at + 100) % 20000) {
            place.library.playhead(at);
            player.process({true, at, true}, slot.current(), inputs, 100, stems.data(), delays);
            if (at >= 2000 && at < 8000) // in both, away from edges
                for (std::size_t i = 0; i < 100; ++i)
                    wrong += stems[0][i] != samples[2 * (static_cast<std::size_t>(at) + i)] * shareOf(0);
            ++heard;
        }
    });
    std::thread editor([&] {
        std::vector<Bucket> pixels(100);
        while (!done) {
            place.library.draw(Stem::drums, 0, 200, pixels);
            place.library.stale();
            place.library.states();
        }
    });
    for (int round = 0; round < 200; ++round) {
        slot.publish(place.library.open(round % 2 == 0 ? part : whole));
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    done = true;
    audio.join();
    editor.join();
    CHECK(wrong == 0);
    CHECK(heard > 200);
}

#ifndef __SANITIZE_THREAD__ // whose own memory is brought in by reading
namespace {
struct Faults {
    long around, everywhere;
    bool none() const { return around == 0 && everywhere == 0; }
};

Faults faultsOfReading() {
    Place place;
    const std::vector<float> samples(2 * 48000 * 30, 0.1f);
    place.capture.map.overlay(addPiece(*place.store, samples, 0));
    place.library.playhead(48000 * 10);
    const auto set = place.library.open(place.capture);
    float sum = 0;
    const auto faultsWhileReading = [&](std::int64_t start, std::int64_t stop) {
        rusage before{}, after{};
        ::getrusage(RUSAGE_THREAD, &before);
        for (const float* stem : set->ranges[0].stems)
            for (std::int64_t i = 2 * start; stem != nullptr && i < 2 * stop; i += 512)
                sum += stem[i];
        ::getrusage(RUSAGE_THREAD, &after);
        return after.ru_minflt - before.ru_minflt + after.ru_majflt - before.ru_majflt;
    };
    faultsWhileReading(48000 * 10, 48000 * 10 + 1);
    Faults faults{};
    faults.around = faultsWhileReading(48000 * 10, 48000 * 18 - 1000);
    Prefetch prefetch(rate);
    prefetch.setRanges(*set);
    for (int turn = 0; turn < 12; ++turn) // 92 MB in pieces of 8
        prefetch.turn();
    faults.everywhere = faultsWhileReading(0, 48000 * 30);
    CHECK(sum > 0);
    return faults;
}
} // namespace

TEST_CASE("opening brings what is around the playhead into memory, and turns bring the rest") {
    Faults faults = faultsOfReading();
    for (int again = 0; again < 2 && !faults.none(); ++again) // a machine short of memory takes some back meanwhile
        faults = faultsOfReading();
    CHECK(faults.around == 0);
    CHECK(faults.everywhere == 0);
}
#endif
