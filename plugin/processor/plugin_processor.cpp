#include "processor/plugin_processor.h"
#include "processor/plugin_editor.h"

namespace stemline {

// The order and the names of the buses are a promise: routing survives a change of model.
juce::AudioProcessor::BusesProperties PluginProcessor::buses() {
    const auto stereo = juce::AudioChannelSet::stereo();
    auto properties = BusesProperties().withInput("Input", stereo).withOutput("Main", stereo);
    for (int stem = 0; stem < numStems; ++stem) {
        const juce::String name = stemName(static_cast<Stem>(stem));
        properties = properties.withOutput(name.substring(0, 1).toUpperCase() + name.substring(1), stereo);
    }
    return properties;
}

PluginProcessor::PluginProcessor()
    : AudioProcessor(buses()), parameterTree(*this, nullptr, "stemline", parameterLayout()),
      instance(parameters, [this](int latency) { setLatencySamples(latency); }) {
    instance.setServer(UserSettings::load().server());
}

void PluginProcessor::prepareToPlay(double sampleRate, int maximumBlock) {
    channels_ = juce::jlimit(1, maxChannels, getMainBusNumInputChannels());
    playhead_ = {};
    stems_ = {}; // what is heard where a host goes on without having prepared us
    delayed_ = main_ = {};
    mixer_.prepare(sampleRate, channels_);
    instance.prepare(sampleRate, juce::jmax(1, maximumBlock), channels_, isNonRealtime());
}

void PluginProcessor::releaseResources() { instance.release(); }

/** Mono or stereo; an output is as wide as the input, or stereo for a mono input, or off. Main is never off. */
bool PluginProcessor::isBusesLayoutSupported(const BusesLayout& layout) const {
    const auto mono = juce::AudioChannelSet::mono(), stereo = juce::AudioChannelSet::stereo();
    const auto input = layout.getMainInputChannelSet();
    if ((input != mono && input != stereo) || layout.getMainOutputChannelSet().isDisabled())
        return false;
    for (const auto& output : layout.outputBuses)
        if (!output.isDisabled() && output != stereo && output != input)
            return false;
    return true;
}

void PluginProcessor::processBlock(juce::AudioBuffer<float>& buffer, juce::MidiBuffer&) { render(buffer, false); }

void PluginProcessor::processBlockBypassed(juce::AudioBuffer<float>& buffer, juce::MidiBuffer&) {
    render(buffer, true);
}

Transport PluginProcessor::transport(int frames, bool silent) {
    Transport transport;
    transport.offline = isNonRealtime();
    if (const auto* host = getPlayHead())
        if (const auto position = host->getPosition()) {
            transport.playing = position->getIsPlaying();
            transport.position = position->getTimeInSamples().orFallback(0);
        }
    transport.position = playhead_.follow(transport, frames, silent);
    return transport;
}

void PluginProcessor::render(juce::AudioBuffer<float>& buffer, bool bypassed) {
    const juce::ScopedNoDenormals noDenormals;
    const auto input = getBusBuffer(buffer, true, 0);
    const bool silent = input.getMagnitude(0, input.getNumSamples()) == 0.0f;
    auto now = transport(buffer.getNumSamples(), silent);
    for (int start = 0; start < buffer.getNumSamples(); start += sliceFrames) {
        const int frames = juce::jmin(sliceFrames, buffer.getNumSamples() - start);
        renderSlice(buffer, start, frames, now, bypassed);
        if (now.playing)
            now.position += frames;
    }
}

void PluginProcessor::renderSlice(juce::AudioBuffer<float>& buffer, int start, int frames, const Transport& now,
                                  bool bypassed) {
    std::array<const float*, maxChannels> input{};
    std::array<float*, maxChannels> delayed{}, main{};
    std::array<float*, numStems * maxChannels> stems{};
    for (size_t channel = 0; channel < static_cast<size_t>(channels_); ++channel) {
        input[channel] = buffer.getReadPointer(static_cast<int>(channel), start);
        delayed[channel] = delayed_[channel].data();
        main[channel] = main_[channel].data();
        for (size_t stem = 0; stem < numStems; ++stem)
            stems[stem * static_cast<size_t>(channels_) + channel] = stems_[stem][channel].data();
    }
    instance.process(now, input.data(), frames, stems.data(), delayed.data());
    const auto targets = fold(parameters.gainsDb(), parameters.solos(), parameters.mutes(), parameters.mainSource());
    mixer_.process(targets, stems.data(), main.data(), frames);
    show(now, frames, input.data(), stems.data());

    const auto channelsOf = [this](const Slice& slice) {
        return std::array<const float*, maxChannels>{slice[0].data(), slice[channels_ > 1 ? 1 : 0].data()};
    };
    const auto dry = channelsOf(delayed_), silent = channelsOf(silence_);
    write(buffer, 0, start, frames, bypassed ? dry.data() : channelsOf(main_).data());
    for (int stem = 0; stem < numStems; ++stem) {
        const bool residual = stem == static_cast<int>(Stem::residual);
        const auto separated = channelsOf(stems_[static_cast<size_t>(stem)]);
        write(buffer, stem + 1, start, frames, bypassed ? (residual ? dry.data() : silent.data()) : separated.data());
    }
}

/** For the editor. What stems sound like now was the track's input one latency ago. */
void PluginProcessor::show(const Transport& now, int frames, const float* const* input,
                           const float* const* stems) noexcept {
    const auto heard = now.position - instance.latency();
    activity.add(0, now.position, now.playing, channels_, frames, input);
    for (int stem = 0; stem < numStems; ++stem)
        activity.add(stem + 1, heard, now.playing, channels_, frames, stems + stem * channels_);
    playhead.store(heard, std::memory_order_relaxed);
    playing.store(now.playing, std::memory_order_relaxed);
}

void PluginProcessor::write(juce::AudioBuffer<float>& buffer, int bus, int start, int frames,
                            const float* const* channels) {
    if (bus >= getBusCount(false))
        return;
    auto output = getBusBuffer(buffer, false, bus); // no channels where the bus is off
    for (int channel = 0; channel < output.getNumChannels(); ++channel)
        output.copyFrom(channel, start, channels[juce::jmin(channel, maxChannels - 1)], frames);
}

juce::Point<int> PluginProcessor::editorSize() const {
    const juce::ScopedLock lock(stateLock_);
    return project_.editorSize;
}

void PluginProcessor::setEditorSize(juce::Point<int> size) {
    const juce::ScopedLock lock(stateLock_);
    project_.editorSize = size;
}

void PluginProcessor::getStateInformation(juce::MemoryBlock& bytes) {
    const juce::ScopedLock lock(stateLock_);
    project_.model = instance.model();
    const auto captured = instance.captures.saveState();
    project_.capture.replaceAll(captured.data(), captured.size());
    bytes = saveState(parameterTree, project_);
}

void PluginProcessor::setStateInformation(const void* data, int size) {
    auto loaded = loadState(parameterTree, data, static_cast<size_t>(juce::jmax(0, size)));
    if (!loaded)
        return;
    {
        const juce::ScopedLock lock(stateLock_);
        project_ = std::move(*loaded);
        instance.setModel(project_.model.toStdString());
        instance.captures.loadState({static_cast<const char*>(project_.capture.getData()), project_.capture.getSize()});
    }
    instance.settle();
}

} // namespace stemline
