// Where a server is, and which one an instance works with.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace stemline::client {

/// A server and what it takes to be believed and to be let in.
struct Endpoint {
    std::string address; // unix:/path, 127.0.0.1:7000, [::1]:7000, host:port
    std::string token;
    std::string caCertificateFile; // PEM; empty: the public authorities
    bool tls = false;

    bool operator==(const Endpoint&) const = default;
    /// Whether it can only be on this computer.
    bool isLocal() const;
};

/// Throws ClientError REMOTE_NEEDS_TLS for an endpoint on another computer without TLS or without a token.
void requireSafe(const Endpoint&);

/// Which server an instance works with.
struct ServerChoice {
    std::optional<Endpoint> remote; // absent: this user's own server, as its record says
    bool startAutomatically = true; // of this user's own: start it where none runs, and again where it has crashed
    std::vector<std::string> startArguments; // of `stemline serve`, as {"--gpu", "0"}

    bool operator==(const ServerChoice&) const = default;
};

} // namespace stemline::client
