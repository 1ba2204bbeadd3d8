#include "client/chunk_reader.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace stemline::client {

namespace {

constexpr double leadSeconds = 0.25; // opening a call and computing a window take about as much

void makeRoom(Chunk& chunk, int channels, int frames) {
    chunk.planes.resize(static_cast<std::size_t>(channels));
    for (auto& plane : chunk.planes)
        plane.resize(std::max(plane.size(), static_cast<std::size_t>(frames)));
}

bool allFinite(const std::vector<float>& plane, int frames) {
    return std::all_of(plane.begin(), plane.begin() + frames, [](float x) { return std::isfinite(x); });
}

} // namespace

ChunkReader::ChunkReader(InputStream& input) : input_(input) { configure(chunkFrames_, 44100, false); }

void ChunkReader::configure(int chunkFrames, double sampleRate, bool offline) {
    chunkFrames_ = std::clamp(chunkFrames, 32, 1 << 16);
    leadFrames_ = offline ? 0 : static_cast<int>(std::lround(leadSeconds * std::max(sampleRate, 1.0)));
    patience_ = std::chrono::duration<double>(chunkFrames_ / std::max(sampleRate, 1.0));
    offline_ = offline;
    makeRoom(current_, input_.channels(), chunkFrames_);
    makeRoom(held_, input_.channels(), chunkFrames_);
}

/// Fills `held_`, which is empty, with one run; false if there is none.
bool ChunkReader::read(int most) {
    std::array<float*, maxChannels> pointers{};
    for (std::size_t channel = 0; channel < held_.planes.size(); ++channel)
        pointers[channel] = held_.planes[channel].data();
    const InputStream::Run run = input_.read(pointers.data(), most);
    if (run.frames == 0)
        return false;
    held_.frame = run.frame;
    held_.frames = run.frames;
    held_.segment = run.segment;
    held_.begins = run.begins;
    held_.finite = true;
    for (const auto& plane : held_.planes)
        held_.finite = held_.finite && allFinite(plane, run.frames);
    held_.lost = {};
    if (expected_ && run.frame > *expected_)
        held_.lost = {*expected_, run.frame - *expected_};
    held_.follows = !skipped_ && expected_ && run.frame == *expected_;
    skipped_ = false;
    expected_ = run.frame + run.frames;
    return true;
}

bool ChunkReader::joins() const { return held_.follows && held_.segment.epoch == current_.segment.epoch; }

void ChunkReader::join() {
    for (std::size_t channel = 0; channel < current_.planes.size(); ++channel)
        std::copy_n(held_.planes[channel].begin(), held_.frames, current_.planes[channel].begin() + current_.frames);
    current_.frames += held_.frames;
    current_.finite = current_.finite && held_.finite;
    held_.frames = 0;
}

const Chunk* ChunkReader::next(Clock::time_point now) {
    while (current_.frames < chunkFrames_) {
        if (held_.frames == 0 && !read(chunkFrames_ - current_.frames))
            break;
        if (current_.frames == 0) {
            std::swap(current_, held_);
            held_.frames = 0;
            since_ = now;
        } else if (joins()) {
            join();
        } else {
            break;
        }
    }
    const bool whole = current_.frames >= chunkFrames_ || held_.frames > 0;
    const bool due = current_.frames > 0 && (offline_ || now - since_ >= patience_);
    return whole || due ? &current_ : nullptr;
}

void ChunkReader::pop() {
    popped_ = current_.frame + current_.frames;
    current_.frames = 0;
}

FrameRange ChunkReader::skip() {
    const std::int64_t from = current_.frames > 0 ? current_.frame : held_.frames > 0 ? held_.frame : -1;
    std::int64_t first = from;
    current_.frames = held_.frames = 0;
    while (read(chunkFrames_)) {
        if (first < 0)
            first = held_.lost.count > 0 ? held_.lost.frame : held_.frame;
        held_.frames = 0;
    }
    if (first < 0)
        return {};
    skipped_ = true;
    popped_ = *expected_;
    return {first, *expected_ - first};
}

FrameRange ChunkReader::skipBefore(std::int64_t frame, Clock::time_point now) {
    FrameRange skipped;
    const Chunk* chunk = next(now);
    for (; chunk != nullptr && chunk->frame + chunk->frames <= frame; chunk = next(now)) {
        if (skipped.count == 0)
            skipped.frame = chunk->frame;
        skipped.count = chunk->frame + chunk->frames - skipped.frame;
        pop();
    }
    if (skipped.count > 0) {
        if (current_.frames > 0)
            current_.follows = false;
        else
            skipped_ = true;
    }
    return skipped;
}

FrameRange ChunkReader::skipTooLate(std::int64_t playedUpTo, Clock::time_point now) {
    const std::int64_t most = std::int64_t{capacity()} * 3 / 4;
    return skipBefore(std::max(playedUpTo + leadFrames_, offline_ ? 0 : input_.framesWritten() - most), now);
}

std::int64_t ChunkReader::backlog() const { return input_.framesWritten() - popped_; }

} // namespace stemline::client
