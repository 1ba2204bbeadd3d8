#pragma once
// Wordmark, mode, model, refiner, server.

#include "editor/geometry.h"
#include "editor/server_chip.h"

namespace stemline::editor {

/** Message thread. */
class TopBar final : public juce::Component {
  public:
    TopBar(const LookAndFeel&, EditorActions&, juce::AudioProcessorValueTreeState&);

    void place(const Boxes&);
    void show(const EditorState&);
    void paint(juce::Graphics&) override;
    void openModelMenu() { model_.showPopup(); }
    ServerChipView& chip() { return chip_; }

  private:
    class ModelBox final : public DropDown {
      public:
        ModelBox(const LookAndFeel& look, EditorActions&);
        void show(const EditorState&);

      private:
        EditorActions& actions_;
        std::vector<std::string> names_;
        juce::String listed_;
    };

    const LookAndFeel& look_;
    Boxes boxes_;
    ChoiceSwitch mode_;
    ModelBox model_;
    ChoiceSwitch refiner_;
    ServerChipView chip_;
};

} // namespace stemline::editor
