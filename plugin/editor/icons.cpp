#include "editor/controls.h"
#include <cmath>

namespace stemline::editor {
namespace {

constexpr float side = 16.0f; // what the icons are drawn in

juce::Path stroked(const juce::Path& path, float width = 1.5f) {
    juce::Path result;
    juce::PathStrokeType(width, juce::PathStrokeType::mitered, juce::PathStrokeType::rounded)
        .createStrokedPath(result, path, {}, 4.0f);
    return result;
}

juce::Path line(std::initializer_list<juce::Point<float>> points) {
    juce::Path path;
    path.startNewSubPath(*points.begin());
    for (const auto& point : points)
        path.lineTo(point);
    return path;
}

} // namespace

void drawIcon(juce::Graphics& g, const juce::Path& icon, juce::Rectangle<float> box, juce::Colour colour) {
    const float scale = box.getHeight() / side;
    g.setColour(colour);
    g.fillPath(icon, juce::AffineTransform::scale(scale).translated(box.getX(), box.getY()));
}

juce::Path gearIcon() {
    constexpr int teeth = 8;
    constexpr float outer = 7.2f, inner = 5.3f;
    juce::Path outline, icon, hole;
    const juce::Point<float> centre(8, 8);
    for (int corner = 0; corner < 4 * teeth; ++corner) {
        static constexpr std::array<float, 4> turns{-0.17f, 0.17f, 0.25f, 0.75f};
        const auto at = static_cast<size_t>(corner % 4);
        const float turn = (static_cast<float>(corner / 4) + turns[at]) / teeth;
        const auto point =
            centre.getPointOnCircumference(at < 2 ? outer : inner, turn * juce::MathConstants<float>::twoPi);
        if (corner == 0)
            outline.startNewSubPath(point);
        else
            outline.lineTo(point);
    }
    outline.closeSubPath();
    hole.addEllipse(5.7f, 5.7f, 4.6f, 4.6f);
    icon.addPath(stroked(outline, 1.4f));
    icon.addPath(stroked(hole, 1.4f));
    return icon;
}

juce::Path exportIcon() {
    juce::Path icon;
    icon.addPath(stroked(line({{8, 10.5f}, {8, 2}})));
    icon.addPath(stroked(line({{4.5f, 5.5f}, {8, 2}, {11.5f, 5.5f}})));
    icon.addPath(stroked(line({{1.5f, 9.5f}, {1.5f, 14}, {14.5f, 14}, {14.5f, 9.5f}})));
    return icon;
}

juce::Path downloadIcon() {
    juce::Path icon;
    icon.addPath(stroked(line({{8, 1.5f}, {8, 10}}), 1.1f));
    icon.addPath(stroked(line({{4.5f, 6.5f}, {8, 10}, {11.5f, 6.5f}}), 1.1f));
    icon.addPath(stroked(line({{1, 9.5f}, {1, 14}, {15, 14}, {15, 9.5f}}), 1.1f));
    return icon;
}

juce::Path closeIcon() {
    juce::Path icon;
    icon.addPath(stroked(line({{3, 3}, {13, 13}})));
    icon.addPath(stroked(line({{13, 3}, {3, 13}})));
    return icon;
}

juce::Path arrowIcon() {
    juce::Path icon;
    icon.addPath(stroked(line({{3, 8}, {13, 8}}), 2));
    icon.addPath(stroked(line({{9, 4}, {13, 8}, {9, 12}}), 2));
    return icon;
}

juce::Path dragIcon() {
    juce::Path icon;
    icon.addPath(stroked(line({{3, 13}, {13, 3}}), 2));
    icon.addPath(stroked(line({{5, 3}, {13, 3}, {13, 11}}), 2));
    return icon;
}

juce::Path warningIcon() {
    juce::Path icon;
    icon.addTriangle({8, 1}, {15.5f, 15}, {0.5f, 15});
    icon.addRectangle(7.1f, 5.5f, 1.8f, 5.0f);
    icon.addRectangle(7.1f, 11.8f, 1.8f, 1.8f);
    icon.setUsingNonZeroWinding(false); // the mark is cut out
    return icon;
}

} // namespace stemline::editor
