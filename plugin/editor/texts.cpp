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

juce::String timeText(double seconds, bool tenths) {
    const int count = static_cast<int>(std::floor(std::abs(seconds) * 10 + 1e-6)), whole = count / 10;
    auto text = juce::String(whole / 60) + ":" + juce::String(whole % 60).paddedLeft('0', 2);
    if (tenths)
        text += "." + juce::String(count % 10);
    return seconds < 0 ? utf8("−") + text : text;
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
        grouped = utf8("\u2009") + digits.getLastCharacters(3) + grouped;
        digits = digits.dropLastCharacters(3);
    }
    return (count < 0 ? utf8("−") : juce::String()) + digits + grouped;
}

bool isAsleep(const EditorState& state) {
    return state.server.tone == Tone::idle && state.captured.empty() && state.progress.phase == CapturePhase::idle;
}

juce::String sourceText(const EditorState& state) {
    if (!state.signal || state.sampleRate <= 0)
        return "No signal";
    return juce::String(state.sampleRate / 1000) + " kHz" + dot() + (state.channels == 1 ? "mono" : "stereo");
}

juce::String latencyTitle(const EditorState& state) {
    if (state.capturedMode)
        return "0 samples";
    const auto samples = countText(state.latencySamples) + " samples";
    return state.sampleRate > 0 ? samples + " at " + juce::String(state.sampleRate / 1000) + " kHz" : samples;
}

juce::String latencyParts(const EditorState& state, bool compact) {
    if (state.capturedMode)
        return compact ? "In sync" : "Captured stems play in sync";
    return utf8(state.latencyText);
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
    if (!state.capturedMode && !isAsleep(state))
        return "Live" + dot() + timeText(state.playhead, true);
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
        return progress.stopFirst ? "Stop, then play the region in your DAW" : "Play the region in your DAW";
    case CapturePhase::recording:
        return "Recording from " + timeText(progress.recordedFrom);
    case CapturePhase::separating:
        break;
    }
    return "Separating " + rangeText(progress.range);
}

juce::String progressRest(const Progress& progress) {
    if (progress.phase != CapturePhase::separating)
        return {};
    auto text = percent(progress.fraction);
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
