#include "client/live_link.h"

#include "client/connector.h"
#include "client/live_session.h"
#include "client/local_server.h"
#include "client/verdict.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <thread>

namespace stemline::client {

using namespace std::chrono_literals;
using State = ServerStatus::State;

namespace {

constexpr auto pollInterval = 2ms;
constexpr auto lookInterval = 100ms; // for a new server's record while waiting
constexpr auto refreshInterval = 10s;
constexpr auto activeTime = 1s;

LiveSettings sane(LiveSettings settings) {
    settings.chunk = std::clamp(settings.chunk, 32, 1 << 16);
    settings.channels = std::clamp(settings.channels, 1, maxChannels);
    settings.sampleRate = std::max(settings.sampleRate, 1.0);
    return settings;
}

} // namespace

/// Everything of a link. The worker thread runs `run`; what other threads ask for waits under the mutex until it looks.
class LiveLink::Worker {
  public:
    Worker(InputStream& input, StemTimeline& timeline, ServerChoice choice, LiveSettings settings)
        : timeline_(timeline), chunks_(input), choice_(std::move(choice)), settings_(sane(std::move(settings))) {
        thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
    }

    void reconfigure(LiveSettings settings) {
        const std::scoped_lock lock(mutex_);
        asked_.settings = sane(std::move(settings));
    }

    void choose(ServerChoice choice) {
        const std::scoped_lock lock(mutex_);
        asked_.choice = std::move(choice);
    }

    void tryNow(bool restart) {
        const std::scoped_lock lock(mutex_);
        asked_.now = true;
        asked_.restart = asked_.restart || restart;
    }

    ServerStatus status() const {
        const std::scoped_lock lock(mutex_);
        ServerStatus status = status_;
        const auto now = Clock::now();
        if (status.state == State::ready && lastStems_ && now - *lastStems_ < activeTime)
            status.state = State::separating;
        status.secondsToNextTry = std::max(0.0, std::chrono::duration<double>(nextTry_ - now).count());
        return status;
    }

    void stop() {
        const std::scoped_lock lock(stopping_);
        thread_.request_stop();
        if (thread_.joinable())
            thread_.join();
    }

  private:
    struct Asked {
        std::optional<LiveSettings> settings;
        std::optional<ServerChoice> choice;
        bool now = false;
        bool restart = false;
    };

    void run(std::stop_token stop);
    void takeWhatWasAsked();
    void connectStep();
    void connected(Connector::Result);
    void idleStep();
    void sessionStep();
    void sessionOver();
    void refreshStep();
    void failed(const Problem&);
    bool newServerIsThere();
    void drain();
    void publish();
    template <class Change> void show(Change change) {
        const std::scoped_lock lock(mutex_);
        change(status_);
    }

    // Worker's own.
    StemTimeline& timeline_;
    ChunkReader chunks_;
    ServerChoice choice_;
    LiveSettings settings_;
    Connector connector_;
    std::shared_ptr<Connection> connection_;
    std::unique_ptr<LiveSession> session_;
    LiveStatistics statistics_;
    std::optional<bool> mayStart_; // what a user or a shutdown said; absent: as the choice says
    bool restart_ = false;
    bool wasReady_ = false; // since the link was made
    bool sessionWasReady_ = false;
    bool waitingForRefused_ = false;
    int tries_ = 0;
    int lastPid_ = 0;
    Clock::time_point dueAt_{}; // the next try
    Clock::time_point lookAt_{};
    Clock::time_point refreshAt_{};

    mutable std::mutex mutex_;
    Asked asked_;
    ServerStatus status_;
    std::optional<Clock::time_point> lastStems_;
    Clock::time_point nextTry_{};

