#pragma once
// Latency, what the stream is like, late blocks, Main, capture, export, settings.

#include "editor/controls.h"
#include "editor/editor_state.h"
#include "editor/geometry.h"

namespace stemline::editor {

/** Message thread. */
class BottomBar final : public juce::Component {
  public:
    BottomBar(const LookAndFeel&, EditorActions&, juce::AudioProcessorValueTreeState&);

    std::function<void()> onSettings, onExport;

    /** Boxes in the window's coordinates. */
    void place(const Boxes&);
    void show(const EditorState&);
    void paint(juce::Graphics&) override;
    /** The next longer choice. */
    void longerLatency();

  private:
    class Label final : public juce::Component, public juce::SettableTooltipClient {
      public:
        Label(const juce::String& id, const LookAndFeel&, juce::Justification);
        void show(const juce::String&, Token);
        void paint(juce::Graphics&) override;

      private:
        const LookAndFeel& look_;
        const juce::Justification justification_;
        juce::String text_;
        Token colour_ = Token::mid;
    };
    class ProgressBar final : public juce::Component {
      public:
        explicit ProgressBar(const LookAndFeel&);
        void show(const Progress&);
        void paint(juce::Graphics&) override;

      private:
        const LookAndFeel& look_;
        Progress progress_;
        int announced_ = -1; // in tenths
    };
    void nameLatencies(const EditorState&);

    const LookAndFeel& look_;
    Boxes boxes_;
    juce::RangedAudioParameter& latencyParameter_;
    double rate_ = -1;
    bool cancels_ = false;
    DropDown latency_;
    Label text_, late_;
    ProgressBar progress_;
    DropDown mainOutput_;
    PushButton capture_, export_, settings_;
};

} // namespace stemline::editor
