#include "client/model_download.h"

namespace stemline::client {

void ModelDownload::start(const ServerChoice& choice, const std::string& model) {
    const std::scoped_lock lock(mutex_);
    if (status_.running)
        return;
    status_ = {model, true, {}, {}};
    thread_ = std::jthread([this, choice, model](const std::stop_token& stop) { run(choice, model, stop); });
}

void ModelDownload::cancel() {
    const std::scoped_lock lock(mutex_);
    thread_.request_stop();
}

ModelDownload::Status ModelDownload::status() const {
    const std::scoped_lock lock(mutex_);
    return status_;
}

void ModelDownload::run(const ServerChoice& choice, const std::string& model, const std::stop_token& stop) {
    std::optional<Problem> problem;
    try {
        downloadModel(choice, model, stop, [this](const DownloadProgress& progress) {
            const std::scoped_lock lock(mutex_);
            status_.progress = progress;
        });
    } catch (const ClientError& error) {
        problem = error.problem;
    } catch (const std::exception& error) {
        problem = Problem{"INTERNAL", error.what(), {}};
    }
    if (!problem && !stop.stop_requested())
        arrived_();
    const std::scoped_lock lock(mutex_);
    status_.running = false;
    if (!stop.stop_requested())
        status_.problem = problem;
}

} // namespace stemline::client
