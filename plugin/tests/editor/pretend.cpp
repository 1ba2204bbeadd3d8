#include "pretend.h"
#include <cmath>

namespace stemline::editor {
namespace {

/** 0 to 1, of a whole number. */
float noise(std::int64_t seed) {
    auto bits = static_cast<std::uint64_t>(seed) * 0x9e3779b97f4a7c15u;
    bits = (bits ^ (bits >> 31)) * 0xbf58476d1ce4e5b9u;
    return static_cast<float>((bits >> 40) & 0xffff) / 65535.0f;
}

bool within(const std::vector<TimeRange>& ranges, double second) {
    for (const auto& range : ranges)
        if (second >= range.start && second < range.stop)
            return true;
    return false;
}

WaveBucket soundAt(int lane, double second) {
    const double beat = second * 2 - std::floor(second * 2), bar = second / 5 - std::floor(second / 5);
    const float grain = noise(static_cast<std::int64_t>(second * 20) * 8 + lane);
    const auto hit = static_cast<float>(std::exp(-5 * beat));
    switch (lane) {
    case sourceLane:
        return {0.55f + 0.25f * hit + 0.2f * grain, 0.25f + 0.1f * grain};
    case 0:
        return {0.15f + 0.7f * hit + 0.1f * grain, 0.08f + 0.25f * hit};
    case 1:
        return bar < 0.8 ? WaveBucket{0.4f + 0.2f * grain, 0.18f + 0.08f * grain} : WaveBucket{0.02f, 0.02f};
    case 4:
        return bar < 0.75 ? WaveBucket{0.5f + 0.3f * grain, 0.2f + 0.1f * grain} : WaveBucket{0.03f, 0.03f};
    case 6:
        return {0.07f + 0.03f * grain, 0.04f};
    default:
        return {0.15f + 0.35f * static_cast<float>(std::abs(std::sin(second * 0.7 + lane))) * (0.6f + 0.4f * grain),
                0.08f};
    }
}

} // namespace

void PretendProcessor::set(const juce::String& id, float value) {
    auto* parameter = tree.getParameter(id);
    parameter->setValueNotifyingHost(parameter->convertTo0to1(value));
}

bool PretendActions::drawWave(int lane, double firstSecond, double secondsPerPixel, std::span<WaveBucket> pixels) {
    if (state.server.tone == Tone::idle)
        return false;
    double at = firstSecond + secondsPerPixel / 2;
    for (auto& pixel : pixels) {
        const bool there = state.capturedMode
                               ? within(state.captured, at)
                               : at >= 0 && at < state.playhead + state.latencySamples / state.sampleRate;
        const bool lost = state.lostSince && lane >= 0 && at > *state.lostSince;
        if (there && lost && lane == static_cast<int>(Stem::residual))
            pixel = soundAt(sourceLane, at);
        else if (there && !lost)
            pixel = soundAt(lane, at);
        at += secondsPerPixel;
    }
    return true;
}

} // namespace stemline::editor
