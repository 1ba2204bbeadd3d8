#include "processor/instance.h"
#include "engine/latency.h"
#include <chrono>

namespace stemline {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto controlPeriod = 20ms;
constexpr double jitterSeconds = 0.03; // the worker's polling, the way to the server and back, the host's own unrest
constexpr double recorderSeconds = 20.0;        // the control thread may be at the disk for so long
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
    : config(wanted), latency(wanted.mode == Mode::live ? latencyOf(wanted) : 0),
      recorder(wanted.mode == Mode::captured ? static_cast<int>(recorderSeconds * wanted.rate) : 1, wanted.channels) {
    captured.prepare(wanted.channels, wanted.rate);
    live.prepare(wanted.channels, wanted.maxBlock, latencyOf(wanted), wanted.rate);
    link = std::make_unique<client::LiveLink>(live.input(), live.timeline(), server, settings);
}

Instance::Instance(const Parameters& parameters, LatencyChanged latencyChanged)
    : parameters_(parameters), latencyChanged_(std::move(latencyChanged)),
      thread_([this](const std::stop_token& stop) { control(stop); }) {}

Instance::~Instance() = default;

void Instance::prepare(double rate, int maxBlock, int channels, bool offline) {
    {
        const std::scoped_lock keeping(keeping_);
        {
            const std::scoped_lock lock(mutex_);
            config_.rate = rate;
            config_.maxBlock = maxBlock;
            config_.channels = channels;
            incomplete_.reset();
        }
        prepared_ = true;
        playing_ = false;
        gaveUp_ = false;
        offline_ = offline;
        captures.prepare(rate, channels);
        // A new one even if nothing has changed: the delay must not give out what was left in it.
        replacePlayback(wantedConfig());
    }
    tellLatency();
}

void Instance::settle() {
    {
        const std::scoped_lock keeping(keeping_);
        if (prepared_)
            keepPlayback();
    }
    tellLatency();
}

/** Without a lock: the host may prepare us anew before it returns. */
void Instance::tellLatency() {
    const int latency = latency_;
    if (toldLatency_.exchange(latency) != latency)
        latencyChanged_(latency);
}

void Instance::release() {
    const std::scoped_lock keeping(keeping_);
    prepared_ = false;
    playing_ = false;
}

void Instance::process(const Transport& transport, const float* const* input, int frames, float* const* stems,
                       float* const* delayed) noexcept {
    playing_.store(transport.playing, std::memory_order_relaxed);
    offline_.store(transport.offline, std::memory_order_relaxed);
    const Handle* handle = slot_.current();
    Playback* playback = handle != nullptr ? handle->playback.get() : nullptr;
    if (transport.offline)
        playback = waitForOfflinePlayback(playback);
    if (playback == nullptr)
        return;
    if (playback->config.mode == Mode::captured) {
        processCaptured(*playback, transport, input, frames, stems, delayed);
        return;
    }
    if (transport.offline)
        waitForStems(*playback, transport, frames);
    playback->live.process(transport, input, frames, stems, delayed);
}

void Instance::processCaptured(Playback& playback, const Transport& transport, const float* const* input, int frames,
                               float* const* stems, float* const* delayed) noexcept {
    if (transport.offline && transport.playing)
        waitForCaptures(playback, transport, frames);
    if (playback.follower.begins(transport, frames))
        playback.recorder.beginSegment(playback.follower.position(), playback.follower.playing());
    playback.recorder.write(input, frames);
    captures.playhead(transport.position);
    playback.captured.process(transport, captures.current(), input, frames, stems, delayed);
}

/** The first offline block after real time: the stream starts anew, so that what is rendered does not depend on what
   was heard before. */
Playback* Instance::waitForOfflinePlayback(Playback* playback) noexcept {
    for (int tries = 0; tries < 2000 && (playback == nullptr || !playback->config.offline); ++tries) {
        std::this_thread::sleep_for(1ms);
        if (const Handle* handle = slot_.current())
            playback = handle->playback.get();
    }
    return playback;
}

/** The host renders to a file: it is held until the stems are there, or until it is plain that they will not come. */
void Instance::waitForStems(const Playback& playback, const Transport& transport, int frames) noexcept {
    if (playback.live.readyFor(frames)) {
        gaveUp_ = false;
        return;
    }
    auto moved = Clock::now();
    std::int64_t received = -1;
    for (int tries = 1; !gaveUp_ && !playback.live.readyFor(frames); ++tries) {
        std::this_thread::sleep_for(500us);
        if (tries % 100 != 0)
            continue;
        const auto status = playback.link->status();
        if (status.statistics.framesReceived != std::exchange(received, status.statistics.framesReceived))
            moved = Clock::now();
        if (hopeless(status, std::chrono::duration<double>(Clock::now() - moved).count()))
            gaveUp_ = true; // and is not waited for block after block
    }
    if (!playback.live.readyFor(frames))
        noteIncomplete(transport, frames);
}

/** What was captured but is not separated, as after the store was emptied, is separated now. */
void Instance::waitForCaptures(const Playback& playback, const Transport& transport, int frames) noexcept {
    while (playback.recorder.room() < frames)
        std::this_thread::sleep_for(1ms);
    if (captures.settled()) {
        gaveUp_ = false;
        return;
    }
    auto moved = Clock::now();
    double fraction = -1.0;
    while (!gaveUp_ && !captures.settled()) {
        std::this_thread::sleep_for(5ms);
        const double now = captures.status().fraction;
        if (now != std::exchange(fraction, now))
            moved = Clock::now();
        if (std::chrono::duration<double>(Clock::now() - moved).count() > startPatienceSeconds)
            gaveUp_ = true;
    }
    if (!captures.settled())
        noteIncomplete(transport, frames);
}

void Instance::noteIncomplete(const Transport& transport, int frames) noexcept {
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
        std::shared_ptr<Playback> playback;
        {
            const std::scoped_lock keeping(keeping_);
            if (prepared_)
                keepPlayback();
            slot_.collect();
            std::erase_if(made_, [](const auto& made) { return made.use_count() == 1; });
            if (prepared_)
                playback = newest();
        }
        tellLatency();
        if (playback != nullptr)
            captures.turn(playback->recorder, separationSettings(*playback));
    }
}

