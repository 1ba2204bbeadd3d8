#include "capture/capture_map.h"

#include <catch2/catch.hpp>
#include <map>
#include <random>

using namespace stemline::capture;

namespace {

Piece pieceAt(std::int64_t start, std::int64_t length, const std::string& source = "a") {
    Piece piece;
    piece.start = start;
    piece.length = piece.sourceFrames = length;
    piece.source = source;
    piece.hardStart = piece.hardEnd = true;
    return piece;
}

} // namespace

TEST_CASE("what came last wins, frame by frame, and every piece knows where its audio lies") {
    std::mt19937 random(7);
    const auto upTo = [&random](std::int64_t most) {
        return static_cast<std::int64_t>(random() % static_cast<unsigned>(most));
    };
    for (int round = 0; round < 300; ++round) {
        CaptureMap map;
        std::map<std::int64_t, std::pair<std::string, std::int64_t>> frames; // by position: source and offset in it
        for (int turn = 0; turn < 12; ++turn) {
            const std::int64_t start = upTo(60) - 30, length = 1 + upTo(20);
            if (turn % 4 == 3) {
                map.erase(start, start + length);
                for (std::int64_t at = start; at < start + length; ++at)
                    frames.erase(at);
                continue;
            }
            const std::string source = std::to_string(turn);
            map.overlay(pieceAt(start, length, source));
            for (std::int64_t at = start; at < start + length; ++at)
                frames[at] = {source, at - start};
        }
        std::int64_t stop = INT64_MIN, count = 0;
        for (const Piece& piece : map.pieces()) {
            REQUIRE(piece.length > 0);
            REQUIRE(piece.start >= stop);
            stop = piece.stop();
            count += piece.length;
            for (std::int64_t i = 0; i < piece.length; ++i)
                REQUIRE(frames.at(piece.start + i) == std::pair(piece.source, piece.offset + i));
            // Hard where the source itself begins or ends, and nowhere else.
            REQUIRE(piece.hardStart == (piece.offset == 0));
            REQUIRE(piece.hardEnd == (piece.offset + piece.length == piece.sourceFrames));
        }
        REQUIRE(count == static_cast<std::int64_t>(frames.size()));
    }
}

TEST_CASE("stretches are what follows without a gap, in as many channels") {
    CaptureMap map;
    map.overlay(pieceAt(0, 10));
    map.overlay(pieceAt(10, 5));
    map.overlay(pieceAt(16, 4));
    Piece mono = pieceAt(20, 4);
    mono.channels = 1;
    map.overlay(mono);
    std::vector<std::pair<std::size_t, std::size_t>> found;
    for (const auto& stretch : map.stretches())
        found.emplace_back(stretch.first, stretch.stop);
    CHECK(found == std::vector<std::pair<std::size_t, std::size_t>>{{0, 2}, {2, 3}, {3, 4}});
    CHECK(CaptureMap{}.stretches().empty());
}

TEST_CASE("stems go to every piece of their source") {
    CaptureMap map;
    map.overlay(pieceAt(0, 30, "a"));
    map.overlay(pieceAt(10, 10, "b"));
    CHECK(map.setStems("a", "key"));
    CHECK_FALSE(map.setStems("c", "key"));
    REQUIRE(map.pieces().size() == 3);
    CHECK(map.pieces()[0].stems == "key");
    CHECK(map.pieces()[1].stems.empty());
    CHECK(map.pieces()[2].stems == "key");
}
