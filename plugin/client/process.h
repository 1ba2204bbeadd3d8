// Processes that outlive us. Never a bare fork: a host has threads, and gRPC has locks.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace stemline::client {

/// Starts `command` (the first looked up on PATH) in a session of its own, what it prints going to `log`; none of our
/// descriptors, signal masks or library preloads go with it. Returns its process id; throws ClientError.
int spawnDetached(const std::vector<std::string>& command, const std::filesystem::path& log);

/// Whether the process is there; one of our own that has ended is buried first and counts as gone.
bool processLives(int pid);

/// The exit code of a process that `spawnDetached` of this program image started, if it has ended; -1 if unknown.
std::optional<int> exitCode(int pid);

void askToEnd(int pid);
void killProcess(int pid);

/// Whether a living process holds the lock on `file`, as pyserver/service/instance.py takes it.
bool lockHeld(const std::filesystem::path& file);

} // namespace stemline::client
