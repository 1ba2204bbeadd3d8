#pragma once

#include "editor/editor.h"
#include "editor/late_notice.h"
#include "processor/plugin_processor.h"

namespace stemline {

/** Shows a PluginProcessor: fills the editor's state from it, and carries the editor's actions out. Message thread. */
class PluginEditor : public juce::AudioProcessorEditor, private editor::EditorActions {
  public:
    explicit PluginEditor(PluginProcessor&);

    void resized() override;

  private:
    editor::EditorState state();
    void showServer(editor::EditorState&, const client::ServerStatus&);
    void showModels(editor::EditorState&, const client::ServerStatus&);
    void showCaptures(editor::EditorState&);
    void showDevices(editor::EditorSettings&, const client::ServerStatus&);
    void showSettings(editor::EditorState&, const client::ServerStatus&);
    std::optional<editor::EditorError> error(const client::ServerStatus&);
    std::optional<editor::EditorError> serverError(const client::ServerStatus&);
    std::optional<editor::EditorError> captureError();
    editor::EditorError captureFailed();
    editor::EditorError missingModel(const client::ServerStatus&);

    void startServer() override { plugin_.instance.tryNow(); }
    void retryServer() override { plugin_.instance.tryNow(); }
    void restartServer() override { plugin_.instance.restartServer(); }
    void testServer(const editor::EditorSettings&, std::function<void(std::string)> answer) override;
    void setModel(const std::string& name) override;
    void getModel(const std::string& name) override { plugin_.instance.getModel(name); }
    void capture() override;
    void cancel() override { plugin_.instance.captures.cancel(); }
    void updateStale() override { plugin_.instance.captures.update(); }
    void dropFile(const juce::File&) override;
    void exportAll(const juce::File& folder) override;
    void exportStem(Stem, std::function<void(juce::File)> written) override;
    void saveStem(Stem, const juce::File&) override;
    bool drawWave(int lane, double firstSecond, double secondsPerPixel, std::span<editor::WaveBucket>) override;
    void applySettings(const editor::EditorSettings&) override;
    void clearCache() override { plugin_.instance.captures.trimStore(true); }
    void chooseCacheFolder(const juce::File&) override;
    void errorButton(int index) override;

    void saveSettings(const std::function<void(UserSettings&)>& changes);
    void takeCacheFolder(const std::string& root, const std::string& problem);
    std::vector<Stem> stemsOfModel();
    void chooseCaptured();
    void projectChanged();
    /** What an export of files says when it is done; any thread. */
    std::function<void(const std::string& problem)> tellProblem();

    PluginProcessor& plugin_;
    UserSettings settings_ = UserSettings::load();
    std::string cacheProblem_;                                       // of the folder that was chosen last
    std::string problem_;                                            // of the last action here, for people
    std::string captureProblem_;                                     // of the last capture, file or separation
    std::string captureReason_;                                      // the same for programs
    std::string dropped_;                                            // the file's name
    std::vector<editor::TimeRange> lost_;                            // of what was captured
    double capturedRate_ = 0.0;                                      // where it is another one than the host's; else 0
    std::optional<editor::EditorError> read_;                        // not shown again
    std::uint64_t edits_ = plugin_.instance.captures.status().edits; // that the host knows of
    std::function<void(int)> buttons_;                               // of the error that is shown
    editor::LateNotice late_;
    int lateBlocks_ = 0;              // to speak of
    std::optional<double> lostSince_; // seconds of the timeline
    std::array<bool, numStems> stems_{};
    std::vector<juce::String> devices_; // as in UserSettings, in the order in which they are shown
    /** How large the store is; looked at on the disk thread, now and then. */
    struct StoreSize {
        std::atomic<std::uint64_t> bytes{0};
        std::atomic<bool> asked{false};
    };
    void askForStoreSize();

    const std::shared_ptr<capture::DiskThread> disk_ = capture::DiskThread::shared();
    const std::shared_ptr<StoreSize> storeSize_ = std::make_shared<StoreSize>();
    juce::uint32 storeSizeAt_ = 0; // milliseconds
    std::jthread background_;      // of actions that wait for the server
    editor::EditorContent content_;
};

} // namespace stemline
