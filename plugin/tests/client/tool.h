// What the commands of the console program share.
#pragma once

#include "client/endpoint.h"
#include "client/server_status.h"

#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace stemline::tool {

/// `--key value` pairs.
class Options {
  public:
    Options(int count, char** words);

    bool has(const std::string& key) const { return values_.contains(key); }
    std::string text(const std::string& key, const std::string& otherwise = "") const;
    double number(const std::string& key, double otherwise) const;
    int integer(const std::string& key, int otherwise) const { return static_cast<int>(number(key, otherwise)); }
    /// --address, --token (a file), --ca, --tls, --start, --start-arguments; without --address: this user's server.
    client::ServerChoice server() const;

  private:
    std::map<std::string, std::string> values_;
};

std::vector<float> readSamples(const std::filesystem::path&); // raw float32
void writeSamples(const std::filesystem::path&, const std::vector<float>&);

/// One line of JSON on standard output, at once.
class Line {
  public:
    explicit Line(const std::string& event);
    ~Line();
    Line(const Line&) = delete;
    Line& operator=(const Line&) = delete;
    Line& add(const std::string& key, const std::string& value);
    Line& add(const std::string& key, const char* value) { return add(key, std::string(value)); }
    Line& add(const std::string& key, double value);
    Line& add(const std::string& key, const std::vector<std::string>& values);

  private:
    std::string text_;
};

Line& operator<<(Line&, const client::ServerStatus&);

/// Commands from standard input, a line each, run on a thread of their own until there are no more.
class Commands {
  public:
    explicit Commands(std::function<void(const std::string& word, const std::string& rest)>);

  private:
    std::jthread thread_;
};

int live(const Options&);
int bounce(const Options&);
int models(const Options&);

} // namespace stemline::tool
