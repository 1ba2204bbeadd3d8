// Records what the host plays, by its place on the timeline.
#pragma once

#include "capture/capture_map.h"
#include "capture/capture_store.h"
#include "capture/extents.h"
#include "capture/waveform.h"
#include "client/hashes.h"
#include "engine/input_stream.h"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace stemline::capture {

/// From blocks to source objects. A segment is an unbroken run of positions while the transport plays and goes to a
/// file of its own; where segments overlap, the last one wins, and files nothing of which is left go at once.
///
/// `take` belongs to the worker that empties the InputStream; the rest to any thread but the audio thread. `finish` may
/// take as long as the disk does, and what `take` is given meanwhile is recorded into the next capture.
class CaptureWriter {
  public:
    /// Segments shorter than this are the stutter of a host that looks for its place, and are forgotten.
    static constexpr std::int64_t leastFrames = 512;

    CaptureWriter(std::shared_ptr<CaptureStore>, int channels, std::int64_t shortest = leastFrames);
    ~CaptureWriter();

    /// Ignores what does not play. After a failure nothing is taken until `finish` or `discard`. Never throws.
    void take(const InputStream::Run&, const float* const* channels) noexcept;

    using Extent = capture::Extent;
    /// What there is so far, in order, what touches joined.
    std::vector<Extent> extents() const;
    std::int64_t frames() const;
    /// Of what there is so far, from host position `first` on.
    void draw(double first, double framesPerPixel, std::span<Bucket> pixels) const;
    /// Why nothing more is recorded, for people.
    std::optional<std::string> problem() const;

    /// Hands the files over to the store and begins anew. Every piece is the part of a source that was not recorded
    /// over later. Throws CaptureError; what was recorded is then lost.
    CaptureMap finish();
    /// Begins anew, without what there is.
    void discard();

  private:
    struct Recording; // one segment

    void end(bool keep);
    CaptureMap mapNow() const;
    void begin(std::int64_t position);

    const std::shared_ptr<CaptureStore> store_;
    const int channels_;
    const std::int64_t shortest_;
    mutable std::mutex mutex_;
    std::shared_ptr<Workspace> workspace_;                         // made with the first segment
    std::map<std::string, std::shared_ptr<Recording>> recordings_; // ended ones by the name in their pieces' `source`
    CaptureMap map_;                                               // of ended ones
    std::shared_ptr<Recording> current_;
    std::int64_t number_ = 0;
    std::optional<std::string> problem_;
    std::vector<float> interleaved_;
};

} // namespace stemline::capture
