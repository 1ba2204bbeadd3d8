#include "engine/captured_player.h"
#include "engine/snapshot.h"
#include "support.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>

using namespace stemline;
using namespace stemline::test;

namespace {

/// A song on the host's timeline, captured in one or more stretches; stems are noise that sums to it.
class Song {
  public:
    Song(int channels, int frames, unsigned seed) : channels_(channels), frames_(frames) {
        Random random(seed);
        source.resize(static_cast<std::size_t>(frames * channels));
        for (auto& stem : stems)
            stem.resize(source.size());
        for (std::size_t i = 0; i < source.size(); ++i) {
            source[i] = 0.5f * random.sample();
            float rest = source[i];
            for (std::size_t s = 0; s < numSeparated; ++s)
                rest -= stems[s][i] = 0.1f * random.sample();
            stems[numSeparated][i] = rest;
        }
        stale = std::vector<std::atomic<std::uint8_t>>(static_cast<std::size_t>(frames / stalePageFrames + 1));
    }

    CapturedRange range(int start, int length) {
        CapturedRange range;
        range.start = start;
        range.length = length;
        range.channels = channels_;
        for (std::size_t s = 0; s < numStems; ++s)
            range.stems[s] = stems[s].data() + start * channels_;
        range.source = source.data() + start * channels_;
        range.stale = stale.data();
        return range;
    }

    float at(std::int64_t position, int channel) const {
        return position >= 0 && position < frames_ ? source[static_cast<std::size_t>(position * channels_ + channel)]
                                                   : 0.0f;
    }
    float stemAt(int stem, std::int64_t position, int channel) const {
        return stems[static_cast<std::size_t>(stem)][static_cast<std::size_t>(position * channels_ + channel)];
    }

    std::vector<float> source;
    std::array<std::vector<float>, numStems> stems;
    std::vector<std::atomic<std::uint8_t>> stale;

  private:
    int channels_;
    int frames_;
};

/// A host that plays the song through the player and keeps all that came out.
class Host {
  public:
    Host(Song& song, int channels)
        : song_(song), channels_(channels), out(static_cast<std::size_t>(numStems * channels)) {
        player.prepare(channels, 48000.0);
    }

    void play(const CapturedSet* set, int frames) {
        Planes block(channels_, frames), stems(numStems * channels_, frames), delayed(channels_, frames);
        for (int c = 0; c < channels_; ++c)
            for (int i = 0; i < frames; ++i)
                block.at(c, i) = edit + (transport.playing ? song_.at(transport.position + i, c) : stoppedInput);
        player.process(transport, set, block.data(), frames, stems.data(), delayed.data());
        for (int c = 0; c < channels_; ++c)
            for (int i = 0; i < frames; ++i) {
                double sum = 0.0;
                for (int s = 0; s < numStems; ++s)
                    sum += static_cast<double>(stems.at(s * channels_ + c, i));
                sumError = std::max(sumError, std::abs(sum - static_cast<double>(block.at(c, i))));
                delayExact = delayExact && delayed.at(c, i) == block.at(c, i);
            }
        for (int p = 0; p < numStems * channels_; ++p)
            out[static_cast<std::size_t>(p)].insert(out[static_cast<std::size_t>(p)].end(), stems[p].begin(),
                                                    stems[p].end());
        if (transport.playing)
            transport.position += frames;
    }

  private:
    Song& song_;
    int channels_;

  public:
    CapturedPlayer player;
    Transport transport{true, 0};
    float edit = 0.0f, stoppedInput = 0.0f;
    std::vector<std::vector<float>> out;
    double sumError = 0.0;
    bool delayExact = true;
};

CapturedSet setOf(std::vector<CapturedRange> ranges) { return {std::move(ranges), nullptr}; }

float largestStep(const std::vector<float>& samples) {
    float largest = 0.0f;
    for (std::size_t i = 1; i < samples.size(); ++i)
        largest = std::max(largest, std::abs(samples[i] - samples[i - 1]));
    return largest;
}

} // namespace

