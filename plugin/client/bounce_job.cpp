#include "client/bounce_job.h"

#include "client/bounce_transfer.h"
#include "client/error_details.h"
#include "client/obtain.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

namespace stemline::client {

using namespace std::chrono_literals;
namespace v1 = stems::v1;
using Clock = std::chrono::steady_clock;
using State = BounceProgress::State;

namespace {

constexpr auto firstWait = 200ms;
constexpr auto longestWait = 2s;
constexpr int mostRepairs = 5; // of transfers that arrive damaged
constexpr auto goodbyePatience = 300ms;
// Shares of the whole as it is shown: the way there, the work, the way back.
constexpr double sendingShare = 0.05, savingShare = 0.05;

} // namespace

class BounceJob::Worker {
  public:
    Worker(ServerChoice choice, BounceRequest request, Source source, Listener listener)
        : choice_(std::move(choice)), request_(std::move(request)), source_(std::move(source)),
          listener_(std::move(listener)) {
        progress_.totalFrames = request_.frames;
        thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
    }

    ~Worker() {
        cancel();
        std::unique_lock lock(mutex_);
        if (!ended_.wait_for(lock, letGoPatience + goodbyePatience, [this] { return progress_.ended(); }) &&
            connection_)
            connection_->sever();
    }

    void cancel() { thread_.request_stop(); }

    BounceProgress progress() const {
        const std::scoped_lock lock(mutex_);
        return progress_;
    }

    BounceProgress wait() {
        std::unique_lock lock(mutex_);
        ended_.wait(lock, [this] { return progress_.ended(); });
        return progress_;
    }

  private:
    void run(std::stop_token stop);
    void attempt(std::stop_token stop);
    v1::Job created(BounceTransfer&);
    void save(BounceTransfer&, const v1::Job&);
    bool tryAgain(const Problem&, std::stop_token stop);
    void sayGoodbye();
    void showJob(const v1::Job&);
    template <class Change> void show(Change change);

    const ServerChoice choice_;
    const BounceRequest request_;
    const Source source_;
    const Listener listener_;

    // The thread's own.
    std::string jobId_;
    std::set<std::string> saved_; // stems that lie beside their places, checked
    std::optional<bool> mayStart_;
    Clock::time_point lastContact_ = Clock::now();
    int tries_ = 0;
    int repairs_ = 0;

    mutable std::mutex mutex_;
    std::condition_variable ended_;
    BounceProgress progress_;
    std::shared_ptr<Connection> connection_; // written by the thread alone

