#include "editor/texts.h"
#include <cmath>

namespace stemline::editor {
namespace {

juce::String dot() { return utf8(" · "); }

juce::String percent(double fraction) { return juce::String(juce::roundToInt(fraction * 100)) + " %"; }

} // namespace

juce::String laneTitle(int lane) {
    const juce::String name = lane < 0 ? "source" : stemName(static_cast<Stem>(lane));
    return name.substring(0, 1).toUpperCase() + name.substring(1);
}

juce::String timeText(double seconds) {
    const int whole = static_cast<int>(std::floor(std::abs(seconds)));
    return (seconds < 0 ? utf8("−") : juce::String()) + juce::String(whole / 60) + ":" +
           juce::String(whole % 60).paddedLeft('0', 2);
}

juce::String rangeText(TimeRange range) { return timeText(range.start) + utf8("–") + timeText(range.stop); }

juce::String gainText(double decibels) {
    if (decibels <= -60)
        return utf8("−∞");
    const double tenths = std::round(decibels * 10) / 10;
    const auto size = juce::String(std::abs(tenths), 1);
    return tenths > 0 ? "+" + size : tenths < 0 ? utf8("−") + size : size;
}

bool gainFromText(const juce::String& typed, double& decibels) {
    const auto plain = typed.replace(utf8("−"), "-").removeCharacters(" dBDb").replaceCharacter(',', '.');
    if (plain.contains(utf8("∞")) || plain.containsIgnoreCase("inf")) {
        decibels = -60;
        return true;
    }
    if (!plain.containsAnyOf("0123456789") || !plain.containsOnly("+-.0123456789"))
        return false;
    decibels = juce::jlimit(-60.0, 12.0, plain.trimCharactersAtStart("+").getDoubleValue());
    return true;
}

juce::String countText(int count) {
    auto digits = juce::String(std::abs(count));
    juce::String grouped;
    while (digits.length() > 3) {
        grouped = utf8("\u202f") + digits.getLastCharacters(3) + grouped;
        digits = digits.dropLastCharacters(3);
    }
    return (count < 0 ? utf8("−") : juce::String()) + digits + grouped;
}

juce::String streamText(const EditorState& state) {
    if (!state.latencyText.empty())
        return utf8(state.latencyText);
    juce::StringArray parts;
    if (state.sampleRate > 0)
        parts.add(juce::String(state.sampleRate / 1000) + " kHz");
    parts.add(state.channels == 1 ? "mono" : "stereo");
    if (!state.capturedMode)
        parts.add(countText(state.latencySamples) + " samples");
    if (state.windowMs > 0)
        parts.add(juce::String(juce::roundToInt(state.windowMs)) + " ms");
    return parts.joinIntoString(dot());
}

juce::String latencyChoiceText(const juce::String& choice, const EditorState& state) {
    if (state.sampleRate <= 0)
        return choice;
    return choice + dot() + countText(juce::roundToInt(choice.getDoubleValue() * state.sampleRate)) + " samples";
}

TimeRange hull(const std::vector<TimeRange>& ranges) {
    return ranges.empty() ? TimeRange{} : TimeRange{ranges.front().start, ranges.back().stop};
}

juce::String rulerText(const EditorState& state) {
    if (state.progress.phase == CapturePhase::recording)
        return "Capturing " + rangeText({state.progress.recordedFrom, state.playhead});
    if (state.progress.phase == CapturePhase::separating)
        return "Capturing " + rangeText(state.progress.range);
    if (!state.capturedMode)
        return "Live" + dot() + timeText(state.playhead);
    if (state.captured.empty())
        return "Nothing captured yet";
    return "Captured " + rangeText(hull(state.captured));
}

juce::String progressText(const Progress& progress) {
    if (progress.cancelled)
        return "Cancelled. What is finished stays.";
    switch (progress.phase) {
    case CapturePhase::idle:
        return {};
    case CapturePhase::armed:
        return "Play the region in your DAW";
    case CapturePhase::recording:
        return "Recording from " + timeText(progress.recordedFrom);
    case CapturePhase::separating:
        break;
    }
    auto text = "Separating " + rangeText(progress.range) + dot() + percent(progress.fraction);
    if (progress.secondsLeft > 0)
        text += dot() + "about " + juce::String(juce::roundToInt(std::ceil(progress.secondsLeft))) + " s left";
    return text;
}

juce::String timelineName(const EditorState& state) {
    if (state.captured.empty())
        return "Timeline, nothing captured";
    const auto range = hull(state.captured);
    return "Timeline, captured " + timeText(range.start) + " to " + timeText(range.stop) + ", " +
           juce::String(state.stale.size()) + " stale";
}

} // namespace stemline::editor