TEST_CASE("Inside a range the stems play as stored, to the last bit; outside the input is in the residual") {
    const int channels = GENERATE(1, 2);
    const int block = GENERATE(1, 17, 64, 512, 2048);
    Song song(channels, 20000, 1);
    const CapturedSet set = setOf({song.range(3000, 5000), song.range(12000, 3000)});
    Host host(song, channels);
    while (host.transport.position < 18000)
        host.play(&set, block);
    CHECK(host.delayExact);
    CHECK(host.sumError <= 5e-7);
    const auto inside = [](int n, int margin) {
        return (n >= 3000 + margin && n < 8000 - margin) || (n >= 12000 + margin && n < 15000 - margin);
    };
    bool right = true;
    for (int s = 0; s < numStems; ++s)
        for (int c = 0; c < channels; ++c)
            for (int n = 0; n < 18000; ++n) {
                const float got = host.out[static_cast<std::size_t>(s * channels + c)][static_cast<std::size_t>(n)];
                if (inside(n, fadeFrames))
                    right = right && got == song.stemAt(s, n, c);
                else if (!inside(n, 0))
                    right = right && got == (s == numSeparated ? song.at(n, c) : 0.0f);
            }
    CHECK(right);
}

TEST_CASE("Edges, jumps, stops and new sets never click, and the sum stays the input") {
    const int block = GENERATE(1, 64, 441, 1500);
    Song song(2, 60000, 2);
    for (std::size_t s = 0; s < numSeparated; ++s) // constant stems show every step of the gain
        for (auto i = song.stems[s].size(); i-- > 0;) {
            song.stems[numSeparated][i] += song.stems[s][i] - 0.1f;
            song.stems[s][i] = 0.1f;
        }
    const CapturedSet one = setOf({song.range(1000, 20000), song.range(30000, 300), song.range(40000, 9000)});
    const CapturedSet other = setOf({song.range(500, 6000), song.range(6500, 14000), song.range(41000, 19000)});
    Host host(song, 2);
    host.stoppedInput = 0.3f; // someone is playing along: there is something to fade with
    Random random(static_cast<unsigned>(block));
    const CapturedSet* set = &one;
    for (int i = 0; i < 3000; ++i) {
        if (random.oneIn(9) || host.transport.position > 55000)
            host.transport.position = random.oneOf({0, 900, 5000, 6400, 29900, 39000, 48800}) + random.from(0, 500);
        if (random.oneIn(15))
            host.transport.playing = !host.transport.playing;
        if (random.oneIn(11))
            set = set == &one ? &other : random.oneIn(2) ? &one : nullptr;
        for (int left = fadeFrames; left > 0;) { // long enough for one fade to end before the next begins
            const int frames = random.from(1, block);
            host.play(set, frames);
            left -= frames;
        }
    }
    CHECK(host.sumError <= 1e-6);
    for (std::size_t p = 0; p < numSeparated * 2; ++p)
        REQUIRE(largestStep(host.out[p]) <= 0.1f * 2.01f / fadeFrames); // a tail going down while a range comes up
}

TEST_CASE("Ranges that join play as one") {
    Song song(2, 9000, 3);
    const CapturedSet set = setOf({song.range(0, 3000), song.range(3000, 1000), song.range(4000, 5000)});
    Host host(song, 2);
    while (host.transport.position < 8000)
        host.play(&set, 64);
    bool right = true;
    for (int n = 0; n < 8000; ++n)
        right = right && host.out[0][static_cast<std::size_t>(n)] == song.stemAt(0, n, 0);
    CHECK(right);
}

TEST_CASE("Material with hard borders, and a host that renders, are exact from the first frame to the last") {
    Song song(2, 9000, 4);
    auto range = song.range(2000, 5000);
    range.hardStart = range.hardEnd = true;
    const CapturedSet hard = setOf({range});
    Host host(song, 2);
    while (host.transport.position < 8960)
        host.play(&hard, 64);
    bool right = true;
    for (int n = 2000; n < 7000; ++n)
        right = right && host.out[5][static_cast<std::size_t>(n)] == song.stemAt(2, n, 1);
    CHECK(right);
    CHECK(host.sumError <= 5e-7);

    Host renderer(song, 2);
    renderer.transport.offline = true;
    renderer.transport.position = 2500;
    renderer.play(&hard, 792); // a pre-roll that repeats its beginning
    renderer.transport.position = 2500;
    renderer.play(&hard, 1000);
    right = true;
    for (int n = 0; n < 1000; ++n)
        right = right && renderer.out[0][static_cast<std::size_t>(792 + n)] == song.stemAt(0, 2500 + n, 0);
    CHECK(right);
}

