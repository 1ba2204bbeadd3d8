#pragma once
// The one table of host parameters: it builds the host's list, the saved state and what the editor binds to.

#include "engine/stems.h"
#include <array>
#include <juce_audio_processors/juce_audio_processors.h>

namespace stemline {

using ParameterTree = juce::AudioProcessorValueTreeState;

enum class Mode { live, captured };

/** What a user may choose as the latency of Live, in seconds. Fixed, so that a project means the same on any machine;
    whether this machine's server can hold one is the server's to say. From 12 s on a bounce's windows fit. */
inline constexpr std::array<double, 10> latencyChoicesSeconds{0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 12.0};
inline constexpr int defaultLatencyChoice = 6;
inline constexpr std::array<int, 4> refinerStepChoices{0, 1, 2, 4};
inline constexpr float minGainDb = -60.0f; // shown as, and played as, minus infinity
inline constexpr float maxGainDb = 12.0f;

namespace ids {
inline constexpr const char* mode = "mode";
inline constexpr const char* refinerSteps = "refiner_steps";
inline constexpr const char* latencyChoice = "latency_choice";
inline constexpr const char* mainOutput = "main_output";
inline constexpr const char* seed = "seed";
juce::String gainDb(Stem);
juce::String solo(Stem);
juce::String mute(Stem);
} // namespace ids

/** The parameters in the host's order. IDs go by a stem's name, never by its row, and never change. */
ParameterTree::ParameterLayout parameterLayout();

/** Chooses the next longer latency, as a user would; message thread. */
void chooseLongerLatency(ParameterTree&);
bool hasLongerLatency(const ParameterTree&);

/** What the parameters say now. Any thread: only atomics are read. */
class Parameters {
  public:
    explicit Parameters(ParameterTree&);

    Mode mode() const noexcept;
    int refinerSteps() const noexcept;
    double latencySeconds() const noexcept;
    std::uint64_t seed() const noexcept;
    /** A stem's index, or -1 for the mix. */
    int mainSource() const noexcept;
    std::array<float, numStems> gainsDb() const noexcept;
    std::array<bool, numStems> solos() const noexcept;
    std::array<bool, numStems> mutes() const noexcept;

  private:
    using Value = std::atomic<float>*;
    Value mode_, refinerSteps_, latencyChoice_, mainOutput_, seed_;
    std::array<Value, numStems> gainDb_, solo_, mute_;
};

} // namespace stemline
