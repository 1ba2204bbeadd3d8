#pragma once
// All that the editor shows and all that can be done in it. The editor knows neither client nor processor: whoever owns
// it fills these values and carries these actions out.

#include "engine/stems.h"
#include <array>
#include <functional>
#include <juce_core/juce_core.h>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace stemline::editor {

inline constexpr int sourceLane = -1; // a lane is a stem's index, or this
inline constexpr int numLanes = numStems + 1;

enum class Tone { idle, ok, busy, warn, err };

struct ServerChip {
    std::string text = "Server stopped";
    Tone tone = Tone::idle;
    std::string button; // calls EditorActions::startServer; empty: none
};

struct ModelChoice {
    std::string name, title;
    bool missing = false; // the server does not have it (yet)
    std::string sizeText; // of what would be downloaded: "61 MB"
};

/** A stretch of the host's timeline, in seconds. */
struct TimeRange {
    double start = 0.0, stop = 0.0;
    bool operator==(const TimeRange&) const = default;
};

/** Linear, full scale is 1; one for each channel. */
struct Meter {
    std::array<float, maxChannels> peak{}, rms{};
};

enum class CapturePhase { idle, armed, recording, separating };

struct Progress {
    CapturePhase phase = CapturePhase::idle;
    double fraction = 0.0;     // 0 to 1
    double recordedFrom = 0.0; // seconds: where a recording began
    TimeRange range;           // what is separated
    double secondsLeft = 0.0;  // 0: not known yet
    bool cancelled = false;    // just now: "Cancelled. What is finished stays."
    bool stopFirst = false;    // armed, but Live plays on until the transport stops
};

/** Shown as a banner; made by the functions in errors.h. */
struct EditorError {
    std::string title, what, hear, doText;
    std::vector<std::string> buttons; // at most two; their index goes to EditorActions::errorButton
    int primary = 0;                  // which of them is the likely one
    std::string detail = {};          // only in the tooltip, as it is
    bool operator==(const EditorError&) const = default;
};

/** What the sheet shows and changes. All of it is kept for the user, not with the project. */
struct EditorSettings {
    bool anotherComputer = false;
    std::string address; // of another computer, host:port
    std::string token;
    bool tls = true;       // always: another computer is never asked without it
    std::string caFile;    // empty: the system's authorities
    std::string tokenFile; // instead of a typed token
    bool startAutomatically = true;
    std::vector<std::string> devices; // what the server can compute on; the first is "Automatic"
    int device = 0;
    double cacheCapGb = 20.0;
    double cacheUsedGb = 0.0;       // shown only
    std::string cacheFolder;        // shown only: EditorActions::chooseCacheFolder
    bool cacheFolderChosen = false; // it is not the default one
    std::string cacheProblem;       // shown only: why the folder that was chosen last was not taken
    bool light = false;
    std::string version, serverVersion; // shown only
    bool operator==(const EditorSettings&) const = default;
};

/** A snapshot, made on the message thread 30 times a second; making one must not wait for anything. */
struct EditorState {
    ServerChip server;
    std::string device;

    std::string model; // its name
    std::vector<ModelChoice> models;
    std::array<bool, numStems> stems{true, true, true, true,
                                     true, true, true}; // that the model has; others get no lane

    double sampleRate = 0.0; // Hz; 0: the host has not said
    int channels = 2;
    int latencySamples = 0;  // of Live, as reported to the host
    std::string latencyText; // what it is made of: "0.70 s look-ahead + 0.25 s hop + 0.25 s compute"
    double windowMs = 0.0;
    int lateBlocks = 0;

    double playhead = 0.0; // seconds of the host's timeline
    bool playing = false;
    bool capturedMode = false;
    bool signal = true;                     // something comes in
    std::optional<double> lostSince;        // seconds of the timeline: since then no stems came
    std::vector<TimeRange> captured, stale; // sorted, disjoint
    Progress progress;

    std::array<Meter, numLanes> meters{}; // the source, then the stems
    std::optional<EditorError> error;
    EditorSettings settings;
    bool bouncing = false; // the host renders: nothing may restart the stream
    bool canDrag = false;  // there are finished stems
};

/** Of one pixel; linear, full scale is 1. */
struct WaveBucket {
    float peak = 0.0f, rms = 0.0f;
};

/** Called on the message thread; none of them waits. */
class EditorActions {
  public:
    virtual ~EditorActions() = default;

    virtual void startServer() = 0;
    virtual void retryServer() = 0;
    virtual void restartServer() = 0;
    virtual void testServer(const EditorSettings&, std::function<void(std::string)> answer) = 0;

    virtual void setModel(const std::string& name) = 0;
    virtual void getModel(const std::string& name) = 0;

    virtual void capture() = 0;
    virtual void cancel() = 0;
    virtual void updateStale() = 0;
    virtual void dropFile(const juce::File&) = 0;

    /** Writes WAVs into the folder. */
    virtual void exportAll(const juce::File& folder) = 0;
    /** Writes one WAV and calls back, on the message thread, with the finished file; with no file where it failed. */
    virtual void exportStem(Stem, std::function<void(juce::File)> written) = 0;
    /** The same into a file of this name, which it replaces. */
    virtual void saveStem(Stem, const juce::File&) = 0;

    /** One bucket a pixel, the first begins at `firstSecond` of the host's timeline. False: there is nothing to draw.
     */
    virtual bool drawWave(int lane, double firstSecond, double secondsPerPixel, std::span<WaveBucket> pixels) = 0;

    virtual void applySettings(const EditorSettings&) = 0;
    virtual void clearCache() = 0;
    /** Captures are kept in this folder from then on; with no file in the default one. EditorSettings::cacheProblem
        where that cannot be. */
    virtual void chooseCacheFolder(const juce::File&) = 0;
    virtual void errorButton(int index) = 0;
};

} // namespace stemline::editor
