#include "client/flat_json.h"
#include "client/local_server.h"
#include "client/paths.h"
#include "client/problem.h"
#include "client/process.h"
#include "client/server_status.h"

#include <catch2/catch.hpp>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <unistd.h>

using namespace stemline::client;
namespace fs = std::filesystem;

namespace {

/// A STEMLINE_HOME of its own.
class Home {
  public:
    Home() : path(fs::temp_directory_path() / ("stemline-test-" + std::to_string(::getpid()))) {
        fs::remove_all(path);
        fs::create_directories(path / "run");
        fs::create_directories(path / "state");
        fs::permissions(path / "run", fs::perms::owner_all);
        ::setenv("STEMLINE_HOME", path.c_str(), 1);
    }
    ~Home() {
        ::unsetenv("STEMLINE_HOME");
        fs::remove_all(path);
    }
    Home(const Home&) = delete;
    Home& operator=(const Home&) = delete;

    void write(const std::string& name, const std::string& text, fs::perms perms = fs::perms(0600)) const {
        std::ofstream(path / name) << text;
        fs::permissions(path / name, perms);
    }
    void writeRecord(int pid) const {
        write("run/server.json", R"({"address": "unix:/tmp/\u00e9.sock", "pid": )" + std::to_string(pid) +
                                     R"(, "version": "0.1.0", "token_file": ")" + (path / "run/token").string() +
                                     R"(", "tls": false})");
    }

    const fs::path path;
};

std::string reasonOf(const std::function<void()>& action) {
    try {
        action();
    } catch (const ClientError& error) {
        return error.problem.reason;
    }
    return "";
}

} // namespace

TEST_CASE("server.json is read as Python writes it") {
    const auto members = parseFlatJson("{\"address\": \"unix:/home/\\u00fcser \\ud83d\\ude00/\\\"x\\\\y\", \"pid\": "
                                       "12, \"tls\": false, \"n\": null}\n");
    REQUIRE(members);
    CHECK(members->at("address") == "unix:/home/üser 😀/\"x\\y");
    CHECK(members->at("pid") == "12");
    CHECK(members->at("tls") == "false");
    CHECK(parseFlatJson("{}"));
    CHECK(parseFlatJson(R"({"path": "/caf\udce9"})")->at("path") == "/caf\xe9"); // a byte that is no UTF-8
}

TEST_CASE("what is not one flat object is no record") {
    const std::string whole = R"({"a": "b\u00e9", "c": 1, "d": true})";
    REQUIRE(parseFlatJson(whole));
    for (std::size_t size = 0; size < whole.size(); ++size)
        CHECK_FALSE(parseFlatJson(whole.substr(0, size)));
    for (const char* text : {"", "[]", "{\"a\": {\"b\": 1}}", "{\"a\": [1]}", "{\"a\" 1}", "{\"a\": 1} x", "{\"a\": }",
                             R"({"a": "\ud83d"})", R"({"a": "\uZZZZ"})", R"({"a": "\x"})"})
        CHECK_FALSE(parseFlatJson(text));
}

TEST_CASE("a server is found by its record if its process lives") {
    const Home home;
    CHECK_FALSE(LocalServer::find());
    home.write("run/token", "secret\n");
    home.writeRecord(::getpid());
    const auto found = LocalServer::find();
    REQUIRE(found);
    CHECK(found->endpoint.address == "unix:/tmp/é.sock");
    CHECK(found->endpoint.token == "secret");
    CHECK_FALSE(found->endpoint.tls);
    CHECK_FALSE(LocalServer::running()); // this process holds no lock
    home.writeRecord(0x3ffffff);         // beyond the largest process number
    CHECK_FALSE(LocalServer::find());
    home.write("run/server.json", "{\"half\": ");
    CHECK_FALSE(LocalServer::find());
}

TEST_CASE("a token that others can read, that is a link or that is no token is refused") {
    const Home home;
    home.writeRecord(::getpid());
    CHECK(reasonOf([] { LocalServer::find(); }) == "NO_TOKEN_FILE");
    home.write("run/token", "secret\n", fs::perms(0644));
    CHECK(reasonOf([] { LocalServer::find(); }) == "UNSAFE_PATH");
    home.write("run/token", " \n");
    CHECK(reasonOf([] { LocalServer::find(); }) == "NO_TOKEN_FILE");
    home.write("run/token", "two\nlines\n");
    CHECK(reasonOf([] { LocalServer::find(); }) == "NO_TOKEN_FILE");
    fs::remove(home.path / "run/token");
    home.write("elsewhere", "secret\n");
    fs::create_symlink(home.path / "elsewhere", home.path / "run/token");
    CHECK(reasonOf([] { LocalServer::find(); }) == "NO_TOKEN_FILE");
}

