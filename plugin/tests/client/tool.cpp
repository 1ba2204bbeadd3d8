// The client on the command line, for tests: `live` plays a file through LivePlayer and LiveLink, `bounce` through
// BounceJob. Says what happens in lines of JSON and takes commands on standard input.
#include "tool.h"

#include "client/model_download.h"
#include "client/problem.h"

#include <chrono>
#include <cstdio>
#include <thread>

namespace stemline::tool {

int models(const Options& options) {
    const client::ModelList list = client::listModels(options.server(), {});
    for (const client::ModelInfo& model : list.models)
        Line("model").add("name", model.name).add("stems", model.stems);
    Line("default").add("name", list.defaultModel);
    return 0;
}

/// Until it has ended, or for `--cancel-after-s`.
int download(const Options& options) {
    using namespace std::chrono_literals;
    client::ModelDownload download([] { Line("arrived"); });
    download.start(options.server(), options.text("model"));
    const double patience = options.number("cancel-after-s", 1e9);
    for (double waited = 0.0; download.status().running; waited += 0.02) {
        if (waited > patience)
            download.cancel();
        std::this_thread::sleep_for(20ms);
        const auto progress = download.status().progress;
        Line("progress")
            .add("stage", static_cast<double>(progress.stage))
            .add("done", static_cast<double>(progress.doneBytes))
            .add("total", static_cast<double>(progress.totalBytes));
    }
    if (const auto problem = download.status().problem)
        throw client::ClientError(*problem);
    return 0;
}

} // namespace stemline::tool

int main(int count, char** words) {
    using namespace stemline;
    const std::string command = count > 1 ? words[1] : "";
    const tool::Options options(count, words);
    try {
        if (command == "live")
            return tool::live(options);
        if (command == "bounce")
            return tool::bounce(options);
        if (command == "models")
            return tool::models(options);
        if (command == "download")
            return tool::download(options);
        std::fprintf(stderr, "stemline_client_tool live|bounce|models|download --key value ...\n");
        return 2;
    } catch (const client::ClientError& error) {
        tool::Line("error").add("reason", error.problem.reason).add("message", error.problem.message);
        return 1;
    }
}
