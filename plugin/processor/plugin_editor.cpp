#include "processor/plugin_editor.h"
#include "client/models.h"
#include "editor/errors.h"
#include <algorithm>

namespace stemline {
namespace {

/** For any thread: the same on the message thread, unless the component has gone meanwhile. */
std::function<void(std::string)> later(juce::Component* component, std::function<void(std::string)> function) {
    return [safe = juce::Component::SafePointer<juce::Component>(component),
            function = std::move(function)](const std::string& text) {
        juce::MessageManager::callAsync([safe, function, text] {
            if (safe != nullptr)
                function(text);
        });
    };
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
    background_ = std::jthread([answer = later(this, answer), choice = settings.server()](const std::stop_token& stop) {
        std::string text;
        try {
            const auto list = client::listModels(choice, stop);
            text = "Connected. " + std::to_string(list.models.size()) + " models.";
        } catch (const std::exception& error) {
            text = error.what();
        }
        answer(text);
    });
}

void PluginEditor::capture() {
    chooseCaptured();
    plugin_.instance.captures.arm();
}

/** Live neither records nor plays what was captured. */
void PluginEditor::chooseCaptured() {
    if (plugin_.parameters.mode() == Mode::captured)
        return;
    auto& mode = *plugin_.parameterTree.getParameter(ids::mode);
    mode.beginChangeGesture();
    mode.setValueNotifyingHost(mode.convertTo0to1(static_cast<float>(Mode::captured)));
    mode.endChangeGesture();
}

void PluginEditor::setModel(const std::string& name) {
    if (std::exchange(read_, std::nullopt), name == plugin_.instance.model())
        return;
    plugin_.instance.setModel(name);
    projectChanged();
}

/** So that the host asks before it closes a project that is not saved: what changed is no parameter. */
void PluginEditor::projectChanged() {
    plugin_.updateHostDisplay(juce::AudioProcessorListener::ChangeDetails().withNonParameterStateChanged(true));
}

void PluginEditor::dropFile(const juce::File& file) {
    chooseCaptured();
    dropped_ = file.getFileName().toStdString();
    plugin_.instance.captures.importFile(file.getFullPathName().toStdString());
}

std::vector<Stem> PluginEditor::stemsOfModel() {
    std::vector<Stem> stems;
    for (int stem = 0; stem < numStems; ++stem)
        if (stems_[static_cast<size_t>(stem)])
            stems.push_back(static_cast<Stem>(stem));
    return stems;
}

std::function<void(const std::string&)> PluginEditor::tellProblem() {
    return later(this, [this](const std::string& problem) { problem_ = problem; });
}

/** Never over stems that lie there already: those may be of another song. */
void PluginEditor::exportAll(const juce::File& folder) {
    const auto stems = stemsOfModel();
    const bool taken = std::ranges::any_of(
        stems, [&](Stem stem) { return folder.getChildFile(juce::String(stemName(stem)) + ".wav").exists(); });
    const auto target = taken ? folder.getNonexistentChildFile("Stems", {}) : folder;
    plugin_.instance.captures.exportStems(
        target.getFullPathName().toStdString(), stems,
        [tell = tellProblem()](const auto&, const std::string& problem) { tell(problem); });
}

void PluginEditor::exportStem(Stem stem, std::function<void(juce::File)> written) {
    const auto folder = juce::File::getSpecialLocation(juce::File::tempDirectory)
                            .getChildFile("stemline-" + juce::Uuid().toString())
                            .getFullPathName();
    const auto tell = tellProblem();
    const auto hand = later(this, [written](const std::string& path) {
        written(path.empty() ? juce::File() : juce::File(juce::String(path)));
    });
    plugin_.instance.captures.exportStems(folder.toStdString(), {stem},
                                          [tell, hand](const auto& files, const std::string& problem) {
                                              tell(problem);
                                              hand(files.empty() ? std::string() : files.front().string());
                                          });
}

/** Beside the file and then in its place, so that what has the name is whole. */
void PluginEditor::saveStem(Stem stem, const juce::File& file) {
    const std::filesystem::path target = file.getFullPathName().toStdString();
    const auto beside = target.parent_path() / (".stemline-" + juce::Uuid().toString().toStdString());
    plugin_.instance.captures.exportStems(
        beside, {stem}, [tell = tellProblem(), target, beside](const auto& files, const std::string& problem) {
            std::error_code error, ignored;
            if (!files.empty())
                std::filesystem::rename(files.front(), target, error);
            std::filesystem::remove_all(beside, ignored);
            tell(error ? "Cannot write " + target.string() + ": " + error.message() : problem);
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
    const auto before = settings_;
    settings_.anotherComputer = wanted.anotherComputer;
    settings_.address = wanted.address;
    settings_.token = wanted.token;
    settings_.tokenFile = wanted.tokenFile;
    settings_.caFile = wanted.caFile;
    settings_.startAutomatically = wanted.startAutomatically;
    settings_.cacheCapGb = wanted.cacheCapGb;
    settings_.light = wanted.light;
    if (const auto device = static_cast<size_t>(wanted.device); device < devices_.size())
        settings_.device = devices_[device];
    saveSettings([&](UserSettings& saved) {
        // What was not touched here may have been in another editor.
        const auto take = [&](auto UserSettings::*field) {
            if (settings_.*field != before.*field)
                saved.*field = settings_.*field;
        };
        for (auto field : {&UserSettings::anotherComputer, &UserSettings::startAutomatically, &UserSettings::light})
            take(field);
        for (auto field : {&UserSettings::address, &UserSettings::token, &UserSettings::tokenFile,
                           &UserSettings::caFile, &UserSettings::device})
            take(field);
        take(&UserSettings::cacheCapGb);
    });
    if (settings_.cacheCapGb < before.cacheCapGb)
        plugin_.instance.captures.trimStore();
    plugin_.instance.setServer(settings_.server());
    if (settings_.device != before.device && plugin_.instance.status().state != client::ServerStatus::State::stopped)
        plugin_.instance.restartServer();
}

void PluginEditor::saveSettings(const std::function<void(UserSettings&)>& changes) {
    if (!UserSettings::change(changes))
        problem_ = "The settings cannot be written to " + UserSettings::file().getFullPathName().toStdString();
}

/** Whether it can be written is the disk's to say, and that may take a while. */
void PluginEditor::chooseCacheFolder(const juce::File& chosen) {
    cacheProblem_.clear();
    std::string root; // empty: the default one
    if (chosen != juce::File())
        root = capture::storeWithin(chosen.getFullPathName().toStdString()).string();
    if (root == capture::defaultStoreRoot().string())
        root.clear();
    const auto done = later(this, [this, root](const std::string& problem) { takeCacheFolder(root, problem); });
    disk_->post([root, done] {
        try {
            capture::CaptureStore(root.empty() ? capture::defaultStoreRoot() : std::filesystem::path(root))
                .requireWritable();
            done({});
        } catch (const std::exception& error) {
            done(error.what());
        }
    });
}

void PluginEditor::takeCacheFolder(const std::string& root, const std::string& problem) {
    if (!problem.empty()) {
        cacheProblem_ = "Not taken, nothing can be written there: " + problem;
        return;
    }
    saveSettings([&](UserSettings& saved) {
        if (saved.cacheFolder != juce::String(root))
            saved.setStoreRoot(root);
    });
    const auto saved = UserSettings::load();
    settings_.cacheFolder = saved.cacheFolder;
    settings_.earlierCacheFolders = saved.earlierCacheFolders;
    storeSizeAt_ = 0;
    plugin_.instance.captures.storeMoved();
}

void PluginEditor::askForStoreSize() {
    const auto now = juce::Time::getMillisecondCounter();
    if (now - storeSizeAt_ < 3000 || storeSize_->asked.exchange(true))
        return;
    storeSizeAt_ = now;
    disk_->post([size = storeSize_, folders = settings_.storeFolders()] {
        try {
            size->bytes = capture::CaptureStore::sizeBytes(folders);
        } catch (const std::exception&) { // somebody deleted meanwhile: the next time
        }
        size->asked = false;
    });
}

juce::AudioProcessorEditor* PluginProcessor::createEditor() { return new PluginEditor(*this); }

} // namespace stemline
