#include "parts.h"

#include <catch2/catch.hpp>
#include <csignal>

using namespace stemline;
using namespace stemline::capture;
using namespace stemline::capture::tests;

namespace {

constexpr int block = 256;

/// A host with one track whose sample at position p is a function of p and of what was played how often.
class Host {
  public:
    explicit Host(CaptureWriter& writer) : writer_(writer) {}

    static float sample(std::int64_t position, int channel, int take) {
        return static_cast<float>((position * 7 + channel * 3 + take * 11) % 1000) / 1000.0f;
    }

    /// Plays [start, stop) through an InputStream, as the audio thread and the worker do.
    void play(std::int64_t start, std::int64_t stop, int take = 0, bool playing = true) {
        input_.beginSegment(start, playing);
        std::vector<float> left(block), right(block);
        const float* const out[] = {left.data(), right.data()};
        for (std::int64_t at = start; at < stop; at += block) {
            const int frames = static_cast<int>(std::min<std::int64_t>(block, stop - at));
            for (int i = 0; i < frames; ++i) {
                left[static_cast<std::size_t>(i)] = sample(at + i, 0, take);
                right[static_cast<std::size_t>(i)] = sample(at + i, 1, take);
            }
            input_.write(out, frames);
            drain();
        }
    }

  private:
    void drain() {
        std::vector<float> left(100), right(100);
        float* const in[] = {left.data(), right.data()};
        for (auto run = input_.read(in, 100); run.frames > 0; run = input_.read(in, 100))
            writer_.take(run, in);
    }

    CaptureWriter& writer_;
    InputStream input_{4096, 2};
};

/// Asserts that a piece's source holds what was played at its positions.
void requireHolds(CaptureStore& store, const Piece& piece, int take) {
    const auto source = store.source(piece.source, piece.sourceFrames, 2);
    REQUIRE(source != nullptr);
    for (std::int64_t i = 0; i < piece.length; ++i)
        for (int c = 0; c < 2; ++c)
            REQUIRE(source->samples()[2 * (piece.offset + i) + c] == Host::sample(piece.start + i, c, take));
    const std::string bytes(reinterpret_cast<const char*>(source->data()), source->size());
    REQUIRE(client::hex(client::sha256(bytes)) == piece.source);
}

using Extents = std::vector<CaptureWriter::Extent>;

} // namespace

TEST_CASE("what plays becomes a source with the name of its digest") {
    const Folder folder;
    const auto store = std::make_shared<CaptureStore>(folder.path / "store");
    CaptureWriter writer(store, 2);
    Host host(writer);
    host.play(-700, 10000);
    CHECK(writer.extents() == Extents{{-700, 10000}});
    const CaptureMap map = writer.finish();
    REQUIRE(map.pieces().size() == 1);
    CHECK(map.pieces()[0].start == -700);
    CHECK(map.pieces()[0].length == 10700);
    CHECK(map.pieces()[0].sourceFrames == 10700);
    requireHolds(*store, map.pieces()[0], 0);
    CHECK(writer.extents().empty());
    CHECK(writer.finish().empty());
}

TEST_CASE("a jump ends a segment, and where segments overlap the last one wins") {
    const Folder folder;
    const auto store = std::make_shared<CaptureStore>(folder.path / "store");
    CaptureWriter writer(store, 2);
    Host host(writer);
    host.play(0, 6000, 0);
    host.play(3000, 4000, 1); // inside
    host.play(8000, 9000, 2); // apart
    host.play(5500, 7000, 3); // over the end
    CHECK(writer.extents() == Extents{{0, 7000}, {8000, 9000}});
    CHECK(writer.frames() == 8000);
    const CaptureMap map = writer.finish();
    REQUIRE(map.pieces().size() == 5);
    const int takes[] = {0, 1, 0, 3, 2};
    const std::int64_t starts[] = {0, 3000, 4000, 5500, 8000};
    for (std::size_t i = 0; i < 5; ++i) {
        CHECK(map.pieces()[i].start == starts[i]);
        requireHolds(*store, map.pieces()[i], takes[i]);
    }
}

