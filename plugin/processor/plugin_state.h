#pragma once
// What a project keeps of an instance: small, versioned, and harmless when it is damaged.

#include "processor/parameters.h"

namespace stemline {

/** Everything saved besides the parameters. */
struct ProjectState {
    juce::String model;        // empty: the server's default
    juce::MemoryBlock capture; // what the capture layer made of its ranges
    juce::Point<int> editorSize{960, 600};
};

/** The state as bytes. Any thread but the audio thread. */
juce::MemoryBlock saveState(const ParameterTree&, const ProjectState&);

/** Sets the parameters and gives the rest. Parameters that the state does not name get their defaults, as do values
   that no version could have written. Nothing is touched, and nothing given, if the bytes are not a state at all. */
std::optional<ProjectState> loadState(ParameterTree&, const void* data, size_t size);

} // namespace stemline
