// Waveforms of stored sounds, made once each.
#pragma once

#include "capture/capture_library.h"

#include <map>

namespace stemline::capture {

/// Makes what is wanted, a little every tick, on the disk thread; the rest from any thread but the audio thread.
class CaptureLibrary::Waveforms final : public DiskThread::Regular {
  public:
    struct Wanted {
        std::string name;                       // the same name, the same samples
        std::shared_ptr<const MappedFile> file; // null: nothing
        int channels = 2;
    };

    /// Instead of what was wanted before.
    void want(std::vector<Wanted>);
    /// Null if it is not made yet.
    std::shared_ptr<const Waveform> find(const std::string& name) const;

    void turn() noexcept override;

  private:
    static constexpr std::int64_t framesATurn = 1 << 20;

    mutable std::mutex mutex_;
    std::map<std::string, std::shared_ptr<const Waveform>> made_;
    std::vector<Wanted> wanted_; // those that are not made
    // Disk thread's own.
    std::string name_; // of the one that is being made
    std::shared_ptr<Waveform> making_;
};

} // namespace stemline::capture
