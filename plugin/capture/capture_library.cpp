#include "capture/capture_library.h"

#include "capture/waveforms.h"
#include "client/hashes.h"

#include <algorithm>

namespace stemline::capture {

namespace {

constexpr std::size_t index(Stem stem) { return static_cast<std::size_t>(stem); }

std::size_t pagesOf(std::int64_t frames) {
    return static_cast<std::size_t>((frames + stalePageFrames - 1) / stalePageFrames);
}

PieceState stateOf(bool hasSource, bool hasStems) {
    if (hasStems)
        return hasSource ? PieceState::ready : PieceState::unrepeatable;
    return hasSource ? PieceState::unseparated : PieceState::lost;
}

/// One sample of an interleaved range in as many channels as are asked for.
float sampleAt(const float* samples, std::int64_t frame, int channel, int has, int wants) {
    if (has == 1)
        return samples[frame];
    if (wants == 1)
        return 0.5f * (samples[2 * frame] + samples[2 * frame + 1]);
    return samples[2 * frame + channel];
}

} // namespace

CaptureLibrary::CaptureLibrary(std::shared_ptr<CaptureStore> store, double rateHz, std::shared_ptr<DiskThread> disk)
    : disk_(std::move(disk)), prefetch_(std::make_shared<Prefetch>(rateHz)), waveforms_(std::make_shared<Waveforms>()),
      store_(std::move(store)) {
    disk_->add(prefetch_);
    disk_->add(waveforms_);
}

void CaptureLibrary::use(std::shared_ptr<CaptureStore> store) {
    const std::lock_guard lock(mutex_);
    store_ = std::move(store);
}

std::shared_ptr<CaptureStore> CaptureLibrary::store() const {
    const std::lock_guard lock(mutex_);
    return store_;
}

std::vector<CaptureLibrary::Opened> CaptureLibrary::openPieces(const Capture& capture,
                                                               const std::vector<Opened>& before) const {
    const auto from = store();
    std::vector<Opened> opened;
    for (const Piece& piece : capture.map.pieces()) {
        const auto same =
            std::find_if(before.begin(), before.end(), [&piece](const Opened& other) { return other.piece == piece; });
        if (same != before.end() && same->state == PieceState::ready) {
            opened.push_back(*same); // what is in memory stays there
            continue;
        }
        Opened entry;
        entry.piece = piece;
        // Pieces of one source share its memory, and its open file.
        const auto sibling = std::find_if(opened.begin(), opened.end(), [&piece](const Opened& other) {
            const Piece& its = other.piece;
            return its.source == piece.source && its.stems == piece.stems && its.sourceFrames == piece.sourceFrames &&
                   its.channels == piece.channels;
        });
        if (sibling != opened.end()) {
            entry.source = sibling->source;
            entry.stems = sibling->stems;
        } else {
            entry.source = from->source(piece.source, piece.sourceFrames, piece.channels);
            if (!piece.stems.empty())
                entry.stems = from->stems(piece.stems, piece.sourceFrames, piece.channels);
        }
        entry.state = stateOf(entry.source != nullptr, entry.stems != nullptr);
        entry.stale = same != before.end()
                          ? same->stale
                          : std::make_shared<std::vector<std::atomic<std::uint8_t>>>(pagesOf(piece.length));
        opened.push_back(std::move(entry));
    }
    return opened;
}

std::unique_ptr<CapturedSet> CaptureLibrary::makeSet(const std::vector<Opened>& opened) {
    auto set = std::make_unique<CapturedSet>();
    for (const Opened& entry : opened) {
        if (entry.stems == nullptr)
            continue;
        const Piece& piece = entry.piece;
        const std::int64_t first = piece.offset * piece.channels;
        CapturedRange range;
        range.start = piece.start;
        range.length = piece.length;
        range.channels = piece.channels;
        range.hardStart = piece.hardStart;
        range.hardEnd = piece.hardEnd;
        for (std::size_t stem = 0; stem < numStems; ++stem)
            if (const auto& file = entry.stems->files[stem])
                range.stems[stem] = file->samples() + first;
        range.source = entry.source ? entry.source->samples() + first : nullptr;
        range.stale = entry.stale->data();
        set->ranges.push_back(range);
    }
    set->keep = std::make_shared<std::vector<Opened>>(opened);
    return set;
}

std::unique_ptr<const CapturedSet> CaptureLibrary::open(const Capture& capture) {
    std::vector<Opened> before;
    {
        const std::lock_guard lock(mutex_);
        before = opened_;
    }
    std::vector<Opened> opened = openPieces(capture, before);
    std::unique_ptr<CapturedSet> set = makeSet(opened);
    prefetch_->setRanges(*set);
    const std::lock_guard lock(mutex_);
    opened_ = std::move(opened);
    std::vector<Waveforms::Wanted> sounds;
    for (const Opened& entry : opened_) {
        sounds.push_back({entry.piece.source, entry.source, entry.piece.channels});
        for (std::size_t stem = 0; entry.stems && stem < numStems; ++stem)
            sounds.push_back({entry.piece.stems + stemName(static_cast<Stem>(stem)), entry.stems->files[stem],
                              entry.piece.channels});
    }
    waveforms_->want(std::move(sounds));
    return set;
}

std::unique_ptr<const CapturedSet> CaptureLibrary::peek(const Capture& capture) const {
    return makeSet(openPieces(capture, {}));
}

std::vector<PieceState> CaptureLibrary::states() const {
    const std::lock_guard lock(mutex_);
    std::vector<PieceState> states;
    for (const Opened& entry : opened_)
        states.push_back(entry.state);
    return states;
}

std::vector<Extent> CaptureLibrary::stale() const {
    ExtentSet found;
    for (const Extent& page : stalePages())
        found.add(page);
    return found.all();
}

std::vector<Extent> CaptureLibrary::stalePages() const {
    const std::lock_guard lock(mutex_);
    std::vector<Extent> found;
    for (const Opened& entry : opened_) {
        const Piece& piece = entry.piece;
        for (std::size_t page = 0; page < entry.stale->size(); ++page) {
            // relaxed: a mark for the editor, orders nothing.
            if ((*entry.stale)[page].load(std::memory_order_relaxed) == 0)
                continue;
            const std::int64_t start = piece.start + static_cast<std::int64_t>(page) * stalePageFrames;
            found.push_back({start, std::min(start + stalePageFrames, piece.stop())});
        }
    }
    return found;
}

void CaptureLibrary::forgetStale() {
    const std::lock_guard lock(mutex_);
    for (const Opened& entry : opened_)
        for (auto& page : *entry.stale)
            page.store(0, std::memory_order_relaxed);
}

void CaptureLibrary::markStale(const std::vector<Extent>& extents) {
    const std::lock_guard lock(mutex_);
    for (const Opened& entry : opened_)
        for (const Extent& extent : extents) {
            const std::int64_t start = std::max(extent.start, entry.piece.start) - entry.piece.start;
            const std::int64_t stop = std::min(extent.stop, entry.piece.stop()) - entry.piece.start;
            for (std::int64_t page = start / stalePageFrames; start < stop && page * stalePageFrames < stop; ++page)
                (*entry.stale)[static_cast<std::size_t>(page)].store(1, std::memory_order_relaxed);
        }
}

bool CaptureLibrary::draw(std::optional<Stem> stem, double first, double framesPerPixel,
                          std::span<Bucket> pixels) const {
    std::fill(pixels.begin(), pixels.end(), Bucket{});
    const std::lock_guard lock(mutex_);
    bool whole = true;
    for (const Opened& entry : opened_) {
        const bool there = stem ? entry.stems && entry.stems->files[index(*stem)] : entry.source != nullptr;
        if (!there)
            continue;
        const auto waveform = waveforms_->find(stem ? entry.piece.stems + stemName(*stem) : entry.piece.source);
        if (waveform)
            drawPiece(*waveform, entry.piece, first, framesPerPixel, pixels);
        whole = whole && waveform;
    }
    return whole;
}

CaptureMap joinSources(CaptureStore& store, const CaptureMap& map) {
    CaptureMap joined;
    const std::vector<Piece>& pieces = map.pieces();
    for (const auto& stretch : map.stretches()) {
        const std::span<const Piece> parts(pieces.data() + stretch.first, stretch.stop - stretch.first);
        std::vector<std::shared_ptr<const MappedFile>> sources;
        for (const Piece& part : parts)
            sources.push_back(store.source(part.source, part.sourceFrames, part.channels));
        const bool done = std::all_of(parts.begin(), parts.end(), [](const Piece& p) { return !p.stems.empty(); });
        if (parts.size() == 1 || done || std::count(sources.begin(), sources.end(), nullptr) > 0) {
            for (const Piece& part : parts)
                joined.append(part);
            continue;
        }
        Piece whole;
        whole.start = parts.front().start;
        whole.length = whole.sourceFrames = parts.back().stop() - whole.start;
        whole.channels = parts.front().channels;
        whole.hardStart = parts.front().hardStart;
        whole.hardEnd = parts.back().hardEnd;
        const std::unique_ptr<Workspace> workspace = store.workspace();
        OutputFile file(workspace->folder() / "joined.f32");
        client::Sha256 hash;
        for (std::size_t i = 0; i < parts.size(); ++i) {
            const float* const samples = sources[i]->samples() + parts[i].offset * parts[i].channels;
            const auto bytes = static_cast<std::size_t>(parts[i].length * parts[i].channels) * sizeof(float);
            file.write(samples, bytes);
            hash.update({reinterpret_cast<const char*>(samples), bytes});
        }
        file.finish();
        whole.source = client::hex(hash.finish());
        store.addSource(file.path(), whole.source);
        joined.append(whole);
    }
    return joined;
}

void readStem(const CapturedSet& set, Stem stem, std::int64_t position, int frames, int channels, float* interleaved) {
    std::fill_n(interleaved, static_cast<std::ptrdiff_t>(frames) * channels, 0.0f);
    for (const CapturedRange& range : set.ranges) {
        const float* const samples = range.stems[index(stem)];
        const std::int64_t start = std::max(position, range.start);
        const std::int64_t stop = std::min(position + frames, range.start + range.length);
        for (std::int64_t at = start; samples != nullptr && at < stop; ++at)
            for (int c = 0; c < channels; ++c)
                interleaved[(at - position) * channels + c] =
                    sampleAt(samples, at - range.start, c, range.channels, channels);
    }
}

} // namespace stemline::capture
