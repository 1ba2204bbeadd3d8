#include "capture/audio_files.h"
#include "capture/capture_error.h"
#include "parts.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <csignal>
#include <sndfile.h>

using namespace stemline;
using namespace stemline::capture;
using namespace stemline::capture::tests;

namespace {

void writeSound(const fs::path& path, int format, const std::vector<float>& samples, int rate = 48000,
                int channels = 2) {
    SF_INFO info{};
    info.samplerate = rate;
    info.channels = channels;
    info.format = format;
    SNDFILE* const file = sf_open(path.c_str(), SFM_WRITE, &info);
    REQUIRE(file != nullptr);
    const auto frames = static_cast<sf_count_t>(samples.size()) / channels;
    REQUIRE(sf_writef_float(file, samples.data(), frames) == frames);
    sf_close(file);
}

FrameSource from(const std::vector<float>& samples, int channels) {
    return [&samples, channels](std::int64_t frame, int frames, float* out) {
        std::copy_n(samples.begin() + frame * channels, frames * channels, out);
    };
}

std::string reasonOf(const std::function<void()>& work) {
    try {
        work();
    } catch (const CaptureError& error) {
        return error.reason;
    }
    return "none";
}

} // namespace

TEST_CASE("what is exported comes back to the bit") {
    const Folder folder;
    CaptureStore store(folder.path / "store");
    for (const int channels : {1, 2}) {
        const auto samples = noise(static_cast<std::size_t>(100001 * channels));
        const fs::path path = folder.path / "a b ü.wav";
        writeWav(path, 44100, channels, 100001, from(samples, channels));
        const Piece piece = importAudioFile(store, path, 44100);
        CHECK(piece.start == 0);
        CHECK(piece.length == 100001);
        CHECK(piece.channels == channels);
        CHECK(piece.hardStart);
        CHECK(piece.hardEnd);
        CHECK(piece.source == digest(samples));
        const auto source = store.source(piece.source, piece.sourceFrames, channels);
        REQUIRE(source != nullptr);
        CHECK(source->samples()[samples.size() - 1] == samples.back());
    }
    CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 2); // nothing beside it is left
}

TEST_CASE("the same stems are the same file, in 32-bit float") {
    const Folder folder;
    const auto samples = noise(2000);
    writeWav(folder.path / "a.wav", 96000, 2, 1000, from(samples, 2));
    writeWav(folder.path / "b.wav", 96000, 2, 1000, from(samples, 2));
    const std::string bytes = bytesOf(folder.path / "a.wav");
    CHECK(bytes == bytesOf(folder.path / "b.wav"));
    CHECK(bytes.substr(0, 4) == "RIFF");
    CHECK(bytes.substr(bytes.size() - 8000) == bytesOf(samples));
}

TEST_CASE("WAV, FLAC, AIFF and OGG are read") {
    const Folder folder;
    CaptureStore store(folder.path / "store");
    std::vector<float> samples(2 * 30000);
    for (std::size_t i = 0; i < samples.size(); ++i)
        samples[i] = 0.5f * static_cast<float>(std::sin(0.02 * static_cast<double>(i)));
    const std::pair<int, float> formats[] = {{SF_FORMAT_WAV | SF_FORMAT_PCM_24, 1e-6f},
                                             {SF_FORMAT_FLAC | SF_FORMAT_PCM_24, 1e-6f},
                                             {SF_FORMAT_AIFF | SF_FORMAT_PCM_16, 1e-4f},
                                             {SF_FORMAT_RF64 | SF_FORMAT_FLOAT, 0.0f},
                                             {SF_FORMAT_OGG | SF_FORMAT_VORBIS, 0.05f}};
    for (const auto& [format, tolerance] : formats) {
        const fs::path path = folder.path / "song";
        writeSound(path, format, samples);
        const Piece piece = importAudioFile(store, path, 48000);
        CHECK(piece.length == 30000);
        const auto source = store.source(piece.source, piece.sourceFrames, 2);
        REQUIRE(source != nullptr);
        float worst = 0;
        for (std::size_t i = 0; i < samples.size(); ++i)
            worst = std::max(worst, std::abs(source->samples()[i] - samples[i]));
        CHECK(worst <= tolerance);
    }
}

