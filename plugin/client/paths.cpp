#include "client/paths.h"

#include "client/problem.h"

#include <cstdlib>
#include <fstream>
#include <optional>

#ifndef _WIN32
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#endif

namespace stemline::client {

namespace fs = std::filesystem;

namespace {

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string() : std::string(value);
}

fs::path userHome() {
#ifdef _WIN32
    return environment("USERPROFILE");
#else
    return environment("HOME");
#endif
}

std::optional<fs::path> stemlineHome() {
    const std::string given = environment("STEMLINE_HOME");
    if (given.empty())
        return std::nullopt;
    return fs::absolute(given == "~" || given.starts_with("~/") ? userHome() / given.substr(given.size() > 1 ? 2 : 1)
                                                                : fs::path(given));
}

#if !defined(_WIN32) && !defined(__APPLE__)
fs::path fromVariable(const char* name, const char* otherwise) {
    const std::string given = environment(name);
    return (given.empty() ? userHome() / otherwise : fs::path(given)) / "stemline";
}
#endif

} // namespace

fs::path stateDir() {
    if (const auto home = stemlineHome())
        return *home / "state";
#if defined(_WIN32)
    return fs::path(environment("LOCALAPPDATA")) / "stemline";
#elif defined(__APPLE__)
    return userHome() / "Library/Application Support/stemline";
#else
    return fromVariable("XDG_STATE_HOME", ".local/state");
#endif
}

fs::path configDir() {
    if (const auto home = stemlineHome())
        return *home / "config";
#if defined(_WIN32) || defined(__APPLE__)
    return stateDir();
#else
    return fromVariable("XDG_CONFIG_HOME", ".config");
#endif
}

fs::path runtimeDir() {
    if (const auto home = stemlineHome())
        return *home / "run";
#if defined(_WIN32)
    return fs::path(environment("LOCALAPPDATA")) / "Temp" / "stemline";
#elif defined(__APPLE__)
    return userHome() / "Library/Caches/TemporaryItems/stemline";
#else
    const std::string uid = std::to_string(::getuid());
    for (const std::string& candidate : {environment("XDG_RUNTIME_DIR"), "/run/user/" + uid})
        if (!candidate.empty() && ::access(candidate.c_str(), W_OK | X_OK) == 0)
            return fs::path(candidate) / "stemline";
    return "/tmp/stemline-" + uid;
#endif
}

void requirePrivate([[maybe_unused]] const fs::path& directory) {
#ifndef _WIN32
    struct stat found {};
    if (::lstat(directory.c_str(), &found) != 0)
        return; // what is not there holds nothing wrong
    if (!S_ISDIR(found.st_mode) || found.st_uid != ::getuid() || (found.st_mode & 022) != 0)
        throw ClientError(Problem{"UNSAFE_PATH",
                                  directory.string() + " is not a directory that only you can write to; remove it or "
                                                       "set STEMLINE_HOME",
                                  {{"path", directory.string()}}});
#endif
}

std::string readToken(const fs::path& path) {
    const auto unreadable = [&path](const std::string& why) {
        return ClientError(Problem{
            "NO_TOKEN_FILE", "cannot read the token in " + path.string() + ": " + why, {{"path", path.string()}}});
    };
    std::string token;
#ifdef _WIN32
    std::ifstream file(path);
    if (!std::getline(file, token))
        throw unreadable("there is none");
#else
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0)
        throw unreadable(std::strerror(errno));
    struct stat found {};
    char buffer[4096];
    const bool known = ::fstat(descriptor, &found) == 0;
    const ssize_t size = ::read(descriptor, buffer, sizeof buffer);
    ::close(descriptor);
    if (!known || size < 0)
        throw unreadable("it cannot be read");
    if ((found.st_mode & 077) != 0)
        throw ClientError(Problem{"UNSAFE_PATH",
                                  "others can read the token in " + path.string() + ": delete it to get a new one",
                                  {{"path", path.string()}}});
    token.assign(buffer, static_cast<std::size_t>(size));
#endif
    const std::size_t first = token.find_first_not_of(" \t\r\n");
    const std::size_t last = token.find_last_not_of(" \t\r\n");
    if (first == std::string::npos)
        throw unreadable("it is empty; delete it and start the server again");
    token = token.substr(first, last - first + 1);
    if (token.find_first_of("\r\n \t") != std::string::npos)
        throw unreadable("it holds more than a token");
    return token;
}

} // namespace stemline::client
