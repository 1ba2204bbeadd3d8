#include "client/live_stream.h"

namespace stemline::client {

LiveStream::LiveStream(std::shared_ptr<Connection> connection, const stems::v1::LiveOpen& open)
    : connection_(std::move(connection)), stub_(stems::v1::LiveService::NewStub(connection_->channel())) {
    connection_->prepare(context_);
    *opening_.mutable_open() = open;
    call_ = stub_->PrepareAsyncSeparate(&context_, &queue_);
    call_->StartCall(begun(started));
}

LiveStream::~LiveStream() {
    context_.TryCancel();
    const auto after = [](std::chrono::milliseconds wait) {
        return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(wait.count(), GPR_TIMESPAN));
    };
    gpr_timespec until = after(letGoPatience);
    while (underWay_ > 0) {
        void* event = nullptr;
        bool ok = false;
        if (open_)
            finish(); // the start has an operation of its own; only behind it may the call be finished
        switch (queue_.AsyncNext(&event, &ok, until)) {
        case grpc::CompletionQueue::GOT_EVENT:
            happened(static_cast<Tag>(reinterpret_cast<std::intptr_t>(event)), ok);
            break;
        case grpc::CompletionQueue::TIMEOUT:
            connection_->sever();
            until = gpr_inf_future(GPR_CLOCK_MONOTONIC);
            break;
        case grpc::CompletionQueue::SHUTDOWN:
            break;
        }
    }
    queue_.Shutdown();
    void* none = nullptr;
    bool ok = false;
    while (queue_.Next(&none, &ok)) {
    }
    call_.reset();
}

void* LiveStream::begun(Tag what) {
    ++underWay_;
    return reinterpret_cast<void*>(what);
}

void LiveStream::write(const stems::v1::LiveRequest& request) {
    writing_ = true;
    call_->Write(request, begun(written));
}

const stems::v1::LiveResponse* LiveStream::poll(int microseconds) {
    if (readWanted_) {
        readWanted_ = false;
        call_->Read(&incoming_, begun(response));
    }
    if (doneWanted_ && writable()) {
        doneWriting_ = true;
        call_->WritesDone(begun(writesDone));
    }
    void* event = nullptr;
    bool ok = false;
    hasResponse_ = false;
    const gpr_timespec until =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_micros(microseconds, GPR_TIMESPAN));
    if (!ended_ && queue_.AsyncNext(&event, &ok, until) == grpc::CompletionQueue::GOT_EVENT)
        happened(static_cast<Tag>(reinterpret_cast<std::intptr_t>(event)), ok);
    return hasResponse_ ? &incoming_ : nullptr;
}

void LiveStream::happened(Tag what, bool ok) {
    --underWay_;
    switch (what) {
    case started:
        open_ = true;
        if (!ok) {
            doneWriting_ = true;
            finish();
        } else {
            write(opening_);
            readWanted_ = true;
        }
        break;
    case written:
        writing_ = false;
        doneWriting_ = doneWriting_ || !ok; // the call has broken; the read, which fails too, ends it
        break;
    case writesDone:
        break;
    case response:
        hasResponse_ = ok;
        readWanted_ = ok;
        if (!ok)
            finish();
        break;
    case finished:
        ended_ = true;
        break;
    }
}

void LiveStream::finish() {
    if (finishing_)
        return;
    finishing_ = true;
    call_->Finish(&status_, begun(finished));
}

} // namespace stemline::client
