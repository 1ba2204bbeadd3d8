#include "client/connection.h"

#include "client/error_details.h"
#include "client/hashes.h"
#include "client/local_socket.h"
#include "stems/v1/server.grpc.pb.h"

#include <chrono>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <random>

#if !defined(_WIN32)
#include <grpcpp/create_channel_posix.h>
#endif

namespace stemline::client {

using namespace std::chrono_literals;

namespace {

// As the server has them (pyserver/service/channel.py): it closes channels that ping more often than every 5 s.
constexpr int pingMs = 10'000;
constexpr int pingTimeoutMs = 5'000;
// Two seconds of six stereo stems at 96 kHz are more than gRPC's 4 MiB.
constexpr int maxMessageBytes = 64 << 20;
constexpr double proofSeconds = 5;

grpc::ChannelArguments channelArguments() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, pingMs);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, pingTimeoutMs);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);         // never a stranger between a DAW and its own machine
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1); // nor a socket of another part of the host
    arguments.SetMaxReceiveMessageSize(maxMessageBytes);
    return arguments;
}

std::shared_ptr<grpc::Channel> makeChannel(const Endpoint& endpoint, [[maybe_unused]] int& socket) {
    if (endpoint.tls) {
        grpc::SslCredentialsOptions options;
        if (!endpoint.caCertificateFile.empty()) {
            std::ifstream file(endpoint.caCertificateFile, std::ios::binary);
            options.pem_root_certs.assign(std::istreambuf_iterator<char>(file), {});
            if (options.pem_root_certs.empty())
                throw ClientError("TLS_FILES", "cannot read the certificate " + endpoint.caCertificateFile);
        }
        return grpc::CreateCustomChannel(endpoint.address, grpc::SslCredentials(options), channelArguments());
    }
#if defined(GPR_SUPPORT_CHANNELS_FROM_FD)
    const int connected = connectLocal(endpoint.address);
    socket = duplicateSocket(connected);
    return grpc::CreateCustomInsecureChannelFromFd("localhost", connected, channelArguments());
#else
    return grpc::CreateCustomChannel(endpoint.address, grpc::InsecureChannelCredentials(), channelArguments());
#endif
}

std::string randomBytes(std::size_t count) {
    std::random_device source;
    std::string bytes(count, '\0');
    for (char& byte : bytes)
        byte = static_cast<char>(source() & 0xff);
    return bytes;
}

struct Slot {
    std::timed_mutex opening;
    std::weak_ptr<Connection> connection;
};

std::shared_ptr<Slot> slotFor(const Endpoint& endpoint) {
    // The one thing that all instances of the process share. It keeps nothing alive but strings.
    static std::mutex mutex;
    static std::map<std::string, std::shared_ptr<Slot>> slots;
    const std::string key = endpoint.address + '\n' + endpoint.token + '\n' + endpoint.caCertificateFile + '\n' +
                            (endpoint.tls ? "tls" : "plain");
    const std::scoped_lock lock(mutex);
    std::shared_ptr<Slot>& slot = slots[key];
    if (!slot)
        slot = std::make_shared<Slot>();
    return slot;
}

} // namespace

std::shared_ptr<Connection> Connection::open(const Endpoint& endpoint, std::stop_token stop) {
    requireSafe(endpoint);
    const std::shared_ptr<Slot> slot = slotFor(endpoint);
    std::unique_lock lock(slot->opening, std::defer_lock);
    while (!lock.try_lock_for(20ms))
        if (stop.stop_requested())
            throw ClientError("CANCELLED", "cancelled");
    if (auto living = slot->connection.lock(); living && living->usable())
        return living;
    auto fresh = std::make_shared<Connection>(Passkey(), endpoint, stop);
    slot->connection = fresh;
    return fresh;
}

Connection::Connection(Passkey, const Endpoint& endpoint, std::stop_token stop)
    : endpoint_(endpoint), channel_(makeChannel(endpoint, socket_)) {
    try {
        verify(stop);
    } catch (...) {
        closeSocket(socket_);
        throw;
    }
}

Connection::~Connection() { closeSocket(socket_); }

void Connection::sever() {
    discard();
    shutDownSocket(socket_);
}

void Connection::verify(std::stop_token stop) {
    stems::v1::GetInfoRequest request;
    stems::v1::ServerInfo info;
    request.set_client_version("plugin");
    request.set_challenge(randomBytes(32));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(int(proofSeconds * 1000)));
    grpc::Status status;
    {
        const CancelWith cancel(stop, context);
        status = stems::v1::ServerService::NewStub(channel_)->GetInfo(&context, request, &info);
    }
    if (!status.ok())
        throw ClientError(problemOf(status, endpoint_.address));
    const Digest expected = hmacSha256(endpoint_.token, request.challenge());
    if (!sameSecret(info.proof(), {reinterpret_cast<const char*>(expected.data()), expected.size()}))
        throw ClientError(Problem{"UNTRUSTED_SERVER",
                                  "the server at " + endpoint_.address +
                                      " does not hold your token: another user's server, an impostor, or the wrong "
                                      "token; nothing was sent to it",
                                  {{"address", endpoint_.address}}});
    version_ = info.version();
}

void Connection::prepare(grpc::ClientContext& context, double timeoutSeconds) const {
    context.AddMetadata("authorization", "Bearer " + endpoint_.token);
    if (timeoutSeconds > 0)
        context.set_deadline(std::chrono::system_clock::now() +
                             std::chrono::milliseconds(static_cast<int>(timeoutSeconds * 1000)));
}

Problem Connection::failed(const grpc::Status& status) {
    Problem problem = problemOf(status, endpoint_.address);
    // Our own cancellation says nothing about the server.
    if (meansLost(problem) && status.error_code() != grpc::StatusCode::CANCELLED)
        discard();
    return problem;
}

} // namespace stemline::client