TEST_CASE("a runtime directory that others can write to is not believed") {
    const Home home;
    home.write("run/token", "secret\n");
    home.writeRecord(::getpid());
    fs::permissions(home.path / "run", fs::perms(0777));
    CHECK(reasonOf([] { LocalServer::find(); }) == "UNSAFE_PATH");
}

TEST_CASE("a server that does not come up is reported with what it said") {
    const Home home;
    home.write("python", "#!/bin/sh\necho first\necho 'no torch here' >&2\nexit 4\n", fs::perms(0700));
    ::setenv("STEMLINE_PYTHON", (home.path / "python").c_str(), 1);
    try {
        LocalServer::start({"--cpu"}, {});
        FAIL("it started");
    } catch (const ClientError& error) {
        CHECK(error.problem.reason == "SERVER_DID_NOT_START");
        CHECK(error.problem.message.find("exit code 4") != std::string::npos);
        CHECK(error.problem.metadata.at("log") == "first\nno torch here\n");
    }
    CHECK(LocalServer::lastLogLines(1) == std::vector<std::string>{"no torch here"});
    ::setenv("STEMLINE_PYTHON", (home.path / "nowhere").c_str(), 1);
    CHECK(reasonOf([] { LocalServer::start({}, {}); }) == "SERVER_NOT_INSTALLED");
    ::unsetenv("STEMLINE_PYTHON");
}

TEST_CASE("the interpreter that an installation has left is used, with the arguments given") {
    const Home home;
    fs::create_directories(home.path / "config");
    home.write("python", "#!/bin/sh\necho \"$@\" \"[$PYTHONHOME]\"\nexit 4\n", fs::perms(0700));
    home.write("config/python", (home.path / "python").string() + "\n");
    ::setenv("PYTHONHOME", "/the/host/s/own", 1);
    CHECK(reasonOf([] { LocalServer::start({"--gpu", "1"}, {}); }) == "SERVER_DID_NOT_START");
    ::unsetenv("PYTHONHOME");
    CHECK(LocalServer::lastLogLines(1) == std::vector<std::string>{"-m pyserver serve --gpu 1 []"});
}

TEST_CASE("waiting for a start can be cancelled") {
    const Home home;
    home.write("python", "#!/bin/sh\nexec sleep 30\n", fs::perms(0700));
    ::setenv("STEMLINE_PYTHON", (home.path / "python").c_str(), 1);
    std::stop_source stop;
    std::jthread later([&stop] {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        stop.request_stop();
    });
    CHECK(reasonOf([&stop] { LocalServer::start({}, stop.get_token()); }) == "CANCELLED");
    ::unsetenv("STEMLINE_PYTHON");
}

TEST_CASE("a child that has ended is gone, not a zombie, and has left its exit code") {
    const fs::path log = fs::temp_directory_path() / ("stemline-log-" + std::to_string(::getpid()));
    const int pid = spawnDetached({"/bin/sh", "-c", "exit 7"}, log);
    while (processLives(pid))
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    CHECK(exitCode(pid) == 7);
    CHECK_FALSE(fs::exists("/proc/" + std::to_string(pid)));
    fs::remove(log);
}

TEST_CASE("the chip says what the editor's design says") {
    using State = ServerStatus::State;
    ServerStatus status;
    CHECK(chipText(status) == "Server stopped");
    status.state = State::loadingModel;
    CHECK(chipText(status) == "Starting · loading model");
    status.device = "RTX 4070";
    status.windowMs = 37.8;
    status.state = State::ready;
    CHECK(chipText(status) == "Ready · RTX 4070 · 38 ms");
    status.state = State::separating;
    CHECK(chipText(status) == "Separating · RTX 4070");
    status.state = State::lost;
    status.tryNumber = 3;
    status.secondsToNextTry = 1.2;
    CHECK(chipText(status) == "Server lost · try 3 in 2 s");
    status.state = State::refused;
    status.problem = Problem{"UNKNOWN_MODEL", "", {}};
    CHECK(chipText(status) == "Model missing on the server");
}
