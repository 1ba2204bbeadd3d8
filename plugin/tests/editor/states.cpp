#include "states.h"
#include "editor/errors.h"

namespace stemline::editor {
namespace {

constexpr double rate = 44100;

EditorState ready() {
    EditorState state;
    state.server = {"Ready · NVIDIA RTX 4070 · 38 ms", Tone::ok, ""};
    state.models = {{"studio", "Studio · 6 stems", false, ""}, {"quick", "Quick · 5 stems", false, ""}};
    state.model = "studio";
    state.stems = {true, true, true, true, true, false, true};
    state.sampleRate = rate;
    state.latencySamples = 52920;
    state.latencyText = "0.70 s look-ahead + 0.25 s hop + 0.25 s compute";
    state.settings.devices = {"NVIDIA RTX 4070 · 9.1 of 12 GB free", "CPU · 2 cores"};
    state.settings.cacheUsedGb = 6.4;
    state.settings.cacheFolder = "Music / Stemline / Cache";
    state.settings.version = state.settings.serverVersion = "1.0.0";
    return state;
}

void play(EditorState& state) {
    static constexpr std::array<float, numLanes> levels{0.9f, 0.6f, 0.4f, 0.2f, 0.3f, 0.4f, 0.2f, 0.03f};
    for (size_t lane = 0; lane < levels.size(); ++lane)
        state.meters[lane] = {{levels[lane], 0.9f * levels[lane]}, {0.5f * levels[lane], 0.45f * levels[lane]}};
}

EditorState live() {
    auto state = ready();
    state.model = "quick";
    state.stems = {true, true, false, false, true, true, true};
    state.playhead = 46.7;
    state.playing = true;
    play(state);
    return state;
}

EditorState captured() {
    auto state = ready();
    state.capturedMode = state.canDrag = true;
    state.captured = {{4, 70}};
    state.playhead = 36.5;
    play(state);
    return state;
}

} // namespace

std::vector<NamedState> designStates() {
    using Values = std::vector<std::pair<juce::String, float>>;
    const Values liveGains{{"bass_gain_db", -2.0f}, {"vocals_gain_db", 1.5f}};
    const Values gains{{"mode", 1.0f},           {"refiner_steps", 2.0f},  {"bass_gain_db", -3.0f},
                       {"piano_gain_db", -1.5f}, {"vocals_gain_db", 2.0f}, {"residual_gain_db", -12.0f}};
    auto solos = gains;
    solos.insert(solos.end(), {{"guitar_mute", 1.0f}, {"vocals_solo", 1.0f}});

    auto idle = ready();
    idle.server = {"Server stopped", Tone::idle, "Start"};
    idle.signal = false;

    auto capturing = captured();
    capturing.server = {"Separating · NVIDIA RTX 4070", Tone::busy, ""};
    capturing.canDrag = false;
    capturing.captured = {{18, 64}};
    capturing.playhead = 31.1;
    capturing.progress = {CapturePhase::separating, 0.62, 18, {18, 64}, 14, false};

    auto stale = captured();
    stale.stale = {{42, 50.5}};
    for (const size_t silent : {1u, 2u, 3u, 4u, 7u}) // only the vocals are soloed
        stale.meters[silent] = {};

    auto lost = live();
    lost.server = {"Server lost · try 3 in 4 s", Tone::err, ""};
    lost.error = errors::serverLost("0:44", "connection refused");
    lost.lostSince = 44.1;
    lost.lateBlocks = 38;
    for (size_t lane = 1; lane < numLanes; ++lane)
        lost.meters[lane] = {};
    lost.meters[numStems] = lost.meters[0];

    auto late = live();
    late.lateBlocks = 12;
    late.error = errors::lateBlocks(12, true, true);

    auto getting = captured();
    getting.server = {"Model missing on the server", Tone::err, ""};
    getting.error = errors::gettingModel("Studio", "180 MB", "420 MB");

    auto partly = captured();
    partly.stale = {{42, 42.1}};
    partly.error = errors::partlyUpdated(partly.stale);

    auto missing = captured();
    missing.server = {"Model missing on the server", Tone::err, ""};
    missing.error = errors::modelMissing("Studio", "420 MB");

    auto settings = stale;
    settings.settings.anotherComputer = true;
    settings.settings.address = "studio-gpu.local:7443";
    settings.settings.token = "0123456789abcdef";

    auto light = stale;
    light.settings.light = true;

    return {{"idle", idle, {}},
            {"live", live(), liveGains},
            {"capturing", capturing, {{"mode", 1.0f}, {"refiner_steps", 2.0f}}},
            {"captured", stale, solos},
            {"server-lost", lost, liveGains},
            {"model-missing", missing, gains},
            {"late", late, liveGains},
            {"getting-model", getting, gains},
            {"partly-updated", partly, gains},
            {"settings", settings, solos, true},
            {"light", light, solos}};
}

} // namespace stemline::editor
