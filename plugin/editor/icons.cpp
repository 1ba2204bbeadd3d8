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
    for (const auto& point : points) {
        if (path.isEmpty())
            path.startNewSubPath(point);
        else
            path.lineTo(point);
    }
    return path;
}

} // namespace

void drawIcon(juce::Graphics& g, const juce::Path& icon, juce::Rectangle<float> box, juce::Colour colour) {
    const float scale = box.getHeight() / side;
    g.setColour(colour);
    g.fillPath(icon, juce::AffineTransform::scale(scale).translated(box.getX(), box.getY()));
}

juce::Path gearIcon() {
    juce::Path icon, circle;
    circle.addEllipse(5.75f, 5.75f, 4.5f, 4.5f);
    icon.addPath(stroked(circle));
    juce::Path ring;
    ring.addEllipse(3.25f, 3.25f, 9.5f, 9.5f);
    icon.addPath(stroked(ring));
    for (int tooth = 0; tooth < 8; ++tooth) {
        const float angle = static_cast<float>(tooth) * juce::MathConstants<float>::pi / 4;
        const juce::Point<float> centre(8, 8);
        icon.addPath(
            stroked(line({centre.getPointOnCircumference(5, angle), centre.getPointOnCircumference(7, angle)}), 2));
    }
    return icon;
}

juce::Path exportIcon() {
    juce::Path icon;
    icon.addPath(stroked(line({{8, 1.5f}, {8, 10}})));
    icon.addPath(stroked(line({{4.5f, 6.5f}, {8, 10}, {11.5f, 6.5f}})));
    icon.addPath(stroked(line({{2, 10.5f}, {2, 14}, {14, 14}, {14, 10.5f}})));
    return icon;
}

juce::Path closeIcon() {
    juce::Path icon;
    icon.addPath(stroked(line({{3.5f, 3.5f}, {12.5f, 12.5f}})));
    icon.addPath(stroked(line({{12.5f, 3.5f}, {3.5f, 12.5f}})));
    return icon;
}

} // namespace stemline::editor
