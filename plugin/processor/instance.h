#pragma once
// All that one plugin instance runs besides drawing: what the audio thread plays, and a control thread that keeps it.

#include "client/live_link.h"
#include "client/model_download.h"
#include "engine/captured_player.h"
#include "engine/live_player.h"
#include "engine/snapshot.h"
#include "engine/transport_follower.h"
#include "processor/captures.h"
#include "processor/parameters.h"
#include "processor/user_settings.h"
#include <mutex>
#include <thread>

namespace stemline {

/** What a Playback is made for. Where any of it changes, another one is made. */
struct PlaybackConfig {
    Mode mode = Mode::live;
    double rate = 44100.0;
    int maxBlock = 512;
    int channels = 2;
    double latencySeconds = 0.0; // Live
    bool offline = false;        // the host waits, so the server need not hurry

    bool operator==(const PlaybackConfig&) const = default;
};

/** What processBlock runs for one configuration: made and destroyed on the control thread, used by the audio thread. */
struct Playback {
    Playback(const PlaybackConfig&, const client::ServerChoice&, const client::LiveSettings&);

    const PlaybackConfig config;
    const int latency;
    LivePlayer live;
    CapturedPlayer captured;
    InputStream recorder; // Captured: what is played, on its way to the control thread
    TransportFollower follower;
    std::unique_ptr<client::LiveLink> link; // after what it refers to, so that it ends first
};

/** A stretch of a bounce that had to be heard dry, in frames of the host's timeline. */
struct IncompleteBounce {
    std::int64_t start = 0, stop = 0;
};

class Instance {
  public:
    using LatencyChanged = std::function<void(int)>;

    Instance(const Parameters&, LatencyChanged);
    ~Instance();

    /** The host's main thread, while no block is processed. Never waits for a server. */
    void prepare(double rate, int maxBlock, int channels, bool offline);
    void release();
    /** The same thread, after parameters were set from a project: hosts ask for the latency at once. */
    void settle();
    int latency() const noexcept { return latency_; }

    /** Audio thread. Fills all seven stems and the delayed input; only while `offline` may it wait, for the server. */
    void process(const Transport&, const float* const* input, int frames, float* const* stems,
                 float* const* delayed) noexcept;

    /** Any thread but the audio thread. */
    void setModel(const std::string&);
    std::string model() const;
    void setServer(const client::ServerChoice&);
    client::ServerStatus status() const;
    std::int64_t lateBlocks() const;
    void tryNow();
    void restartServer();
    std::optional<IncompleteBounce> incompleteBounce() const;
    void dismissIncompleteBounce();
    /** Captured mode is not only chosen: a Live that plays goes on until the transport stops. */
    bool capturedRuns() const;
    /** Has the server fetch a model, which is then used where it is chosen. Goes on while no editor is open. */
    void getModel(const std::string& name);
    void cancelDownload() { download_.cancel(); }
    client::ModelDownload::Status download() const { return download_.status(); }

    Captures captures{[] {
        const auto settings = UserSettings::load();
        return StoreChoice{settings.storeFolders(), settings.cacheCapBytes()};
    }};

  private:
    void control(const std::stop_token&);
    void keepPlayback();
    void replacePlayback(const PlaybackConfig&);
    void tellLatency();
    std::shared_ptr<Playback> newest() const;
    PlaybackConfig wantedConfig() const;
    client::LiveSettings liveSettings(const PlaybackConfig&) const;
    SeparationSettings separationSettings(const Playback&) const;
    void processCaptured(Playback&, const Transport&, const float* const* input, int frames, float* const* stems,
                         float* const* delayed) noexcept;
    Playback* waitForOfflinePlayback(Playback*) noexcept;
    void waitForStems(const Playback&, const Transport&, int frames) noexcept;
    void waitForCaptures(const Playback&, const Transport&, int frames) noexcept;
    void noteIncomplete(const Transport&, int frames) noexcept;
    static bool hopeless(const client::ServerStatus&, double waitedSeconds) noexcept;

    const Parameters& parameters_;
    const LatencyChanged latencyChanged_;
    std::mutex keeping_; // held by whoever makes and destroys playbacks, which may take a second: control or host
    bool prepared_ = false;
    std::vector<std::shared_ptr<Playback>> made_; // each ends here, not where somebody happened to look at it last

    mutable std::mutex mutex_;           // held for moments only, as by the message thread
    std::shared_ptr<Playback> playback_; // the newest
    PlaybackConfig config_;
    std::string model_;
    client::ServerChoice server_;
    std::optional<IncompleteBounce> incomplete_;

    struct Handle {
        std::shared_ptr<Playback> playback;
    };
    SnapshotSlot<Handle> slot_;
    std::atomic<int> latency_{0}, toldLatency_{0};
    std::atomic<bool> playing_{false}, offline_{false};
    std::atomic<bool> gaveUp_{false};
    client::ModelDownload download_{[this] { tryNow(); }};
    std::jthread thread_; // last: it uses all of the above
};

} // namespace stemline
