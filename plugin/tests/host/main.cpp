// stemline_host SCRIPT: carries out one command a line and prints one JSON object for each that has something to say.
//
//   load PATH|direct · unload · layout 1|2 [BUS,BUS off] · prepare RATE MAXBLOCK · param NAME = TEXT · show NAME
//   input FILE.wav · play POSITION FRAMES SIZES · idle FRAMES SIZES · pace|offline|bypass|watch on|off
//   record on · write FILE.wav · save FILE · open FILE · transfer FILE · capture · stale · update · unheard · cancel ·
//   trim [everything] · lost [SECONDS] · model NAME · get NAME SECONDS · server SECONDS TEXT · drop FILE · settle
//   SECONDS · export FOLDER · ui COMMAND (see hand.h) · fuzz FILES.. · editor FILE.png SCALE · latency · buses · timing
//   resources · sleep SECONDS · syscalls FRAMES SIZES

#include "crowd.h"
#include "host.h"
#include "screen.h"
#include "system_calls.h"
#include <fstream>
#include <iostream>
#include <map>
#include <sndfile.h>
#include <sstream>
#include <thread>

using namespace stemline::host;

namespace {

void say(const juce::DynamicObject::Ptr& object) {
    std::cout << juce::JSON::toString(juce::var(object.get()), true) << std::endl;
}

void say(const char* key, const juce::var& value) {
    juce::DynamicObject::Ptr object = new juce::DynamicObject();
    object->setProperty(key, value);
    say(object);
}

juce::AudioBuffer<float> readAudio(const std::string& path) {
    SF_INFO info{};
    SNDFILE* in = sf_open(path.c_str(), SFM_READ, &info);
    if (in == nullptr)
        throw std::runtime_error(path + ": " + sf_strerror(nullptr));
    std::vector<float> frames(static_cast<std::size_t>(info.frames * info.channels));
    sf_readf_float(in, frames.data(), info.frames);
    sf_close(in);
    juce::AudioBuffer<float> audio(info.channels, static_cast<int>(info.frames));
    for (int n = 0; n < audio.getNumSamples(); ++n)
        for (int channel = 0; channel < info.channels; ++channel)
            audio.setSample(channel, n, frames[static_cast<std::size_t>(n * info.channels + channel)]);
    return audio;
}

/** Threads, descriptors and resident memory of this process. */
void sayResources() {
    juce::DynamicObject::Ptr object = new juce::DynamicObject();
    object->setProperty("descriptors", descriptorsNow());
    object->setProperty("threads", threadsNow());
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.rfind("VmRSS:", 0) == 0)
            object->setProperty("rss_kib", std::stoi(line.substr(6)));
    }
    say(object);
}

class Script {
  public:
    explicit Script(Host::OnMessageThread onMessageThread)
        : onMessageThread_(onMessageThread), host_(onMessageThread) {}

    void execute(const std::string& line) {
        std::istringstream words(line);
        std::string command;
        words >> command;
        if (command.empty() || command[0] == '#')
            return;
        const auto found = commands_.find(command);
        if (found == commands_.end())
            throw std::runtime_error("unknown command " + command);
        found->second(words);
    }

  private:
    using Words = std::istringstream;
    template <class T> static T take(Words& words) {
        T value{};
        if (!(words >> value))
            throw std::runtime_error("a value is missing");
        return value;
    }
    static bool onOff(Words& words) { return take<std::string>(words) == "on"; }
    static juce::File file(Words& words) {
        return juce::File::getCurrentWorkingDirectory().getChildFile(take<std::string>(words));
    }
    static std::string rest(Words& words) {
        std::string text;
        std::getline(words >> std::ws, text);
        return text;
    }

