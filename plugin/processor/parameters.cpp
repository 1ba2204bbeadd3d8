#include "processor/parameters.h"

namespace stemline {
namespace {

constexpr int stateVersion = 1; // of the AU and VST3 parameter IDs: a parameter keeps the one it was born with

juce::String title(Stem stem) {
    const juce::String name = stemName(stem);
    return name.substring(0, 1).toUpperCase() + name.substring(1);
}

juce::ParameterID versioned(const juce::String& id) { return {id, stateVersion}; }

/** Settings restart the stream, so a host must not automate them. */
std::unique_ptr<juce::RangedAudioParameter> setting(const char* id, const char* name, const juce::StringArray& choices,
                                                    int chosen) {
    const auto attributes = juce::AudioParameterChoiceAttributes().withAutomatable(false);
    return std::make_unique<juce::AudioParameterChoice>(versioned(id), name, choices, chosen, attributes);
}

juce::String decibels(float value, int) {
    if (value <= minGainDb)
        return juce::String::fromUTF8("\xe2\x88\x92\xe2\x88\x9e");
    return (value > 0 ? "+" : "") + juce::String(value, 1);
}

float fromDecibels(const juce::String& text) {
    const auto plain = text.replace(juce::String::fromUTF8("\xe2\x88\x92"), "-").trim();
    if (plain.contains(juce::String::fromUTF8("\xe2\x88\x9e")) || plain.containsIgnoreCase("inf"))
        return minGainDb;
    return juce::jlimit(minGainDb, maxGainDb, plain.getFloatValue());
}

} // namespace

namespace ids {
juce::String gainDb(Stem stem) { return juce::String(stemName(stem)) + "_gain_db"; }
juce::String solo(Stem stem) { return juce::String(stemName(stem)) + "_solo"; }
juce::String mute(Stem stem) { return juce::String(stemName(stem)) + "_mute"; }
} // namespace ids

ParameterTree::ParameterLayout parameterLayout() {
    ParameterTree::ParameterLayout layout;
    juce::StringArray steps, latencies, outputs{"Mix"};
    for (const int count : refinerStepChoices)
        steps.add(count == 0 ? juce::String("Off") : juce::String(count));
    for (const double seconds : latencyChoicesSeconds)
        latencies.add(juce::String(seconds) + " s");
    for (int stem = 0; stem < numStems; ++stem)
        outputs.add(title(static_cast<Stem>(stem)));

    layout.add(setting(ids::mode, "Mode", {"Live", "Captured"}, 0),
               setting(ids::refinerSteps, "Refiner steps", steps, 1),
               setting(ids::latencyChoice, "Live latency", latencies, defaultLatencyChoice),
               std::make_unique<juce::AudioParameterChoice>(versioned(ids::mainOutput), "Main output", outputs, 0),
               std::make_unique<juce::AudioParameterInt>(versioned(ids::seed), "Seed", 0, 9999, 0,
                                                         juce::AudioParameterIntAttributes().withAutomatable(false)));
    const auto inDecibels = juce::AudioParameterFloatAttributes()
                                .withLabel("dB")
                                .withStringFromValueFunction(decibels)
                                .withValueFromStringFunction(fromDecibels);
    for (int index = 0; index < numStems; ++index) {
        const auto stem = static_cast<Stem>(index);
        layout.add(
            std::make_unique<juce::AudioParameterFloat>(versioned(ids::gainDb(stem)), title(stem) + " gain",
                                                        juce::NormalisableRange<float>(minGainDb, maxGainDb, 0.1f),
                                                        0.0f, inDecibels),
            std::make_unique<juce::AudioParameterBool>(versioned(ids::solo(stem)), title(stem) + " solo", false),
            std::make_unique<juce::AudioParameterBool>(versioned(ids::mute(stem)), title(stem) + " mute", false));
    }
    return layout;
}

void chooseLongerLatency(ParameterTree& tree) {
    if (!hasLongerLatency(tree))
        return;
    auto& choice = *tree.getParameter(ids::latencyChoice);
    choice.beginChangeGesture();
    choice.setValueNotifyingHost(choice.convertTo0to1(choice.convertFrom0to1(choice.getValue()) + 1.0f));
    choice.endChangeGesture();
}

bool hasLongerLatency(const ParameterTree& tree) {
    return *tree.getRawParameterValue(ids::latencyChoice) < static_cast<float>(latencyChoicesSeconds.size()) - 1.5f;
}

Parameters::Parameters(ParameterTree& tree)
    : mode_(tree.getRawParameterValue(ids::mode)), refinerSteps_(tree.getRawParameterValue(ids::refinerSteps)),
      latencyChoice_(tree.getRawParameterValue(ids::latencyChoice)),
      mainOutput_(tree.getRawParameterValue(ids::mainOutput)), seed_(tree.getRawParameterValue(ids::seed)) {
    for (int index = 0; index < numStems; ++index) {
        const auto stem = static_cast<Stem>(index);
        const auto at = static_cast<size_t>(index);
        gainDb_[at] = tree.getRawParameterValue(ids::gainDb(stem));
        solo_[at] = tree.getRawParameterValue(ids::solo(stem));
        mute_[at] = tree.getRawParameterValue(ids::mute(stem));
    }
}

Mode Parameters::mode() const noexcept { return *mode_ < 0.5f ? Mode::live : Mode::captured; }

int Parameters::refinerSteps() const noexcept {
    return refinerStepChoices[static_cast<size_t>(juce::jlimit(0, 3, juce::roundToInt(refinerSteps_->load())))];
}

double Parameters::latencySeconds() const noexcept {
    const int last = static_cast<int>(latencyChoicesSeconds.size()) - 1;
    return latencyChoicesSeconds[static_cast<size_t>(juce::jlimit(0, last, juce::roundToInt(latencyChoice_->load())))];
}

std::uint64_t Parameters::seed() const noexcept {
    return static_cast<std::uint64_t>(juce::jmax(0, juce::roundToInt(seed_->load())));
}

int Parameters::mainSource() const noexcept { return juce::roundToInt(mainOutput_->load()) - 1; }

std::array<float, numStems> Parameters::gainsDb() const noexcept {
    std::array<float, numStems> gains{};
    for (size_t stem = 0; stem < gains.size(); ++stem)
        gains[stem] = gainDb_[stem]->load();
    return gains;
}

std::array<bool, numStems> Parameters::solos() const noexcept {
    std::array<bool, numStems> solos{};
    for (size_t stem = 0; stem < solos.size(); ++stem)
        solos[stem] = *solo_[stem] > 0.5f;
    return solos;
}

std::array<bool, numStems> Parameters::mutes() const noexcept {
    std::array<bool, numStems> mutes{};
    for (size_t stem = 0; stem < mutes.size(); ++stem)
        mutes[stem] = *mute_[stem] > 0.5f;
    return mutes;
}

} // namespace stemline