    std::jthread thread_; // last: it uses all of the above
};

template <class Change> void BounceJob::Worker::show(Change change) {
    BounceProgress now;
    {
        const std::scoped_lock lock(mutex_);
        change(progress_);
        now = progress_;
    }
    if (listener_)
        listener_(now);
    if (now.ended())
        ended_.notify_all();
}

void BounceJob::Worker::run(std::stop_token stop) {
    const auto end = [this](State state, std::optional<Problem> problem) {
        show([&](BounceProgress& p) {
            p.state = state;
            p.problem = std::move(problem);
            p.remainingSeconds.reset();
        });
    };
    while (true) {
        Problem problem;
        try {
            attempt(stop);
            end(State::finished, std::nullopt);
            return;
        } catch (const ClientError& error) {
            problem = error.problem;
        } catch (const std::exception& error) { // the file system's
            problem = {"NOT_WRITABLE", error.what(), {}};
        }
        if (stop.stop_requested() || !tryAgain(problem, stop)) {
            sayGoodbye();
            if (stop.stop_requested())
                end(State::cancelled, std::nullopt);
            else
                end(State::failed, problem);
            return;
        }
    }
}

void BounceJob::Worker::attempt(std::stop_token stop) {
    show([](BounceProgress& p) { p.state = State::connecting; });
    {
        std::shared_ptr<Connection> connection = obtain(choice_, {mayStart_, false, {}}, stop);
        const std::scoped_lock lock(mutex_);
        connection_ = std::move(connection);
    }
    lastContact_ = Clock::now();
    BounceTransfer transfer(connection_, request_, stop);
    v1::Job job = created(transfer);
    jobId_ = job.job_id();
    mayStart_.reset();
    if (job.state() == v1::JOB_STATE_AWAITING_INPUT) {
        show([](BounceProgress& p) {
            p.state = State::sending;
            p.problem.reset();
        });
        transfer.upload(job, source_, [this](std::int64_t sent) {
            lastContact_ = Clock::now();
            tries_ = 0;
            show([&](BounceProgress& p) {
                p.doneFrames = sent;
                p.fraction = sendingShare * static_cast<double>(sent) / static_cast<double>(request_.frames);
            });
        });
    }
    job = transfer.watch(jobId_, [this](const v1::Job& now) { showJob(now); });
    if (job.state() == v1::JOB_STATE_FAILED) {
        Problem problem{job.error().reason(), job.error().message(), {}};
        problem.metadata.insert(job.error().metadata().begin(), job.error().metadata().end());
        throw ClientError(problem);
    }
    if (job.state() != v1::JOB_STATE_SUCCEEDED)
        throw ClientError("JOB_CANCELLED", "somebody else cancelled the job");
    save(transfer, job);
}

/// A job that had failed or been cancelled under the same id makes room for a new one.
v1::Job BounceJob::Worker::created(BounceTransfer& transfer) {
    v1::Job job = transfer.create();
    if (jobId_.empty() && (job.state() == v1::JOB_STATE_FAILED || job.state() == v1::JOB_STATE_CANCELLED)) {
        transfer.remove(job.job_id());
        job = transfer.create();
    }
    if (job.job_id() != jobId_)
        saved_.clear();
    return job;
}

void BounceJob::Worker::showJob(const v1::Job& job) {
    lastContact_ = Clock::now();
    tries_ = 0;
    show([&job](BounceProgress& p) {
        const v1::Progress& at = job.progress();
        p.state = job.state() == v1::JOB_STATE_QUEUED ? State::queued : State::separating;
        p.problem.reset();
        p.model = job.model();
        p.weightsSha256 = job.weights_sha256();
        p.doneFrames = static_cast<std::int64_t>(at.done_samples());
        const double part = at.total_samples() > 0
                                ? static_cast<double>(at.done_samples()) / static_cast<double>(at.total_samples())
                                : 0.0;
        p.fraction = sendingShare + (1 - sendingShare - savingShare) * part;
        p.remainingSeconds.reset();
        if (at.has_remaining())
            p.remainingSeconds = static_cast<double>(at.remaining().seconds()) + 1e-9 * at.remaining().nanos();
    });
}

/// All stems beside their places first, then all into their places: what is there is whole.
void BounceJob::Worker::save(BounceTransfer& transfer, const v1::Job& job) {
    show([](BounceProgress& p) { p.state = State::saving; });
    std::filesystem::create_directories(request_.folder);
    std::vector<BounceOutput> outputs;
    const auto beside = [](const std::filesystem::path& file) { return file.string() + ".part"; };
    for (const v1::StemFile& stem : job.outputs()) {
        const std::filesystem::path file = request_.folder / (stem.stem() + ".f32");
        if (!saved_.contains(stem.stem()))
            transfer.download(jobId_, stem, beside(file));
        saved_.insert(stem.stem());
        lastContact_ = Clock::now();
        tries_ = 0;
        outputs.push_back({stem.stem(), file, stem.sha256(), stem.peak(), stem.silent()});
        show([&](BounceProgress& p) {
            p.fraction = 1 - savingShare + savingShare * static_cast<double>(outputs.size()) / job.outputs_size();
        });
    }
    for (const BounceOutput& output : outputs)
        std::filesystem::rename(beside(output.file), output.file);
    sayGoodbye();
    show([&outputs](BounceProgress& p) {
        p.fraction = 1;
        p.outputs = outputs;
    });
}

/// Waits where that may help; false where it does not.
bool BounceJob::Worker::tryAgain(const Problem& problem, std::stop_token stop) {
    const bool damaged = problem.reason == "DOWNLOAD_DAMAGED" || problem.reason == "UPLOAD_CORRUPTED" ||
                         problem.reason == "UPLOAD_OUT_OF_ORDER" || problem.reason == "JOB_NOT_FOUND";
    if (damaged && ++repairs_ > mostRepairs)
        return false;
    if (!damaged && !meansLost(problem) && problem.reason != "SERVER_STOPPED")
        return false;
    if (problem.reason == "UNTRUSTED_SERVER" ||
        Clock::now() - lastContact_ > std::chrono::duration<double>(request_.patienceSeconds))
        return false;
    if (problem.reason == "SHUTTING_DOWN")
        mayStart_ = false; // somebody wanted it to end
    show([&](BounceProgress& p) {
        p.state = State::connecting;
        p.problem = problem;
    });
    const auto until = Clock::now() + std::min<Clock::duration>(firstWait * (1 << std::min(tries_++, 4)), longestWait);
    while (Clock::now() < until && !stop.stop_requested())
        std::this_thread::sleep_for(20ms);
    return !stop.stop_requested();
}

/// The server need not keep the job; if it cannot be told now, it deletes it by itself when its time is over.
void BounceJob::Worker::sayGoodbye() {
    if (!connection_ || !connection_->usable() || jobId_.empty())
        return;
    std::stop_source hurry;
    std::jthread clock([&hurry](std::stop_token done) {
        const auto until = Clock::now() + goodbyePatience;
        while (Clock::now() < until && !done.stop_requested())
            std::this_thread::sleep_for(10ms);
        hurry.request_stop();
    });
    try {
        BounceTransfer(connection_, request_, hurry.get_token()).remove(jobId_);
    } catch (const ClientError&) {
    }
}

BounceJob::BounceJob(ServerChoice choice, BounceRequest request, Source source, Listener listener)
    : worker_(std::make_unique<Worker>(std::move(choice), std::move(request), std::move(source), std::move(listener))) {
}

BounceJob::~BounceJob() = default; // the thread's own destructor cancels and joins

void BounceJob::cancel() { worker_->cancel(); }

BounceProgress BounceJob::progress() const { return worker_->progress(); }

BounceProgress BounceJob::wait() { return worker_->wait(); }

} // namespace stemline::client
