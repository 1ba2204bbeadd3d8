#include "capture/capture_writer.h"

#include "capture/capture_error.h"

#include <algorithm>
#include <system_error>

namespace stemline::capture {

struct CaptureWriter::Recording {
    Recording(std::string itsName, const std::filesystem::path& path, std::int64_t position)
        : name(std::move(itsName)), file(path), start(position) {}

    std::string name;
    OutputFile file;
    client::Sha256 hash; // as the samples come, so that none has to be read again
    Waveform waveform;
    std::int64_t start;
    std::int64_t frames = 0;
};

CaptureWriter::CaptureWriter(std::shared_ptr<CaptureStore> store, int channels, std::int64_t shortest)
    : store_(std::move(store)), channels_(channels), shortest_(shortest) {}

CaptureWriter::~CaptureWriter() = default;

void CaptureWriter::take(const InputStream::Run& run, const float* const* channels) noexcept {
    const std::lock_guard lock(mutex_);
    if (run.frames == 0 || problem_)
        return;
    try {
        const std::int64_t position = run.segment.position + (run.frame - run.segment.firstFrame);
        if (current_ && (!run.segment.playing || position != current_->start + current_->frames))
            end(true);
        if (!run.segment.playing)
            return;
        if (!current_)
            begin(position);
        interleaved_.resize(static_cast<std::size_t>(run.frames) * static_cast<std::size_t>(channels_));
        for (int i = 0, at = 0; i < run.frames; ++i)
            for (int c = 0; c < channels_; ++c, ++at)
                interleaved_[static_cast<std::size_t>(at)] = channels[c][i];
        const std::size_t bytes = interleaved_.size() * sizeof(float);
        current_->file.write(interleaved_.data(), bytes);
        current_->hash.update({reinterpret_cast<const char*>(interleaved_.data()), bytes});
        current_->waveform.add(interleaved_.data(), channels_, run.frames);
        current_->frames += run.frames;
    } catch (const std::exception& error) {
        problem_ = error.what();
        end(false);
    }
}

void CaptureWriter::begin(std::int64_t position) {
    if (workspace_ == nullptr)
        workspace_ = store_->workspace();
    const std::string name = std::to_string(number_++);
    current_ = std::make_shared<Recording>(name, workspace_->folder() / (name + ".f32"), position);
}

void CaptureWriter::end(bool keep) {
    const std::shared_ptr<Recording> ended = std::move(current_);
    current_ = nullptr;
    if (ended == nullptr)
        return;
    if (keep && ended->frames >= shortest_) {
        ended->file.close();
        Piece piece;
        piece.start = ended->start;
        piece.length = piece.sourceFrames = ended->frames;
        piece.channels = channels_;
        piece.source = ended->name;
        map_.overlay(piece);
        recordings_[ended->name] = ended;
    } else {
        std::error_code error;
        std::filesystem::remove(ended->file.path(), error);
    }
    std::erase_if(recordings_, [this](const auto& entry) {
        if (map_.uses(entry.first))
            return false;
        std::error_code error;
        std::filesystem::remove(entry.second->file.path(), error);
        return true;
    });
}

CaptureMap CaptureWriter::mapNow() const {
    CaptureMap map = map_;
    if (current_ && current_->frames > 0) {
        Piece piece;
        piece.start = current_->start;
        piece.length = piece.sourceFrames = current_->frames;
        piece.channels = channels_;
        map.overlay(piece);
    }
    return map;
}

std::vector<CaptureWriter::Extent> CaptureWriter::extents() const {
    const std::lock_guard lock(mutex_);
    const CaptureMap map = mapNow();
    std::vector<Extent> found;
    for (const auto& stretch : map.stretches())
        found.push_back({map.pieces()[stretch.first].start, map.pieces()[stretch.stop - 1].stop()});
    return found;
}

std::int64_t CaptureWriter::frames() const {
    std::int64_t sum = 0;
    for (const Extent& extent : extents())
        sum += extent.stop - extent.start;
    return sum;
}

void CaptureWriter::draw(double first, double framesPerPixel, std::span<Bucket> pixels) const {
    const std::lock_guard lock(mutex_);
    std::fill(pixels.begin(), pixels.end(), Bucket{});
    const CaptureMap map = mapNow();
    for (const Piece& piece : map.pieces()) {
        const Recording& recording = piece.source.empty() ? *current_ : *recordings_.at(piece.source);
        drawPiece(recording.waveform, piece, first, framesPerPixel, pixels);
    }
}

std::optional<std::string> CaptureWriter::problem() const {
    const std::lock_guard lock(mutex_);
    return problem_;
}

CaptureMap CaptureWriter::finish() {
    CaptureMap map;
    std::map<std::string, std::shared_ptr<Recording>> recordings;
    std::shared_ptr<Workspace> workspace;
    {
        const std::lock_guard lock(mutex_);
        end(true);
        std::swap(map, map_);
        std::swap(recordings, recordings_);
        std::swap(workspace, workspace_);
        problem_.reset();
    }
    // From here on without the lock: the disk may take its time, and `take` must not wait for it.
    std::map<std::string, std::string> digests;
    std::vector<std::shared_ptr<const MappedFile>> added; // so that the last ones do not push out the first
    for (const auto& [name, recording] : recordings) {
        syncFile(recording->file.path());
        digests[name] = client::hex(recording->hash.finish());
        added.push_back(store_->addSource(recording->file.path(), digests[name]));
    }
    CaptureMap finished;
    for (Piece piece : map.pieces()) {
        piece.source = digests.at(piece.source);
        finished.append(piece);
    }
    return finished;
}

void CaptureWriter::discard() {
    const std::lock_guard lock(mutex_);
    current_ = nullptr;
    recordings_.clear();
    map_ = {};
    workspace_ = nullptr; // with all its files
    problem_.reset();
}

} // namespace stemline::capture
