// ModelService's messages as our own values.
#pragma once

#include "client/connection.h"
#include "client/models.h"
#include "stems/v1/models.pb.h"

namespace stemline::client {

ModelInfo modelInfo(const stems::v1::Model&);

/// Blocks until the server is warm. Throws ClientError.
ModelList askForModels(Connection&, std::stop_token);

} // namespace stemline::client
