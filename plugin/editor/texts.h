#pragma once
// What the editor says of its state.

#include "editor/editor_state.h"
#include "editor/text.h"

namespace stemline::editor {

/** "Drums"; of the source: "Source". */
juce::String laneTitle(int lane);

/** "0:07", "12:34"; negative before the timeline's start. */
juce::String timeText(double seconds, bool tenths = false);
juce::String rangeText(TimeRange); // "0:07–1:30"

/** "+3.0", "0.0", "−∞". */
juce::String gainText(double decibels);
/** Of what was typed; false where it is no gain. */
bool gainFromText(const juce::String&, double& decibels);

/** Groups of three: "132 300". */
juce::String countText(int);

/** Before a server runs or anything was captured, there is nothing to set. */
bool isAsleep(const EditorState&);

juce::String sourceText(const EditorState&);   // "44.1 kHz · stereo"
juce::String latencyTitle(const EditorState&); // "52 920 samples at 44.1 kHz"
juce::String latencyParts(const EditorState&, bool compact);
/** What a choice of latency costs; the choice's own text is "3 s". */
juce::String latencyChoiceText(const juce::String& choice, const EditorState&);

juce::String rulerText(const EditorState&);
/** Empty: there is nothing to tell. */
juce::String progressText(const Progress&);
juce::String progressRest(const Progress&); // "62 % · about 14 s left"
/** Accessible name of the ruler. */
juce::String timelineName(const EditorState&);

/** From the first captured second to the last one. */
TimeRange hull(const std::vector<TimeRange>&);

} // namespace stemline::editor
