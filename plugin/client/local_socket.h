// A connected socket to an address on this computer.
#pragma once

#include <string>

namespace stemline::client {

/// The descriptor of a socket connected to `unix:/path` or `host:port`, for the caller to own. Does not wait: on one's
/// own machine a server takes the connection at once or is not there. Throws ClientError SERVER_UNREACHABLE.
int connectLocal(const std::string& address);

// Each does nothing for a descriptor of -1.
int duplicateSocket(int descriptor);
void shutDownSocket(int descriptor); // whoever reads or writes there is done
void closeSocket(int descriptor);

} // namespace stemline::client
