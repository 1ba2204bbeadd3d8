// The server's models.
#pragma once

#include "client/endpoint.h"
#include "client/server_status.h"

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

/// Has the server verify, load and warm a model. Blocks; throws ClientError.
ModelInfo loadModel(const ServerChoice&, const std::string& name, std::stop_token);

} // namespace stemline::client
