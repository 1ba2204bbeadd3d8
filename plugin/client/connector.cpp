#include "client/connector.h"

#include "client/wire_models.h"
#include "stems/v1/server.grpc.pb.h"

namespace stemline::client {

namespace {

constexpr double infoSeconds = 5;

std::vector<Device> devicesOf(Connection& connection, std::stop_token stop) {
    grpc::ClientContext context;
    connection.prepare(context, infoSeconds);
    stems::v1::ServerInfo info;
    const CancelWith cancel(stop, context);
    const grpc::Status status =
        stems::v1::ServerService::NewStub(connection.channel())->GetInfo(&context, stems::v1::GetInfoRequest(), &info);
    if (!status.ok())
        throw ClientError(connection.failed(status));
    std::vector<Device> devices;
    for (const stems::v1::Device& device : info.devices())
        devices.push_back({static_cast<int>(device.index()), device.name(), device.backend(), device.total_bytes(),
                           device.free_bytes(), device.active()});
    return devices;
}

} // namespace

void Connector::begin(const ServerChoice& choice, const ObtainOptions& options, std::shared_ptr<Connection> refresh) {
    cancel();
    result_ = Result();
    result_.connection = std::move(refresh);
    stage_ = Stage::connecting;
    done_ = false;
    thread_ = std::jthread([this, choice, options](std::stop_token stop) { work(choice, options, stop); });
}

std::optional<Connector::Result> Connector::take() {
    if (!busy() || !done_)
        return std::nullopt;
    thread_.join();
    return std::move(result_);
}

void Connector::cancel() {
    if (!busy())
        return;
    thread_.request_stop();
    const auto until = std::chrono::steady_clock::now() + letGoPatience;
    while (!done_ && std::chrono::steady_clock::now() < until)
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    if (!done_) {
        const std::scoped_lock lock(mutex_);
        if (asked_)
            asked_->sever();
    }
    thread_.join();
    result_ = Result();
}

void Connector::work(const ServerChoice& choice, ObtainOptions options, std::stop_token stop) {
    options.onAttempt = [this](Attempt attempt) {
        stage_ = attempt == Attempt::starting ? Stage::starting : Stage::connecting;
    };
    try {
        const std::shared_ptr<Connection> connection =
            result_.connection ? result_.connection : obtain(choice, options, stop);
        uses(connection);
        stage_ = Stage::loadingModel;
        result_.list = askForModels(*connection, stop); // answered only once the engine is warm
        result_.devices = devicesOf(*connection, stop);
        for (const Device& device : result_.devices)
            if (device.active)
                result_.device = device.name + " (" + device.backend + ")";
        result_.connection = connection;
    } catch (const ClientError& error) {
        result_.connection.reset();
        result_.problem = error.problem;
    } catch (const std::exception& error) { // the file system's
        result_.connection.reset();
        result_.problem = Problem{"SERVER_UNREACHABLE", error.what(), {}};
    }
    uses(nullptr);
    done_ = true;
}

void Connector::uses(std::shared_ptr<Connection> connection) {
    const std::scoped_lock lock(mutex_);
    asked_ = std::move(connection);
}

} // namespace stemline::client
