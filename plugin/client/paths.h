// Where Stemline keeps what is not a song; the same places as pyserver/paths.py, which makes them.
#pragma once

#include <filesystem>
#include <string>

namespace stemline::client {

std::filesystem::path stateDir();   // logs, the server's lock
std::filesystem::path runtimeDir(); // socket, token, server.json
std::filesystem::path configDir();  // what an installation leaves for the plugin

/// The token in `path`. Throws ClientError NO_TOKEN_FILE, or UNSAFE_PATH if others could have read it.
std::string readToken(const std::filesystem::path& path);

/// Throws ClientError UNSAFE_PATH unless `directory` is ours and nobody else can write to it.
void requirePrivate(const std::filesystem::path& directory);

} // namespace stemline::client
