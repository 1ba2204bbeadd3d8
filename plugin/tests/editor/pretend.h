#pragma once
// A plugin that is none: the parameters, a state to show, and a list of what the editor asked for.

#include "editor/editor.h"
#include "processor/parameters.h"

namespace stemline::editor {

class PretendProcessor final : public juce::AudioProcessor {
  public:
    PretendProcessor() : tree(*this, nullptr, "parameters", parameterLayout()) {}

    void set(const juce::String& id, float value);
    float get(const juce::String& id) const { return *tree.getRawParameterValue(id); }

    const juce::String getName() const override { return "Stemline"; }
    void prepareToPlay(double, int) override {}
    void releaseResources() override {}
    void processBlock(juce::AudioBuffer<float>&, juce::MidiBuffer&) override {}
    double getTailLengthSeconds() const override { return 0; }
    bool acceptsMidi() const override { return false; }
    bool producesMidi() const override { return false; }
    juce::AudioProcessorEditor* createEditor() override { return nullptr; }
    bool hasEditor() const override { return false; }
    int getNumPrograms() override { return 1; }
    int getCurrentProgram() override { return 0; }
    void setCurrentProgram(int) override {}
    const juce::String getProgramName(int) override { return "Default"; }
    void changeProgramName(int, const juce::String&) override {}
    void getStateInformation(juce::MemoryBlock&) override {}
    void setStateInformation(const void*, int) override {}

    juce::AudioProcessorValueTreeState tree;
};

/** Draws sounds made of sines and noise, the same each time. */
class PretendActions final : public EditorActions {
  public:
    explicit PretendActions(const EditorState& shown) : state(shown) {}

    juce::StringArray calls;
    EditorSettings tested; // last

    void startServer() override { calls.add("startServer"); }
    void retryServer() override { calls.add("retryServer"); }
    void restartServer() override { calls.add("restartServer"); }
    void testServer(const EditorSettings& settings, std::function<void(std::string)> answer) override {
        tested = settings;
        answer("Ready");
    }
    void setModel(const std::string& name) override { calls.add("setModel " + juce::String(name)); }
    void getModel(const std::string& name) override { calls.add("getModel " + juce::String(name)); }
    void capture() override { calls.add("capture"); }
    void cancel() override { calls.add("cancel"); }
    void updateStale() override { calls.add("updateStale"); }
    void dropFile(const juce::File& file) override { calls.add("dropFile " + file.getFileName()); }
    void exportAll(const juce::File&) override { calls.add("exportAll"); }
    void exportStem(Stem stem, std::function<void(juce::File)>) override {
        calls.add("exportStem " + juce::String(stemName(stem)));
    }
    void saveStem(Stem stem, const juce::File& file) override {
        calls.add("saveStem " + juce::String(stemName(stem)) + " " + file.getFileName());
    }
    bool drawWave(int lane, double firstSecond, double secondsPerPixel, std::span<WaveBucket> pixels) override;
    void applySettings(const EditorSettings&) override { calls.add("applySettings"); }
    void clearCache() override { calls.add("clearCache"); }
    void chooseCacheFolder(const juce::File& folder) override {
        calls.add("chooseCacheFolder " + folder.getFullPathName());
    }
    void errorButton(int index) override { calls.add("errorButton " + juce::String(index)); }

  private:
    const EditorState& state;
};

} // namespace stemline::editor
