// What the editor shows of the plugin.

#include "editor/errors.h"
#include "processor/plugin_editor.h"
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

/** "NVIDIA RTX 4070 · 9.1 of 12 GB free", in steps so coarse that the list is not made anew all the time. */
std::string memoryText(const client::Device& device) {
    const auto gigabytes = [](std::uint64_t bytes) {
        return juce::String(std::round(static_cast<double>(bytes) / 5e8) / 2).toStdString();
    };
    const auto total = gigabytes(device.totalBytes) + " GB";
    return device.name + (device.isGpu() ? "" : " (CPU)") + " · " +
           (device.freeBytes > 0 ? gigabytes(device.freeBytes) + " of " + total + " free" : total);
}

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

} // namespace

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
    showSettings(state, status);
    return state;
}

void PluginEditor::showSettings(editor::EditorState& state, const client::ServerStatus& status) {
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
    settings.cacheFolder = settings_.storeFolders().root.string();
    settings.cacheFolderChosen = settings_.cacheFolder.isNotEmpty();
    settings.cacheProblem = cacheProblem_;
    settings.light = settings_.light;
    showDevices(settings, status);
    settings.version = STEMLINE_VERSION;
    settings.serverVersion = status.version;
}

/** What the server on this computer could be started with; a CPU there always is. */
void PluginEditor::showDevices(editor::EditorSettings& settings, const client::ServerStatus& status) {
    devices_ = {{}};
    settings.devices = {"Automatic"};
    const auto add = [&](const juce::String& device, const std::string& text) {
        if (std::ranges::find(devices_, device) != devices_.end())
            return;
        devices_.push_back(device);
        settings.devices.push_back(text);
    };
    if (!settings_.anotherComputer)
        for (const auto& device : status.devices)
            add(device.isGpu() ? "cuda:" + juce::String(device.index) : juce::String("cpu"), memoryText(device));
    add("cpu", "CPU");
    add(settings_.device,
        settings_.device == "cpu" ? "CPU" : "GPU " + std::to_string(settings_.device.getTrailingIntValue()));
    settings.device = static_cast<int>(std::ranges::find(devices_, settings_.device) - devices_.begin());
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
    progress.stopFirst = captures.phase == Captures::Phase::armed && !plugin_.instance.capturedRuns();
    const auto& pieces = captures.capture.map.pieces();
    state.canDrag =
        !pieces.empty() && std::ranges::none_of(pieces, [](const auto& piece) { return piece.stems.empty(); });
    captureProblem_ = captures.problem;
    captureReason_ = captures.reason;
    capturedRate_ = !pieces.empty() && plugin_.getSampleRate() > 0 && rate != plugin_.getSampleRate() ? rate : 0.0;
    lost_.clear();
    for (size_t index = 0; index < pieces.size() && pieces.size() == captures.states.size(); ++index)
        if (captures.states[index] == capture::PieceState::lost)
            include(lost_, range(pieces[index].start, pieces[index].stop()));
    if (std::exchange(edits_, captures.edits) < captures.edits)
        projectChanged();
}

/** The gravest thing that is wrong and was not read yet, and what its buttons do. */
std::optional<editor::EditorError> PluginEditor::error(const client::ServerStatus& status) {
    buttons_ = [this](int) { plugin_.instance.tryNow(); };
    if (status.modelMissing() || isMissing(status, plugin_.instance.model()))
        return missingModel(status);
    if (auto found = serverError(status))
        return found;
    if (const auto bounce = plugin_.instance.incompleteBounce(); bounce && plugin_.getSampleRate() > 0) {
        buttons_ = [this](int) { plugin_.instance.dismissIncompleteBounce(); };
        return editor::errors::bounceIncomplete({static_cast<double>(bounce->start) / plugin_.getSampleRate(),
                                                 static_cast<double>(bounce->stop) / plugin_.getSampleRate()});
    }
    if (auto found = captureError())
        return found;
    if (lateBlocks_ > 0) {
        const bool longer = hasLongerLatency(plugin_.parameterTree);
        buttons_ = [this, longer](int index) {
            if (longer && index == 0)
                chooseLongerLatency(plugin_.parameterTree);
            late_.dismiss();
        };
        return editor::errors::lateBlocks(lateBlocks_, longer, plugin_.playing);
    }
    if (!captureProblem_.empty())
        return captureFailed();
    if (!problem_.empty()) {
        buttons_ = [](int) {}; // errorButton forgets it
        return editor::errors::failed("That did not work", problem_);
    }
    return std::nullopt;
}