/** Settings take effect while the transport is stopped; only a host that begins to wait, or no longer does, is heeded
   at once. */
void Instance::keepPlayback() {
    const auto playback = newest();
    const auto config = wantedConfig();
    if (playing_.load(std::memory_order_relaxed) && config.offline == playback->config.offline)
        return;
    if (config != playback->config)
        replacePlayback(config);
    else
        playback->link->reconfigure(liveSettings(config));
}

SeparationSettings Instance::separationSettings(const Playback& playback) const {
    const auto status = playback.link->status();
    SeparationSettings settings;
    {
        const std::scoped_lock lock(mutex_);
        settings.server = server_;
        settings.model = model_;
    }
    if (settings.model.empty())
        settings.model = status.defaultModel;
    for (const auto& model : status.models)
        if (model.name == settings.model)
            settings.weightsSha256 = model.weightsSha256;
    settings.refinerSteps = parameters_.refinerSteps();
    settings.seed = parameters_.seed();
    return settings;
}

void Instance::replacePlayback(const PlaybackConfig& config) {
    client::ServerChoice server;
    {
        const std::scoped_lock lock(mutex_);
        server = server_;
    }
    auto playback = made_.emplace_back(std::make_shared<Playback>(config, server, liveSettings(config)));
    {
        const std::scoped_lock lock(mutex_);
        playback_ = playback;
    }
    slot_.publish(std::make_unique<const Handle>(Handle{playback}));
    latency_ = playback->latency;
}

std::shared_ptr<Playback> Instance::newest() const {
    const std::scoped_lock lock(mutex_);
    return playback_;
}

PlaybackConfig Instance::wantedConfig() const {
    const std::scoped_lock lock(mutex_);
    PlaybackConfig config = config_;
    config.mode = parameters_.mode();
    config.offline = offline_;
    config.latencySeconds = config.mode == Mode::live ? parameters_.latencySeconds() : 0.0;
    return config;
}

client::LiveSettings Instance::liveSettings(const PlaybackConfig& config) const {
    client::LiveSettings settings;
    settings.model = model();
    settings.refinerSteps = parameters_.refinerSteps();
    settings.seed = parameters_.seed();
    settings.sampleRate = config.rate;
    settings.channels = config.channels;
    const LatencyPlan plan = planLatency(config.latencySeconds, config.rate, config.maxBlock, jitterSeconds);
    settings.askLatency = plan.askServer;
    settings.chunk = plan.chunk;
    settings.offline = config.offline;
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
    {
        const std::scoped_lock lock(mutex_);
        server_ = server;
    }
    if (const auto playback = newest())
        playback->link->choose(server);
}

client::ServerStatus Instance::status() const {
    const auto playback = newest();
    return playback != nullptr ? playback->link->status() : client::ServerStatus{};
}

std::int64_t Instance::lateBlocks() const {
    const auto playback = newest();
    return playback != nullptr ? playback->live.counters().lateBlocks.load() : 0;
}

void Instance::tryNow() {
    if (const auto playback = newest())
        playback->link->tryNow();
}

void Instance::restartServer() {
    if (const auto playback = newest())
        playback->link->restartServer();
}

void Instance::getModel(const std::string& name) {
    client::ServerChoice server;
    {
        const std::scoped_lock lock(mutex_);
        server = server_;
    }
    download_.start(server, name);
}

void Instance::dismissIncompleteBounce() {
    const std::scoped_lock lock(mutex_);
    incomplete_.reset();
}

bool Instance::capturedRuns() const {
    const auto playback = newest();
    return playback != nullptr && playback->config.mode == Mode::captured;
}

std::optional<IncompleteBounce> Instance::incompleteBounce() const {
    const std::scoped_lock lock(mutex_);
    return incomplete_;
}

} // namespace stemline
