#pragma once
#include <juce_core/juce_core.h>

namespace stemline::editor {

/** Presses the editor's keys and says what did not happen. Empty: all of it did. */
juce::StringArray pressKeys();

} // namespace stemline::editor
