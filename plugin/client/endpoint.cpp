#include "client/endpoint.h"

#include "client/problem.h"

namespace stemline::client {

bool Endpoint::isLocal() const {
    if (address.starts_with("unix:"))
        return true;
    const std::string host = address.substr(0, address.rfind(':'));
    // The whole of a dotted quad, so that 127.0.0.1.example.org is a stranger.
    const bool quad = !host.empty() && host.find_first_not_of("0123456789.") == std::string::npos;
    return host == "localhost" || host == "[::1]" || host == "::1" || (quad && host.starts_with("127."));
}

void requireSafe(const Endpoint& endpoint) {
    if (!endpoint.isLocal() && (!endpoint.tls || endpoint.token.empty()))
        throw ClientError(
            Problem{"REMOTE_NEEDS_TLS", "Another computer needs TLS and a token", {{"address", endpoint.address}}});
}

} // namespace stemline::client
