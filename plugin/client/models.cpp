#include "client/models.h"

#include "client/obtain.h"
#include "client/wire_models.h"
#include "stems/v1/models.grpc.pb.h"

namespace stemline::client {

namespace v1 = stems::v1;

ModelInfo modelInfo(const v1::Model& model) {
    ModelInfo info;
    info.name = model.name();
    info.title = model.title();
    info.weightsSha256 = model.weights_sha256();
    info.licence = model.licence();
    info.stems.assign(model.stems().begin(), model.stems().end());
    info.fileBytes = model.file_bytes();
    info.nativeRateHz = model.native().sample_rate_hz();
    info.defaultRefinerSteps = static_cast<int>(model.default_refiner_steps());
    info.realtimeFactor = static_cast<double>(model.measured_realtime_factor());
    info.problem = model.problem();
    switch (model.state()) {
    case v1::Model::STATE_AVAILABLE:
        info.state = ModelInfo::State::available;
        break;
    case v1::Model::STATE_READY:
        info.state = ModelInfo::State::ready;
        break;
    case v1::Model::STATE_BROKEN:
        info.state = ModelInfo::State::broken;
        break;
    default:
        info.state = ModelInfo::State::notDownloaded;
    }
    return info;
}

ModelList askForModels(Connection& connection, std::stop_token stop) {
    grpc::ClientContext context;
    connection.prepare(context);
    v1::ListModelsResponse answer;
    const CancelWith cancel(stop, context);
    const grpc::Status status =
        v1::ModelService::NewStub(connection.channel())->ListModels(&context, v1::ListModelsRequest(), &answer);
    if (!status.ok())
        throw ClientError(connection.failed(status));
    ModelList list;
    list.defaultModel = answer.default_model();
    for (const v1::Model& model : answer.models())
        list.models.push_back(modelInfo(model));
    return list;
}

ModelList listModels(const ServerChoice& choice, std::stop_token stop) {
    return askForModels(*obtain(choice, {}, stop), stop);
}

ModelInfo downloadModel(const ServerChoice& choice, const std::string& name, std::stop_token stop,
                        const std::function<void(const DownloadProgress&)>& listener) {
    const std::shared_ptr<Connection> connection = obtain(choice, {}, stop);
    grpc::ClientContext context;
    connection->prepare(context);
    const CancelWith cancel(stop, context);
    v1::DownloadModelRequest request;
    request.set_name(name);
    const auto stub = v1::ModelService::NewStub(connection->channel());
    const auto events = stub->DownloadModel(&context, request);
    v1::DownloadEvent event;
    while (events->Read(&event)) {
        using Stage = DownloadProgress::Stage;
        const auto stage = event.stage();
        listener({stage == v1::DownloadEvent::STAGE_LOOK_UP    ? Stage::lookingUp
                  : stage == v1::DownloadEvent::STAGE_DOWNLOAD ? Stage::downloading
                                                               : Stage::installing,
                  event.done_bytes(), event.total_bytes()});
    }
    const grpc::Status status = events->Finish();
    if (!status.ok())
        throw ClientError(connection->failed(status));
    return modelInfo(event.model());
}

} // namespace stemline::client
