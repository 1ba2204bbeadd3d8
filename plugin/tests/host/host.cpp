#include "host.h"
#include "processor/plugin_processor.h"
#include <algorithm>
#include <chrono>
#include <dlfcn.h>
#include <future>
#include <sndfile.h>
#include <thread>

namespace stemline::host {
namespace {

using Clock = std::chrono::steady_clock;

void watch(bool on) {
    static const auto function = reinterpret_cast<void (*)(bool)>(dlsym(RTLD_DEFAULT, "stemline_watch"));
    if (function != nullptr)
        function(on);
}

juce::AudioProcessorParameter& parameter(juce::AudioProcessor& processor, const juce::String& name) {
    for (auto* candidate : processor.getParameters())
        if (candidate->getName(100) == name)
            return *candidate;
    throw std::runtime_error("no parameter is called " + name.toStdString());
}

} // namespace

juce::Optional<juce::AudioPlayHead::PositionInfo> Playhead::getPosition() const {
    PositionInfo info;
    info.setTimeInSamples(position);
    info.setTimeInSeconds(static_cast<double>(position) / rate);
    info.setIsPlaying(playing);
    info.setBpm(120.0);
    return info;
}

BlockSizes::BlockSizes(const std::string& text) {
    if (text.rfind("random:", 0) == 0) {
        const auto colon = text.find(':', 7);
        generator_.seed(static_cast<unsigned>(std::stoul(text.substr(7, colon - 7))));
        random_.emplace(1, std::stoi(text.substr(colon + 1)));
        return;
    }
    for (std::size_t start = 0; start < text.size();) {
        const auto comma = std::min(text.find(',', start), text.size());
        list_.push_back(std::stoi(text.substr(start, comma - start)));
        start = comma + 1;
    }
}

int BlockSizes::next() { return random_ ? (*random_)(generator_) : list_[at_++ % list_.size()]; }

float Timing::quantile(double q) {
    if (shares.empty())
        return 0.0f;
    const auto at = static_cast<std::ptrdiff_t>(q * static_cast<double>(shares.size() - 1));
    std::nth_element(shares.begin(), shares.begin() + at, shares.end());
    return shares[static_cast<std::size_t>(at)];
}

Host::Host(OnMessageThread onMessageThread) : onMessageThread_(std::move(onMessageThread)) {}

Host::~Host() { unload(); }

void Host::load(const std::string& path) {
    unload();
    std::string problem;
    onMessageThread_([&] {
        if (path == "direct") {
            processor_ = std::make_unique<PluginProcessor>();
            return;
        }
        juce::OwnedArray<juce::PluginDescription> found;
        format_.findAllTypesForFile(found, path);
        if (found.isEmpty()) {
            problem = "no VST3 plugin in " + path;
            return;
        }
        juce::String error;
        processor_ = format_.createInstanceFromDescription(*found[0], 44100.0, 512, error);
        problem = error.toStdString();
    });
    if (processor_ == nullptr)
        throw std::runtime_error(problem);
    processor_->setPlayHead(&playhead_);
}

void Host::unload() {
    if (processor_ == nullptr)
        return;
    hand_.close(*processor_);
    onMessageThread_([this] {
        processor_->releaseResources();
        processor_.reset();
    });
}

void Host::layout(int channels, const juce::StringArray& busesOff) {
    channels_ = channels;
    const auto set = channels == 1 ? juce::AudioChannelSet::mono() : juce::AudioChannelSet::stereo();
    auto wanted = processor_->getBusesLayout();
    for (auto& bus : wanted.inputBuses)
        bus = set;
    for (int index = 0; index < wanted.outputBuses.size(); ++index) {
        const auto* bus = processor_->getBus(false, index);
        wanted.outputBuses.getReference(index) =
            busesOff.contains(bus->getName()) ? juce::AudioChannelSet::disabled() : set;
    }
    bool accepted = false;
    onMessageThread_([&] { accepted = processor_->setBusesLayout(wanted); });
    if (!accepted)
        throw std::runtime_error("the plugin refuses this layout");
}

void Host::prepare(double rate, int maxBlock) {
    playhead_.rate = rate;
    maxBlock_ = maxBlock;
    onMessageThread_([&] {
        processor_->releaseResources();
        processor_->setNonRealtime(offline);
        processor_->setRateAndBufferSizeDetails(rate, maxBlock);
        processor_->prepareToPlay(rate, maxBlock);
    });
    timing.shares.clear();
}

void Host::setParameter(const juce::String& name, const juce::String& text) {
    onMessageThread_([&] {
        auto& found = parameter(*processor_, name);
        found.setValueNotifyingHost(found.getValueForText(text));
    });
}

juce::String Host::parameterText(const juce::String& name) {
    return parameter(*processor_, name).getCurrentValueAsText();
}

void Host::run(std::int64_t position, bool playing, std::int64_t frames, BlockSizes sizes) {
    const int inputs = processor_->getTotalNumInputChannels(), outputs = processor_->getTotalNumOutputChannels();
    juce::AudioBuffer<float> buffer(std::max(inputs, outputs), maxBlock_);
    if (recordingOn_)
        recording_.resize(static_cast<std::size_t>(outputs));
    timing.shares.reserve(timing.shares.size() + 1'000'000);
    playhead_.position = position;
    playhead_.playing = playing;
    auto due = Clock::now();
    for (std::int64_t done = 0; done < frames;) {
        const int size = static_cast<int>(std::min<std::int64_t>({sizes.next(), maxBlock_, frames - done}));
        juce::AudioBuffer<float> block(buffer.getArrayOfWritePointers(), buffer.getNumChannels(), size);
        block.clear();
        for (int channel = 0; channel < std::min(inputs, input_.getNumChannels()) && playing; ++channel)
            for (int n = 0; n < size; ++n)
                if (const auto at = playhead_.position + n; at >= 0 && at < input_.getNumSamples())
                    block.setSample(channel, n, input_.getSample(channel, static_cast<int>(at)));
        process(block);
        if (recordingOn_)
            for (int channel = 0; channel < outputs; ++channel) {
                const float* samples = block.getReadPointer(channel);
                auto& track = recording_[static_cast<std::size_t>(channel)];
                track.insert(track.end(), samples, samples + size);
            }
        done += size;
        if (playing)
            playhead_.position += size;
        if (paced) {
            due += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(size / playhead_.rate));
            std::this_thread::sleep_until(due);
        }
    }
}

