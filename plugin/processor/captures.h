#pragma once
// Captured mode off the audio thread: records what is played, has it separated, hands the stems to the player.

#include "capture/capture_library.h"
#include "capture/capture_writer.h"
#include "capture/heard_recorder.h"
#include "client/bounce_job.h"
#include "engine/snapshot.h"
#include <set>

namespace stemline {

/** How recorded sound is to be separated. */
struct SeparationSettings {
    client::ServerChoice server;
    std::string model;         // empty: not known yet, as the server was not asked
    std::string weightsSha256; // the server's of this model; empty: not known yet
    int refinerSteps = 0;
    std::uint64_t seed = 0;
};

/** Where the store is, and how large it may be. */
struct StoreChoice {
    capture::StoreFolders folders;
    std::uint64_t capBytes = capture::CaptureStore::defaultCapBytes;
};

/** One an instance. `turn` belongs to the control thread and may wait for the disk; `current` and `playhead` to the
   audio thread; the rest to any other thread, and waits for nobody. */
class Captures {
  public:
    enum class Phase { idle, armed, recording, separating };

    /** All that an editor shows. */
    struct Status {
        Phase phase = Phase::idle;
        double fraction = 0.0; // of separating
        std::optional<double> remainingSeconds;
        std::vector<capture::CaptureWriter::Extent> recorded; // of the capture under way
        capture::Capture capture;
        std::vector<capture::PieceState> states; // of its pieces
        std::vector<capture::Extent> stale;
        std::vector<capture::Extent> unheard; // stale, but not played to its end, so the last update left it alone
        std::string problem;                  // why the last capture, file or separation came to nothing, for people
        std::string reason;                   // the same for programs
        std::uint64_t edits = 0;              // of what saveState gives, but for projects that were loaded
        bool cancelled = false;
    };

    /** `storeChoice` is asked whenever something is looked for or about to be added; may read a file. */
    explicit Captures(std::function<StoreChoice()> storeChoice);
    ~Captures();

    /** Host's thread, no block being processed. */
    void prepare(double rate, int channels);

    void arm();     // "Capture": what is played from now on is recorded, until the transport stops
    void finish();  // or until this
    void update();  // "Update": what was heard over stale pages is separated, and plays from then on
    void cancel();  // of recording: forget it; of separating: what is finished stays, and what is stale
    void dismiss(); // Status::problem and Status::unheard were read
    void importFile(const std::filesystem::path&); // a file dropped on the editor, at the timeline's beginning
    /** Writes the captured stems as WAV files into `folder`, on the disk thread; says when it is done, and what failed.
     */
    void exportStems(const std::filesystem::path& folder, std::vector<Stem> stems,
                     std::function<void(std::vector<std::filesystem::path>, std::string problem)> done);

    /** Deletes what is over the cap, or everything, but for what any instance has open; on the disk thread. What a
       project still needs is made again. */
    void trimStore(bool everything = false);
    /** The store is elsewhere: what was not found is looked for there. */
    void storeMoved();

    Status status() const;
    bool draw(std::optional<Stem>, double first, double framesPerPixel, std::span<capture::Bucket>) const;
    /** Nothing is on its way: what plays now is all there will be. */
    bool settled() const;

    std::string saveState() const;
    void loadState(std::string_view);

    void turn(InputStream& input, const SeparationSettings&);

    const CapturedSet* current() noexcept { return sets_.current(); }
    void playhead(std::int64_t position) noexcept;

  private:
    /** A source on its way through the server. */
    struct Job {
        capture::StemsRecipe recipe; // its weights are the server's to say
        std::int64_t frames = 0;
        std::unique_ptr<capture::Workspace> workspace;
        std::shared_ptr<const capture::MappedFile> source;
        std::unique_ptr<client::BounceJob> bounce; // last: it uses all of the above
    };
    /** What was captured, with what was heard since in it: plays when all of it is separated. */
    struct Update {
        capture::CaptureMap map;
        capture::ExtentSet listened;
        std::uint64_t loads = 0; // of projects, when it began
    };
    enum class Wish { none, arm, finish, cancel, update };

    void openStore(bool toWrite);
    void carryOut(Wish, InputStream&);
    void record(InputStream&);
    void finishRecording();
    void importDropped();
    void watchJob();
    void separateNext(const SeparationSettings&);
    void forgetOtherProject();
    std::string collectHeard();
    void beginUpdate();
    void separateUpdate(const SeparationSettings&);
    void finishUpdate();
    std::vector<capture::Extent> staleBeyond(const capture::ExtentSet& listened) const;
    void begin(const capture::Piece&, const SeparationSettings&);
    void takeOver(const client::BounceProgress&);
    void setStems(const capture::StemsRecipe&, const std::string& key);
    void reopen();
    void fail(const std::string& problem, const std::string& reason);
    void enter(Phase);

    const std::function<StoreChoice()> storeChoice_;
    std::mutex turning_; // `turn`, and `prepare` between two turns
    std::shared_ptr<capture::CaptureStore> store_;
    std::unique_ptr<capture::CaptureWriter> writer_;
    std::unique_ptr<Job> job_;
    std::unique_ptr<capture::HeardRecorder> hearing_;
    capture::Heard heard_; // since it was captured, as far as hearing_ has handed it over
    std::optional<Update> update_;
    std::vector<capture::Extent> staleAfter_; // the update, for whoever opens what it made
    std::uint64_t loadsSeen_ = 0;
    std::set<std::string>
        refused_;             // sources that were given up: not tried until something is captured, or weights come
    std::string weightsSeen_; // that a server had last
    std::array<std::vector<float>, maxChannels> block_;
    SnapshotSlot<CapturedSet> sets_;
    double rate_ = 0.0;
    int channels_ = 2;

    mutable std::mutex mutex_;                         // held for moments, for the rest
    std::shared_ptr<capture::CaptureLibrary> library_; // of rate_
    Wish wish_ = Wish::none;
    std::filesystem::path dropped_;
    capture::Capture capture_;
    bool pending_ = true;                   // there may be something to separate
    std::uint64_t wanted_ = 1, opened_ = 0; // versions of capture_: the newest, and the one that plays
    std::uint64_t loads_ = 0;               // of projects
    Status shown_;
    std::atomic<capture::CaptureLibrary*> heardBy_{
        nullptr}; // library_, for the audio thread; changes only while no block is processed
};

} // namespace stemline