    void parameter(Words& words) {
        const auto text = juce::String(rest(words));
        host_.setParameter(text.upToFirstOccurrenceOf(" = ", false, false),
                           text.fromFirstOccurrenceOf(" = ", false, false));
    }
    void fuzz(Words& words) {
        int files = 0;
        for (std::string path; words >> path; ++files)
            host_.loadState(juce::File::getCurrentWorkingDirectory().getChildFile(path));
        say("states", files);
    }
    void sayTiming() {
        juce::DynamicObject::Ptr object = new juce::DynamicObject();
        object->setProperty("blocks", static_cast<int>(host_.timing.shares.size()));
        object->setProperty("median", host_.timing.quantile(0.5));
        object->setProperty("p999", host_.timing.quantile(0.999));
        object->setProperty("max", host_.timing.quantile(1.0));
        object->setProperty("late_blocks", host_.lateBlocks());
        say(object);
    }
    void sayBuses() {
        juce::StringArray names;
        for (int index = 0; index < host_.processor().getBusCount(false); ++index)
            names.add(host_.processor().getBus(false, index)->getName());
        say("buses", names.joinIntoString(","));
    }
    void sayCrowd(Words& words) {
        const auto count = take<int>(words);
        const auto cost = crowd(count, take<std::int64_t>(words), onMessageThread_);
        juce::DynamicObject::Ptr object = new juce::DynamicObject();
        object->setProperty("threads", juce::Array<juce::var>{cost.threadsBefore, cost.threads, cost.threadsAfter});
        object->setProperty("descriptors",
                            juce::Array<juce::var>{cost.descriptorsBefore, cost.descriptors, cost.descriptorsAfter});
        say(object);
    }
    void systemCalls(Words& words) {
        const auto frames = take<std::int64_t>(words);
        const auto sizes = take<std::string>(words);
        // The filter cannot be taken away again, so a thread of its own gets it and ends with it.
        int seen = 0;
        std::thread([&] {
            host_.run(0, true, 1, BlockSizes("1")); // whatever is resolved lazily
            forbidSystemCalls();
            host_.run(1, true, frames, BlockSizes(sizes));
            seen = forbiddenSystemCalls();
        }).join();
        say("system_calls", seen);
    }

