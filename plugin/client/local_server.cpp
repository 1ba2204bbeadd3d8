#include "client/local_server.h"

#include "client/flat_json.h"
#include "client/paths.h"
#include "client/problem.h"
#include "client/process.h"

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <iterator>
#include <mutex>
#include <thread>

namespace stemline::client {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

namespace {

constexpr auto startLimit = 180s;
constexpr auto poll = 50ms;
constexpr int alreadyRunning = 60; // exit code SERVER_ALREADY_RUNNING, see pyserver/cli/exits.py
constexpr std::size_t shownLines = 12;

/// One instance of the process starts the server, the others wait for it.
std::timed_mutex starting;

int number(const std::string& text) {
    int value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

std::string wholeFile(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> command(const std::vector<std::string>& arguments) {
    std::vector<std::string> words;
    const char* given = std::getenv("STEMLINE_PYTHON");
    std::string interpreter = given == nullptr ? "" : given;
    if (interpreter.empty()) {
        std::ifstream file(LocalServer::interpreterFile());
        std::getline(file, interpreter);
    }
    if (interpreter.empty())
        words = {"stemline"};
    else
        words = {interpreter, "-m", "pyserver"};
    words.emplace_back("serve");
    words.insert(words.end(), arguments.begin(), arguments.end());
    return words;
}

void sleepUnlessStopped(std::stop_token stop) {
    if (stop.stop_requested())
        throw ClientError("CANCELLED", "not started: it was cancelled");
    std::this_thread::sleep_for(poll);
}

ClientError didNotStart(const std::string& why) {
    std::string log;
    for (const std::string& line : LocalServer::lastLogLines(shownLines))
        log += line + "\n";
    return ClientError(Problem{"SERVER_DID_NOT_START", "The server did not start: " + why, {{"log", log}}});
}

fs::path lockFile() { return stateDir() / "server.lock"; }

} // namespace

fs::path LocalServer::logFile() { return stateDir() / "started-by-plugin.log"; }

fs::path LocalServer::interpreterFile() { return configDir() / "python"; }

std::optional<ServerRecord> LocalServer::find() {
    const fs::path directory = runtimeDir();
    requirePrivate(directory);
    auto members = parseFlatJson(wholeFile(directory / "server.json"));
    if (!members || !members->contains("address") || !members->contains("token_file"))
        return std::nullopt;
    ServerRecord record;
    record.pid = number((*members)["pid"]);
    if (!processLives(record.pid))
        return std::nullopt;
    record.version = (*members)["version"];
    record.endpoint.address = (*members)["address"];
    record.endpoint.tls = (*members)["tls"] == "true";
    record.endpoint.token = readToken((*members)["token_file"]);
    return record;
}

bool LocalServer::leftRecord() { return fs::exists(runtimeDir() / "server.json"); }

bool LocalServer::running() { return lockHeld(lockFile()); }

ServerRecord LocalServer::start(const std::vector<std::string>& arguments, std::stop_token stop) {
    std::unique_lock lock(starting, std::defer_lock);
    while (!lock.try_lock_for(poll))
        if (stop.stop_requested())
            throw ClientError("CANCELLED", "not started: it was cancelled");
    const auto until = Clock::now() + startLimit;
    const auto found = [] { return running() ? find() : std::nullopt; }; // a record may outlive its server
    if (auto record = found())
        return *record;
    fs::create_directories(stateDir());
    int pid = spawnDetached(command(arguments), logFile());
    while (Clock::now() < until) {
        if (auto record = found())
            return *record;
        if (pid != 0)
            if (const auto code = exitCode(pid)) {
                // 127 is what posix_spawn leaves where the program is not there, on systems that notice it too late.
                if (*code == 127)
                    throw ClientError(Problem{"SERVER_NOT_INSTALLED", "cannot start the server: no such program", {}});
                if (*code != alreadyRunning)
                    throw didNotStart("it ended with exit code " + std::to_string(*code));
                pid = 0; // somebody else's was faster: its record is on the way
            }
        // The other one has gone again before it wrote a record.
        if (pid == 0 && !running())
            pid = spawnDetached(command(arguments), logFile());
        sleepUnlessStopped(stop);
    }
    throw didNotStart("it said nothing for " + std::to_string(std::chrono::seconds(startLimit).count()) + " s");
}

bool LocalServer::end(double patienceSeconds, std::stop_token stop) {
    const int pid = number(wholeFile(lockFile()));
    if (!running())
        return true;
    if (!processLives(pid))
        return false;
    askToEnd(pid);
    const auto insist = Clock::now() + std::chrono::duration<double>(patienceSeconds);
    while (running() && Clock::now() < insist && !stop.stop_requested())
        std::this_thread::sleep_for(poll);
    if (running() && !stop.stop_requested() && number(wholeFile(lockFile())) == pid)
        killProcess(pid);
    for (int i = 0; i < 20 && running() && !stop.stop_requested(); ++i)
        std::this_thread::sleep_for(poll);
    processLives(pid); // buries it if it was ours
    return !running();
}

std::vector<std::string> LocalServer::lastLogLines(std::size_t count) {
    std::ifstream file(logFile(), std::ios::binary);
    // A log that a server has written for days is read from near its end only.
    constexpr std::streamoff tail = 64 * 1024;
    file.seekg(0, std::ios::end);
    const std::streamoff size = file.tellg();
    file.seekg(size > tail ? size - tail : 0);
    std::deque<std::string> lines;
    for (std::string line; std::getline(file, line);) {
        lines.push_back(line);
        if (lines.size() > count)
            lines.pop_front();
    }
    return {lines.begin(), lines.end()};
}

} // namespace stemline::client
