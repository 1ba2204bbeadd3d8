#include "processor/instance.h"
#include "engine/latency.h"
#include <chrono>

namespace stemline {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto controlPeriod = 20ms;
constexpr double jitterSeconds = 0.03; // the worker's polling, the way to the server and back, the host's own unrest
constexpr int chunkFrames = 512;
constexpr double offlinePatienceSeconds = 30.0; // without anything coming, while a server is there
constexpr double startPatienceSeconds = 120.0;  // while one is starting or loading its model

int latencyOf(const PlaybackConfig& config) {
    if (config.mode == Mode::captured)
        return LivePlayer::minLatency;
    return planLatency(config.latencySeconds, config.rate, config.maxBlock, jitterSeconds).total;
}

} // namespace

Playback::Playback(const PlaybackConfig& wanted, const client::ServerChoice& server,
                   const client::LiveSettings& settings)
    : config(wanted), latency(wanted.mode == Mode::live ? latencyOf(wanted) : 0) {
    live.prepare(wanted.channels, wanted.maxBlock, latencyOf(wanted), wanted.rate);
    link = std::make_unique<client::LiveLink>(live.input(), live.timeline(), server, settings);
}

Instance::Instance(const Parameters& parameters, LatencyChanged latencyChanged)
    : parameters_(parameters), latencyChanged_(std::move(latencyChanged)),
      thread_([this](const std::stop_token& stop) { control(stop); }) {}

Instance::~Instance() = default;

void Instance::prepare(double rate, int maxBlock, int channels) {
    {
        const std::scoped_lock lock(mutex_);
        config_.rate = rate;
        config_.maxBlock = maxBlock;
        config_.channels = channels;
        prepared_ = true;
        playing_ = false;
        gaveUp_ = false;
        // A new one even if nothing has changed: the delay must not give out what was left in it.
        replacePlayback();
    }
    announceLatency();
}

void Instance::release() {
    const std::scoped_lock lock(mutex_);
    prepared_ = false;
    playing_ = false;
}

void Instance::process(const Transport& transport, const float* const* input, int frames,
                       float* const* stems, float* const* delayed) noexcept {
    playing_.store(transport.playing, std::memory_order_relaxed);
    offline_.store(transport.offline, std::memory_order_relaxed);
    const Handle* handle = slot_.current();
    if (handle == nullptr)
        return;
    Playback& playback = *handle->playback;
    if (transport.offline)
        waitForStems(playback, transport, frames);
    playback.live.process(transport, input, frames, stems, delayed);
}

/** The host renders to a file: it is held until the stems are there, or until it is plain that they will not come. */
void Instance::waitForStems(const Playback& playback, const Transport& transport, int frames) noexcept {
    if (playback.live.readyFor(frames)) {
        gaveUp_ = false;
        return;
    }
    const auto began = Clock::now();
    auto moved = began;
    std::int64_t received = -1;
    while (!gaveUp_ && !playback.live.readyFor(frames)) {
        std::this_thread::sleep_for(1ms);
        const auto status = playback.link->status();
        if (status.statistics.framesReceived != std::exchange(received, status.statistics.framesReceived))
            moved = Clock::now();
        if (hopeless(status, std::chrono::duration<double>(Clock::now() - moved).count()))
            gaveUp_ = true; // and is not waited for block after block
    }
    if (playback.live.readyFor(frames))
        return;
    const std::scoped_lock lock(mutex_);
    if (!incomplete_)
        incomplete_ = IncompleteBounce{transport.position, transport.position};
    incomplete_->stop = transport.position + frames;
}

bool Instance::hopeless(const client::ServerStatus& status, double waitedSeconds) noexcept {
    using State = client::ServerStatus::State;
    switch (status.state) {
    case State::refused:
    case State::untrusted:
        return waitedSeconds > 1.0; // it may be the answer to settings that were replaced a moment ago
    case State::stopped:
        return waitedSeconds > 3.0;
    case State::starting:
    case State::connecting:
    case State::loadingModel:
    case State::lost:
        return waitedSeconds > startPatienceSeconds;
    case State::ready:
    case State::separating:
        return waitedSeconds > offlinePatienceSeconds;
    }
    return true;
}

void Instance::control(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
        std::this_thread::sleep_for(controlPeriod);
        bool changed = false;
        {
            const std::scoped_lock lock(mutex_);
            changed = prepared_ && keepPlayback();
        }
        if (changed)
            announceLatency();
    }
}

/** True if what the host has to be told has changed. */
bool Instance::keepPlayback() {
    slot_.collect();
    if (playback_ == nullptr || playing_.load(std::memory_order_relaxed))
        return false; // settings take effect while stopped
    if (wantedConfig() != playback_->config) {
        const int before = latency_;
        replacePlayback();
        return latency_ != before;
    }
    playback_->link->reconfigure(liveSettings(playback_->config));
    return false;
}

void Instance::replacePlayback() {
    const auto config = wantedConfig();
    playback_ = std::make_shared<Playback>(config, server_, liveSettings(config));
    latency_ = playback_->latency;
    slot_.publish(std::make_unique<const Handle>(Handle{playback_}));
}

void Instance::announceLatency() { latencyChanged_(latency_); }

PlaybackConfig Instance::wantedConfig() const {
    PlaybackConfig config = config_;
    config.mode = parameters_.mode();
    config.latencySeconds = config.mode == Mode::live ? parameters_.latencySeconds() : 0.0;
    return config;
}

client::LiveSettings Instance::liveSettings(const PlaybackConfig& config) const {
    client::LiveSettings settings;
    settings.model = model_;
    settings.refinerSteps = parameters_.refinerSteps();
    settings.seed = parameters_.seed();
    settings.sampleRate = config.rate;
    settings.channels = config.channels;
    settings.askLatency =
        planLatency(config.latencySeconds, config.rate, config.maxBlock, jitterSeconds).askServer;
    settings.chunk = chunkFrames;
    settings.separate = config.mode == Mode::live;
    return settings;
}

void Instance::setModel(const std::string& model) {
    const std::scoped_lock lock(mutex_);
    model_ = model;
}

std::string Instance::model() const {
    const std::scoped_lock lock(mutex_);
    return model_;
}

void Instance::setServer(const client::ServerChoice& server) {
    const std::scoped_lock lock(mutex_);
    server_ = server;
    if (playback_ != nullptr)
        playback_->link->choose(server);
}

client::ServerStatus Instance::status() const {
    const std::scoped_lock lock(mutex_);
    return playback_ != nullptr ? playback_->link->status() : client::ServerStatus{};
}

std::int64_t Instance::lateBlocks() const {
    const std::scoped_lock lock(mutex_);
    return playback_ != nullptr ? playback_->live.counters().lateBlocks.load() : 0;
}

void Instance::tryNow() {
    const std::scoped_lock lock(mutex_);
    if (playback_ != nullptr)
        playback_->link->tryNow();
}

void Instance::restartServer() {
    const std::scoped_lock lock(mutex_);
    if (playback_ != nullptr)
        playback_->link->restartServer();
}

std::optional<IncompleteBounce> Instance::incompleteBounce() const {
    const std::scoped_lock lock(mutex_);
    return incomplete_;
}

} // namespace stemline
