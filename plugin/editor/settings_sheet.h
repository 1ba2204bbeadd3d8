#pragma once
// Where the server is, what it computes on, how much room captures may take. A sheet at the right of the window.

#include "editor/controls.h"
#include "editor/editor_state.h"
#include "editor/geometry.h"

namespace stemline::editor {

/** Message thread. Every change is applied at once. */
class SettingsSheet final : public juce::Component {
  public:
    SettingsSheet(LookAndFeel&, EditorActions&, juce::AudioProcessorValueTreeState&);

    std::function<void()> onClose;

    /** Takes over what is set; a field that is being typed in keeps its text. */
    void show(const EditorSettings&);
    /** The sheet within the window; the rest is dimmed, and a click there closes. */
    void place(const Boxes&);
    void paint(juce::Graphics&) override;
    void mouseDown(const juce::MouseEvent&) override;
    bool keyPressed(const juce::KeyPress&) override;
    void visibilityChanged() override;

  private:
    /** What scrolls. */
    struct Page final : public juce::Component {
        explicit Page(LookAndFeel&);
        void paint(juce::Graphics&) override;
        LookAndFeel& look;
        juce::String answer; // to "Test"
        EditorSettings settings;
    };

    void layOut();
    void enableFields();
    void apply();
    void chooseFolder();
    void browseForFolder();
    void askToClear();
    void chooseFile(juce::TextEditor& into, const juce::String& title);
    void showLicences();
    void showAnswer(const std::string&);
    void applySeed();
    void prepareField(juce::TextEditor&, const juce::String& id, const juce::String& title);

    LookAndFeel& look_;
    EditorActions& actions_;
    EditorSettings settings_;
    bool known_ = false;
    Page page_;
    juce::Viewport view_;
    PushButton close_;
    ChoiceSwitch where_;
    juce::TextEditor address_, token_;
    PushButton test_;
    Switch tls_;
    PushButton paste_;
    DropDown device_, cacheLimit_;
    PushButton clear_;
    juce::TextEditor cachePath_;
    PushButton choose_, licences_;
    Switch light_, autoStart_;
    juce::TextEditor caFile_, tokenFile_;
    PushButton caChoose_, tokenChoose_;
    juce::TextEditor seed_;
    juce::ParameterAttachment seedAttachment_; // after its field: it tells us the first value
    std::unique_ptr<juce::FileChooser> chooser_;
};

} // namespace stemline::editor
