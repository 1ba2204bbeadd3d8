#include "client/process.h"

#include "client/problem.h"

#ifdef _WIN32
#error "process.cpp is for POSIX systems; Windows has process_windows.cpp"
#endif

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <string_view>

extern char** environ;

namespace stemline::client {

namespace {

/// Exit codes of our children that have been buried while somebody asked whether they live.
std::mutex buriedMutex;
std::map<int, int> buried;

bool bury(int pid) {
    int status = 0;
    if (::waitpid(pid, &status, WNOHANG) != pid)
        return false;
    const std::scoped_lock lock(buriedMutex);
    buried[pid] = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
}

/// Of the host's environment, what belongs to the host alone stays behind.
bool inherited(std::string_view entry) {
    for (const std::string_view name : {"PYTHONHOME=", "LD_PRELOAD=", "DYLD_INSERT_LIBRARIES="})
        if (entry.starts_with(name))
            return false;
    return true;
}

struct Attributes {
    Attributes() {
        posix_spawnattr_init(&value);
        sigset_t none;
        sigset_t all;
        sigemptyset(&none);
        sigfillset(&all);
        posix_spawnattr_setsigmask(&value, &none);
        posix_spawnattr_setsigdefault(&value, &all);
        int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID;
#ifdef __APPLE__
        flags |= POSIX_SPAWN_CLOEXEC_DEFAULT;
#endif
        posix_spawnattr_setflags(&value, static_cast<short>(flags));
    }
    ~Attributes() { posix_spawnattr_destroy(&value); }
    Attributes(const Attributes&) = delete;
    Attributes& operator=(const Attributes&) = delete;

    posix_spawnattr_t value;
};

struct Files {
    explicit Files(const std::filesystem::path& log) {
        posix_spawn_file_actions_init(&value);
        posix_spawn_file_actions_addopen(&value, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&value, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        posix_spawn_file_actions_adddup2(&value, STDOUT_FILENO, STDERR_FILENO);
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 34)
        posix_spawn_file_actions_addclosefrom_np(&value, STDERR_FILENO + 1);
#endif
    }
    ~Files() { posix_spawn_file_actions_destroy(&value); }
    Files(const Files&) = delete;
    Files& operator=(const Files&) = delete;

    posix_spawn_file_actions_t value;
};

} // namespace

int spawnDetached(const std::vector<std::string>& command, const std::filesystem::path& log) {
    std::vector<char*> arguments;
    arguments.reserve(command.size() + 1);
    for (const std::string& argument : command)
        arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    std::vector<char*> variables;
    for (char** entry = environ; *entry != nullptr; ++entry)
        if (inherited(*entry))
            variables.push_back(*entry);
    variables.push_back(nullptr);
    const Attributes attributes;
    const Files files(log);
    pid_t pid = 0;
    const int error =
        ::posix_spawnp(&pid, arguments[0], &files.value, &attributes.value, arguments.data(), variables.data());
    if (error != 0)
        throw ClientError(Problem{"SERVER_NOT_INSTALLED",
                                  "cannot start " + command.front() + ": " + std::strerror(error),
                                  {{"program", command.front()}}});
    const std::scoped_lock lock(buriedMutex);
    buried.erase(pid);
    return pid;
}

bool processLives(int pid) {
    if (pid <= 0 || bury(pid))
        return false;
    return ::kill(pid, 0) == 0 || errno == EPERM;
}

std::optional<int> exitCode(int pid) {
    if (processLives(pid))
        return std::nullopt;
    const std::scoped_lock lock(buriedMutex);
    const auto found = buried.find(pid);
    return found == buried.end() ? -1 : found->second;
}

void askToEnd(int pid) { ::kill(pid, SIGTERM); }

void killProcess(int pid) { ::kill(pid, SIGKILL); }

bool lockHeld(const std::filesystem::path& file) {
    const int descriptor = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    const bool held = ::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    ::close(descriptor);
    return held;
}

} // namespace stemline::client