TEST_CASE("a file at another rate is converted: same length in time, same place, same sound") {
    const Folder folder;
    CaptureStore store(folder.path / "store");
    for (const auto& [fileRate, hostRate] :
         {std::pair(44100, 48000), std::pair(96000, 44100), std::pair(22050, 96000)}) {
        std::vector<float> samples(static_cast<std::size_t>(2 * fileRate)); // a second, 440 Hz
        for (std::size_t i = 0; i < samples.size(); ++i)
            samples[i] = 0.5f * static_cast<float>(std::sin(2 * M_PI * 440 * static_cast<double>(i / 2) / fileRate));
        writeSound(folder.path / "x.wav", SF_FORMAT_WAV | SF_FORMAT_FLOAT, samples, fileRate);
        const Piece piece = importAudioFile(store, folder.path / "x.wav", hostRate);
        CHECK(std::abs(piece.length - hostRate) <= 1);
        const auto source = store.source(piece.source, piece.sourceFrames, 2);
        REQUIRE(source != nullptr);
        double worst = 0;
        for (int i = hostRate / 4; i < hostRate / 2; ++i)
            worst = std::max(worst, std::abs(0.5 * std::sin(2 * M_PI * 440 * i / hostRate) -
                                             static_cast<double>(source->samples()[2 * i])));
        CHECK(worst < 1e-5);
    }
}

TEST_CASE("what is no song is refused in words that say what to use") {
    const Folder folder;
    CaptureStore store(folder.path / "store");
    const auto refused = [&](const fs::path& path) {
        try {
            importAudioFile(store, path, 48000);
        } catch (const CaptureError& error) {
            CHECK(error.reason == "CANNOT_READ");
            return std::string(error.what());
        }
        return std::string("read");
    };
    const std::string words = "Use WAV, FLAC, AIFF or OGG, one at a time.";
    write(folder.path / "noise.wav", std::string(5000, 'x'));
    write(folder.path / "empty.wav", "");
    CHECK(refused(folder.path / "noise.wav") == words);
    CHECK(refused(folder.path / "empty.wav") == words);
    CHECK(refused(folder.path / "nothing.wav") == words);
    CHECK(refused(folder.path) == words);
    writeSound(folder.path / "a.voc", SF_FORMAT_VOC | SF_FORMAT_PCM_16, noise(2000));
    CHECK(refused(folder.path / "a.voc") == words);
    writeSound(folder.path / "six.wav", SF_FORMAT_WAV | SF_FORMAT_FLOAT, noise(6000), 48000, 6);
    CHECK(refused(folder.path / "six.wav").find("6 channels") != std::string::npos);
    writeSound(folder.path / "short.wav", SF_FORMAT_WAV | SF_FORMAT_FLOAT, {});
    CHECK(refused(folder.path / "short.wav") == "The file is empty.");
    CHECK(fs::is_empty(store.root() / "unfinished"));
}

TEST_CASE("a file that breaks off is read as far as it goes") {
    const Folder folder;
    CaptureStore store(folder.path / "store");
    writeSound(folder.path / "x.wav", SF_FORMAT_WAV | SF_FORMAT_FLOAT, noise(20000));
    fs::resize_file(folder.path / "x.wav", 40000);
    const Piece piece = importAudioFile(store, folder.path / "x.wav", 48000);
    CHECK(piece.length > 4900);
    CHECK(piece.length <= 5000);
}

TEST_CASE("both ways can be cancelled, and leave nothing") {
    const Folder folder;
    CaptureStore store(folder.path / "store");
    const auto samples = noise(2 * 200000);
    const Progress half = [](double done) { return done < 0.5; };
    CHECK(reasonOf([&] { writeWav(folder.path / "a.wav", 48000, 2, 200000, from(samples, 2), half); }) == "CANCELLED");
    CHECK_FALSE(fs::exists(folder.path / "a.wav"));
    writeWav(folder.path / "a.wav", 48000, 2, 200000, from(samples, 2));
    for (const int rate : {48000, 44100})
        CHECK(reasonOf([&] { importAudioFile(store, folder.path / "a.wav", rate, half); }) == "CANCELLED");
    CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 2);
    CHECK(fs::is_empty(store.root() / "source"));
    CHECK(fs::is_empty(store.root() / "unfinished"));
}

TEST_CASE("on a full disk an export says so and leaves the file that was there") {
    const Folder folder;
    write(folder.path / "a.wav", "old");
    CHECK(inChild([&folder] {
              limitFiles(100000);
              const auto samples = noise(200000);
              return reasonOf([&] { writeWav(folder.path / "a.wav", 48000, 2, 100000, from(samples, 2)); }) ==
                             "DISK_FULL"
                         ? 0
                         : 1;
          }) == 0);
    CHECK(bytesOf(folder.path / "a.wav") == "old");
    CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 1);
}

TEST_CASE("files that a WAV has no room for are RF64") {
    CHECK_FALSE(needsRf64(500'000'000, 2));
    CHECK(needsRf64(540'000'000, 2));
    CHECK_FALSE(needsRf64(1'000'000'000, 1));
    CHECK(needsRf64(1'074'000'000, 1));
}
