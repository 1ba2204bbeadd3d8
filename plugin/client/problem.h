// What can go wrong on the way to the server and back, in the server's own terms.
#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <utility>

namespace stemline::client {

/// Why something did not work: `reason` for programs (WRONG_TOKEN, UNKNOWN_MODEL, ...), `message` for people.
struct Problem {
    std::string reason;
    std::string message;
    std::map<std::string, std::string> metadata;
};

/// A Problem as an exception; thrown on the client's own threads only, never on the audio thread.
class ClientError : public std::runtime_error {
  public:
    explicit ClientError(Problem what) : std::runtime_error(what.message), problem(std::move(what)) {}
    ClientError(std::string reason, std::string message)
        : ClientError(Problem{std::move(reason), std::move(message), {}}) {}

    Problem problem;
};

} // namespace stemline::client
