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
    void setSettingsOpen(bool open) { settings_.setLit(open); }

  private:
    /** Two lines. */
    class Label final : public juce::Component, public juce::SettableTooltipClient {
      public:
        enum class Strong { upper, lower };
        Label(const juce::String& id, const LookAndFeel&, Strong);
        void show(const juce::String& upper, const juce::String& lower, Token strong);
        void paint(juce::Graphics&) override;

      private:
        const LookAndFeel& look_;
        const Strong strong_;
        juce::String upper_, lower_;
        Token colour_ = Token::hi;
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
    int namedChoice_ = -1;
    std::string namedParts_;
    bool cancels_ = false, captured_ = false;
    DropDown latency_;
    Label text_, late_;
    ProgressBar progress_;
    DropDown mainOutput_;
    PushButton capture_, export_, settings_;
};

} // namespace stemline::editor
