// How an error of the server travels: google.rpc.Status with an ErrorInfo, in a binary trailer.
#pragma once

#include "client/problem.h"

#include <grpcpp/grpcpp.h>

#include <optional>
#include <string_view>

namespace stemline::client {

/// The server's own ErrorInfo in serialised google.rpc.Status bytes, `message` included; absent where there is none.
std::optional<Problem> parseStatusDetails(std::string_view bytes);

/// What a failed call means. Without details from our server the gRPC code decides: SERVER_UNREACHABLE where nobody
/// answered, MESSAGE_TOO_LARGE, CANCELLED, else the code's name.
Problem problemOf(const grpc::Status&, const std::string& address);

/// Whether the server is gone or going, so that another connection is needed.
bool meansLost(const Problem&);

} // namespace stemline::client
