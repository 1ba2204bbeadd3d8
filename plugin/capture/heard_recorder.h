// What was heard over captured audio since it was captured: the source changed upstream, and this has the new one.
#pragma once

#include "capture/capture_writer.h"
#include "capture/extents.h"
#include "engine/captured_player.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace stemline::capture {

/// New audio for captured stretches. A value, but for the files that it keeps from deletion.
struct Heard {
    CaptureMap map;     // where it differed
    ExtentSet listened; // what was heard, whether it differed or not; of a stale page only since it is
    std::vector<std::shared_ptr<const MappedFile>> files;

    void overlay(const Heard& later);
    void erase(Extent);
};

/// Compares what plays with what was captured, and records it where it differs, until a second after the last
/// difference; so a track that did not change costs no disk, and one that did at most its captured length.
///
/// Just after a jump hosts fade their tracks, so that is not taken for the track's sound, unless it is where the
/// capture itself begins, which sounded alike: that is taken if what comes next differs.
///
/// One thread, not the audio thread; may wait for the disk.
class HeardRecorder {
  public:
    HeardRecorder(std::shared_ptr<CaptureStore>, double rateHz, int channels);

    /// What plays from now on.
    void compareWith(const CapturedSet&);

    /// What came from the host, in order. Never throws; see `problem`.
    void take(const InputStream::Run&, const float* const* channels) noexcept;

    /// Why nothing more is recorded, for people.
    std::optional<std::string> problem() const { return writer_.problem(); }

    /// Hands the recordings over to the store and begins anew. Throws CaptureError; they are then lost.
    Heard finish();

  private:
    using Planes = std::array<const float*, maxChannels>;

    void takePart(const CapturedRange&, const InputStream::Run&, std::int64_t position, int frames, Planes);
    void markChanged(const CapturedRange&, std::int64_t position, int frames);
    void holdBeginning(std::int64_t position, int frames, const Planes&);
    void takeBeginning();
    void record(std::int64_t position, int frames, const Planes&);
    bool differs(const CapturedRange&, std::int64_t position, int frames, const Planes&) const noexcept;

    const std::shared_ptr<CaptureStore> store_;
    const int channels_;
    const std::int64_t settleFrames_, restFrames_;
    CaptureWriter writer_;
    CapturedSet set_;
    ExtentSet listened_, recorded_, changed_;               // changed_: whole pages
    std::int64_t runFrom_ = 0;                              // since where the present run counts
    std::int64_t next_ = 0;                                 // where the recording under way goes on
    std::int64_t sameFrames_ = 0;                           // how long nothing has differed
    std::array<std::vector<float>, maxChannels> beginning_; // of a capture, until it is known whether it counts
    std::int64_t beginningAt_ = 0;
};

/// The map with what was heard in it, as far as the map reaches. Pieces keep the hard edges of what they replace.
CaptureMap withHeard(const CaptureMap&, const CaptureMap& heard);

} // namespace stemline::capture