std::optional<editor::EditorError> PluginEditor::serverError(const client::ServerStatus& status) {
    using State = client::ServerStatus::State;
    const auto reason = status.problem ? status.problem->reason : std::string();
    const auto message = status.problem ? status.problem->message : std::string();
    if (status.state == State::lost) {
        buttons_ = [this](int index) { index == 0 ? plugin_.instance.tryNow() : plugin_.instance.restartServer(); };
        const auto at =
            juce::Time(std::chrono::duration_cast<std::chrono::milliseconds>(status.lostAt.time_since_epoch()).count());
        return editor::errors::serverLost(at.toString(false, true).toStdString(), message);
    }
    if (reason == "REMOTE_NEEDS_TLS") {
        buttons_ = [this](int) { content_.openSettings(true); };
        return editor::errors::needsTlsAndToken();
    }
    if (reason == "OUT_OF_MEMORY" && status.state == State::refused) {
        buttons_ = [this](int index) { index == 0 ? content_.openModelMenu() : content_.openSettings(true); };
        return editor::errors::outOfMemory(message);
    }
    if (status.state == State::untrusted || status.state == State::refused)
        return editor::errors::other("The server refuses", message);
    if (status.state == State::stopped && status.problem && reason != "SERVER_STOPPED") {
        const auto log = status.problem->metadata.find("log");
        return editor::errors::didNotStart(message, log != status.problem->metadata.end() ? log->second : "");
    }
    return std::nullopt;
}

editor::EditorError PluginEditor::captureFailed() {
    buttons_ = [this](int) { plugin_.instance.captures.dismiss(); };
    if (captureReason_ == "CANNOT_READ") // what can be read is said anyway
        return editor::errors::cannotRead(dropped_, captureProblem_.starts_with("Use ") ? "" : captureProblem_);
    if (captureReason_ != "OUT_OF_MEMORY")
        return editor::errors::failed("That did not work", captureProblem_);
    buttons_ = [this](int index) {
        plugin_.instance.captures.dismiss();
        index == 0 ? content_.openModelMenu() : content_.openSettings(true);
    };
    return editor::errors::outOfMemory(captureProblem_);
}

/** What was captured and cannot play, or was not updated. */
std::optional<editor::EditorError> PluginEditor::captureError() {
    std::optional<editor::EditorError> found;
    if (capturedRate_ > 0)
        found = editor::errors::otherRate(capturedRate_, plugin_.getSampleRate());
    else if (!lost_.empty())
        found = editor::errors::captureLost(lost_, settings_.storeFolders().root.string());
    if (found && found != read_) {
        buttons_ = [this, found](int index) {
            if (index == 0 && found->buttons.front() == "Settings")
                content_.openSettings(true);
            else
                read_ = found;
        };
        return found;
    }
    const auto unheard = plugin_.instance.captures.status().unheard;
    if (unheard.empty())
        return std::nullopt;
    std::vector<editor::TimeRange> left;
    left.reserve(unheard.size());
    for (const auto& extent : unheard)
        left.push_back({static_cast<double>(extent.start) / plugin_.getSampleRate(),
                        static_cast<double>(extent.stop) / plugin_.getSampleRate()});
    buttons_ = [this](int) { plugin_.instance.captures.dismiss(); };
    return editor::errors::partlyUpdated(left);
}

/** Missing, on its way, or not to be had. */
editor::EditorError PluginEditor::missingModel(const client::ServerStatus& status) {
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
            content_.openModelMenu();
    };
    if (isThisOne && download.problem)
        return editor::errors::modelNotGot(model, download.problem->message);
    const auto found = std::ranges::find_if(status.models, [&](const auto& info) { return info.name == model; });
    const bool sized = found != status.models.end() && found->fileBytes > 0;
    using Where = editor::errors::MissingWhere;
    return editor::errors::modelMissing(model, sized ? sizeText(found->fileBytes) : "",
                                        settings_.anotherComputer ? Where::remoteServer : Where::localServer);
}

} // namespace stemline
