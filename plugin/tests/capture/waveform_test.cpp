#include "capture/waveform.h"
#include "parts.h"

#include <catch2/catch.hpp>
#include <cmath>

using namespace stemline::capture;
using namespace stemline::capture::tests;

TEST_CASE("a pixel has the peak and the loudness of its frames, however the sound came in") {
    const int channels = 2;
    const std::int64_t frames = 64 * Waveform::bucketFrames;
    const auto samples = noise(static_cast<std::size_t>(frames * channels));
    Waveform whole, parts;
    whole.add(samples.data(), channels, frames);
    for (std::int64_t at = 0, size = 1; at < frames; at += size, size = size * 3 % 1000 + 1)
        parts.add(samples.data() + at * channels, channels, std::min(size, frames - at));
    CHECK(parts.frames() == frames);
    for (const std::int64_t width : {256, 1024, 2048, 4096, 16384}) {
        std::vector<Bucket> pixels(static_cast<std::size_t>(frames / width)), others(pixels.size());
        whole.draw(0, static_cast<double>(width), pixels);
        parts.draw(0, static_cast<double>(width), others);
        for (std::size_t i = 0; i < pixels.size(); ++i) {
            float peak = 0;
            double squares = 0;
            for (std::int64_t n = 0; n < width * channels; ++n) {
                const float sample =
                    samples[i * static_cast<std::size_t>(width * channels) + static_cast<std::size_t>(n)];
                peak = std::max(peak, std::abs(sample));
                squares += static_cast<double>(sample) * static_cast<double>(sample);
            }
            REQUIRE(pixels[i].peak == peak);
            REQUIRE(pixels[i].rms() ==
                    Approx(std::sqrt(squares / static_cast<double>(width * channels))).epsilon(1e-4));
            REQUIRE(others[i].peak == peak);
            REQUIRE(others[i].meanSquare == Approx(pixels[i].meanSquare).epsilon(1e-4));
        }
    }
}

TEST_CASE("no peak is lost between pixels, at any zoom, up to the last frame") {
    const std::int64_t frames = 100003;
    for (const std::int64_t loud : {std::int64_t{0}, std::int64_t{50000}, frames - 1}) {
        std::vector<float> samples(static_cast<std::size_t>(frames), 0.001f);
        samples[static_cast<std::size_t>(loud)] = -0.9f;
        Waveform waveform;
        waveform.add(samples.data(), 1, frames);
        for (const double width : {10.0, 100.0, 333.3, 1000.0, 12345.6, 200000.0}) {
            std::vector<Bucket> pixels(static_cast<std::size_t>(std::ceil(static_cast<double>(frames) / width)));
            waveform.draw(0, width, pixels);
            const auto pixel = static_cast<std::size_t>(static_cast<double>(loud) / width);
            CHECK(pixels[pixel].peak == 0.9f);
        }
    }
}

TEST_CASE("before and behind a sound there is silence") {
    Waveform waveform;
    const std::vector<float> samples(1000, 0.5f);
    waveform.add(samples.data(), 1, 1000);
    std::vector<Bucket> pixels(6);
    waveform.draw(-1000, 500, pixels);
    const float expected[] = {0, 0, 0.5f, 0.5f, 0, 0};
    for (std::size_t i = 0; i < pixels.size(); ++i)
        CHECK(pixels[i].peak == expected[i]);
    Waveform().draw(0, 100, pixels);
    CHECK(pixels[2].peak == 0.0f);
}
