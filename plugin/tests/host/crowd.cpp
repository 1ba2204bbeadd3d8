#include "crowd.h"
#include <chrono>
#include <fstream>
#include <thread>

namespace stemline::host {

int threadsNow() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.rfind("Threads:", 0) == 0)
            return std::stoi(line.substr(8));
    return 0;
}

int descriptorsNow() { return juce::File("/proc/self/fd").getNumberOfChildFiles(juce::File::findFilesAndDirectories); }

CrowdCost crowd(int count, std::int64_t frames, const Host::OnMessageThread& onMessageThread) {
    constexpr double rate = 44100.0;
    constexpr int block = 1024;
    CrowdCost cost{threadsNow(), 0, 0, descriptorsNow(), 0, 0};
    std::vector<std::unique_ptr<PluginProcessor>> instances;
    onMessageThread([&] {
        for (int index = 0; index < count; ++index) {
            auto& instance = *instances.emplace_back(std::make_unique<PluginProcessor>());
            instance.setRateAndBufferSizeDetails(rate, block);
            instance.prepareToPlay(rate, block);
        }
    });
    Playhead playhead;
    playhead.playing = true;
    for (auto& instance : instances)
        instance->setPlayHead(&playhead);
    juce::AudioBuffer<float> buffer(16, block);
    juce::MidiBuffer midi;
    juce::Random random(1);
    auto due = std::chrono::steady_clock::now();
    for (; playhead.position < frames; playhead.position += block) {
        for (auto& instance : instances) {
            for (int channel = 0; channel < 2; ++channel)
                for (int n = 0; n < block; ++n)
                    buffer.setSample(channel, n, 0.2f * (random.nextFloat() - 0.5f));
            instance->processBlock(buffer, midi);
        }
        due += std::chrono::microseconds(static_cast<std::int64_t>(1e6 * block / rate));
        std::this_thread::sleep_until(due);
    }
    cost.threads = threadsNow();
    cost.descriptors = descriptorsNow();
    onMessageThread([&] { instances.clear(); });
    cost.threadsAfter = threadsNow();
    cost.descriptorsAfter = descriptorsNow();
    return cost;
}

} // namespace stemline::host
