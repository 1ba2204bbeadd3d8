#include "capture/capture_state.h"
#include "client/hashes.h"

#include <catch2/catch.hpp>
#include <random>

using namespace stemline::capture;

namespace {

Capture aCapture() {
    Capture capture;
    capture.rateHz = 48000;
    capture.model = "a model, with ünusual name";
    capture.weightsSha256 = std::string(64, 'a') + "+" + std::string(64, 'b');
    capture.refinerSteps = 4;
    capture.seed = UINT64_MAX;
    for (std::int64_t i = 0; i < 3; ++i) {
        Piece piece;
        piece.start = -1000 + 5000 * i;
        piece.length = 4000;
        piece.sourceFrames = 4100;
        piece.offset = i;
        piece.channels = i == 1 ? 1 : 2;
        piece.source = std::string(64, static_cast<char>('0' + i));
        piece.stems = i == 2 ? "" : std::string(64, 'f');
        piece.hardStart = i == 0;
        piece.hardEnd = i == 1;
        capture.map.append(piece);
    }
    return capture;
}

std::string sealed(const std::string& text) {
    return text + "end " + std::to_string(stemline::client::crc32c(text)) + "\n";
}

} // namespace

TEST_CASE("a capture comes back as it was saved") {
    CHECK(loadCapture(saveCapture(aCapture())) == aCapture());
    CHECK(loadCapture(saveCapture(Capture{})) == Capture{});
    Capture broken = aCapture();
    broken.model = "two\nlines";
    CHECK(loadCapture(saveCapture(broken)).model == "twolines");
    CHECK(loadCapture(saveCapture(broken)).map == broken.map);
}

TEST_CASE("a blob that is not whole and unchanged is an empty capture") {
    const std::string blob = saveCapture(aCapture());
    for (std::size_t size = 0; size < blob.size(); ++size)
        REQUIRE(loadCapture(blob.substr(0, size)) == Capture{});
    for (std::size_t at = 0; at < blob.size(); ++at)
        for (const char other : {'\0', '\n', '9', '\xff'}) {
            std::string changed = blob;
            changed[at] = other;
            if (changed != blob)
                REQUIRE(loadCapture(changed) == Capture{});
        }
    CHECK(loadCapture(blob + "x") == Capture{});
}

TEST_CASE("ten thousand random blobs are empty captures") {
    std::mt19937 random(11);
    const std::string whole = saveCapture(aCapture());
    for (int round = 0; round < 10000; ++round) {
        std::string blob(random() % 400, '\0');
        for (char& c : blob)
            c = static_cast<char>(random());
        if (round % 3 == 0) // a part of a real one, with noise behind
            blob = whole.substr(0, random() % whole.size()) + blob;
        REQUIRE(loadCapture(blob) == Capture{});
    }
}

TEST_CASE("numbers that nobody saved are refused even under a right checksum") {
    const std::string whole = saveCapture(aCapture());
    const std::string text = whole.substr(0, whole.rfind("end "));
    REQUIRE(loadCapture(sealed(text)) == aCapture());
    const auto with = [&text](const std::string& from, const std::string& to) {
        std::string changed = text;
        const std::size_t at = changed.find(from);
        REQUIRE(at != std::string::npos);
        return loadCapture(sealed(changed.replace(at, from.size(), to)));
    };
    CHECK(with("rate 48000", "rate 0") == Capture{});
    CHECK(with("rate 48000", "rate 48000x") == Capture{});
    CHECK(with("steps 4", "steps -1") == Capture{});
    CHECK(with("seed 18446744073709551615", "seed 18446744073709551616") == Capture{});
    CHECK(with("piece -1000 4000", "piece -1000 0") == Capture{});
    CHECK(with("piece -1000 4000", "piece -1000 4101") == Capture{}); // longer than its source
    CHECK(with("piece -1000 4000", "piece 9000000000000000000 4000") == Capture{});
    CHECK(with("piece -1000 4000", "piece 4000 4000") == Capture{}); // into the next one
    CHECK(with("stemline-capture 1", "stemline-capture 2") == Capture{});
    CHECK(with(std::string(64, '0'), std::string(63, '0') + "/") == Capture{});
    CHECK(with("weights ", "wights ") != aCapture());
}

TEST_CASE("digits changed under a right checksum never crash") {
    std::mt19937 random(5);
    const std::string whole = saveCapture(aCapture());
    const std::string text = whole.substr(0, whole.rfind("end "));
    for (int round = 0; round < 10000; ++round) {
        std::string changed = text;
        for (unsigned n = 0; n < 1 + round % 4U; ++n)
            changed[random() % changed.size()] = "0123456789 -\nabcp"[random() % 17];
        const Capture loaded = loadCapture(sealed(changed));
        std::int64_t stop = INT64_MIN;
        for (const Piece& piece : loaded.map.pieces()) {
            REQUIRE(piece.length > 0);
            REQUIRE(piece.start >= stop);
            REQUIRE(piece.offset >= 0);
            REQUIRE(piece.offset + piece.length <= piece.sourceFrames);
            stop = piece.stop();
        }
    }
}
