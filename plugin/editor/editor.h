#pragma once
// The whole window of the plugin.

#include "editor/editor_state.h"
#include "editor/time_view.h"
#include <juce_audio_processors/juce_audio_processors.h>
#include <memory>

namespace stemline::editor {

/** Message thread only. Asks for the state 30 times a second, and never waits. Parameters are reached through the tree
    (mode, refiner_steps, latency_choice, main_output and every stem's gain, solo and mute), all else through the
   actions. It fits any size between minWidth x minHeight and maxWidth x maxHeight (geometry.h). */
class EditorContent final : public juce::Component,
                            public juce::FileDragAndDropTarget,
                            public juce::DragAndDropContainer,
                            private juce::Timer {
  public:
    EditorContent(juce::AudioProcessorValueTreeState&, EditorActions&, std::function<EditorState()>);
    ~EditorContent() override;

    /** At once, not at the next tick. */
    void refresh();
    void openSettings(bool);
    void openModelMenu();
    void longerLatency();
    const TimeView& timeView() const;
    void setTimeView(const TimeView&);

    void paint(juce::Graphics&) override;
    void paintOverChildren(juce::Graphics&) override;
    void resized() override;
    bool keyPressed(const juce::KeyPress&) override;
    void mouseWheelMove(const juce::MouseEvent&, const juce::MouseWheelDetails&) override;

    bool isInterestedInFileDrag(const juce::StringArray&) override;
    void fileDragEnter(const juce::StringArray&, int, int) override;
    void fileDragExit(const juce::StringArray&) override;
    void filesDropped(const juce::StringArray&, int, int) override;

  private:
    void timerCallback() override { refresh(); }

    struct Parts;
    std::unique_ptr<Parts> parts_;
};

} // namespace stemline::editor