    std::mutex stopping_;
    std::jthread thread_; // last: it uses all of the above
};

void LiveLink::Worker::run(std::stop_token stop) {
    chunks_.configure(settings_.chunk, settings_.sampleRate, settings_.offline);
    while (!stop.stop_requested()) {
        takeWhatWasAsked();
        if (session_)
            sessionStep();
        else if (connection_)
            idleStep();
        else
            connectStep();
        refreshStep();
        publish();
    }
    connector_.cancel();
    session_.reset();
    connection_.reset();
}

void LiveLink::Worker::takeWhatWasAsked() {
    Asked asked;
    {
        const std::scoped_lock lock(mutex_);
        std::swap(asked, asked_);
    }
    if (asked.settings && !(*asked.settings == settings_)) {
        if (session_ && !session_->update(*asked.settings))
            session_->finish();
        settings_ = *asked.settings;
        chunks_.configure(settings_.chunk, settings_.sampleRate, settings_.offline);
        if (waitingForRefused_)
            dueAt_ = {};
    }
    const bool elsewhere = asked.choice && !(*asked.choice == choice_);
    if (elsewhere) {
        choice_ = *asked.choice;
        mayStart_.reset();
    }
    if (asked.now || asked.restart) {
        mayStart_ = true;
        restart_ = restart_ || asked.restart;
    }
    if (elsewhere || asked.restart) {
        connector_.cancel();
        session_.reset();
        connection_.reset();
    }
    if (elsewhere || asked.restart || asked.now) {
        dueAt_ = refreshAt_ = {};
        tries_ = 0;
    }
}

void LiveLink::Worker::connectStep() {
    drain();
    if (auto result = connector_.take())
        return connected(std::move(*result));
    if (connector_.busy()) {
        const Connector::Stage stage = connector_.stage();
        show([&](ServerStatus& status) {
            // While it is being looked for again and again, what the user wants to see is that it is lost.
            if (stage == Connector::Stage::starting)
                status.state = State::starting;
            else if (stage == Connector::Stage::loadingModel)
                status.state = State::loadingModel;
            else if (status.state == State::stopped && !status.problem)
                status.state = State::connecting;
        });
    } else if (Clock::now() >= dueAt_ || newServerIsThere()) {
        if (wasReady_ && !mayStart_ && !choice_.remote && !LocalServer::leftRecord())
            mayStart_ = false; // the one that we knew was shut down: it is not for us to start another
        connector_.begin(choice_, {mayStart_, restart_, {}});
        restart_ = false;
    }
    std::this_thread::sleep_for(pollInterval);
}

void LiveLink::Worker::connected(Connector::Result result) {
    if (!result.connection)
        return failed(*result.problem);
    connection_ = result.connection;
    refreshAt_ = Clock::now() + refreshInterval;
    mayStart_.reset();
    if (!choice_.remote)
        if (const auto record = LocalServer::find())
            lastPid_ = record->pid;
    statistics_.reconnections += wasReady_ ? 1 : 0;
    show([&](ServerStatus& status) {
        status.address = connection_->endpoint().address;
        status.version = connection_->serverVersion();
        status.device = result.device;
        status.devices = result.devices;
        status.models = result.list.models;
        status.defaultModel = result.list.defaultModel;
        status.state = settings_.separate ? State::loadingModel : State::ready;
        if (!settings_.separate)
            status.problem.reset();
    });
}

/// A connection and no session: one is opened as soon as one is wanted and nothing speaks against it.
void LiveLink::Worker::idleStep() {
    if (!connection_->usable()) { // another instance has found out
        connector_.cancel();
        connection_.reset();
        return;
    }
    if (settings_.separate && Clock::now() >= dueAt_) {
        session_ = std::make_unique<LiveSession>(connection_, settings_, chunks_, timeline_, statistics_);
        sessionWasReady_ = false;
        return;
    }
    if (!settings_.separate) {
        wasReady_ = true;
        show([](ServerStatus& status) {
            status.state = State::ready;
            status.problem.reset();
        });
    }
    drain();
    std::this_thread::sleep_for(pollInterval);
}

void LiveLink::Worker::sessionStep() {
    const auto interval = std::chrono::duration_cast<std::chrono::microseconds>(pollInterval);
    const bool goesOn = session_->run(static_cast<int>(interval.count()));
    const SessionReport& report = session_->report();
    if (report.ready && !sessionWasReady_) {
        sessionWasReady_ = wasReady_ = true;
        waitingForRefused_ = false;
        tries_ = 0;
        const stems::v1::LiveReady& ready = *report.ready;
        show([&ready](ServerStatus& status) {
            status.state = State::ready;
            status.problem.reset();
            status.tryNumber = 0;
            status.device = ready.device();
            status.model = ready.model();
            status.weightsSha256 = ready.weights_sha256();
            status.stems.assign(ready.stems().begin(), ready.stems().end());
            status.latencySamples = static_cast<int>(ready.latency_samples());
            status.hopSamples = static_cast<int>(ready.hop_samples());
            status.refinerSteps = static_cast<int>(ready.quality().refiner_steps());
            status.bounceWindows = ready.bounce_windows();
        });
    }
    if (!goesOn)
        sessionOver();
}

void LiveLink::Worker::sessionOver() {
    const std::optional<Problem> problem = session_->problem();
    const bool draining = session_->report().draining;
    session_.reset();
    show([](ServerStatus& status) {
        status.model.clear();
        status.weightsSha256.clear();
        status.stems.clear();
        status.latencySamples = status.hopSamples = status.refinerSteps = 0;
        status.bounceWindows = false;
    });
    if (problem) {
        failed(draining ? Problem{"SHUTTING_DOWN", "the server was shut down", {}} : *problem);
    } else {
        show([](ServerStatus& status) { status.state = State::ready; });
        dueAt_ = {};
    }
    sessionWasReady_ = false;
}

void LiveLink::Worker::refreshStep() {
    if (!connection_)
        return;
    if (auto result = connector_.take()) {
        refreshAt_ = Clock::now() + refreshInterval;
        if (result->connection)
            show([&](ServerStatus& status) {
                status.models = result->list.models;
                status.defaultModel = result->list.defaultModel;
                status.devices = result->devices;
                if (!session_)
                    status.device = result->device;
            });
        else if (!session_)
            failed(*result->problem); // an open session notices by itself what is wrong
    } else if (!connector_.busy() && Clock::now() >= refreshAt_) {
        connector_.begin(choice_, {}, connection_);
    }
}

void LiveLink::Worker::failed(const Problem& problem) {
    const Verdict verdict = judge(problem, {tries_, wasReady_, std::exchange(sessionWasReady_, false)});
    if (verdict.startNone)
        mayStart_ = false;
    if (verdict.connectionIsGone && connection_) {
        connector_.cancel(); // it may be asking a server that is gone
        connection_->discard();
        connection_.reset();
    }
    waitingForRefused_ = verdict.state == State::refused;
    ++tries_;
    dueAt_ = Clock::now() + verdict.pause;
    const std::scoped_lock lock(mutex_);
    if (status_.state != State::lost && verdict.state == State::lost)
        status_.lostAt = std::chrono::system_clock::now();
    status_.state = verdict.state;
    status_.tryNumber = tries_;
    nextTry_ = dueAt_;
    // "None is running" says less than why it is gone, or why it did not start.
    if (problem.reason != "SERVER_STOPPED" || !status_.problem)
        status_.problem = problem;
}

/// Whether this user's server has been started anew since the last one was lost: no need to wait any longer then.
bool LiveLink::Worker::newServerIsThere() {
    const auto now = Clock::now();
    if (choice_.remote || now < lookAt_)
        return false;
    lookAt_ = now + lookInterval;
    try {
        const auto record = LocalServer::find();
        if (!record || record->pid == lastPid_)
            return false;
        lastPid_ = record->pid;
        return true;
    } catch (const ClientError&) {
        return false; // the next try will tell
    }
}

/// Without a session: what could still come back in time waits for one, so that an outage is not a latency longer than
/// the server was away.
void LiveLink::Worker::drain() {
    const FrameRange skipped =
        settings_.separate ? chunks_.skipTooLate(timeline_.playedUpTo(), Clock::now()) : chunks_.skip();
    statistics_.framesSkipped += settings_.separate ? skipped.count : 0;
    timeline_.giveUp(skipped.frame, skipped.count);
}

void LiveLink::Worker::publish() {
    const std::scoped_lock lock(mutex_);
    status_.statistics = statistics_;
    if (!session_)
        return;
    const SessionReport& report = session_->report();
    lastStems_ = report.lastStems;
    if (report.windowMs > 0)
        status_.windowMs = report.windowMs;
    if (report.notice != status_.notice)
        status_.notice = report.notice;
}

LiveLink::LiveLink(InputStream& input, StemTimeline& timeline, ServerChoice choice, LiveSettings settings)
    : worker_(std::make_unique<Worker>(input, timeline, std::move(choice), std::move(settings))) {}

LiveLink::~LiveLink() { stop(); }

void LiveLink::reconfigure(LiveSettings settings) { worker_->reconfigure(std::move(settings)); }

void LiveLink::choose(ServerChoice choice) { worker_->choose(std::move(choice)); }

void LiveLink::tryNow() { worker_->tryNow(false); }

void LiveLink::restartServer() { worker_->tryNow(true); }

ServerStatus LiveLink::status() const { return worker_->status(); }

void LiveLink::stop() { worker_->stop(); }

} // namespace stemline::client
