#include "processor/captures.h"
#include "capture/capture_error.h"
#include "capture/capture_state.h"

namespace stemline {
namespace {

constexpr int blockFrames = 4096;

std::string requestId(const capture::StemsRecipe& recipe) {
    return "capture-" + recipe.source + "-" + recipe.model + "-" + std::to_string(recipe.refinerSteps) + "-" +
           std::to_string(recipe.seed) + "-" + std::to_string(recipe.rateHz) + "-" + std::to_string(recipe.channels);
}

capture::StemsRecipe recipeOf(const capture::Piece& piece, const SeparationSettings& settings, int rateHz) {
    return {piece.source, settings.weightsSha256, settings.model, settings.refinerSteps, settings.seed,
            rateHz,       piece.channels};
}

} // namespace

Captures::Captures(std::function<StoreChoice()> storeChoice) : storeChoice_(std::move(storeChoice)) {
    for (auto& channel : block_)
        channel.resize(blockFrames);
}

Captures::~Captures() = default;

void Captures::prepare(double rate, int channels) {
    const std::scoped_lock turn(turning_);
    writer_.reset();
    const bool same = rate == rate_ && channels == channels_; // so what is stale, and what was heard, still is
    rate_ = rate;
    channels_ = channels;
    if (!same) {
        hearing_.reset();
        heard_ = {};
        update_.reset();
    }
    const std::scoped_lock lock(mutex_);
    if (!same) {
        heardBy_ = nullptr;
        library_.reset();
    }
    ++wanted_;
    pending_ = true;
    if (shown_.phase != Phase::separating)
        shown_.phase = Phase::idle;
}

void Captures::arm() {
    const std::scoped_lock lock(mutex_);
    wish_ = Wish::arm;
}

void Captures::finish() {
    const std::scoped_lock lock(mutex_);
    wish_ = Wish::finish;
}

void Captures::update() {
    const std::scoped_lock lock(mutex_);
    wish_ = Wish::update;
}

void Captures::cancel() {
    const std::scoped_lock lock(mutex_);
    wish_ = Wish::cancel;
}

void Captures::importFile(const std::filesystem::path& path) {
    const std::scoped_lock lock(mutex_);
    dropped_ = path;
}

Captures::Status Captures::status() const {
    const std::scoped_lock lock(mutex_);
    Status status = shown_;
    status.capture = capture_;
    if (library_ != nullptr)
        status.stale = library_->stale();
    return status;
}

bool Captures::draw(std::optional<Stem> stem, double first, double framesPerPixel,
                    std::span<capture::Bucket> pixels) const {
    std::shared_ptr<capture::CaptureLibrary> library;
    {
        const std::scoped_lock lock(mutex_);
        library = library_;
    }
    return library != nullptr && library->draw(stem, first, framesPerPixel, pixels);
}

void Captures::playhead(std::int64_t position) noexcept {
    if (auto* library = heardBy_.load(std::memory_order_acquire))
        library->playhead(position);
}

std::string Captures::saveState() const {
    const std::scoped_lock lock(mutex_);
    return capture_.map.empty() ? std::string() : capture::saveCapture(capture_);
}

void Captures::loadState(std::string_view bytes) {
    const std::scoped_lock lock(mutex_);
    capture_ = capture::loadCapture(bytes);
    ++loads_;
    ++wanted_;
    pending_ = true;
}

bool Captures::settled() const {
    const std::scoped_lock lock(mutex_);
    return !pending_ && opened_ == wanted_ && shown_.phase != Phase::separating && wish_ == Wish::none &&
           dropped_.empty();
}

void Captures::turn(InputStream& input, const SeparationSettings& settings) {
    const std::scoped_lock turning(turning_);
    try {
        Wish wish = Wish::none;
        {
            const std::scoped_lock lock(mutex_);
            std::swap(wish, wish_);
        }
        forgetOtherProject();
        carryOut(wish, input);
        record(input);
        importDropped();
        watchJob();
        separateNext(settings);
        reopen();
    } catch (const capture::CaptureError& error) {
        fail(error.what(), error.reason);
    } catch (const std::exception& error) {
        fail(error.what(), {});
    }
    sets_.collect();
}

void Captures::carryOut(Wish wish, InputStream& input) {
    Phase phase;
    {
        const std::scoped_lock lock(mutex_);
        phase = shown_.phase;
    }
    if (wish == Wish::arm && phase == Phase::idle) {
        openStore(true);
        refused_.clear();
        writer_ = std::make_unique<capture::CaptureWriter>(store_, channels_);
        const std::scoped_lock lock(mutex_);
        shown_.problem.clear();
        shown_.cancelled = false;
        shown_.phase = Phase::armed;
    } else if (wish == Wish::finish && phase == Phase::recording) {
        finishRecording();
    } else if (wish == Wish::update && phase == Phase::idle) {
        record(input); // what was heard until now is part of it
        beginUpdate();
    } else if (wish == Wish::cancel && (phase == Phase::armed || phase == Phase::recording)) {
        writer_.reset();
        enter(Phase::idle);
    } else if (wish == Wish::cancel && job_ != nullptr) {
        job_->bounce->cancel();
    }
}

void Captures::record(InputStream& input) {
    std::array<float*, maxChannels> planes{block_[0].data(), block_[1].data()};
    for (;;) {
        const auto run = input.read(planes.data(), blockFrames);
        if (run.frames == 0)
            break;
        if (writer_ == nullptr) {
            if (hearing_ != nullptr)
                hearing_->take(run, planes.data());
            continue;
        }
        if (run.segment.playing) {
            writer_->take(run, planes.data());
            enter(Phase::recording);
        } else if (writer_->frames() > 0) {
            finishRecording(); // the transport has stopped
        }
    }
    if (writer_ == nullptr)
        return;
    if (const auto problem = writer_->problem())
        throw std::runtime_error(*problem);
    const std::scoped_lock lock(mutex_);
    shown_.recorded = writer_->extents();
}

void Captures::finishRecording() {
    const auto map = writer_->finish();
    writer_.reset();
    capture::CaptureMap whole;
    {
        const std::scoped_lock lock(mutex_);
        whole = capture_.map;
    }
    collectHeard();
    for (const auto& piece : map.pieces())
        heard_.erase({piece.start, piece.stop()});
    update_.reset(); // of what was there before
    whole.overlay(map);
    whole = capture::joinSources(*store_, whole);
    const std::scoped_lock lock(mutex_);
    capture_.rateHz = static_cast<int>(rate_);
    capture_.map = whole;
    ++shown_.edits;
    ++wanted_;
    pending_ = true;
    shown_.phase = Phase::idle;
    shown_.recorded.clear();
}

void Captures::separateNext(const SeparationSettings& settings) {
    if (!settings.weightsSha256.empty() && settings.weightsSha256 != weightsSeen_) {
        weightsSeen_ = settings.weightsSha256;
        refused_.clear(); // the model was missing, as like as not
    }
    if (update_) {
        separateUpdate(settings);
        return;
    }
    capture::Capture capture;
    {
        const std::scoped_lock lock(mutex_);
        if (shown_.phase != Phase::idle)
            return;
        if (capture_.rateHz == static_cast<int>(rate_))
            capture = capture_;
    }
    for (const auto& piece : capture.map.pieces()) {
        // Stems of other settings play on until those of the present ones are there.
        const auto recipe = recipeOf(piece, settings, static_cast<int>(rate_));
        const bool outdated = !recipe.weightsSha256.empty() && piece.stems != recipe.key();
        if ((piece.stems.empty() || outdated) && !refused_.contains(piece.source)) {
            begin(piece, settings);
            return;
        }
    }
    const std::scoped_lock lock(mutex_);
    pending_ = opened_ != wanted_;
}

void Captures::begin(const capture::Piece& piece, const SeparationSettings& settings) {
    openStore(false);
    auto recipe = recipeOf(piece, settings, static_cast<int>(rate_));
    if (!recipe.weightsSha256.empty() && store_->stems(recipe.key(), piece.sourceFrames, piece.channels) != nullptr) {
        setStems(recipe, recipe.key()); // made before
        return;
    }
    auto job = std::make_unique<Job>();
    job->source = store_->source(piece.source, piece.sourceFrames, piece.channels);
    if (job->source == nullptr) {
        refused_.insert(piece.source); // lost: the library says so
        return;
    }
    job->recipe = recipe;
    job->frames = piece.sourceFrames;
    job->workspace = store_->workspace();
    client::BounceRequest request;
    request.requestId = requestId(recipe);
    request.model = settings.model;
    request.refinerSteps = settings.refinerSteps;
    request.seed = settings.seed;
    request.sampleRateHz = recipe.rateHz;
    request.channels = piece.channels;
    request.frames = piece.sourceFrames;
    request.folder = job->workspace->folder();
    const float* samples = job->source->samples();
    const int channels = piece.channels;
    job->bounce = std::make_unique<client::BounceJob>(
        settings.server, request, [samples, channels](std::int64_t frame, int frames, float* interleaved) {
            std::copy_n(samples + frame * channels, frames * channels, interleaved);
        });
    job_ = std::move(job);
    const std::scoped_lock lock(mutex_);
    shown_.phase = Phase::separating;
    shown_.problem.clear(); // what was wrong before is tried again
    shown_.reason.clear();
}

void Captures::watchJob() {
    if (job_ == nullptr)
        return;
    const auto progress = job_->bounce->progress();
    {
        const std::scoped_lock lock(mutex_);
        shown_.fraction = progress.fraction;
        shown_.remainingSeconds = progress.remainingSeconds;
    }
    if (!progress.ended())
        return;
    enter(Phase::idle);
    if (progress.state == client::BounceProgress::State::finished) {
        takeOver(progress);
    } else {
        refused_.insert(job_->recipe.source);
        const std::scoped_lock lock(mutex_);
        shown_.cancelled = progress.state == client::BounceProgress::State::cancelled;
        if (!shown_.cancelled && progress.problem) {
            shown_.problem = progress.problem->message;
            shown_.reason = progress.problem->reason;
        }
    }
    job_.reset();
}

void Captures::takeOver(const client::BounceProgress& progress) {
    auto recipe = job_->recipe;
    recipe.model = progress.model;
    recipe.weightsSha256 = progress.weightsSha256;
    store_->addStems(recipe, job_->frames, job_->workspace->folder());
    if (!job_->recipe.weightsSha256.empty() && recipe.key() != job_->recipe.key())
        refused_.insert(recipe.source); // the server made something else than was asked for: once is enough
    setStems(recipe, recipe.key());
}

void Captures::setStems(const capture::StemsRecipe& recipe, const std::string& key) {
    const std::scoped_lock lock(mutex_);
    capture_.map.setStems(recipe.source, key);
    if (update_)
        update_->map.setStems(recipe.source, key);
    capture_.model = recipe.model;
    capture_.weightsSha256 = recipe.weightsSha256;
    capture_.refinerSteps = recipe.refinerSteps;
    capture_.seed = recipe.seed;
    ++shown_.edits;
    ++wanted_;
    pending_ = true;
}

void Captures::reopen() {
    capture::Capture capture;
    std::uint64_t wanted = 0;
    {
        const std::scoped_lock lock(mutex_);
        if (opened_ == wanted_)
            return;
        wanted = wanted_;
        capture = capture_;
    }
    if (capture.map.empty() && library_ == nullptr) {
        sets_.publish(nullptr);
        const std::scoped_lock lock(mutex_);
        opened_ = wanted;
        return;
    }
    openStore(false);
    auto library = library_ != nullptr ? library_ : std::make_shared<capture::CaptureLibrary>(store_, rate_);
    if (capture.rateHz != static_cast<int>(rate_))
        capture.map = {}; // its positions are those of another rate
    auto set = library->open(capture);
    library->markStale(std::exchange(staleAfter_, {}));
    if (hearing_ == nullptr)
        hearing_ = std::make_unique<capture::HeardRecorder>(store_, rate_, channels_);
    hearing_->compareWith(*set);
    sets_.publish(std::move(set));
    const std::scoped_lock lock(mutex_);
    opened_ = wanted;
    library_ = library;
    heardBy_.store(library.get(), std::memory_order_release);
    shown_.states = library->states();
    for (std::size_t index = 0; index < shown_.states.size(); ++index)
        if (shown_.states[index] == capture::PieceState::unseparated) {
            capture_.map.setStems(capture.map.pieces()[index].source, {}); // gone from the store: made again
            pending_ = true;
        }
}

void Captures::fail(const std::string& problem, const std::string& reason) {
    writer_.reset();
    const std::scoped_lock lock(mutex_);
    shown_.problem = problem;
    shown_.reason = reason;
    if (job_ == nullptr)
        shown_.phase = Phase::idle;
}

void Captures::enter(Phase phase) {
    const std::scoped_lock lock(mutex_);
    shown_.phase = phase;
}

} // namespace stemline
