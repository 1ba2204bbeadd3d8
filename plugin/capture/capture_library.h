// An instance's captures, ready to be played, drawn and exported.
#pragma once

#include "capture/capture_map.h"
#include "capture/capture_store.h"
#include "capture/disk_thread.h"
#include "capture/extents.h"
#include "capture/prefetch.h"
#include "capture/waveform.h"
#include "engine/captured_player.h"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace stemline::capture {

/// What became of a piece of a Capture. `unseparated`: its stems can be made from its source. `unrepeatable`: it plays,
/// but its source has gone. `lost`: both have gone.
enum class PieceState { ready, unseparated, unrepeatable, lost };

/// Puts a Capture and a store together. Any thread but the audio thread, except where noted; `open` waits for the disk.
class CaptureLibrary {
  public:
    CaptureLibrary(std::shared_ptr<CaptureStore>, double rateHz, std::shared_ptr<DiskThread> = DiskThread::shared());

    /// Where things are looked for from the next `open` on; what is open stays so.
    void use(std::shared_ptr<CaptureStore>);

    /// What plays from now on, for the audio thread; what lies around the playhead is in memory when this returns.
    /// Pieces without stems are not in it. Marks of stale pages stay where a piece stays as it was.
    std::unique_ptr<const CapturedSet> open(const Capture&);

    /// The same without effect on what is drawn and kept in memory: for exports.
    std::unique_ptr<const CapturedSet> peek(const Capture&) const;

    /// One for each piece of the Capture that was opened last.
    std::vector<PieceState> states() const;

    using Extent = capture::Extent;
    /// Where the player heard something else than what was captured: whole pages, what touches joined.
    std::vector<Extent> stale() const;
    /// The same, page by page.
    std::vector<Extent> stalePages() const;
    void forgetStale();
    /// Marks every page that one of them touches.
    void markStale(const std::vector<Extent>&);

    /// Audio thread, once a block.
    void playhead(std::int64_t position) noexcept { prefetch_->playhead(position); }

    /// Of a stem, or of the source, from host position `first` on; silence where there is nothing or it was not
    /// looked at yet. False in the second case: ask again.
    bool draw(std::optional<Stem>, double first, double framesPerPixel, std::span<Bucket> pixels) const;

  private:
    struct Opened {
        Piece piece;
        PieceState state = PieceState::lost;
        std::shared_ptr<const MappedFile> source;
        std::shared_ptr<const StoredStems> stems;
        std::shared_ptr<std::vector<std::atomic<std::uint8_t>>> stale;
    };
    class Waveforms;

    std::vector<Opened> openPieces(const Capture&, const std::vector<Opened>& before) const;
    static std::unique_ptr<CapturedSet> makeSet(const std::vector<Opened>&);

    std::shared_ptr<CaptureStore> store() const;

    const std::shared_ptr<DiskThread> disk_;
    const std::shared_ptr<Prefetch> prefetch_;
    const std::shared_ptr<Waveforms> waveforms_;
    mutable std::mutex mutex_;
    std::shared_ptr<CaptureStore> store_;
    std::vector<Opened> opened_;
};

/// A map in which every unbroken stretch with something unseparated in it is one piece of one new source, so that its
/// stems have no seams. Stretches with a lost source stay as they are. Waits for the disk; throws CaptureError.
CaptureMap joinSources(CaptureStore&, const CaptureMap&);

/// Interleaved frames of a stem as it was stored; silence where nothing is captured.
void readStem(const CapturedSet&, Stem, std::int64_t position, int frames, int channels, float* interleaved);

} // namespace stemline::capture