    Host::OnMessageThread onMessageThread_;
    Host host_;
    const std::map<std::string, std::function<void(Words&)>> commands_{
        {"load", [this](Words& w) { host_.load(rest(w)); }},
        {"unload", [this](Words&) { host_.unload(); }},
        {"layout",
         [this](Words& w) {
             const int channels = take<int>(w);
             host_.layout(channels, juce::StringArray::fromTokens(juce::String(rest(w)), ",", ""));
         }},
        {"prepare",
         [this](Words& w) {
             const auto rate = take<double>(w);
             host_.prepare(rate, take<int>(w));
         }},
        {"param", [this](Words& w) { parameter(w); }},
        {"show", [this](Words& w) { say("value", host_.parameterText(juce::String(rest(w)))); }},
        {"input", [this](Words& w) { host_.setInput(readAudio(rest(w))); }},
        {"play",
         [this](Words& w) {
             const auto position = take<std::int64_t>(w), frames = take<std::int64_t>(w);
             const BlockSizes sizes(take<std::string>(w));
             if (host_.paced)
                 say("began", static_cast<double>(juce::Time::currentTimeMillis()) / 1e3);
             host_.run(position, true, frames, sizes);
         }},
        {"idle",
         [this](Words& w) {
             const auto frames = take<std::int64_t>(w);
             host_.run(0, false, frames, BlockSizes(take<std::string>(w)));
         }},
        {"pace", [this](Words& w) { host_.paced = onOff(w); }},
        {"offline", [this](Words& w) { host_.offline = onOff(w); }},
        {"bypass", [this](Words& w) { host_.bypassed = onOff(w); }},
        {"watch", [this](Words& w) { host_.watched = onOff(w); }},
        {"offences", [](Words&) { say("offences", offencesSeen()); }},
        {"record", [this](Words& w) { host_.record(onOff(w)); }},
        {"write", [this](Words& w) { host_.writeRecording(file(w)); }},
        {"save", [this](Words& w) { host_.saveState(file(w)); }},
        {"open", [this](Words& w) { host_.loadState(file(w)); }},
        {"transfer", [this](Words& w) { host_.loadState(file(w), true); }}, // a state that was saved by `load direct`
        {"capture", [this](Words&) { host_.capture(); }},
        {"stale", [this](Words&) { say("stale", host_.stale()); }},
        {"update", [this](Words&) { host_.update(); }},
        {"unheard", [this](Words&) { say("unheard", host_.stale(true)); }},
        {"trim", [this](Words& w) { host_.trimStore(rest(w) == "everything"); }},
        {"lost",
         [this](Words& w) {
             double seconds = 0.0;
             w >> seconds;
             say("lost", host_.lostPieces(seconds));
         }},
        {"model", [this](Words& w) { host_.setModel(rest(w)); }},
        {"get",
         [this](Words& w) {
             const auto name = take<std::string>(w);
             say("problem", juce::String(host_.getModel(name, take<double>(w))));
         }},
        {"server",
         [this](Words& w) {
             const auto seconds = take<double>(w);
             say("server", juce::String::fromUTF8(host_.serverText(rest(w), seconds).c_str()));
         }},
        {"cancel", [this](Words&) { host_.cancel(); }},
        {"drop", [this](Words& w) { host_.drop(file(w)); }},
        {"export", [this](Words& w) { say("problem", juce::String(host_.exportStems(file(w)))); }},
        {"settle", [this](Words& w) { say("problem", juce::String(host_.waitForCaptures(take<double>(w)))); }},
        {"fuzz", [this](Words& w) { fuzz(w); }},
        {"ui",
         [this](Words& w) {
             if (const auto seen = host_.ui(w); !seen.isVoid())
                 say("seen", seen);
         }},
        {"editor",
         [this](Words& w) {
             const auto picture = file(w);
             host_.openEditor(picture, take<double>(w));
         }},
        {"latency", [this](Words&) { say("latency", host_.processor().getLatencySamples()); }},
        {"buses", [this](Words&) { sayBuses(); }},
        {"timing", [this](Words&) { sayTiming(); }},
        {"resources", [](Words&) { sayResources(); }},
        {"sleep", [](Words& w) { std::this_thread::sleep_for(std::chrono::duration<double>(take<double>(w))); }},
        {"crowd", [this](Words& w) { sayCrowd(w); }},
        {"syscalls", [this](Words& w) { systemCalls(w); }},
    };
};

int runScript(const std::string& path, const Host::OnMessageThread& onMessageThread) {
    std::ifstream file(path);
    std::istream& lines = path == "-" ? std::cin : file;
    Script script(onMessageThread);
    for (std::string line; std::getline(lines, line);) {
        try {
            script.execute(line);
        } catch (const std::exception& error) {
            std::cerr << line << ": " << error.what() << std::endl;
            return 1;
        }
    }
    return 0;
}

} // namespace

int main(int count, char** arguments) {
    if (count != 2) {
        std::cerr << "usage: stemline_host SCRIPT (- reads from standard input)\n";
        return 2;
    }
    const Screen screen;
    juce::ScopedJuceInitialiser_GUI juce;
    auto* messages = juce::MessageManager::getInstance();
    // As in a DAW, the audio thread is not the message thread.
    const auto onMessageThread = [messages](std::function<void()> work) {
        std::exception_ptr failed;
        juce::WaitableEvent done;
        messages->callAsync([&] {
            try {
                work();
            } catch (...) {
                failed = std::current_exception();
            }
            done.signal();
        });
        done.wait(-1);
        if (failed)
            std::rethrow_exception(failed);
    };
    int result = 1;
    std::thread audio([&] {
        result = runScript(arguments[1], onMessageThread);
        messages->stopDispatchLoop();
    });
    messages->runDispatchLoop();
    audio.join();
    return result;
}
