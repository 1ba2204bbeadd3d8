#include "client/obtain.h"

#include "client/local_server.h"

namespace stemline::client {

namespace {

constexpr double restartPatienceSeconds = 10;

std::shared_ptr<Connection> connectTo(const Endpoint& endpoint, const ObtainOptions& options, std::stop_token stop) {
    if (options.onAttempt)
        options.onAttempt(Attempt::connecting);
    return Connection::open(endpoint, stop);
}

std::shared_ptr<Connection> startAndConnect(const ServerChoice& choice, const ObtainOptions& options,
                                            std::stop_token stop) {
    if (options.onAttempt)
        options.onAttempt(Attempt::starting);
    return connectTo(LocalServer::start(choice.startArguments, stop).endpoint, options, stop);
}

} // namespace

std::shared_ptr<Connection> obtain(const ServerChoice& choice, const ObtainOptions& options, std::stop_token stop) {
    if (choice.remote)
        return connectTo(*choice.remote, options, stop);
    const bool mayStart = options.mayStart.value_or(choice.startAutomatically);
    if (options.restart) {
        if (options.onAttempt)
            options.onAttempt(Attempt::starting);
        LocalServer::end(restartPatienceSeconds, stop);
        return startAndConnect(choice, options, stop);
    }
    const std::optional<ServerRecord> record = LocalServer::find();
    if (!record) {
        if (!mayStart)
            throw ClientError("SERVER_STOPPED", "no Stemline server is running");
        return startAndConnect(choice, options, stop);
    }
    try {
        return connectTo(record->endpoint, options, stop);
    } catch (const ClientError& error) {
        // A record may outlive its server, and its process number be somebody else's by now.
        if (error.problem.reason != "SERVER_UNREACHABLE" || LocalServer::running())
            throw;
        if (!mayStart)
            throw ClientError("SERVER_STOPPED", "no Stemline server is running");
        return startAndConnect(choice, options, stop);
    }
}

} // namespace stemline::client
