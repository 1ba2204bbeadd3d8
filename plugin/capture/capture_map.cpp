#include "capture/capture_map.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace stemline::capture {

namespace {

/// What of a piece lies in [start, stop), which must not be empty.
Piece cut(Piece piece, std::int64_t start, std::int64_t stop) {
    if (start > piece.start) {
        piece.offset += start - piece.start;
        piece.length -= start - piece.start;
        piece.start = start;
        piece.hardStart = false;
    }
    if (stop < piece.stop()) {
        piece.length = stop - piece.start;
        piece.hardEnd = false;
    }
    return piece;
}

} // namespace

void CaptureMap::erase(std::int64_t start, std::int64_t stop) {
    std::vector<Piece> kept;
    kept.reserve(pieces_.size() + 1);
    for (const Piece& piece : pieces_) {
        if (piece.start < start)
            kept.push_back(cut(piece, piece.start, std::min(piece.stop(), start)));
        if (piece.stop() > stop)
            kept.push_back(cut(piece, std::max(piece.start, stop), piece.stop()));
    }
    pieces_ = std::move(kept);
}

void CaptureMap::overlay(const Piece& piece) {
    if (piece.length <= 0)
        return;
    erase(piece.start, piece.stop());
    const auto behind = std::find_if(pieces_.begin(), pieces_.end(),
                                     [&piece](const Piece& other) { return other.start >= piece.stop(); });
    pieces_.insert(behind, piece);
}

void CaptureMap::append(const Piece& piece) {
    assert(piece.length > 0 && (pieces_.empty() || pieces_.back().stop() <= piece.start));
    pieces_.push_back(piece);
}

void CaptureMap::overlay(const CaptureMap& map) {
    for (const Piece& piece : map.pieces_)
        overlay(piece);
}

bool CaptureMap::setStems(const std::string& source, const std::string& key) {
    bool found = false;
    for (Piece& piece : pieces_)
        if (piece.source == source) {
            piece.stems = key;
            found = true;
        }
    return found;
}

bool CaptureMap::uses(const std::string& source) const noexcept {
    return std::any_of(pieces_.begin(), pieces_.end(),
                       [&source](const Piece& piece) { return piece.source == source; });
}

std::vector<CaptureMap::Stretch> CaptureMap::stretches() const {
    std::vector<Stretch> found;
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
        const bool joins =
            i > 0 && pieces_[i - 1].stop() == pieces_[i].start && pieces_[i - 1].channels == pieces_[i].channels;
        if (!joins)
            found.push_back({i, i});
        found.back().stop = i + 1;
    }
    return found;
}

} // namespace stemline::capture
