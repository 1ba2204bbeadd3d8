// From the choice of a server to a verified connection, starting the server where that is wanted.
#pragma once

#include "client/connection.h"

#include <functional>

namespace stemline::client {

enum class Attempt { starting, connecting };

struct ObtainOptions {
    /// Overrides ServerChoice::startAutomatically, for what a user asked for or what just went wrong.
    std::optional<bool> mayStart;
    bool restart = false; // end this user's own server first
    std::function<void(Attempt)> onAttempt;
};

/// Blocks for as long as a start takes. Throws ClientError; SERVER_STOPPED where none runs and none is to be started.
std::shared_ptr<Connection> obtain(const ServerChoice&, const ObtainOptions&, std::stop_token);

} // namespace stemline::client
