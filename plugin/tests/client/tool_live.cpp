#include "tool.h"

#include "client/live_link.h"
#include "engine/latency.h"
#include "engine/live_player.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <sstream>

namespace stemline::tool {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

/// A jump of the host's transport: from `frame` on it is at `position`.
struct Jump {
    std::int64_t frame, position;
};

std::vector<Jump> jumps(const Options& options) {
    std::vector<Jump> all{{0, options.integer("position", 0)}};
    std::istringstream words(options.text("jumps"));
    Jump jump{};
    for (char colon = 0; words >> jump.frame >> colon >> jump.position;) {
        all.push_back(jump);
        if (words.peek() == ',')
            words.get();
    }
    return all;
}

/// The host: blocks at its own pace, the player, and what it gave.
class Host {
  public:
    explicit Host(const Options& options)
        : offline_(options.has("offline")), waits_(offline_ && !options.has("paced")),
          channels_(options.integer("channels", 2)), block_(options.integer("block", 512)),
          rate_(options.number("rate", 44100)), input_(readSamples(options.text("in"))), jumps_(jumps(options)),
          least_(std::llround(options.number("seconds", 0) * rate_)) {
        const LatencyPlan plan = planLatency(options.number("latency-s", 2.0), rate_, block_, 0.02);
        player.prepare(channels_, block_, plan.total, rate_);
        settings.model = options.text("model");
        settings.seed = static_cast<std::uint64_t>(options.integer("seed", 0));
        if (options.has("steps"))
            settings.refinerSteps = options.integer("steps", 0);
        settings.sampleRate = rate_;
        settings.channels = channels_;
        settings.askLatency = plan.askServer;
        settings.chunk = options.integer("chunk", plan.chunk);
        settings.offline = offline_;
        settings.separate = !options.has("idle");
        patience_ = std::chrono::duration<double>(options.number("patience-s", 60));
        for (auto& bus : buses_)
            bus.reserve(input_.size());
    }

    void play(const std::atomic<bool>& quit) {
        const std::int64_t total =
            std::max(static_cast<std::int64_t>(input_.size()) / channels_, least_) + player.latency();
        const auto began = Clock::now();
        for (std::int64_t frame = 0; frame < total && !quit; frame += block_) {
            const int frames = static_cast<int>(std::min<std::int64_t>(block_, total - frame));
            if (waits_)
                waitForStems(frames);
            else
                std::this_thread::sleep_until(began +
                                              std::chrono::duration_cast<Clock::duration>(
                                                  std::chrono::duration<double>(static_cast<double>(frame) / rate_)));
            processBlock(frame, frames);
        }
    }

    void write(const std::filesystem::path& folder) const {
        for (std::size_t bus = 0; bus < buses_.size(); ++bus)
            writeSamples(folder / (std::string(bus < numStems ? stemName(static_cast<Stem>(bus)) : "delayed") + ".f32"),
                         buses_[bus]);
    }

    LivePlayer player;
    client::LiveSettings settings;

  private:
    void waitForStems(int frames) {
        const auto until = Clock::now() + patience_;
        while (!player.readyFor(frames) && Clock::now() < until)
            std::this_thread::sleep_for(200us);
    }

    Transport transport(std::int64_t frame) const {
        const auto jump = std::find_if(jumps_.rbegin(), jumps_.rend(), [&](const Jump& j) { return j.frame <= frame; });
        return {true, jump->position + frame - jump->frame, offline_};
    }