void Host::process(juce::AudioBuffer<float>& block) {
    juce::MidiBuffer midi;
    processor_->setNonRealtime(offline);
    const auto began = Clock::now();
    if (watched)
        watch(true);
    if (bypassed)
        processor_->processBlockBypassed(block, midi);
    else
        processor_->processBlock(block, midi);
    if (watched)
        watch(false);
    const std::chrono::duration<double> took = Clock::now() - began;
    timing.shares.push_back(static_cast<float>(took.count() * playhead_.rate / block.getNumSamples()));
}

void Host::saveState(const juce::File& file) {
    onMessageThread_([&] {
        juce::MemoryBlock state;
        processor_->getStateInformation(state);
        file.replaceWithData(state.getData(), state.getSize());
    });
}

void Host::loadState(const juce::File& file, bool wrapped) {
    onMessageThread_([&] {
        juce::MemoryBlock state;
        file.loadFileAsData(state);
        if (wrapped) { // our own bytes, in the envelope in which JUCE keeps a VST3 plugin's
            juce::XmlElement envelope("VST3PluginState");
            envelope.createNewChildElement("IComponent")->addTextElement(state.toBase64Encoding());
            juce::AudioProcessor::copyXmlToBinary(envelope, state);
        }
        processor_->setStateInformation(state.getData(), static_cast<int>(state.getSize()));
    });
}

/** Captures what is played from now on, as the editor's button does. Of a plugin in its own binary only an editor can.
 */
void Host::capture() { own().instance.captures.arm(); }

void Host::update() { own().instance.captures.update(); }

/** As soon as there is something to cancel. */
void Host::cancel() {
    auto& captures = own().instance.captures;
    const auto until = Clock::now() + std::chrono::seconds(20);
    while (captures.status().phase == Captures::Phase::idle && Clock::now() < until)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    captures.cancel();
}

/** Of what was captured, how many pieces cannot play; as soon as there is none. */
int Host::lostPieces(double seconds) {
    const auto count = [this] {
        const auto states = own().instance.captures.status().states;
        return static_cast<int>(std::count_if(states.begin(), states.end(),
                                              [](auto state) { return state != capture::PieceState::ready; }));
    };
    const auto until = Clock::now() + std::chrono::duration<double>(seconds);
    while (count() > 0 && Clock::now() < until)
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return count();
}

/** As the chip says it, as soon as it begins as wanted. */
std::string Host::serverText(const std::string& wanted, double seconds) {
    const auto until = Clock::now() + std::chrono::duration<double>(seconds);
    const auto text = [this] { return client::chipText(own().instance.status()); };
    while (!text().starts_with(wanted) && Clock::now() < until)
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return text();
}

