#include "capture/heard_recorder.h"

#include <algorithm>
#include <cmath>

namespace stemline::capture {

namespace {

constexpr double restSeconds = 1.0; // recorded after the last difference, so that not every pause makes a file

} // namespace

void Heard::overlay(const Heard& later) {
    map.overlay(later.map);
    listened.add(later.listened);
    files.insert(files.end(), later.files.begin(), later.files.end());
}

void Heard::erase(Extent gone) {
    map.erase(gone.start, gone.stop);
    listened.erase(gone);
}

HeardRecorder::HeardRecorder(std::shared_ptr<CaptureStore> store, double rateHz, int channels)
    : store_(std::move(store)), channels_(channels), settleFrames_(std::lround(settleSeconds * rateHz)),
      restFrames_(std::lround(restSeconds * rateHz)), writer_(store_, channels, 1) {}

void HeardRecorder::compareWith(const CapturedSet& set) {
    set_ = set;
    for (auto& plane : beginning_)
        plane.clear();
}

void HeardRecorder::take(const InputStream::Run& run, const float* const* channels) noexcept {
    if (run.begins)
        for (auto& plane : beginning_)
            plane.clear();
    if (!run.segment.playing || writer_.problem())
        return;
    const std::int64_t position = run.segment.position + (run.frame - run.segment.firstFrame);
    for (const CapturedRange& range : set_.ranges) {
        const std::int64_t start = std::max(position, range.start);
        const std::int64_t stop = std::min(position + run.frames, range.start + range.length);
        if (start >= stop || range.source == nullptr || range.channels != channels_)
            continue;
        Planes planes{};
        for (std::size_t c = 0; c < static_cast<std::size_t>(channels_); ++c)
            planes[c] = channels[c] + (start - position);
        takePart(range, run, start, static_cast<int>(stop - start), planes);
    }
}

void HeardRecorder::takePart(const CapturedRange& range, const InputStream::Run& run, std::int64_t position, int frames,
                             Planes planes) {
    const std::int64_t settled = run.segment.position + settleFrames_;
    if (position < settled) {
        const int fading = static_cast<int>(std::min<std::int64_t>(frames, settled - position));
        if (run.segment.position == range.start)
            holdBeginning(position, fading, planes);
        position += fading;
        frames -= fading;
        for (auto& plane : planes)
            plane = plane != nullptr ? plane + fading : nullptr;
    }
    if (frames == 0)
        return;
    runFrom_ = std::max(settled, range.start);
    const bool isNew = differs(range, position, frames, planes);
    sameFrames_ = isNew ? 0 : sameFrames_ + frames;
    if (isNew) {
        markChanged(range, position, frames);
        takeBeginning();
    } else if (position >= settled + settleFrames_) {
        for (auto& plane : beginning_)
            plane.clear(); // it was the host's fade, if anything
    }
    const bool goesOn = position == next_ && sameFrames_ < restFrames_;
    if (isNew || goesOn || recorded_.touches({position, position + frames}))
        record(position, frames, planes);
    if (!writer_.problem())
        listened_.add({position, position + frames});
}

/** What was heard of a page before it changed is not what it sounds like now. */
void HeardRecorder::markChanged(const CapturedRange& range, std::int64_t position, int frames) {
    for (std::int64_t page = (position - range.start) / stalePageFrames;; ++page) {
        const std::int64_t start = range.start + page * stalePageFrames;
        const Extent extent{start, std::min(start + stalePageFrames, range.start + range.length)};
        if (extent.start >= position + frames || extent.start >= extent.stop)
            return;
        if (changed_.covers(extent))
            continue;
        changed_.add(extent);
        listened_.erase(extent);
        listened_.add({std::max(extent.start, runFrom_), position});
    }
}

void HeardRecorder::holdBeginning(std::int64_t position, int frames, const Planes& planes) {
    if (beginning_[0].empty())
        beginningAt_ = position;
    for (std::size_t c = 0; c < static_cast<std::size_t>(channels_); ++c)
        beginning_[c].insert(beginning_[c].end(), planes[c], planes[c] + frames);
}

void HeardRecorder::takeBeginning() {
    if (beginning_[0].empty())
        return;
    const auto frames = static_cast<int>(beginning_[0].size());
    record(beginningAt_, frames, {beginning_[0].data(), beginning_[1].data()});
    listened_.add({beginningAt_, beginningAt_ + frames});
    for (auto& plane : beginning_)
        plane.clear();
}

void HeardRecorder::record(std::int64_t position, int frames, const Planes& planes) {
    InputStream::Run run;
    run.segment.position = position;
    run.segment.playing = true;
    run.frames = frames;
    writer_.take(run, planes.data());
    recorded_.add({position, position + frames});
    next_ = position + frames;
}

bool HeardRecorder::differs(const CapturedRange& range, std::int64_t position, int frames,
                            const Planes& planes) const noexcept {
    const float* const source = range.source + (position - range.start) * channels_;
    for (int i = 0, at = 0; i < frames; ++i)
        for (std::size_t c = 0; c < static_cast<std::size_t>(channels_); ++c, ++at)
            // As the player compares: what is not a number differs.
            if (!(std::abs(planes[c][i] - source[at]) <= staleTolerance))
                return true;
    return false;
}

Heard HeardRecorder::finish() {
    Heard heard;
    std::swap(heard.listened, listened_);
    recorded_ = changed_ = {};
    next_ = 0;
    heard.map = writer_.finish();
    for (const Piece& piece : heard.map.pieces())
        heard.files.push_back(store_->source(piece.source, piece.sourceFrames, piece.channels));
    return heard;
}

CaptureMap withHeard(const CaptureMap& map, const CaptureMap& heard) {
    CaptureMap result = map;
    for (const Piece& old : map.pieces()) {
        CaptureMap inside = heard;
        inside.erase(INT64_MIN, old.start);
        inside.erase(old.stop(), INT64_MAX);
        for (Piece piece : inside.pieces()) {
            piece.hardStart = old.hardStart && piece.start == old.start;
            piece.hardEnd = old.hardEnd && piece.stop() == old.stop();
            result.overlay(piece);
        }
    }
    return result;
}

} // namespace stemline::capture