TEST_CASE("Play from silence is exact from the first frame; out of a sounding input it fades in") {
    Song song(1, 9000, 5);
    const CapturedSet set = setOf({song.range(0, 9000)});
    for (const float before : {0.0f, 0.25f}) {
        Host host(song, 1);
        host.stoppedInput = before;
        host.transport = {false, 2000};
        host.play(&set, 512);
        host.transport.playing = true;
        host.play(&set, 512);
        const float first = host.out[0][512];
        CHECK(first == (before == 0.0f ? song.stemAt(0, 2000, 0) : song.stemAt(0, 2000, 0) / fadeFrames));
    }
}

TEST_CASE("An input that differs from what was captured marks its pages, and only those") {
    Song song(2, 5 * stalePageFrames, 6);
    const CapturedSet set = setOf({song.range(0, 5 * stalePageFrames)});
    Host host(song, 2);
    const auto playTo = [&](std::int64_t position) {
        while (host.transport.position < position)
            host.play(&set, static_cast<int>(std::min<std::int64_t>(64, position - host.transport.position)));
    };
    host.edit = 0.5f * staleTolerance;
    playTo(2 * stalePageFrames + 100);
    host.edit = 2.0f * staleTolerance;
    playTo(2 * stalePageFrames + 101);
    host.edit = 0.0f;
    playTo(4 * stalePageFrames - 1);
    host.edit = std::nanf("");
    playTo(4 * stalePageFrames);
    host.edit = 0.0f;
    playTo(5 * stalePageFrames);
    const std::vector<int> marks{song.stale[0], song.stale[1], song.stale[2], song.stale[3], song.stale[4]};
    CHECK(marks == std::vector<int>{0, 0, 1, 1, 0});
}

TEST_CASE("Right after a jump nothing is compared: hosts fade their own signal there") {
    Song song(2, 50000, 7);
    const CapturedSet set = setOf({song.range(0, 50000)});
    Host host(song, 2);
    host.edit = 0.01f;
    for (int i = 0; i < 20; ++i) {
        host.transport.position = 1000 * i;
        host.play(&set, 2000);
    }
    CHECK(std::all_of(song.stale.begin(), song.stale.end(), [](const auto& mark) { return mark == 0; }));
    host.play(&set, 4800);
    CHECK(std::any_of(song.stale.begin(), song.stale.end(), [](const auto& mark) { return mark == 1; }));
}

TEST_CASE("A mono capture plays on both channels, a stereo capture plays on a mono track as the mean") {
    Song mono(1, 4000, 8), stereo(2, 4000, 9);
    const CapturedSet monoSet = setOf({mono.range(0, 4000)}), stereoSet = setOf({stereo.range(0, 4000)});
    Planes in(2, 1000), stems(numStems * 2, 1000), delayed(2, 1000);
    CapturedPlayer player;
    player.prepare(2, 48000.0);
    player.process({true, 0}, &monoSet, in.data(), 1000, stems.data(), delayed.data());
    CHECK(stems.at(2, 500) == mono.stemAt(1, 500, 0));
    CHECK(stems.at(3, 500) == mono.stemAt(1, 500, 0));
    player.prepare(1, 48000.0);
    player.process({true, 0}, &stereoSet, in.data(), 1000, stems.data(), delayed.data());
    CHECK(stems.at(1, 500) == 0.5f * (stereo.stemAt(1, 500, 0) + stereo.stemAt(1, 500, 1)));
}

TEST_CASE("A set that is replaced while it plays is read no later than the slot allows") {
    // Under the address sanitizer this reads freed memory if the player or the slot is wrong.
    Song song(2, 30000, 10);
    Host host(song, 2);
    SnapshotSlot<CapturedSet> slot;
    for (int i = 0; i < 300; ++i) {
        if (i % 3 == 0) {
            auto copy = std::make_shared<Song>(2, 600, static_cast<unsigned>(i));
            auto set = std::make_unique<CapturedSet>();
            auto range = copy->range(0, 600);
            range.start = host.transport.position - 100;
            set->ranges.push_back(range);
            set->keep = copy;
            slot.publish(std::move(set));
        }
        slot.collect();
        host.play(slot.current(), 64);
    }
    CHECK(host.delayExact);
}
