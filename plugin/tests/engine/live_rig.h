#pragma once

#include "engine/live_player.h"
#include "support.h"

#include <algorithm>
#include <cmath>
#include <deque>

namespace stemline::test {

/// A player, what went in and came out of it from frame 0 on, and a worker that answers when it is told to.
class LiveRig {
  public:
    static constexpr std::uint32_t everyStem = (1u << numSeparated) - 1;

    LiveRig(int channels, int maxBlock, int latency, int frames, unsigned seed)
        : channels_(channels), latency_(latency), in(channels, frames), stems(numStems * channels, frames),
          delayed(channels, frames), scratch_(channels, 8192) {
        Random random(seed);
        random.fill(in);
        player.prepare(channels, maxBlock, latency, 48000.0);
    }

    int left() const { return in.frames() - done; }

    void play(int frames, const Transport& transport) {
        player.process(transport, in.from(done), frames, stems.from(done), delayed.from(done));
        done += frames;
    }

    /// Plays with a transport that rolls on from where it was.
    void roll(int frames) {
        play(frames, transport_);
        transport_.position += frames;
    }
    void jump(std::int64_t position) { transport_ = {true, position}; }
    void stop() { transport_.playing = false; }

    /// The worker takes what the player sent.
    void drain() {
        for (auto run = player.input().read(scratch_.data(), 700); run.frames > 0;
             run = player.input().read(scratch_.data(), 700))
            waiting.push_back(run);
    }

    static float stem(int plane, std::int64_t frame) { return nameOf(plane, frame); }

    void answer(std::int64_t frame, int frames) {
        Planes block(numSeparated * channels_, frames);
        for (int p = 0; p < block.count(); ++p)
            for (int i = 0; i < frames; ++i)
                block.at(p, i) = stem(p, frame + i);
        player.timeline().write(frame, everyStem, block.data(), frames);
    }

    void answerAll() {
        drain();
        for (; !waiting.empty(); waiting.pop_front())
            answer(waiting.front().frame, waiting.front().frames);
    }

    /// The largest distance of the sum of the seven from the input of `latency` frames before.
    double sumError() const {
        double worst = 0.0;
        for (int c = 0; c < channels_; ++c)
            for (int n = 0; n < done; ++n) {
                double sum = 0.0;
                for (int s = 0; s < numStems; ++s)
                    sum += static_cast<double>(stems.at(s * channels_ + c, n));
                worst = std::max(worst, std::abs(sum - static_cast<double>(due(c, n))));
            }
        return worst;
    }

    bool delayIsExact() const {
        for (int c = 0; c < channels_; ++c)
            for (int n = 0; n < done; ++n)
                if (delayed.at(c, n) != due(c, n))
                    return false;
        return true;
    }

    float due(int channel, int frame) const { return frame < latency_ ? 0.0f : in.at(channel, frame - latency_); }

  private:
    int channels_;
    int latency_;

  public:
    LivePlayer player;
    Planes in, stems, delayed;
    std::deque<InputStream::Run> waiting;
    int done = 0;

  private:
    Planes scratch_;
    Transport transport_{true, 0};
};

} // namespace stemline::test
