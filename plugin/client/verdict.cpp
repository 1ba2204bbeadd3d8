#include "client/verdict.h"

#include "client/error_details.h"

#include <algorithm>

namespace stemline::client {

using namespace std::chrono_literals;
using State = ServerStatus::State;

namespace {

constexpr std::chrono::milliseconds firstWait = 200ms;
constexpr std::chrono::milliseconds longestWait = 2s;
constexpr std::chrono::milliseconds refusedWait = 3s;

} // namespace

Verdict judge(const Problem& problem, const Circumstances& now) {
    const std::string& reason = problem.reason;
    if (reason == "UNTRUSTED_SERVER")
        return {State::untrusted, refusedWait, true, false};
    if (meansLost(problem) || reason == "PROTOCOL") {
        // Somebody wanted it to end: then it is not for us to start another.
        const bool shutDown = reason == "SHUTTING_DOWN";
        return {State::lost, std::min(firstWait * (1 << std::min(now.tries, 4)), longestWait), true, shutDown};
    }
    if (reason == "SERVER_STOPPED")
        return {now.everReady ? State::lost : State::stopped, longestWait, false, false};
    if (reason == "SERVER_DID_NOT_START" || reason == "SERVER_NOT_INSTALLED")
        return {State::stopped, longestWait, false, true}; // not again and again
    if (now.inSession)
        return {State::lost, firstWait, false, false}; // another session may go better
    return {State::refused, refusedWait, false, false};
}

} // namespace stemline::client
