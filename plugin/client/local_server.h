// This user's own server: where it is, how it is started and stopped. Files and environment as in pyserver/paths.py.
#pragma once

#include "client/endpoint.h"

#include <filesystem>
#include <stop_token>
#include <string>
#include <vector>

namespace stemline::client {

/// What the running server says of itself in `server.json`.
struct ServerRecord {
    Endpoint endpoint;
    int pid = 0;
    std::string version;
};

/// Static functions, to be called from any thread but the audio thread.
///
/// The interpreter that runs the server is $STEMLINE_PYTHON, else the first line of `interpreterFile()`, else the
/// program `stemline` on PATH.
class LocalServer {
  public:
    /// The server that is recorded and whose process lives. Throws ClientError where its token cannot be had.
    static std::optional<ServerRecord> find();

    /// Whether there is a record at all. A server that ends on purpose takes its own along; one that crashed cannot.
    static bool leftRecord();

    /// Whether a living process holds the server's lock, reachable or not.
    static bool running();

    /// Starts the server unless one runs, detached from this process, and returns when it has written its record; it
    /// may still be loading its model. Where several instances ask at once, one starts it and the others wait for it.
    /// Throws ClientError SERVER_DID_NOT_START (metadata "log": the last lines of its log), SERVER_NOT_INSTALLED, or
    /// CANCELLED if `stop` was asked for meanwhile.
    static ServerRecord start(const std::vector<std::string>& arguments, std::stop_token stop);

    /// Asks the running server to end, insists after `patienceSeconds`, and returns whether none runs any more. Never
    /// touches a process that does not hold the server's lock, whatever an old record says.
    static bool end(double patienceSeconds, std::stop_token stop);

    /// Of what the server that a plugin started has printed, the last `count` lines, oldest first.
    static std::vector<std::string> lastLogLines(std::size_t count);

    static std::filesystem::path logFile();
    /// Text file whose first line is the path of a Python that has pyserver; written when the plugin is installed:
    /// $STEMLINE_HOME/config/python, else $XDG_CONFIG_HOME/stemline/python, else ~/.config/stemline/python; on macOS
    /// ~/Library/Application Support/stemline/python; on Windows %LOCALAPPDATA%\stemline\python.
    static std::filesystem::path interpreterFile();
};

} // namespace stemline::client