    void processBlock(std::int64_t frame, int frames) {
        const auto channels = static_cast<std::size_t>(channels_);
        const auto count = static_cast<std::size_t>(frames);
        std::vector<std::vector<float>> planes((numStems + 2) * channels, std::vector<float>(count));
        std::vector<float*> pointers;
        for (auto& plane : planes)
            pointers.push_back(plane.data());
        float* const* in = pointers.data() + (numStems + 1) * channels;
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t c = 0; c < channels; ++c) {
                const std::size_t at = (static_cast<std::size_t>(frame) + i) * channels + c;
                in[c][i] = at < input_.size() ? input_[at] : 0.0f;
            }
        player.process(transport(frame), in, frames, pointers.data(), pointers.data() + numStems * channels);
        for (std::size_t bus = 0; bus < buses_.size(); ++bus)
            for (std::size_t i = 0; i < count; ++i)
                for (std::size_t c = 0; c < channels; ++c)
                    buses_[bus].push_back(planes[bus * channels + c][i]);
    }

    bool offline_; // to the server; a host that only `waits_` if it is not paced
    bool waits_;
    int channels_;
    int block_;
    double rate_;
    std::chrono::duration<double> patience_{};
    std::vector<float> input_;
    std::vector<Jump> jumps_;
    std::int64_t least_; // to be played, silence behind the input
    std::array<std::vector<float>, numStems + 1> buses_;
};

} // namespace

/// live --in F32 [--out DIR] [--offline] [--latency-s 2] [--block 512] [--chunk 512] [--jumps FRAME:POSITION,...]
/// Commands: stop, try, restart, status, quit, steps N.
int live(const Options& options) {
    Host host(options);
    client::LiveLink link(host.player.input(), host.player.timeline(), options.server(), host.settings);
    std::atomic<bool> quit{false};
    std::mutex changing;
    const Commands commands([&](const std::string& word, const std::string& rest) {
        const std::scoped_lock lock(changing);
        if (word == "stop") {
            const auto before = Clock::now();
            link.stop();
            Line("stopped").add("seconds", std::chrono::duration<double>(Clock::now() - before).count());
        } else if (word == "try") {
            link.tryNow();
        } else if (word == "restart") {
            link.restartServer();
        } else if (word == "status") {
            Line line("status");
            line << link.status();
        } else if (word == "steps") {
            host.settings.refinerSteps = std::stoi(rest);
            link.reconfigure(host.settings);
        } else if (word == "quit") {
            quit = true;
        }
    });
    std::jthread watcher([&link](std::stop_token stop) {
        for (std::string last; !stop.stop_requested(); std::this_thread::sleep_for(10ms)) {
            const client::ServerStatus status = link.status();
            const std::string now = std::to_string(static_cast<int>(status.state)) +
                                    (status.problem ? status.problem->reason : "") + status.notice;
            if (now != last) {
                Line line("state");
                line.add("state", static_cast<int>(status.state)) << status;
            }
            last = now;
        }
    });
    std::vector<std::unique_ptr<Host>> others;
    std::vector<std::unique_ptr<client::LiveLink>> links; // as many plugins in one host
    for (int i = 1; i < options.integer("links", 1); ++i) {
        others.push_back(std::make_unique<Host>(options));
        links.push_back(std::make_unique<client::LiveLink>(others.back()->player.input(),
                                                           others.back()->player.timeline(), options.server(),
                                                           others.back()->settings));
    }
    for (const auto& other : links)
        while (other->status().state < client::ServerStatus::State::ready && !quit)
            std::this_thread::sleep_for(5ms);
    if (!links.empty())
        Line("all-ready");
    if (options.has("when-ready")) // what a user does: play when it is ready
        while (link.status().state < client::ServerStatus::State::ready && !quit)
            std::this_thread::sleep_for(5ms);
    host.play(quit);
    watcher.request_stop();
    watcher.join();
    link.stop(); // the last stems are heard before they are counted
    Line line("end");
    line << link.status();
    line.add("late_blocks", static_cast<double>(host.player.counters().lateBlocks));
    line.add("late_frames", static_cast<double>(host.player.counters().lateFrames));
    line.add("total_latency", host.player.latency());
    line.add("lost_frames", static_cast<double>(host.player.input().lostFrames()));
    if (options.has("out"))
        host.write(options.text("out"));
    return 0;
}

} // namespace stemline::tool
