// Captured stems come from mapped files: this sees to it that the audio thread finds them in memory.
#pragma once

#include "capture/disk_thread.h"
#include "engine/captured_player.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace stemline::capture {

/// Touches what lies around the playhead every tick, far enough ahead for a disk that sleeps, and in between, piece by
/// piece, everything else, so that jumps find it too. Turns are taken on the disk thread.
class Prefetch final : public DiskThread::Regular {
  public:
    static constexpr double behindSeconds = 0.5, aheadSeconds = 8.0;

    explicit Prefetch(double rateHz) : rateHz_(rateHz) {}

    /// Owner: what may play from now on. What is around the playhead is in memory when this returns.
    void setRanges(const CapturedSet&);
    void clear();

    /// Audio thread, once a block.
    void playhead(std::int64_t position) noexcept { position_.store(position, std::memory_order_relaxed); }

    void turn() noexcept override;

  private:
    static constexpr int refreshTurns = 40;                         // memory that nobody touches is given to others
    static constexpr std::size_t bytesATurn = std::size_t{8} << 20; // of the rest
    static constexpr std::size_t mostBytes = std::size_t{1} << 30;

    void touchRange(const CapturedRange&, std::int64_t start, std::int64_t stop) const noexcept;
    void touchSpan(std::int64_t start, std::int64_t stop) const noexcept;
    void touchAround() noexcept;
    void touchSomeMore() noexcept;

    const double rateHz_;
    std::atomic<std::int64_t> position_{0}; // relaxed everywhere: a hint
    std::mutex mutex_;                      // owner and disk thread
    std::vector<CapturedRange> ranges_;
    std::shared_ptr<const void> keep_;
    std::int64_t touchedFrom_ = 0, touchedTo_ = 0; // around the playhead
    int turns_ = 0;
    std::size_t range_ = 0; // how far the rest has been touched
    std::int64_t offset_ = 0;
    std::size_t bytes_ = 0;
};

} // namespace stemline::capture
