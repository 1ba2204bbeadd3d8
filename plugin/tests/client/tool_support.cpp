#include "tool.h"

#include "client/paths.h"

#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <poll.h>
#include <sstream>
#include <unistd.h>

namespace stemline::tool {

Options::Options(int count, char** words) {
    for (int i = 2; i < count; ++i) {
        std::string key = words[i];
        if (!key.starts_with("--"))
            continue;
        const bool hasValue = i + 1 < count && !std::string(words[i + 1]).starts_with("--");
        values_[key.substr(2)] = hasValue ? words[++i] : "";
    }
}

std::string Options::text(const std::string& key, const std::string& otherwise) const {
    const auto found = values_.find(key);
    return found == values_.end() ? otherwise : found->second;
}

double Options::number(const std::string& key, double otherwise) const {
    return has(key) ? std::stod(text(key)) : otherwise;
}

client::ServerChoice Options::server() const {
    client::ServerChoice choice;
    choice.startAutomatically = has("start");
    std::istringstream words(text("start-arguments"));
    choice.startArguments.assign(std::istream_iterator<std::string>(words), {});
    for (std::string& word : choice.startArguments)
        word = "--" + word;
    if (has("address")) {
        const std::string token = has("token") ? client::readToken(text("token")) : "";
        choice.remote = client::Endpoint{text("address"), token, text("ca"), has("tls")};
    }
    return choice;
}

std::vector<float> readSamples(const std::filesystem::path& path) {
    std::vector<float> samples(std::filesystem::file_size(path) / sizeof(float));
    std::ifstream(path, std::ios::binary)
        .read(reinterpret_cast<char*>(samples.data()), static_cast<std::streamsize>(samples.size() * sizeof(float)));
    return samples;
}

void writeSamples(const std::filesystem::path& path, const std::vector<float>& samples) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(samples.data()),
               static_cast<std::streamsize>(samples.size() * sizeof(float)));
}

namespace {

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\')
            out += '\\';
        if (static_cast<unsigned char>(c) < 0x20) {
            char escape[8];
            std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
            out += escape;
        } else {
            out += c;
        }
    }
    return out + "\"";
}

} // namespace

Line::Line(const std::string& event) : text_("{\"event\": " + quoted(event)) {}

Line::~Line() {
    text_ += "}\n";
    static std::mutex printing;
    const std::scoped_lock lock(printing);
    std::fputs(text_.c_str(), stdout);
    std::fflush(stdout);
}

Line& Line::add(const std::string& key, const std::string& value) {
    text_ += ", " + quoted(key) + ": " + quoted(value);
    return *this;
}

Line& Line::add(const std::string& key, double value) {
    char number[32];
    std::snprintf(number, sizeof number, "%.15g", value);
    text_ += ", " + quoted(key) + ": " + number;
    return *this;
}

Line& Line::add(const std::string& key, const std::vector<std::string>& values) {
    text_ += ", " + quoted(key) + ": [";
    for (std::size_t i = 0; i < values.size(); ++i)
        text_ += (i > 0 ? ", " : "") + quoted(values[i]);
    text_ += "]";
    return *this;
}

Line& operator<<(Line& line, const client::ServerStatus& status) {
    line.add("chip", client::chipText(status)).add("address", status.address).add("model", status.model);
    line.add("weights", status.weightsSha256).add("stems", status.stems).add("notice", status.notice);
    line.add("latency", status.latencySamples).add("hop", status.hopSamples).add("steps", status.refinerSteps);
    line.add("bounce_windows", status.bounceWindows ? 1 : 0).add("tries", status.tryNumber);
    line.add("reason", status.problem ? status.problem->reason : "");
    line.add("message", status.problem ? status.problem->message : "");
    line.add("log",
             status.problem && status.problem->metadata.contains("log") ? status.problem->metadata.at("log") : "");
    const client::LiveStatistics& counts = status.statistics;
    line.add("sent", static_cast<double>(counts.framesSent))
        .add("received", static_cast<double>(counts.framesReceived));
    line.add("dropped", static_cast<double>(counts.framesDropped)).add("late", static_cast<double>(counts.framesLate));
    line.add("skipped", static_cast<double>(counts.framesSkipped));
    line.add("non_finite", static_cast<double>(counts.nonFiniteChunks)).add("reconnections", counts.reconnections);
    line.add("engine_restarts", counts.engineRestarts);
    return line;
}

Commands::Commands(std::function<void(const std::string&, const std::string&)> run) {
    thread_ = std::jthread([run = std::move(run)](std::stop_token stop) {
        std::string pending;
        while (!stop.stop_requested()) {
            pollfd waiting{STDIN_FILENO, POLLIN, 0};
            if (::poll(&waiting, 1, 20) != 1)
                continue;
            char bytes[256];
            const ssize_t count = ::read(STDIN_FILENO, bytes, sizeof bytes);
            if (count <= 0)
                return;
            pending.append(bytes, static_cast<std::size_t>(count));
            for (std::size_t end = pending.find('\n'); end != std::string::npos; end = pending.find('\n')) {
                const std::string line = pending.substr(0, end);
                pending.erase(0, end + 1);
                const std::size_t space = std::min(line.find(' '), line.size());
                run(line.substr(0, space), space < line.size() ? line.substr(space + 1) : "");
            }
        }
    });
}

} // namespace stemline::tool
