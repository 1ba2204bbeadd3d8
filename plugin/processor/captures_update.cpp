// "Update", files in and out, and the store itself.

#include "capture/audio_files.h"
#include "capture/capture_export.h"
#include "processor/captures.h"
#include <algorithm>

namespace stemline {

/** Who never captures anything never touches the disk. Another folder is taken between two recordings or jobs, which
   end where they began. */
void Captures::openStore(bool toWrite) {
    const auto choice = storeChoice_();
    const bool moved =
        store_ != nullptr && store_->folders() != choice.folders && writer_ == nullptr && job_ == nullptr;
    if (moved) {
        collectHeard();
        hearing_.reset(); // made anew by reopen
        refused_.clear();
        const std::scoped_lock lock(mutex_);
        ++wanted_;
    }
    if (store_ == nullptr || moved) {
        store_ = std::make_shared<capture::CaptureStore>(choice.folders);
        if (library_ != nullptr)
            library_->use(store_);
    }
    store_->setCap(choice.capBytes);
    if (toWrite)
        store_->requireWritable();
}

void Captures::storeMoved() {
    const std::scoped_lock lock(mutex_);
    ++wanted_;
    pending_ = true;
}

/** What was heard belongs to the project in which it was heard. */
void Captures::forgetOtherProject() {
    const std::scoped_lock lock(mutex_);
    if (loadsSeen_ == loads_)
        return;
    loadsSeen_ = loads_;
    hearing_.reset();
    heard_ = {};
    update_.reset();
    staleAfter_.clear();
    shown_.unheard.clear();
}

/** Why not all of it could be kept, or nothing. */
std::string Captures::collectHeard() {
    if (hearing_ == nullptr)
        return {};
    auto problem = hearing_->problem().value_or("");
    try {
        heard_.overlay(hearing_->finish());
    } catch (const std::exception& error) {
        problem = error.what();
    }
    return problem;
}

void Captures::beginUpdate() {
    capture::CaptureMap captured;
    std::uint64_t loads = 0;
    {
        const std::scoped_lock lock(mutex_);
        if (library_ == nullptr)
            return;
        pending_ = true;
        captured = capture_.map;
        loads = loads_;
        shown_.problem.clear();
        shown_.cancelled = false;
        shown_.unheard.clear();
    }
    refused_.clear();
    if (const auto problem = collectHeard(); !problem.empty())
        throw std::runtime_error(problem);
    const auto updated = capture::withHeard(captured, heard_.map);
    if (updated == captured) {
        const std::scoped_lock lock(mutex_);
        shown_.unheard = library_->stale();
        return;
    }
    update_ = Update{capture::joinSources(*store_, updated), heard_.listened, loads};
}

/** What was captured plays as it did until all is there; if it does not come, what was heard is kept for the next try.
 */
void Captures::separateUpdate(const SeparationSettings& settings) {
    {
        const std::scoped_lock lock(mutex_);
        if (shown_.phase != Phase::idle)
            return;
    }
    const auto pieces = update_->map.pieces();
    const auto next = std::ranges::find_if(pieces, [](const capture::Piece& piece) { return piece.stems.empty(); });
    if (next == pieces.end())
        finishUpdate();
    else if (refused_.contains(next->source))
        update_.reset();
    else
        begin(*next, settings);
}

void Captures::finishUpdate() {
    auto stale = staleBeyond(update_->listened);
    const std::scoped_lock lock(mutex_);
    if (loads_ == update_->loads) {
        capture_.map = update_->map;
        ++shown_.edits;
        ++wanted_;
        shown_.unheard = stale;
        staleAfter_ = std::move(stale);
        heard_ = {};
    }
    update_.reset();
}

void Captures::dismiss() {
    const std::scoped_lock lock(mutex_);
    shown_.problem.clear();
    shown_.reason.clear();
    shown_.unheard.clear();
}

/** A page that was heard in part has new sound up to there, and is stale all the same. */
std::vector<capture::Extent> Captures::staleBeyond(const capture::ExtentSet& listened) const {
    std::vector<capture::Extent> left;
    for (const auto& page : library_->stalePages())
        if (!listened.covers(page))
            left.push_back(page);
    return left;
}

void Captures::importDropped() {
    std::filesystem::path path;
    {
        const std::scoped_lock lock(mutex_);
        if (shown_.phase == Phase::idle)
            path.swap(dropped_);
    }
    if (path.empty())
        return;
    openStore(true);
    refused_.clear();
    const auto piece = capture::importAudioFile(*store_, path, static_cast<int>(rate_), [this](double fraction) {
        const std::scoped_lock lock(mutex_);
        shown_.fraction = fraction;
        return wish_ != Wish::cancel;
    });
    update_.reset();
    hearing_.reset();
    heard_ = {};
    const std::scoped_lock lock(mutex_);
    capture_.rateHz = static_cast<int>(rate_);
    capture_.map = {};
    capture_.map.overlay(piece);
    ++shown_.edits;
    ++wanted_;
    pending_ = true;
    shown_.problem.clear();
    shown_.cancelled = false;
}

void Captures::exportStems(const std::filesystem::path& folder, std::vector<Stem> stems,
                           std::function<void(std::vector<std::filesystem::path>, std::string)> done) {
    capture::Capture capture;
    std::shared_ptr<capture::CaptureLibrary> library;
    {
        const std::scoped_lock lock(mutex_);
        capture = capture_;
        library = library_;
    }
    if (library == nullptr || capture.map.empty()) {
        done({}, "Capture a region first.");
        return;
    }
    const auto disk = capture::DiskThread::shared(); // which the library keeps
    disk->post([capture, library, folder, stems = std::move(stems), done = std::move(done)] {
        std::vector<std::filesystem::path> files;
        std::string problem;
        try {
            files = capture::exportStems(*library, capture, stems, folder);
        } catch (const std::exception& error) {
            problem = error.what();
        }
        done(files, problem);
    });
}

void Captures::trimStore(bool everything) {
    const auto disk = capture::DiskThread::shared();
    disk->post([disk, storeChoice = storeChoice_, everything] {
        try {
            const auto choice = storeChoice();
            capture::CaptureStore store(choice.folders, choice.capBytes);
            everything ? store.clear() : store.trim();
        } catch (const std::exception&) { // what cannot be reached now is deleted when something is added
        }
    });
}

} // namespace stemline
