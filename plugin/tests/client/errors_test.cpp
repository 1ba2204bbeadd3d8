#include "client/endpoint.h"
#include "client/error_details.h"

#include <catch2/catch.hpp>

using namespace stemline::client;

namespace {

/// A field of bytes as protobuf writes it.
std::string field(int number, const std::string& value) {
    std::string out(1, static_cast<char>(number << 3 | 2));
    for (std::size_t size = value.size(); true; size >>= 7) {
        out.push_back(static_cast<char>((size & 0x7f) | (size > 0x7f ? 0x80 : 0)));
        if (size <= 0x7f)
            return out + value;
    }
}

std::string status(const std::string& domain = "stemline") {
    const std::string info = field(1, "LATENCY_NOT_POSSIBLE") + field(2, domain) +
                             field(3, field(1, "possible_latency_s") + field(2, "0.412")) +
                             field(3, field(1, "other") + field(2, std::string(300, 'x')));
    const std::string any = field(1, "type.googleapis.com/google.rpc.ErrorInfo") + field(2, info);
    return std::string("\x08\x03", 2) + field(2, "too small") + field(3, any);
}

} // namespace

TEST_CASE("what the server meant is read from the binary trailer") {
    const auto problem = parseStatusDetails(status());
    REQUIRE(problem);
    CHECK(problem->reason == "LATENCY_NOT_POSSIBLE");
    CHECK(problem->message == "too small");
    CHECK(problem->metadata.at("possible_latency_s") == "0.412");
    CHECK(problem->metadata.at("other").size() == 300);
}

TEST_CASE("another program's errors are not taken for the server's") {
    CHECK_FALSE(parseStatusDetails(status("googleapis.com")));
    CHECK_FALSE(parseStatusDetails(""));
}

TEST_CASE("damaged details are no details, wherever they are cut") {
    const std::string whole = status();
    for (std::size_t size = 0; size < whole.size(); ++size)
        CHECK_FALSE(parseStatusDetails(std::string_view(whole).substr(0, size)));
    for (std::size_t at = 0; at < whole.size(); ++at) {
        std::string damaged = whole;
        damaged[at] = static_cast<char>(damaged[at] ^ 0xff);
        parseStatusDetails(damaged); // whatever it says, it must not read beyond its end
    }
}

TEST_CASE("a call that nobody answered means that the server is gone") {
    const auto unavailable = problemOf({grpc::StatusCode::UNAVAILABLE, "Socket closed"}, "unix:/x");
    CHECK(unavailable.reason == "SERVER_UNREACHABLE");
    CHECK(meansLost(unavailable));
    const auto refused = problemOf({grpc::StatusCode::NOT_FOUND, "no such model", status()}, "unix:/x");
    CHECK(refused.reason == "LATENCY_NOT_POSSIBLE");
    CHECK_FALSE(meansLost(refused));
    CHECK(problemOf({grpc::StatusCode::UNIMPLEMENTED, "what?"}, "").reason == "UNIMPLEMENTED");
}

TEST_CASE("only this computer may be reached without TLS and a token") {
    for (const char* address : {"unix:/run/x.sock", "127.0.0.1:7000", "127.9.9.9:1", "[::1]:7000", "localhost:7000"}) {
        CHECK(Endpoint{address, "", "", false}.isLocal());
        CHECK_NOTHROW(requireSafe({address, "", "", false}));
    }
    for (const char* address : {"127.0.0.1.example.org:7000", "192.168.1.4:7000", "[fe80::1]:7000", "studio:7000",
                                "localhost.example.org:7000", "127.evil.org:7000"}) {
        CHECK_THROWS_AS(requireSafe({address, "token", "", false}), ClientError);
        CHECK_THROWS_AS(requireSafe({address, "", "", true}), ClientError);
        CHECK_NOTHROW(requireSafe({address, "token", "", true}));
    }
}
