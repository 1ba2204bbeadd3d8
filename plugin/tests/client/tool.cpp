// The client on the command line, for tests: `live` plays a file through LivePlayer and LiveLink, `bounce` through
// BounceJob. Says what happens in lines of JSON and takes commands on standard input.
#include "tool.h"

#include "client/models.h"
#include "client/problem.h"

#include <cstdio>

namespace stemline::tool {

int models(const Options& options) {
    const client::ModelList list = client::listModels(options.server(), {});
    for (const client::ModelInfo& model : list.models)
        Line("model").add("name", model.name).add("stems", model.stems);
    Line("default").add("name", list.defaultModel);
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
        std::fprintf(stderr, "stemline_client_tool live|bounce|models --key value ...\n");
        return 2;
    } catch (const client::ClientError& error) {
        tool::Line("error").add("reason", error.problem.reason).add("message", error.problem.message);
        return 1;
    }
}
