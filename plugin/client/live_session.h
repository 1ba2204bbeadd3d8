// An open live session: chunks out, stems in, until one side ends it.
#pragma once

#include "client/chunk_reader.h"
#include "client/live_link.h"
#include "client/live_stream.h"
#include "client/stem_placer.h"
#include "client/wire_segments.h"

#include <memory>
#include <optional>

namespace stemline::client {

/// What a session tells the link about itself.
struct SessionReport {
    std::optional<stems::v1::LiveReady> ready;
    std::string notice;
    bool draining = false;
    double windowMs = 0;
    std::optional<Clock::time_point> lastStems;
};

/// Worker thread only.
class LiveSession {
  public:
    LiveSession(std::shared_ptr<Connection>, const LiveSettings&, ChunkReader&, StemTimeline&, LiveStatistics&);
    /// What was sent and has not come back is given up.
    ~LiveSession();
    LiveSession(const LiveSession&) = delete;
    LiveSession& operator=(const LiveSession&) = delete;

    /// Sends what may be sent, waits at most so long for something to come, takes it. False: the session is over.
    bool run(int microseconds);

    /// Changes the quality from the next window on; false if this session cannot.
    bool update(const LiveSettings&);

    /// Sends no more. What was sent still comes back; then the session is over without an error.
    void finish();

    const SessionReport& report() const { return report_; }
    /// After the end: absent if all is well.
    std::optional<Problem> problem() const;

  private:
    void send();
    void skipWhatIsTooOld();
    bool startsAnew(const Chunk&) const;
    void sendChunk(const Chunk&);
    void take(const stems::v1::LiveResponse&);
    void takeAudio(const stems::v1::LiveAudio&);
    void takeNotice(const stems::v1::LiveNotice&);
    void broken(const char* why);

    std::shared_ptr<Connection> connection_;
    LiveSettings settings_;
    ChunkReader& chunks_;
    StemTimeline& timeline_;
    LiveStatistics& statistics_;
    StemPlacer placer_;
    WireSegments segments_;
    SessionReport report_;
    LiveStream stream_;
    stems::v1::LiveRequest message_;
    std::int64_t mostInFlight_ = 0;
    bool flushed_ = false;
    bool finishing_ = false;
    Clock::time_point finishBy_;
    std::optional<stems::v1::Quality> update_;
    std::optional<Problem> problem_;
};

} // namespace stemline::client
