#pragma once
// A host that does what it is told: any block sizes, jumps, loops, real-time and offline flips, layouts, states.

#include "hand.h"
#include "processor/plugin_processor.h"
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace stemline::host {

/** Says where the transport is; set before each block by the one thread that calls processBlock. */
class Playhead : public juce::AudioPlayHead {
  public:
    juce::Optional<PositionInfo> getPosition() const override;

    std::int64_t position = 0;
    bool playing = false;
    double rate = 44100.0;
};

/** Sizes of blocks: always the same, a list over and over, or random with a seed. "512", "792,232,768", "random:7:1024"
 */
class BlockSizes {
  public:
    explicit BlockSizes(const std::string& text);
    int next();

  private:
    std::vector<int> list_;
    std::size_t at_ = 0;
    std::optional<std::uniform_int_distribution<int>> random_;
    std::mt19937 generator_;
};

/** How long processBlock took, as shares of the block's own duration. */
struct Timing {
    std::vector<float> shares;
    float quantile(double q);
};

/** One plugin instance in this host. `onMessageThread` runs what must be run there and waits for it. */
class Host {
  public:
    using OnMessageThread = std::function<void(std::function<void()>)>;
    explicit Host(OnMessageThread);
    ~Host();

    void load(const std::string& path); // "direct": the processor that is linked into this program
    void unload();
    void layout(int channels, const juce::StringArray& busesOff);
    void prepare(double rate, int maxBlock);
    void setParameter(const juce::String& name, const juce::String& text);
    juce::String parameterText(const juce::String& name);
    void setInput(juce::AudioBuffer<float> audio) { input_ = std::move(audio); }
    /** Runs `frames` frames; while playing, the input is what lies at the transport's position, else silence. */
    void run(std::int64_t position, bool playing, std::int64_t frames, BlockSizes sizes);
    void saveState(const juce::File&);
    void loadState(const juce::File&, bool wrapped = false);
    void capture();
    void update();
    void cancel();
    void trimStore(bool everything) { own().instance.captures.trimStore(everything); }
    int lostPieces(double seconds);
    void setModel(const std::string& name) { own().instance.setModel(name); }
    std::string getModel(const std::string& name, double seconds);
    std::string serverText(const std::string& wanted, double seconds);
    juce::String stale(bool unheard = false);
    std::string waitForCaptures(double seconds);
    void drop(const juce::File&);
    std::string exportStems(const juce::File& folder);
    int lateBlocks() const; // -1: of a plugin that was not loaded directly, nobody knows
    void openEditor(const juce::File& picture, double scale);
    juce::var ui(std::istringstream& words) { return hand_.carryOut(*processor_, words); }
    void record(bool on);
    void writeRecording(const juce::File&);

    juce::AudioProcessor& processor() { return *processor_; }
    bool paced = false, bypassed = false, offline = false, watched = false;
    Timing timing;

  private:
    PluginProcessor& own();
    void process(juce::AudioBuffer<float>&);

    OnMessageThread onMessageThread_;
    Hand hand_{onMessageThread_};
    juce::VST3PluginFormat format_;
    std::unique_ptr<juce::AudioProcessor> processor_;
    Playhead playhead_;
    juce::AudioBuffer<float> input_;
    std::vector<std::vector<float>> recording_;
    bool recordingOn_ = false;
    int maxBlock_ = 0, channels_ = 2;
};

} // namespace stemline::host
