#include "client/verdict.h"

#include <catch2/catch.hpp>

using namespace stemline::client;
using namespace std::chrono_literals;
using State = ServerStatus::State;

TEST_CASE("a server that is gone is looked for at longer and longer intervals, up to two seconds") {
    const Problem gone{"SERVER_UNREACHABLE", "", {}};
    std::vector<std::int64_t> pauses;
    for (int tries = 0; tries < 7; ++tries) {
        const Verdict verdict = judge(gone, {tries, true, true});
        CHECK(verdict.state == State::lost);
        CHECK(verdict.connectionIsGone);
        CHECK_FALSE(verdict.startNone);
        pauses.push_back(verdict.pause.count());
    }
    CHECK(pauses == std::vector<std::int64_t>{200, 400, 800, 1600, 2000, 2000, 2000});
}

TEST_CASE("a server that was shut down is not started again, one that crashed may be") {
    CHECK(judge({"SHUTTING_DOWN", "", {}}, {0, true, true}).startNone);
    CHECK_FALSE(judge({"SERVER_UNREACHABLE", "", {}}, {0, true, true}).startNone);
    CHECK(judge({"SERVER_DID_NOT_START", "", {}}, {}).startNone);
}

TEST_CASE("no server is stopped for who never had one, and lost for who had") {
    CHECK(judge({"SERVER_STOPPED", "", {}}, {0, false, false}).state == State::stopped);
    CHECK(judge({"SERVER_STOPPED", "", {}}, {0, true, false}).state == State::lost);
}

TEST_CASE("what the server will not do is refused, what goes wrong on the way is tried again soon") {
    const Problem missing{"UNKNOWN_MODEL", "", {}};
    CHECK(judge(missing, {}).state == State::refused);
    CHECK_FALSE(judge(missing, {}).connectionIsGone);
    const Verdict crashed = judge({"ENGINE_CRASHED", "", {}}, {0, true, true});
    CHECK(crashed.state == State::lost);
    CHECK(crashed.pause < 1s);
    CHECK_FALSE(crashed.connectionIsGone);
}

TEST_CASE("an impostor is dropped") {
    const Verdict verdict = judge({"UNTRUSTED_SERVER", "", {}}, {0, true, true});
    CHECK(verdict.state == State::untrusted);
    CHECK(verdict.connectionIsGone);
}
