#include "editor/lane.h"
#include "editor/texts.h"

namespace stemline::editor {

DragHandle::DragHandle(Stem stem, const LookAndFeel& look, EditorActions& actions)
    : stem_(stem), look_(look), actions_(actions) {
    setComponentID(juce::String(stemName(stem)) + ".drag");
    setTitle("Drag " + juce::String(stemName(stem)) + " to the DAW");
    setMouseClickGrabsKeyboardFocus(false);
    setWantsKeyboardFocus(true);
    enablementChanged();
}

void DragHandle::enablementChanged() {
    setTooltip(isEnabled() ? "Drag " + juce::String(stemName(stem_)) + " to the DAW (Enter: save a file)"
                           : juce::String("Capture a region first."));
    setMouseCursor(isEnabled() ? juce::MouseCursor::DraggingHandCursor : juce::MouseCursor::NormalCursor);
    repaint();
}

void DragHandle::paint(juce::Graphics& g) {
    const auto area = getLocalBounds().toFloat();
    if (isEnabled())
        look_.drawControl(g, area, {true, isMouseOver(), isMouseButtonDown()});
    const auto colour = look_.theme[isEnabled() ? Token::hi : Token::off];
    const auto centre = area.getCentre();
    const bool narrow = getWidth() < 40;
    drawIcon(g, dragIcon(), juce::Rectangle<float>(13, 13).withCentre({narrow ? centre.x : centre.x + 7, centre.y}),
             colour);
    g.setColour(colour);
    for (int dot = 0; dot < 6 && !narrow; ++dot)
        g.fillEllipse(juce::Rectangle<float>(2.6f, 2.6f)
                          .withCentre({centre.x - 11.5f + 5 * static_cast<float>(dot % 2),
                                       centre.y - 5 + 5 * static_cast<float>(dot / 2)}));
}

void DragHandle::mouseDrag(const juce::MouseEvent& event) {
    if (!isEnabled() || writing_ || event.getDistanceFromDragStart() < 4)
        return;
    writing_ = true;
    actions_.exportStem(stem_, [handle = SafePointer<DragHandle>(this)](const juce::File& file) {
        if (handle == nullptr)
            return;
        handle->writing_ = false;
        // Whoever has let go meanwhile does not want to drag any more.
        if (file != juce::File() && handle->isMouseButtonDown())
            juce::DragAndDropContainer::performExternalDragDropOfFiles({file.getFullPathName()}, false, handle);
    });
}

bool DragHandle::keyPressed(const juce::KeyPress& key) {
    if (!isEnabled() ||
        (key != juce::KeyPress(juce::KeyPress::returnKey) && key != juce::KeyPress(juce::KeyPress::spaceKey)))
        return false;
    saveAs();
    return true;
}

void DragHandle::saveAs() {
    const auto name = juce::String(stemName(stem_)) + ".wav";
    chooser_ = std::make_unique<juce::FileChooser>(
        "Save " + juce::String(stemName(stem_)),
        juce::File::getSpecialLocation(juce::File::userMusicDirectory).getChildFile(name), "*.wav");
    const auto saving = juce::FileBrowserComponent::saveMode | juce::FileBrowserComponent::canSelectFiles |
                        juce::FileBrowserComponent::warnAboutOverwriting;
    chooser_->launchAsync(saving, [this](const juce::FileChooser& chooser) {
        if (const auto wanted = chooser.getResult(); wanted != juce::File())
            actions_.saveStem(stem_, wanted.withFileExtension("wav"));
    });
}

std::unique_ptr<juce::AccessibilityHandler> DragHandle::createAccessibilityHandler() {
    return std::make_unique<juce::AccessibilityHandler>(
        *this, juce::AccessibilityRole::button,
        juce::AccessibilityActions().addAction(juce::AccessibilityActionType::press, [this] {
            if (isEnabled())
                saveAs();
        }));
}

Lane::Lane(int lane, const LookAndFeel& look, EditorActions& actions, juce::AudioProcessorValueTreeState& parameters)
    : lane_(lane), look_(look), actions_(actions), header_(lane, look, parameters), canvas_(lane, look) {
    setComponentID((lane < 0 ? juce::String("source") : juce::String(stemName(static_cast<Stem>(lane)))) + ".lane");
    setTitle(laneTitle(lane));
    setFocusContainerType(FocusContainerType::none);
    addAndMakeVisible(header_);
    addAndMakeVisible(canvas_);
    if (lane >= 0) {
        drag_ = std::make_unique<DragHandle>(static_cast<Stem>(lane), look, actions);
        addAndMakeVisible(*drag_);
    }
}

void Lane::place(const LaneBoxes& inWindow, bool compact) {
    const auto move = [origin = inWindow.lane.getPosition()](Box box) { return box - origin; };
    boxes_ = {move(inWindow.lane),  move(inWindow.header), move(inWindow.tile), move(inWindow.name),
              move(inWindow.value), move(inWindow.gain),   move(inWindow.solo), move(inWindow.mute),
              move(inWindow.meter), move(inWindow.canvas), move(inWindow.cell), move(inWindow.drag)};
    header_.setBounds(boxes_.header);
    header_.place(boxes_, compact); // the header begins where the lane does
    canvas_.setBounds(boxes_.canvas);
    if (drag_ != nullptr)
        drag_->setBounds(boxes_.drag);
}

void Lane::show(const EditorState& state, const TimeView& view, int number, bool anySolo, bool redraw) {
    header_.show(state, number);
    canvas_.show(state, view, {anySolo && lane_ >= 0 && !header_.soloed(), header_.muted()}, actions_, redraw);
    if (drag_ != nullptr)
        drag_->setEnabled(state.canDrag);
}

void Lane::paint(juce::Graphics& g) {
    g.setColour(look_.theme[Token::head]);
    juce::Path ends;
    const auto header = boxes_.header.toFloat(), cell = boxes_.cell.toFloat();
    ends.addRoundedRectangle(header.getX(), header.getY(), header.getWidth(), header.getHeight(), 6, 6, true, false,
                             true, false);
    ends.addRoundedRectangle(cell.getX(), cell.getY(), cell.getWidth(), cell.getHeight(), 6, 6, false, true, false,
                             true);
    g.fillPath(ends);
}

} // namespace stemline::editor