/** As the banner's button does; what went wrong, or nothing. */
std::string Host::getModel(const std::string& name, double seconds) {
    auto& instance = own().instance;
    const auto until = Clock::now() + std::chrono::duration<double>(seconds);
    instance.getModel(name);
    while (instance.download().running && Clock::now() < until)
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const auto download = instance.download();
    return download.running ? "it takes too long" : download.problem ? download.problem->message : "";
}

/** "4096-12288 40960-45056", in frames of the timeline. */
juce::String Host::stale(bool unheard) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200)); // what was heard is on its way
    juce::StringArray extents;
    const auto status = own().instance.captures.status();
    for (const auto& extent : unheard ? status.unheard : status.stale)
        extents.add(juce::String(extent.start) + "-" + juce::String(extent.stop));
    return extents.joinIntoString(" ");
}

/** Waits until what was captured is separated. */
std::string Host::waitForCaptures(double seconds) {
    auto& captures = own().instance.captures;
    const auto until = Clock::now() + std::chrono::duration<double>(seconds);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    while (Clock::now() < until && (!captures.settled() || captures.status().capture.map.empty() ||
                                    captures.status().phase != Captures::Phase::idle))
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::this_thread::sleep_for(std::chrono::milliseconds(200)); // the player has it
    return captures.status().problem;
}

/** As a file that is dropped on the editor. */
void Host::drop(const juce::File& file) { own().instance.captures.importFile(file.getFullPathName().toStdString()); }

/** As the editor's "Export all"; what failed, or nothing. */
std::string Host::exportStems(const juce::File& folder) {
    std::vector<Stem> all;
    for (int stem = 0; stem < numStems; ++stem)
        all.push_back(static_cast<Stem>(stem));
    std::promise<std::string> done;
    own().instance.captures.exportStems(folder.getFullPathName().toStdString(), all,
                                        [&](const auto&, const std::string& problem) { done.set_value(problem); });
    return done.get_future().get();
}

int Host::lateBlocks() const {
    const auto* plugin = dynamic_cast<const PluginProcessor*>(processor_.get());
    return plugin != nullptr ? static_cast<int>(plugin->instance.lateBlocks()) : -1;
}

PluginProcessor& Host::own() {
    if (auto* plugin = dynamic_cast<PluginProcessor*>(processor_.get()))
        return *plugin;
    throw std::runtime_error("only `load direct` can do this");
}

void Host::openEditor(const juce::File& picture, double scale) {
    std::unique_ptr<juce::AudioProcessorEditor> editor;
    onMessageThread_([&] {
        editor.reset(processor_->createEditorIfNeeded());
        if (editor != nullptr) {
            editor->addToDesktop(0);
            editor->setVisible(true);
        }
    });
    if (editor == nullptr)
        throw std::runtime_error("the plugin has no editor");
    std::this_thread::sleep_for(std::chrono::milliseconds(700)); // a few of its timer's rounds
    onMessageThread_([&] {
        const auto image = editor->createComponentSnapshot(editor->getLocalBounds(), true, static_cast<float>(scale));
        juce::PNGImageFormat png;
        picture.deleteFile();
        juce::FileOutputStream stream(picture);
        png.writeImageToStream(image, stream);
        processor_->editorBeingDeleted(editor.get());
        editor.reset();
    });
}

void Host::record(bool on) {
    recordingOn_ = on;
    if (on)
        recording_.clear();
}

void Host::writeRecording(const juce::File& file) {
    SF_INFO info{};
    info.samplerate = static_cast<int>(playhead_.rate);
    info.channels = static_cast<int>(recording_.size());
    info.format = SF_FORMAT_WAV | SF_FORMAT_FLOAT;
    SNDFILE* out = sf_open(file.getFullPathName().toRawUTF8(), SFM_WRITE, &info);
    if (out == nullptr)
        throw std::runtime_error(sf_strerror(nullptr));
    sf_command(out, SFC_SET_ADD_PEAK_CHUNK, nullptr, SF_FALSE);
    std::vector<float> frame(recording_.size());
    for (std::size_t n = 0; n < recording_.front().size(); ++n) {
        for (std::size_t channel = 0; channel < recording_.size(); ++channel)
            frame[channel] = recording_[channel][n];
        sf_writef_float(out, frame.data(), 1);
    }
    sf_close(out);
}

} // namespace stemline::host
