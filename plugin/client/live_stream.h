// One call of LiveService.Separate, from one thread that must never wait long.
#pragma once

#include "client/connection.h"
#include "stems/v1/live.grpc.pb.h"

#include <memory>

namespace stemline::client {

/// The call with a completion queue of its own: whoever polls it both writes and reads, and never blocks beyond the
/// time it gives. One thread.
class LiveStream {
  public:
    LiveStream(std::shared_ptr<Connection>, const stems::v1::LiveOpen&);
    /// Cancels and returns as soon as gRPC has let go; if it does not, the connection is severed.
    ~LiveStream();
    LiveStream(const LiveStream&) = delete;
    LiveStream& operator=(const LiveStream&) = delete;

    /// Whether a message can be taken now. One is under way at a time: more lie in our own queue, where they can still
    /// be counted, and not in gRPC's.
    bool writable() const { return open_ && !writing_ && !doneWriting_; }
    void write(const stems::v1::LiveRequest&);
    /// Half-closes once the last message is out; the server then sends the tail and ends the call.
    void finishWriting() { doneWanted_ = true; }

    /// Waits at most so long for something to happen. A response, valid until the next call, or null.
    const stems::v1::LiveResponse* poll(int microseconds);

    bool ended() const { return ended_; }
    const grpc::Status& status() const { return status_; }

  private:
    enum Tag : std::intptr_t { started = 1, written, writesDone, response, finished };

    void* begun(Tag);
    void happened(Tag, bool ok);
    void finish();

    std::shared_ptr<Connection> connection_; // before all that lives on it
    std::unique_ptr<stems::v1::LiveService::Stub> stub_;
    grpc::ClientContext context_;
    grpc::CompletionQueue queue_;
    stems::v1::LiveRequest opening_;
    stems::v1::LiveResponse incoming_;
    grpc::Status status_;
    std::unique_ptr<grpc::ClientAsyncReaderWriter<stems::v1::LiveRequest, stems::v1::LiveResponse>> call_;
    bool open_ = false;
    bool writing_ = false;
    bool doneWanted_ = false;
    bool doneWriting_ = false;
    bool readWanted_ = false;
    bool hasResponse_ = false;
    bool finishing_ = false;
    bool ended_ = false;
    int underWay_ = 0; // operations that have not happened yet
};

} // namespace stemline::client
