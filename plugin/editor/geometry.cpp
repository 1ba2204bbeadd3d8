#include "editor/geometry.h"
#include <cmath>

namespace stemline::editor {
namespace {

constexpr int laneGap = 3, minLane = 32, maxLane = 132;
constexpr int bannerGap = 8, sheetWidth = 528;

/** Ties go to the even pixel, so that neighbours of equal height do not drift. */
int even(double value) { return static_cast<int>(std::lrint(value)); }

struct Measures {
    int topBar, ruler, bottomBar, margin, below, header, cell, banner;
};
constexpr Measures wide{48, 24, 56, 12, 8, 232, 64, 96};
constexpr Measures compact{44, 22, 52, 8, 6, 204, 40, 88};

void placeTopBar(Boxes& boxes, const Measures& m, int width) {
    boxes.topBar = {0, 0, width, m.topBar};
    const auto control = [&m](int x, int w) { return Box(x, (m.topBar - 30) / 2, w, 30); };
    const int logoTop = (m.topBar - 22) / 2;
    if (boxes.compact) {
        boxes.logo = {8, logoTop, 22, 22};
        boxes.mode = control(40, 136);
        boxes.model = control(184, 132);
        boxes.refiner = control(370, 102);
    } else {
        boxes.logo = {16, logoTop, 98, 22};
        boxes.mode = control(128, 152);
        boxes.model = control(292, 182);
        boxes.refiner = control(532, 126);
    }
    const int gap = boxes.compact ? 8 : 12;
    boxes.refinerLabel = control(boxes.model.getRight() + gap, boxes.refiner.getX() - boxes.model.getRight() - gap);
    const int right = width - m.margin;
    const int chip = juce::jmin(300, right - boxes.refiner.getRight() - gap);
    boxes.chip = control(right - chip, chip);
}

void placeBottomBar(Boxes& boxes, const Measures& m, int width, int height) {
    boxes.bottomBar = {0, height - m.bottomBar, width, m.bottomBar};
    int right = width - m.margin;
    const int top = boxes.bottomBar.getY() + (m.bottomBar - 32) / 2;
    const auto fromRight = [&](int w, int gap) {
        right -= w;
        const Box box(right, top, w, 32);
        right -= gap;
        return box;
    };
    boxes.settings = fromRight(32, 8);
    boxes.exportAll = fromRight(boxes.compact ? 36 : 104, 8);
    boxes.capture = fromRight(boxes.compact ? 92 : 112, 8);
    boxes.mainOutput = fromRight(boxes.compact ? 124 : 138, boxes.compact ? 12 : 16);
    boxes.late = fromRight(62, 16);
    boxes.latency = {m.margin, top, boxes.compact ? 122 : 140, 32};
    const int left = boxes.latency.getRight() + 12;
    boxes.text = {left, top, right - left, 32};
    boxes.progress = boxes.text.withRight(boxes.late.getRight());
}

/** Spare pixels go to the first lanes. */
void placeLanes(Boxes& boxes, const Measures& m, int width, int top, int bottom, int lanes) {
    const int room = bottom - top - laneGap * (lanes - 1);
    const int each = juce::jlimit(minLane, maxLane, room / lanes);
    int spare = each == room / lanes ? room - each * lanes : 0;
    if (each == maxLane)
        spare = 0;
    int y = top;
    for (int lane = 0; lane < lanes; ++lane) {
        const int height = each + (lane < spare ? 1 : 0);
        boxes.lanes.push_back(laneBoxes({m.margin, y, width - 2 * m.margin, height}, boxes.compact));
        y += height + laneGap;
    }
    boxes.lanesHeight = y - laneGap - top;
    boxes.lanesView = {0, top, width, bottom - top};
    boxes.canvases = boxes.lanes.front().canvas.withY(top).withHeight(bottom - top);
}

void placeWelcome(Boxes& boxes) {
    const auto around = boxes.canvases;
    const int height = juce::jmin(264, around.getHeight() - 16);
    boxes.welcome = {around.getX() + 18, around.getCentreY() - height / 2, around.getWidth() - 36, height};
    const int column = (boxes.welcome.getWidth() - 48) / 2;
    boxes.welcomeDrop = {boxes.welcome.getRight() - 16 - column, boxes.welcome.getY() + 16, column, height - 80};
    const int centre = boxes.welcome.getX() + 16 + column / 2;
    boxes.welcomeStart = {centre - 70, boxes.welcome.getY() + height - 124, 140, 36};
}

} // namespace

LaneBoxes laneBoxes(Box lane, bool isCompact) {
    const auto& m = isCompact ? compact : wide;
    LaneBoxes boxes;
    boxes.lane = lane;
    boxes.header = lane.withWidth(m.header);
    boxes.cell = lane.withLeft(lane.getRight() - m.cell);
    boxes.canvas = lane.withLeft(boxes.header.getRight()).withRight(boxes.cell.getX());

    const double centre = lane.getY() + lane.getHeight() / 2.0;
    const double d = lane.getHeight() < 56 ? 8.0 : juce::jmin(12.0, 0.18 * lane.getHeight());
    const auto centred = [centre](int x, int w, int h) { return Box(x, even(centre - h / 2.0), w, h); };
    const int tile = isCompact ? 20 : 22;
    boxes.tile = centred(lane.getX() + (isCompact ? 8 : 10), tile, tile);
    const int block = boxes.tile.getRight() + (isCompact ? 6 : 9), blockWidth = isCompact ? 92 : 106;
    const Box row(block, even(centre - d - 10), blockWidth, 20);
    const int valueWidth = isCompact ? 34 : 54;
    boxes.value = row.withLeft(row.getRight() - valueWidth);
    boxes.name = row.withRight(boxes.value.getX());
    boxes.gain = {block, even(centre + d + 1 - 10), blockWidth, 20};
    boxes.solo = centred(boxes.gain.getRight() + (isCompact ? 8 : 9), 24, 24);
    boxes.mute = centred(boxes.solo.getRight() + (isCompact ? 3 : 4), 24, 24);
    boxes.meter = {boxes.header.getRight() - (isCompact ? 14 : 17), lane.getY() + 6, 8, lane.getHeight() - 12};
    boxes.drag = isCompact ? centred(boxes.cell.getX() + 6, 28, 28) : centred(boxes.cell.getX() + 10, 44, 30);
    return boxes;
}

Boxes boxesFor(int width, int height, int lanes, bool error) {
    Boxes boxes;
    boxes.compact = width < compactBelow;
    const auto& m = boxes.compact ? compact : wide;
    placeTopBar(boxes, m, width);
    placeBottomBar(boxes, m, width, height);
    int y = m.topBar;
    if (error) {
        boxes.error = Box(m.margin, y + bannerGap, width - 2 * m.margin, m.banner);
        const int first = boxes.error->getY() + (m.banner - 72) / 2;
        for (int button = 0; button < 2; ++button)
            boxes.errorButton[button] = {boxes.error->getRight() - 12 - 140, first + 40 * button, 140, 32};
        y = boxes.error->getBottom();
    }
    boxes.ruler = {m.margin + m.header, y, width - 2 * m.margin - m.header - m.cell, m.ruler};
    placeLanes(boxes, m, width, boxes.ruler.getBottom(), boxes.bottomBar.getY() - m.below, lanes);
    placeWelcome(boxes);
    boxes.sheet = {width - sheetWidth, m.topBar, sheetWidth, boxes.bottomBar.getY() - m.topBar};
    return boxes;
}

Box chipButton(Box chip, int width) { return {chip.getRight() - 3 - width, chip.getY() + 3, width, 24}; }

SheetBoxes sheetBoxes() {
    SheetBoxes boxes;
    const auto row = [](int y) { return Box(200, y, 304, 30); };
    const auto main = [&row](int y) { return row(y).withWidth(208); };
    const auto aside = [&row](int y) { return row(y).withLeft(416); };
    boxes.close = {484, 10, 32, 32};
    boxes.where = row(63).withWidth(280);
    boxes.address = main(104);
    boxes.test = aside(104);
    boxes.tls = {200, 149, 40, 22};
    boxes.token = main(186);
    boxes.paste = aside(186);
    boxes.device = row(243);
    boxes.cacheLimit = main(300).withWidth(88);
    boxes.clear = aside(300);
    boxes.cachePath = main(341);
    boxes.choose = aside(341);
    boxes.licences = {404, 405, 100, 30};
    boxes.light = {200, 508, 40, 22};
    boxes.autoStart = {200, 545, 40, 22};
    boxes.caFile = main(582);
    boxes.caChoose = aside(582);
    boxes.tokenFile = main(623);
    boxes.tokenChoose = aside(623);
    boxes.seed = main(680).withWidth(88);
    boxes.height = 729;
    return boxes;
}

double faderPosition(double decibels) {
    if (decibels >= 0)
        return juce::jmin(1.0, 0.75 + decibels / 48);
    return 0.75 * std::pow(juce::jmax(0.0, (decibels + 60) / 60), 2.2);
}

double faderDecibels(double position) {
    if (position >= 0.75)
        return juce::jmin(12.0, (position - 0.75) * 48);
    return 60 * std::pow(juce::jmax(0.0, position) / 0.75, 1 / 2.2) - 60;
}

} // namespace stemline::editor
