// A verified channel to a server. For this folder's .cpp files: nothing outside needs to know gRPC.
#pragma once

#include "client/endpoint.h"
#include "client/problem.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stop_token>

namespace stemline::client {

/// How long a cancelled call may take to end before its connection is severed. gRPC ends one only when the write that
/// is under way is out, and a server that hangs with a full socket never takes it.
inline constexpr std::chrono::milliseconds letGoPatience{500};

/// One channel, shared by everybody in the process who speaks to the same endpoint. Any thread but the audio thread.
///
/// The server has proved that it holds the token before the token is ever sent. On this computer the proof and
/// everything after it travel over one and the same socket, which is never connected again: whoever takes over the
/// address of a server that has died meets a new proof first. Over TLS the certificate stands for the server.
class Connection {
  public:
    /// The living connection to `endpoint`, or a new one. Throws ClientError: REMOTE_NEEDS_TLS, SERVER_UNREACHABLE,
    /// UNTRUSTED_SERVER, CANCELLED.
    static std::shared_ptr<Connection> open(const Endpoint& endpoint, std::stop_token);

    const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
    const Endpoint& endpoint() const { return endpoint_; }
    const std::string& serverVersion() const { return version_; }

    /// Puts the token into a call, and how long it may take (0: as long as it likes).
    void prepare(grpc::ClientContext&, double timeoutSeconds = 0) const;

    /// What a failed call means. If the server is gone, nobody gets this connection from the cache any more.
    Problem failed(const grpc::Status&);
    void discard() { usable_ = false; }
    bool usable() const { return usable_; }
    /// Breaks the connection for everybody, so that every call on it ends at once. Over TLS we do not have the socket:
    /// there calls end when the server misses a ping, 15 s at most.
    void sever();

    struct Passkey {
        explicit Passkey() = default;
    };
    Connection(Passkey, const Endpoint&, std::stop_token);
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

  private:
    void verify(std::stop_token);

    Endpoint endpoint_;
    int socket_ = -1; // the same as gRPC's, by a descriptor of our own; absent over TLS
    std::shared_ptr<grpc::Channel> channel_;
    std::string version_;
    std::atomic<bool> usable_{true};
};

/// Cancels `context`'s call as soon as `stop` is requested, for as long as this lives.
class CancelWith {
  public:
    CancelWith(std::stop_token stop, grpc::ClientContext& context) : callback_(stop, Cancel{context}) {}

  private:
    struct Cancel {
        grpc::ClientContext& context;
        void operator()() const { context.TryCancel(); }
    };
    std::stop_callback<Cancel> callback_;
};

} // namespace stemline::client
