#pragma once

#include "engine/mixer.h"
#include "engine/steady_playhead.h"
#include "processor/activity.h"
#include "processor/instance.h"
#include "processor/plugin_state.h"
#include "processor/user_settings.h"

namespace stemline {

/** The plugin as hosts see it: buses, parameters, state, and processBlock. */
class PluginProcessor : public juce::AudioProcessor {
  public:
    PluginProcessor();

    const juce::String getName() const override { return "Stemline"; }
    void prepareToPlay(double sampleRate, int maximumBlock) override;
    void releaseResources() override;
    bool isBusesLayoutSupported(const BusesLayout&) const override;
    void processBlock(juce::AudioBuffer<float>&, juce::MidiBuffer&) override;
    void processBlockBypassed(juce::AudioBuffer<float>&, juce::MidiBuffer&) override;

    bool hasEditor() const override { return true; }
    juce::AudioProcessorEditor* createEditor() override;

    bool acceptsMidi() const override { return false; }
    bool producesMidi() const override { return false; }
    double getTailLengthSeconds() const override { return 0.0; }
    int getNumPrograms() override { return 1; }
    int getCurrentProgram() override { return 0; }
    void setCurrentProgram(int) override {}
    const juce::String getProgramName(int) override { return "Default"; } // Steinberg's validator refuses an empty one
    void changeProgramName(int, const juce::String&) override {}

    void getStateInformation(juce::MemoryBlock&) override;
    void setStateInformation(const void*, int) override;

    ParameterTree parameterTree;
    const Parameters parameters{parameterTree};
    Instance instance;

    // For the editor.
    Activity activity;
    std::atomic<std::int64_t> playhead{0}; // host position of what is heard
    std::atomic<bool> playing{false};
    juce::Point<int> editorSize() const;
    void setEditorSize(juce::Point<int>);

  private:
    static BusesProperties buses();
    void render(juce::AudioBuffer<float>&, bool bypassed);
    void renderSlice(juce::AudioBuffer<float>&, int start, int frames, const Transport&, bool bypassed);
    void show(const Transport&, int frames, const float* const* input, const float* const* stems) noexcept;
    void write(juce::AudioBuffer<float>&, int bus, int start, int frames, const float* const* channels);
    Transport transport(int frames, bool silent);

    static constexpr int sliceFrames = 512;
    using Slice = std::array<std::array<float, sliceFrames>, maxChannels>;

    SteadyPlayhead playhead_;
    Mixer mixer_;
    std::array<Slice, numStems> stems_{};
    Slice delayed_{}, main_{}, silence_{};
    int channels_ = 2;

    juce::CriticalSection stateLock_; // never taken by the audio thread
    ProjectState project_;
};

} // namespace stemline
