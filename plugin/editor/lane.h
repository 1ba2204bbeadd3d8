#pragma once
// One lane: header, waveform, and the cell from which its stem is dragged out.

#include "editor/lane_canvas.h"
#include "editor/lane_header.h"

namespace stemline::editor {

/** Drag it to the DAW, or press Enter to save a file. */
class DragHandle final : public juce::Component, public juce::SettableTooltipClient {
  public:
    DragHandle(Stem, const LookAndFeel&, EditorActions&);

    void paint(juce::Graphics&) override;
    void mouseEnter(const juce::MouseEvent&) override { repaint(); }
    void mouseExit(const juce::MouseEvent&) override { repaint(); }
    void mouseDown(const juce::MouseEvent&) override { repaint(); }
    void mouseDrag(const juce::MouseEvent&) override;
    void mouseUp(const juce::MouseEvent&) override { repaint(); }
    void enablementChanged() override;
    bool keyPressed(const juce::KeyPress&) override;
    std::unique_ptr<juce::AccessibilityHandler> createAccessibilityHandler() override;

  private:
    void saveAs();

    const Stem stem_;
    const LookAndFeel& look_;
    EditorActions& actions_;
    bool writing_ = false;
    std::unique_ptr<juce::FileChooser> chooser_;
};

/** Message thread. */
class Lane final : public juce::Component {
  public:
    Lane(int lane, const LookAndFeel&, EditorActions&, juce::AudioProcessorValueTreeState&);

    int index() const { return lane_; }
    LaneHeader& header() { return header_; }
    const LaneHeader& header() const { return header_; }

    /** Boxes in the window's coordinates, whose rounding they keep. */
    void place(const LaneBoxes& inWindow, bool compact);
    void show(const EditorState&, const TimeView&, int number, bool anySolo, bool redraw);
    void paint(juce::Graphics&) override;

  private:
    const int lane_;
    const LookAndFeel& look_;
    EditorActions& actions_;
    LaneBoxes boxes_;
    LaneHeader header_;
    LaneCanvas canvas_;
    std::unique_ptr<DragHandle> drag_;
};

} // namespace stemline::editor
