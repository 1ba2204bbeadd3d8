#include "client/live_session.h"

#include <algorithm>
#include <cmath>

namespace stemline::client {

using namespace std::chrono_literals;
namespace v1 = stems::v1;

namespace {

constexpr auto finishPatience = 20s;

v1::Quality quality(const LiveSettings& settings) {
    v1::Quality wanted;
    if (settings.refinerSteps)
        wanted.set_refiner_steps(static_cast<std::uint32_t>(std::max(*settings.refinerSteps, 0)));
    wanted.set_noise_seed(settings.seed);
    return wanted;
}

v1::LiveOpen opening(const LiveSettings& settings) {
    v1::LiveOpen open;
    open.set_model(settings.model);
    open.mutable_audio()->set_sample_rate_hz(static_cast<std::uint32_t>(std::lround(settings.sampleRate)));
    open.mutable_audio()->set_channels(static_cast<std::uint32_t>(settings.channels));
    open.mutable_audio()->set_format(v1::SAMPLE_FORMAT_F32_LE);
    open.set_block_samples(static_cast<std::uint32_t>(settings.chunk));
    open.set_pace(settings.offline ? v1::PACE_OFFLINE : v1::PACE_REALTIME);
    *open.mutable_quality() = quality(settings);
    if (settings.askLatency > 0) {
        const double seconds = settings.askLatency / settings.sampleRate;
        open.mutable_max_latency()->set_seconds(static_cast<std::int64_t>(seconds));
        open.mutable_max_latency()->set_nanos(static_cast<std::int32_t>((seconds - std::floor(seconds)) * 1e9));
    }
    return open;
}

} // namespace

LiveSession::LiveSession(std::shared_ptr<Connection> connection, const LiveSettings& settings, ChunkReader& chunks,
                         StemTimeline& timeline, LiveStatistics& statistics)
    : connection_(std::move(connection)), settings_(settings), chunks_(chunks), timeline_(timeline),
      statistics_(statistics), placer_(timeline, settings.channels), stream_(connection_, opening(settings)) {}

LiveSession::~LiveSession() {
    for (const FrameRange& rest : segments_.outstanding())
        timeline_.giveUp(rest.frame, rest.count);
}

bool LiveSession::run(int microseconds) {
    send();
    // All that has come, but only the first time with patience.
    while (const v1::LiveResponse* response = stream_.poll(microseconds)) {
        take(*response);
        microseconds = 0;
    }
    return !problem_ && !stream_.ended() && !(finishing_ && Clock::now() > finishBy_);
}

bool LiveSession::update(const LiveSettings& wanted) {
    LiveSettings same = wanted;
    same.refinerSteps = settings_.refinerSteps;
    same.seed = settings_.seed;
    const int opened = report_.ready ? static_cast<int>(report_.ready->quality().refiner_steps()) : -1;
    // More steps than the session was opened with do not fit its latency; "the model's own" may be more.
    if (!(same == settings_) || !report_.ready || finishing_ ||
        (!settings_.offline && wanted.refinerSteps != settings_.refinerSteps &&
         wanted.refinerSteps.value_or(opened + 1) > opened))
        return false;
    update_ = quality(wanted);
    settings_ = wanted;
    return true;
}

void LiveSession::finish() {
    if (finishing_)
        return;
    finishing_ = true;
    finishBy_ = Clock::now() + finishPatience;
    stream_.finishWriting();
}

std::optional<Problem> LiveSession::problem() const {
    if (problem_)
        return problem_;
    if (!stream_.ended())
        return Problem{"SERVER_UNREACHABLE", "the rest of the stems did not come", {}};
    if (!stream_.status().ok())
        return connection_->failed(stream_.status());
    if (!finishing_)
        return Problem{"SERVER_UNREACHABLE", "the server ended the session", {}};
    return std::nullopt;
}

void LiveSession::skipWhatIsTooOld() {
    FrameRange skipped;
    if (!report_.ready) {
        skipped = chunks_.skipTooLate(timeline_.playedUpTo(), Clock::now());
    } else if (!settings_.offline) {
        // The server is too slow: what has been played while it waited would only hold up what follows.
        const bool full = chunks_.backlog() > std::int64_t{chunks_.capacity()} * 3 / 4;
        if (!full && chunks_.oldest() >= timeline_.playedUpTo())
            return;
        skipped = chunks_.skip();
    }
    statistics_.framesSkipped += skipped.count;
    timeline_.giveUp(skipped.frame, skipped.count);
}

void LiveSession::send() {
    skipWhatIsTooOld();
    if (!report_.ready)
        return;
    const auto now = Clock::now();
    while (stream_.writable() && !finishing_) {
        if (update_) {
            *message_.mutable_update()->mutable_quality() = *update_;
            update_.reset();
            stream_.write(message_);
            continue;
        }
        const Chunk* chunk = chunks_.next(now);
        if (chunk == nullptr)
            return;
        const bool anew = startsAnew(*chunk);
        if (anew && !segments_.empty() && !flushed_) {
            message_.mutable_flush();
            flushed_ = true;
            stream_.write(message_);
            continue;
        }
        if (!anew && segments_.inFlight() + chunk->frames > mostInFlight_)
            return;
        if (anew)
            segments_.begin(chunk->frame, chunk->position());
        sendChunk(*chunk);
        chunks_.pop();
    }
}

bool LiveSession::startsAnew(const Chunk& chunk) const { return segments_.empty() || !chunk.follows || chunk.begins; }

void LiveSession::sendChunk(const Chunk& chunk) {
    v1::Block& block = *message_.mutable_audio();
    block.set_start_sample(segments_.nextPosition());
    block.set_num_samples(static_cast<std::uint32_t>(chunk.frames));
    std::string& samples = *block.mutable_samples();
    const std::size_t bytes = static_cast<std::size_t>(chunk.frames) * sizeof(float);
    samples.assign(chunk.planes.size() * bytes, '\0');
    // With a NaN in it the server would end the session; one chunk of silence is what that costs now.
    for (std::size_t channel = 0; chunk.finite && channel < chunk.planes.size(); ++channel)
        samples.replace(channel * bytes, bytes, reinterpret_cast<const char*>(chunk.planes[channel].data()), bytes);
    if (!chunk.finite)
        ++statistics_.nonFiniteChunks;
    timeline_.giveUp(chunk.lost.frame, chunk.lost.count);
    segments_.sent(chunk.frames);
    statistics_.framesSent += chunk.frames;
    flushed_ = false;
    stream_.write(message_);
}

void LiveSession::take(const v1::LiveResponse& response) {
    if (response.has_ready()) {
        report_.ready = response.ready();
        placer_.announce({response.ready().stems().begin(), response.ready().stems().end()});
        mostInFlight_ = std::int64_t{response.ready().max_in_flight_blocks()} * settings_.chunk;
    } else if (response.has_audio()) {
        takeAudio(response.audio());
    } else if (response.has_notice()) {
        takeNotice(response.notice());
    }
}

void LiveSession::takeAudio(const v1::LiveAudio& audio) {
    const auto run = placer_.check(audio);
    if (!report_.ready || !run)
        return broken("the server sent stems that do not fit together");
    const auto frame = segments_.arrived(audio.epoch(), run->position, run->frames, audio.consumed_samples());
    if (!frame)
        return broken("the server sent stems for positions that it was not sent");
    const StemTimeline::Written written = placer_.place(audio, *frame);
    statistics_.framesReceived += run->frames;
    statistics_.framesLate += written.late;
    report_.windowMs = 1e3 * static_cast<double>(audio.compute().seconds()) + 1e-6 * audio.compute().nanos();
    report_.lastStems = Clock::now();
}

void LiveSession::takeNotice(const v1::LiveNotice& notice) {
    report_.notice = notice.message();
    switch (notice.kind()) {
    case v1::LiveNotice::KIND_DROPPED:
        statistics_.framesDropped += static_cast<std::int64_t>(notice.num_samples());
        if (const auto frame = segments_.dropped(notice.epoch(), notice.start_sample(),
                                                 static_cast<std::int64_t>(notice.num_samples())))
            timeline_.giveUp(*frame, static_cast<std::int64_t>(notice.num_samples()));
        break;
    case v1::LiveNotice::KIND_DRAINING:
        report_.draining = true;
        break;
    case v1::LiveNotice::KIND_ENGINE_RESTARTED:
        ++statistics_.engineRestarts;
        break;
    default:
        break;
    }
}

void LiveSession::broken(const char* why) {
    problem_ = Problem{"PROTOCOL", why, {}};
    connection_->discard();
}

} // namespace stemline::client
