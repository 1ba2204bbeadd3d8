// The server's models.
#pragma once

#include "client/endpoint.h"
#include "client/server_status.h"

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

namespace stemline::client {

struct ModelList {
    std::vector<ModelInfo> models;
    std::string defaultModel;
};

/// What the server has. Blocks until it is warm; for worker threads. Throws ClientError. (LiveLink keeps its own list
/// fresh in its status; this is for those without one.)
ModelList listModels(const ServerChoice&, std::stop_token);

struct DownloadProgress {
    enum class Stage { lookingUp, downloading, installing };

    Stage stage = Stage::lookingUp;
    std::uint64_t doneBytes = 0;
    std::uint64_t totalBytes = 0; // 0: not known yet
};

/// Has the server fetch and install a published model; it goes on where an earlier call stopped. Blocks; throws
/// ClientError.
ModelInfo downloadModel(const ServerChoice&, const std::string& name, std::stop_token,
                        const std::function<void(const DownloadProgress&)>&);

} // namespace stemline::client
