#include "client/stem_placer.h"

#include <catch2/catch.hpp>

using namespace stemline;
using namespace stemline::client;

namespace {

stems::v1::LiveAudio message(const std::vector<float>& levels, int frames, int channels) {
    stems::v1::LiveAudio audio;
    for (std::size_t stem = 0; stem < levels.size(); ++stem) {
        auto& block = *audio.add_stems()->mutable_block();
        audio.mutable_stems(static_cast<int>(stem))->set_stem_index(static_cast<std::uint32_t>(stem));
        block.set_start_sample(40);
        block.set_num_samples(static_cast<std::uint32_t>(frames));
        const std::vector<float> samples(static_cast<std::size_t>(frames * channels), levels[stem]);
        block.set_samples(reinterpret_cast<const char*>(samples.data()), samples.size() * sizeof(float));
    }
    return audio;
}

/// The level of each stem at a frame.
std::vector<float> levels(const StemTimeline& timeline, std::int64_t frame, int channels) {
    std::vector<float> values(static_cast<std::size_t>(numSeparated * channels), -1.0f);
    std::vector<float*> pointers;
    for (float& value : values)
        pointers.push_back(&value);
    timeline.read(frame, 1, pointers.data());
    std::vector<float> left;
    for (std::size_t i = 0; i < values.size(); i += static_cast<std::size_t>(channels))
        left.push_back(values[i]);
    return left;
}

} // namespace

TEST_CASE("stems go to the buses of their names, whatever the model's order") {
    for (const int channels : {1, 2}) {
        StemTimeline timeline(4096, channels);
        StemPlacer placer(timeline, channels);
        placer.announce({"bass", "drums", "guitar", "piano", "other"});
        const auto audio = message({1, 2, 3, 4, 5}, 100, channels);
        const auto run = placer.check(audio);
        REQUIRE(run);
        CHECK(run->position == 40);
        CHECK(run->frames == 100);
        CHECK(placer.place(audio, 500).placed == 100);
        CHECK(levels(timeline, 599, channels) == std::vector<float>{2, 1, 3, 4, 0, 5});
    }
}

TEST_CASE("stems without a bus are added to other, and nothing is lost") {
    StemTimeline timeline(4096, 2);
    StemPlacer placer(timeline, 2);
    placer.announce({"strings", "vocals", "other", "theremin"});
    placer.place(message({1, 2, 4, 8}, 64, 2), 0);
    CHECK(levels(timeline, 63, 2) == std::vector<float>{0, 0, 0, 0, 2, 13});
}

TEST_CASE("messages that do not fit together are refused") {
    StemTimeline timeline(4096, 2);
    StemPlacer placer(timeline, 2);
    placer.announce({"bass", "drums"});
    CHECK_FALSE(placer.check(stems::v1::LiveAudio()));
    CHECK_FALSE(placer.check(message({1, 2, 3}, 64, 2))); // more stems than were announced
    CHECK_FALSE(placer.check(message({1, 2}, 64, 1)));    // half of the samples
    auto shifted = message({1, 2}, 64, 2);
    shifted.mutable_stems(1)->mutable_block()->set_start_sample(41);
    CHECK_FALSE(placer.check(shifted));
    CHECK(placer.check(message({1}, 64, 2)));
}
