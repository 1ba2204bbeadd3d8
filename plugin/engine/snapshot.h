#pragma once

#include <atomic>
#include <memory>
#include <utility>

namespace stemline {

/// Hands immutable objects from one owner thread to the audio thread without locks; what the audio thread no longer
/// uses comes back to the owner, who deletes it.
///
/// The audio thread calls `current` once a block. What it returned before stays alive until the next call of `current`,
/// so that a player can fade it out. As long as what came back was not collected, no new object is taken: the owner
/// calls `collect` now and then (a timer); `publish` does too.
template <class T> class SnapshotSlot {
  public:
    SnapshotSlot() = default;
    SnapshotSlot(const SnapshotSlot&) = delete;
    SnapshotSlot& operator=(const SnapshotSlot&) = delete;

    /// No thread may be using it any more.
    ~SnapshotSlot() {
        delete incoming_.load(std::memory_order_acquire);
        delete retired_.load(std::memory_order_acquire);
        delete previous_;
        delete current_;
    }

    /// Owner. May be null: nothing to play from now on. One that the audio thread never saw is deleted right here.
    void publish(std::unique_ptr<const T> next) {
        collect();
        auto node = std::make_unique<Node>(Node{std::move(next)});
        // acq_rel: the audio thread sees the object finished; we see an untaken one as we left it.
        delete incoming_.exchange(node.release(), std::memory_order_acq_rel);
    }

    /// Owner: deletes what came back.
    void collect() {
        // acquire: the audio thread's last look at it lies before the deletion.
        delete retired_.exchange(nullptr, std::memory_order_acquire);
    }

    /// Audio thread. Null before the first `publish`.
    const T* current() noexcept {
        // acquire: the owner's deletion of the last one lies before; only we fill it, so empty stays empty.
        if (previous_ != nullptr && retired_.load(std::memory_order_acquire) == nullptr)
            // release: our reads of it lie before the owner's deletion.
            retired_.store(std::exchange(previous_, nullptr), std::memory_order_release);
        if (previous_ == nullptr)
            // acquire: the object is as finished as it was published.
            if (Node* next = incoming_.exchange(nullptr, std::memory_order_acquire))
                previous_ = std::exchange(current_, next);
        return current_ != nullptr ? current_->object.get() : nullptr;
    }

  private:
    struct Node {
        std::unique_ptr<const T> object;
    };
    static_assert(std::atomic<Node*>::is_always_lock_free);

    std::atomic<Node*> incoming_{nullptr}; // owner -> audio
    std::atomic<Node*> retired_{nullptr};  // audio -> owner
    Node* current_ = nullptr;              // audio thread's own
    Node* previous_ = nullptr;             // audio thread's own
};

} // namespace stemline