TEST_CASE("a loop that is played again and again leaves one file") {
    const Folder folder;
    const auto store = std::make_shared<CaptureStore>(folder.path / "store");
    CaptureWriter writer(store, 2);
    Host host(writer);
    for (int take = 0; take < 20; ++take)
        host.play(1000, 3000, take);
    std::size_t files = 0;
    for (const auto& entry : fs::recursive_directory_iterator(store->root() / "unfinished"))
        files += entry.path().extension() == ".f32";
    CHECK(files <= 2); // the last one, and the one before until it has ended
    const CaptureMap map = writer.finish();
    REQUIRE(map.pieces().size() == 1);
    requireHolds(*store, map.pieces()[0], 19);
}

TEST_CASE("what does not play is not recorded, and neither is a host's stutter") {
    const Folder folder;
    const auto store = std::make_shared<CaptureStore>(folder.path / "store");
    CaptureWriter writer(store, 2);
    Host host(writer);
    host.play(0, 2000, 0, false);
    host.play(0, CaptureWriter::leastFrames - 1, 1);
    host.play(5000, 5000 + CaptureWriter::leastFrames, 2);
    host.play(5000 + CaptureWriter::leastFrames, 9000, 2, false);
    CHECK(writer.extents() == Extents{{5000, 5000 + CaptureWriter::leastFrames}});
    requireHolds(*store, writer.finish().pieces().at(0), 2);
}

TEST_CASE("frames that were lost on the way leave a hole of their own size") {
    const Folder folder;
    const auto store = std::make_shared<CaptureStore>(folder.path / "store");
    CaptureWriter writer(store, 2);
    std::vector<float> samples(1024, 0.25f);
    const float* const channels[] = {samples.data(), samples.data()};
    InputStream::Run run;
    run.segment = {100, 5000, 0, true};
    run.frame = 100;
    run.frames = 1024;
    writer.take(run, channels);
    run.frame += 1024 + 300;
    writer.take(run, channels);
    CHECK(writer.extents() == Extents{{5000, 6024}, {6324, 7348}});
}

TEST_CASE("what is discarded leaves nothing") {
    const Folder folder;
    const auto store = std::make_shared<CaptureStore>(folder.path / "store");
    CaptureWriter writer(store, 2);
    Host host(writer);
    host.play(0, 6000);
    writer.discard();
    CHECK(writer.extents().empty());
    CHECK(fs::is_empty(store->root() / "unfinished"));
    host.play(7000, 8000, 1);
    requireHolds(*store, writer.finish().pieces().at(0), 1);
}

TEST_CASE("the picture of a recording is that of what won") {
    const Folder folder;
    const auto store = std::make_shared<CaptureStore>(folder.path / "store");
    CaptureWriter writer(store, 2);
    std::vector<float> samples(512);
    const float* const channels[] = {samples.data(), samples.data()};
    const auto play = [&](std::int64_t position, float level, std::int64_t frames) {
        std::fill(samples.begin(), samples.end(), level);
        InputStream::Run run;
        run.segment = {0, position, 0, true};
        run.frames = 512;
        for (run.frame = 0; run.frame < frames; run.frame += 512)
            writer.take(run, channels);
    };
    play(0, 0.5f, 8192);
    play(4096, -0.25f, 2048);
    std::vector<Bucket> pixels(10);
    writer.draw(0, 1024, pixels);
    const float expected[] = {0.5f, 0.5f, 0.5f, 0.5f, 0.25f, 0.25f, 0.5f, 0.5f, 0.0f, 0.0f};
    for (std::size_t i = 0; i < 10; ++i) {
        CHECK(pixels[i].peak == expected[i]);
        CHECK(pixels[i].rms() == Approx(expected[i]));
    }
}

TEST_CASE("on a full disk recording stops and says why, and what was finished before stays") {
    const Folder folder;
    const auto store = std::make_shared<CaptureStore>(folder.path / "store");
    CHECK(inChild([&store] {
              limitFiles(300000);
              CaptureWriter writer(store, 2);
              Host host(writer);
              host.play(0, 10000);
              host.play(20000, 200000);
              if (!writer.problem())
                  return 1;
              host.play(300000, 310000);
              if (writer.extents() != Extents{{0, 10000}})
                  return 2;
              const CaptureMap map = writer.finish();
              return map.pieces().size() == 1 && !writer.problem() ? 0 : 3;
          }) == 0);
    CHECK(fs::is_empty(store->root() / "unfinished"));
}
