#include "engine/mixer.h"
#include "support.h"

#include <catch2/catch.hpp>

#include <cmath>

using namespace stemline;
using namespace stemline::test;

TEST_CASE("At unity gains Main is the sum of the buses") {
    const int channels = GENERATE(1, 2);
    Random random(3);
    Planes stems(numStems * channels, 3000), main(channels, 3000);
    random.fill(stems);
    Mixer mixer;
    mixer.prepare(48000.0, channels);
    mixer.process({}, stems.data(), main.data(), 3000);
    for (int c = 0; c < channels; ++c)
        for (int i = 0; i < 3000; ++i) {
            double sum = 0.0;
            for (int stem = 0; stem < numStems; ++stem)
                sum += static_cast<double>(stems.at(stem * channels + c, i));
            REQUIRE(std::abs(static_cast<double>(main.at(c, i)) - sum) <= 2.5e-7); // a float's last bit at 4
        }
}

TEST_CASE("Gains in decibels, mutes over solos, and -60 dB is silence") {
    std::array<float, numStems> gains{0.0f, 6.0f, -60.0f, -12.0f, 12.0f, 0.0f, -59.5f};
    std::array<bool, numStems> solos{}, mutes{};
    auto targets = fold(gains, solos, mutes, -1);
    CHECK(targets.gain[0] == 1.0f);
    CHECK(targets.gain[1] == Approx(1.99526f));
    CHECK(targets.gain[2] == 0.0f);
    CHECK(targets.gain[4] == Approx(3.98107f));
    CHECK(targets.gain[6] > 0.0f);
    solos[1] = solos[3] = true;
    mutes[3] = true;
    targets = fold(gains, solos, mutes, -1);
    CHECK(targets.gain == std::array<float, numStems>{0.0f, targets.gain[1], 0.0f, 0.0f, 0.0f, 0.0f, 0.0f});
}

TEST_CASE("Every change is a ramp of 20 ms, whatever the block size, and ends exactly at its target") {
    const int block = GENERATE(1, 17, 64, 480, 2048);
    constexpr int ramp = 960;
    Planes stems(numStems, block), main(1, block);
    for (float& sample : stems[0])
        sample = 1.0f;
    Mixer mixer;
    mixer.prepare(48000.0, 1);
    MixTargets targets;
    mixer.process(targets, stems.data(), main.data(), block);
    CHECK(main.at(0, 0) == 1.0f);
    float last = 1.0f, largest = 0.0f;
    const auto run = [&](int frames) {
        for (int done = 0; done < frames; done += block) {
            mixer.process(targets, stems.data(), main.data(), block);
            for (const float sample : main[0]) {
                largest = std::max(largest, std::abs(sample - last));
                last = sample;
            }
        }
    };
    targets.gain[0] = 0.0f;
    run(ramp / 2);
    targets.gain[0] = 0.5f; // turns round on the way
    run(ramp + 2048);
    CHECK(last == 0.5f);
    targets.mainSource = static_cast<int>(Stem::bass); // silent here
    run(ramp + 2048);
    CHECK(last == 0.0f);
    targets.mainSource = static_cast<int>(Stem::drums); // raw: without its gain
    run(ramp + 2048);
    CHECK(last == 1.0f);
    CHECK(largest <= 1.001f / ramp);
}
