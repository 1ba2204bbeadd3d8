#include "client/server_status.h"

#include <algorithm>
#include <cmath>

namespace stemline::client {

bool ServerStatus::modelMissing() const {
    return state == State::refused && problem &&
           (problem->reason == "UNKNOWN_MODEL" || problem->reason == "MODEL_NOT_DOWNLOADED" ||
            problem->reason == "MODEL_BROKEN" || problem->reason == "BROKEN_CARD");
}

std::string chipText(const ServerStatus& status) {
    using State = ServerStatus::State;
    const std::string device = status.device.empty() ? "" : " · " + status.device;
    switch (status.state) {
    case State::stopped:
        return "Server stopped";
    case State::starting:
    case State::connecting:
        return "Starting";
    case State::loadingModel:
        return "Starting · loading model";
    case State::ready:
        return "Ready" + device +
               (status.windowMs > 0 ? " · " + std::to_string(std::lround(status.windowMs)) + " ms" : "");
    case State::separating:
        return "Separating" + device;
    case State::lost:
        return "Server lost · try " + std::to_string(status.tryNumber) + " in " +
               std::to_string(std::max(0L, std::lround(std::ceil(status.secondsToNextTry)))) + " s";
    case State::untrusted:
        return "Server not trusted";
    case State::refused:
        return status.modelMissing() ? "Model missing on the server" : "Server refused";
    }
    return {};
}

} // namespace stemline::client
