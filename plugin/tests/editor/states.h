#pragma once
// The states that the design shows.

#include "pretend.h"

namespace stemline::editor {

struct NamedState {
    const char* name;
    EditorState state;
    std::vector<std::pair<juce::String, float>> parameters;
    bool settingsOpen = false;
};

std::vector<NamedState> designStates();

} // namespace stemline::editor
