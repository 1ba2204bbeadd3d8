#include "processor/plugin_editor.h"
#include "client/models.h"
#include "editor/errors.h"
#include <algorithm>

namespace stemline {
namespace {

editor::Tone toneOf(client::ServerStatus::State state) {
    using State = client::ServerStatus::State;
    switch (state) {
    case State::stopped:
        return editor::Tone::idle;
    case State::starting:
    case State::connecting:
    case State::loadingModel:
        return editor::Tone::busy;
    case State::ready:
    case State::separating:
        return editor::Tone::ok;
    case State::lost:
        return editor::Tone::warn;
    case State::untrusted:
    case State::refused:
        return editor::Tone::err;
    }
    return editor::Tone::idle;
}

std::string sizeText(std::uint64_t bytes) { return std::to_string((bytes + 500'000) / 1'000'000) + " MB"; }

/** Adds a range to sorted, disjoint ones. */
void include(std::vector<editor::TimeRange>& ranges, editor::TimeRange added) {
    std::erase_if(ranges, [&](const editor::TimeRange& range) {
        if (range.stop < added.start || range.start > added.stop)
            return false;
        added = {std::min(range.start, added.start), std::max(range.stop, added.stop)};
        return true;
    });
    const auto after = std::ranges::find_if(ranges, [&](const auto& range) { return range.start > added.stop; });
    ranges.insert(after, added);
}

/** Captured mode opens no session that could be refused: the list says it as well. */
bool isMissing(const client::ServerStatus& status, const std::string& name) {
    const auto found = std::ranges::find_if(status.models, [&](const auto& model) { return model.name == name; });
    if (name.empty() || status.models.empty() || status.state == client::ServerStatus::State::lost)
        return false;
    using State = client::ModelInfo::State;
    return found == status.models.end() || found->state == State::notDownloaded || found->state == State::broken;
}

/** What a user can influence is the hop: the rest is the model's look-ahead and this machine's speed. */
std::string latencyParts(double seconds, double hopSeconds) {
    const auto text = [](double value) { return juce::String(value, 2).toStdString() + " s "; };
    return text(hopSeconds) + "hop + " + text(seconds - hopSeconds) + "look-ahead, compute and reserve";
}

/** Calls back on the message thread, unless the component has gone meanwhile. */
template <class Function> void later(juce::Component* component, Function function) {
    juce::MessageManager::callAsync([safe = juce::Component::SafePointer<juce::Component>(component), function] {
        if (safe != nullptr)
            function();
    });
}

} // namespace

PluginEditor::PluginEditor(PluginProcessor& plugin)
    : AudioProcessorEditor(plugin), plugin_(plugin), content_(plugin.parameterTree, *this, [this] { return state(); }) {
    const auto size = plugin.editorSize(); // before the first `resized`, which notes the size
    addAndMakeVisible(content_);
    setResizable(true, true);
    setResizeLimits(720, 460, 1600, 1000);
    setSize(size.x, size.y);
}

void PluginEditor::resized() {
    content_.setBounds(getLocalBounds());
    plugin_.setEditorSize({getWidth(), getHeight()});
}

editor::EditorState PluginEditor::state() {
    const auto status = plugin_.instance.status();
    editor::EditorState state;
    showServer(state, status);
    showModels(state, status);
    showCaptures(state);
    state.sampleRate = plugin_.getSampleRate();
    state.channels = plugin_.getMainBusNumInputChannels();
    state.capturedMode = plugin_.parameters.mode() == Mode::captured;
    state.latencySamples = plugin_.instance.latency();
    state.lateBlocks = static_cast<int>(plugin_.instance.lateBlocks());
    state.playing = plugin_.playing;
    if (state.sampleRate > 0)
        state.playhead = static_cast<double>(plugin_.playhead) / state.sampleRate;
    for (int lane = 0; lane < Activity::numLanes; ++lane) {
        const auto level = plugin_.activity.level(lane);
        state.meters[static_cast<size_t>(lane)] = {level.peak, level.rms};
    }
    state.signal = std::max(state.meters[0].peak[0], state.meters[0].peak[1]) > 1e-5f;
    const bool lost = status.state == client::ServerStatus::State::lost;
    lostSince_ = lost ? std::optional(lostSince_.value_or(state.playhead)) : std::nullopt;
    state.lostSince = lostSince_;
    if (status.hopSamples > 0 && state.sampleRate > 0)
        state.latencyText = latencyParts(state.latencySamples / state.sampleRate, status.hopSamples / state.sampleRate);
    state.bouncing = plugin_.isNonRealtime() && state.playing;
    lateBlocks_ = late_.update(state.lateBlocks, juce::Time::getMillisecondCounterHiRes() / 1000);
    state.error = error(status);
    auto& settings = state.settings;
    settings.anotherComputer = settings_.anotherComputer;
    settings.address = settings_.address.toStdString();
    settings.token = settings_.token.toStdString();
    settings.tokenFile = settings_.tokenFile.toStdString();
    settings.caFile = settings_.caFile.toStdString();
    settings.startAutomatically = settings_.startAutomatically;
    askForStoreSize();
    settings.cacheCapGb = settings_.cacheCapGb;
    settings.cacheUsedGb = std::round(static_cast<double>(storeSize_->bytes) / 1e8) / 10; // as it is shown
    settings.cacheFolder = capture::defaultStoreRoot().string();
    settings.light = settings_.light;
    settings.devices = {"Automatic"};
    settings.version = STEMLINE_VERSION;
    settings.serverVersion = status.version;
    return state;
}

void PluginEditor::showServer(editor::EditorState& state, const client::ServerStatus& status) {
    state.server.text = client::chipText(status);
    state.server.tone = toneOf(status.state);
    if (status.state == client::ServerStatus::State::stopped)
        state.server.button = "Start";
    state.device = status.device;
    state.windowMs = status.windowMs;
}

void PluginEditor::showModels(editor::EditorState& state, const client::ServerStatus& status) {
    state.model = plugin_.instance.model();
    if (state.model.empty())
        state.model = status.defaultModel;
    std::vector<std::string> names = status.stems;
    for (const auto& model : status.models) {
        const bool missing = model.state == client::ModelInfo::State::notDownloaded;
        state.models.push_back(
            {model.name, model.title, missing, missing && model.fileBytes > 0 ? sizeText(model.fileBytes) : ""});
        if (model.name == state.model)
            names = model.stems;
    }
    if (!names.empty()) {
        state.stems.fill(false);
        state.stems[static_cast<size_t>(Stem::residual)] = true;
        for (const auto& name : names)
            state.stems[static_cast<size_t>(stemFromName(name).value_or(Stem::other))] = true;
    }
    stems_ = state.stems;
}

void PluginEditor::showCaptures(editor::EditorState& state) {
    const auto captures = plugin_.instance.captures.status();
    const double rate = captures.capture.rateHz > 0 ? captures.capture.rateHz : plugin_.getSampleRate();
    if (rate <= 0)
        return;
    const auto range = [rate](std::int64_t start, std::int64_t stop) {
        return editor::TimeRange{static_cast<double>(start) / rate, static_cast<double>(stop) / rate};
    };
    for (const auto& piece : captures.capture.map.pieces())
        include(state.captured, range(piece.start, piece.stop()));
    for (const auto& extent : captures.recorded)
        include(state.captured, range(extent.start, extent.stop));
    for (const auto& extent : captures.stale)
        state.stale.push_back(range(extent.start, extent.stop));
    auto& progress = state.progress;
    progress.phase = static_cast<editor::CapturePhase>(captures.phase);
    progress.fraction = captures.fraction;
    progress.secondsLeft = captures.remainingSeconds.value_or(0.0);
    progress.cancelled = captures.cancelled;
    if (!captures.recorded.empty())
        progress.recordedFrom = static_cast<double>(captures.recorded.front().start) / rate;
    if (!state.captured.empty())
        progress.range = {state.captured.front().start, state.captured.back().stop};
    for (const auto& piece : captures.capture.map.pieces())
        state.canDrag = state.canDrag || !piece.stems.empty();
    if (!captures.problem.empty())
        problem_ = captures.problem;
}

/** The gravest thing that is wrong, and what its buttons do. */
std::optional<editor::EditorError> PluginEditor::error(const client::ServerStatus& status) {
    using State = client::ServerStatus::State;
    const auto reason = status.problem ? status.problem->message : std::string();
    buttons_ = [this](int) { plugin_.instance.tryNow(); };
    if (status.modelMissing() || isMissing(status, plugin_.instance.model()))
        return missingModel();
    if (status.state == State::lost) {
        buttons_ = [this](int index) { index == 0 ? plugin_.instance.tryNow() : plugin_.instance.restartServer(); };
        const auto at =
            juce::Time(std::chrono::duration_cast<std::chrono::milliseconds>(status.lostAt.time_since_epoch()).count());
        return editor::errors::serverLost(at.toString(false, true).toStdString(), reason);
    }
    if (status.problem && status.problem->reason == "REMOTE_NEEDS_TLS")
        return editor::errors::needsTlsAndToken();
    if (status.state == State::untrusted || status.state == State::refused)
        return editor::errors::other("The server refuses", reason);
    if (status.state == State::stopped && status.problem && status.problem->reason != "SERVER_STOPPED")
        return editor::errors::other("The server did not start", reason);
    if (const auto bounce = plugin_.instance.incompleteBounce(); bounce && plugin_.getSampleRate() > 0)
        return editor::errors::bounceIncomplete({static_cast<double>(bounce->start) / plugin_.getSampleRate(),
                                                 static_cast<double>(bounce->stop) / plugin_.getSampleRate()});
    if (const auto unheard = plugin_.instance.captures.status().unheard; !unheard.empty()) {
        std::vector<editor::TimeRange> left;
        left.reserve(unheard.size());
        for (const auto& extent : unheard)
            left.push_back({static_cast<double>(extent.start) / plugin_.getSampleRate(),
                            static_cast<double>(extent.stop) / plugin_.getSampleRate()});
        buttons_ = [this](int) { plugin_.instance.captures.dismiss(); };
        return editor::errors::partlyUpdated(left);
    }
    if (lateBlocks_ > 0) {
        const bool longer = hasLongerLatency(plugin_.parameterTree);
        buttons_ = [this, longer](int index) {
            if (longer && index == 0)
                chooseLongerLatency(plugin_.parameterTree);
            late_.dismiss();
        };
        return editor::errors::lateBlocks(lateBlocks_, longer, plugin_.playing);
    }
    if (!problem_.empty()) {
        buttons_ = [this](int) { plugin_.instance.captures.dismiss(); };
        return editor::errors::other("That did not work", problem_);
    }
    return std::nullopt;
}

/** Missing, on its way, or not to be had. */
editor::EditorError PluginEditor::missingModel() {
    const auto model = plugin_.instance.model();
    const auto download = plugin_.instance.download();
    const bool isThisOne = download.model == model;
    if (isThisOne && download.running) {
        using Stage = client::DownloadProgress::Stage;
        buttons_ = [this](int) { plugin_.instance.cancelDownload(); };
        const auto& at = download.progress;
        if (at.stage == Stage::downloading)
            return editor::errors::gettingModel(model, sizeText(at.doneBytes), sizeText(at.totalBytes));
        return editor::errors::gettingModel(model, at.stage == Stage::installing);
    }
    buttons_ = [this, model](int index) {
        if (index == 0)
            getModel(model);
        else
            setModel({});
    };
    if (isThisOne && download.problem)
        return editor::errors::modelNotGot(model, download.problem->message);
    return editor::errors::modelMissing(model, "");
}

void PluginEditor::errorButton(int index) {
    problem_.clear();
    if (buttons_)
        buttons_(index);
}

void PluginEditor::testServer(const editor::EditorSettings& wanted, std::function<void(std::string)> answer) {
    UserSettings settings = settings_;
    settings.anotherComputer = wanted.anotherComputer;
    settings.address = wanted.address;
    settings.token = wanted.token;
    settings.tokenFile = wanted.tokenFile;
    settings.caFile = wanted.caFile;
    background_ = std::jthread([this, choice = settings.server(), answer](const std::stop_token& stop) {
        std::string text;
        try {
            const auto list = client::listModels(choice, stop);
            text = "Connected. " + std::to_string(list.models.size()) + " models.";
        } catch (const std::exception& error) {
            text = error.what();
        }
        later(this, [answer, text] { answer(text); });
    });
}

void PluginEditor::capture() {
    auto& captures = plugin_.instance.captures;
    if (captures.status().phase == Captures::Phase::recording)
        captures.finish();
    else
        captures.arm();
}

void PluginEditor::dropFile(const juce::File& file) {
    plugin_.instance.captures.importFile(file.getFullPathName().toStdString());
}

std::vector<Stem> PluginEditor::stemsOfModel() {
    std::vector<Stem> stems;
    for (int stem = 0; stem < numStems; ++stem)
        if (stems_[static_cast<size_t>(stem)])
            stems.push_back(static_cast<Stem>(stem));
    return stems;
}

void PluginEditor::exportAll(const juce::File& folder) {
    plugin_.instance.captures.exportStems(
        folder.getFullPathName().toStdString(), stemsOfModel(),
        [safe = juce::Component::SafePointer<PluginEditor>(this)](const auto&, const std::string& problem) {
            juce::MessageManager::callAsync([safe, problem] {
                if (safe != nullptr)
                    safe->problem_ = problem;
            });
        });
}

void PluginEditor::exportStem(Stem stem, std::function<void(juce::File)> written) {
    const auto folder = juce::File::getSpecialLocation(juce::File::tempDirectory)
                            .getChildFile("stemline-" + juce::Uuid().toString())
                            .getFullPathName();
    plugin_.instance.captures.exportStems(
        folder.toStdString(), {stem},
        [safe = juce::Component::SafePointer<PluginEditor>(this), written](const auto& files,
                                                                           const std::string& problem) {
            const juce::File file = files.empty() ? juce::File() : juce::File(juce::String(files.front().string()));
            juce::MessageManager::callAsync([safe, written, file, problem] {
                if (safe == nullptr)
                    return;
                safe->problem_ = problem;
                written(file);
            });
        });
}

bool PluginEditor::drawWave(int lane, double firstSecond, double secondsPerPixel,
                            std::span<editor::WaveBucket> pixels) {
    const double rate = plugin_.getSampleRate();
    if (rate <= 0)
        return false;
    const double first = firstSecond * rate, width = secondsPerPixel * rate;
    std::vector<capture::Bucket> drawn(pixels.size());
    const auto stem = lane < 0 ? std::nullopt : std::optional(static_cast<Stem>(lane));
    const bool captured =
        plugin_.parameters.mode() == Mode::captured && plugin_.instance.captures.draw(stem, first, width, drawn);
    for (size_t pixel = 0; pixel < pixels.size(); ++pixel) {
        if (captured) {
            pixels[pixel] = {drawn[pixel].peak, drawn[pixel].rms()};
        } else {
            const auto heard = plugin_.activity.bucket(lane + 1, first + static_cast<double>(pixel) * width, width);
            pixels[pixel] = {heard.peak, heard.rms};
        }
    }
    return true;
}

void PluginEditor::applySettings(const editor::EditorSettings& wanted) {
    settings_.anotherComputer = wanted.anotherComputer;
    settings_.address = wanted.address;
    settings_.token = wanted.token;
    settings_.tokenFile = wanted.tokenFile;
    settings_.caFile = wanted.caFile;
    settings_.startAutomatically = wanted.startAutomatically;
    const bool lessRoom = wanted.cacheCapGb < settings_.cacheCapGb;
    settings_.cacheCapGb = wanted.cacheCapGb;
    settings_.light = wanted.light;
    if (!settings_.save())
        problem_ = "The settings cannot be written to " + UserSettings::file().getFullPathName().toStdString();
    if (lessRoom)
        plugin_.instance.captures.trimStore();
    plugin_.instance.setServer(settings_.server());
}

void PluginEditor::askForStoreSize() {
    const auto now = juce::Time::getMillisecondCounter();
    if (now - storeSizeAt_ < 3000 || storeSize_->asked.exchange(true))
        return;
    storeSizeAt_ = now;
    disk_->post([size = storeSize_] {
        try {
            size->bytes = capture::CaptureStore::sizeBytes(capture::defaultStoreRoot());
        } catch (const std::exception&) { // somebody deleted meanwhile: the next time
        }
        size->asked = false;
    });
}

juce::AudioProcessorEditor* PluginProcessor::createEditor() { return new PluginEditor(*this); }

} // namespace stemline
