// What a failure means for a link: what to show, and when to try again.
#pragma once

#include "client/problem.h"
#include "client/server_status.h"

#include <chrono>

namespace stemline::client {

struct Verdict {
    ServerStatus::State state = ServerStatus::State::lost;
    std::chrono::milliseconds pause{0}; // before the next try
    bool connectionIsGone = false;
    bool startNone = false; // not unless somebody asks for it
};

struct Circumstances {
    int tries = 0;          // that failed in a row before this one
    bool everReady = false; // the link has had a server
    bool inSession = false; // it failed in a session that had been ready
};

/// A function of its arguments.
Verdict judge(const Problem&, const Circumstances&);

} // namespace stemline::client
