#pragma once
// Where everything is, as functions of the window's size. Logical pixels; no component knows another's place.

#include "engine/stems.h"
#include <juce_graphics/juce_graphics.h>
#include <optional>
#include <vector>

namespace stemline::editor {

inline constexpr int defaultWidth = 960, defaultHeight = 600;
inline constexpr int minWidth = 720, minHeight = 460, maxWidth = 1600, maxHeight = 1000;
inline constexpr int compactBelow = 860;

using Box = juce::Rectangle<int>;

/** The parts of one lane, in the coordinates of what the lane itself is given in. */
struct LaneBoxes {
    Box lane, header, tile, name, value, gain, solo, mute, meter, canvas, cell, drag;
};

struct Boxes {
    bool compact = false;
    Box topBar, logo, mode, model, refinerLabel, refiner, chip;
    std::optional<Box> error;
    Box errorButton[2];
    Box ruler;
    Box lanesView;                // what is seen of the lanes, full width of the window
    int lanesHeight = 0;          // of all of them; more than the view's: they scroll
    std::vector<LaneBoxes> lanes; // the source first
    Box canvases;                 // the part of the view where the waveforms are
    Box welcome, welcomeStart, welcomeDrop;
    Box bottomBar, latency, text, late, progress, mainOutput, capture, exportAll, settings;
    Box sheet;
};

/** For `lanes` lanes, source included. */
Boxes boxesFor(int width, int height, int lanes, bool error);

/** A lane's parts; `lane` is its whole rectangle. */
LaneBoxes laneBoxes(Box lane, bool compact);

/** The button in the server chip. */
Box chipButton(Box chip, int width);

/** The parts of the settings sheet, from its own origin; it is this high, and scrolls where there is less room. */
struct SheetBoxes {
    Box close, where, address, test, tls, token, paste, device, cacheLimit, clear, cachePath, choose, licences;
    Box light, autoStart, caFile, caChoose, tokenFile, tokenChoose, seed;
    int height = 0;
};
SheetBoxes sheetBoxes();

/** A fader's position, 0 to 1, of a gain in dB, and back. */
double faderPosition(double decibels);
double faderDecibels(double position);

} // namespace stemline::editor
