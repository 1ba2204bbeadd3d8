#include "tool.h"

#include "client/bounce_job.h"

#include <algorithm>
#include <atomic>
#include <chrono>

namespace stemline::tool {

/// bounce --in F32 --out DIR --id ID [--model M] [--seed N] [--steps N] [--stems a,b]. Commands: cancel.
int bounce(const Options& options) {
    using State = client::BounceProgress::State;
    const std::vector<float> input = readSamples(options.text("in"));
    client::BounceRequest request;
    request.requestId = options.text("id");
    request.model = options.text("model");
    request.seed = static_cast<std::uint64_t>(options.integer("seed", 0));
    if (options.has("steps"))
        request.refinerSteps = options.integer("steps", 0);
    request.sampleRateHz = options.integer("rate", 44100);
    request.channels = options.integer("channels", 2);
    request.frames = static_cast<std::int64_t>(input.size()) / request.channels;
    request.folder = options.text("out");
    request.patienceSeconds = options.number("patience-s", 60);
    const auto source = [&](std::int64_t frame, int frames, float* interleaved) {
        std::copy_n(input.begin() + frame * request.channels, std::int64_t{frames} * request.channels, interleaved);
    };
    std::atomic<int> last{-1};
    auto job = std::make_unique<client::BounceJob>(
        options.server(), request, source, [&last](const client::BounceProgress& now) {
            if (last.exchange(static_cast<int>(now.state)) == static_cast<int>(now.state))
                return;
            Line("state")
                .add("state", static_cast<int>(now.state))
                .add("fraction", now.fraction)
                .add("reason", now.problem ? now.problem->reason : "");
        });
    const Commands commands([&job](const std::string& word, const std::string&) {
        if (word == "cancel")
            job->cancel();
    });
    const client::BounceProgress end = job->wait();
    Line line("end");
    line.add("state", static_cast<int>(end.state)).add("reason", end.problem ? end.problem->reason : "");
    line.add("message", end.problem ? end.problem->message : "").add("model", end.model);
    line.add("weights", end.weightsSha256).add("fraction", end.fraction);
    std::vector<std::string> stems;
    for (const client::BounceOutput& output : end.outputs)
        stems.push_back(output.stem);
    line.add("stems", stems);
    return end.state == State::finished ? 0 : 1;
}

} // namespace stemline::tool
