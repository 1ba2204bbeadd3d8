#include "client/bounce_transfer.h"

#include "client/hashes.h"

#include <algorithm>
#include <fstream>

namespace stemline::client {

namespace v1 = stems::v1;

namespace {

constexpr std::int64_t chunkBytes = 1024 * 1024;
constexpr double quickCallSeconds = 10;

} // namespace

BounceTransfer::BounceTransfer(std::shared_ptr<Connection> connection, const BounceRequest& request,
                               std::stop_token stop)
    : connection_(std::move(connection)), request_(request), stop_(std::move(stop)),
      stub_(v1::BounceService::NewStub(connection_->channel())) {}

void BounceTransfer::check(const grpc::Status& status) {
    if (!status.ok())
        throw ClientError(connection_->failed(status));
}

v1::Job BounceTransfer::create() {
    v1::CreateJobRequest request;
    request.set_request_id(request_.requestId);
    request.set_model(request_.model);
    if (request_.refinerSteps)
        request.mutable_quality()->set_refiner_steps(static_cast<std::uint32_t>(std::max(*request_.refinerSteps, 0)));
    request.mutable_quality()->set_noise_seed(request_.seed);
    request.mutable_audio()->set_sample_rate_hz(static_cast<std::uint32_t>(request_.sampleRateHz));
    request.mutable_audio()->set_channels(static_cast<std::uint32_t>(request_.channels));
    request.mutable_audio()->set_format(v1::SAMPLE_FORMAT_F32_LE);
    request.set_num_samples(static_cast<std::uint64_t>(std::max<std::int64_t>(request_.frames, 0)));
    for (const std::string& stem : request_.stems)
        request.add_stems(stem);
    grpc::ClientContext context;
    connection_->prepare(context);
    const CancelWith cancel(stop_, context);
    v1::Job job;
    check(stub_->CreateJob(&context, request, &job));
    return job;
}

void BounceTransfer::upload(const v1::Job& job, const BounceJob::Source& source,
                            const std::function<void(std::int64_t)>& sent) {
    const auto frameBytes = static_cast<std::int64_t>(sizeof(float)) * request_.channels;
    const std::int64_t total = request_.frames * frameBytes;
    const std::int64_t chunkFrames = chunkBytes / frameBytes;
    grpc::ClientContext context;
    connection_->prepare(context);
    const CancelWith cancel(stop_, context);
    v1::UploadStatus answer;
    const auto writer = stub_->UploadInput(&context, &answer);
    v1::UploadRequest message;
    message.set_job_id(job.job_id());
    bool open = writer->Write(message);
    std::vector<float> audio;
    for (auto at = static_cast<std::int64_t>(job.committed_bytes()); open && at < total;) {
        const std::int64_t frame = at / frameBytes;
        const std::int64_t frames = std::min(chunkFrames, request_.frames - frame);
        audio.resize(static_cast<std::size_t>(frames * request_.channels));
        source(frame, static_cast<int>(frames), audio.data());
        const std::int64_t known = at - frame * frameBytes; // of the first frame, if the last chunk had cut it
        v1::UploadChunk& chunk = *message.mutable_chunk();
        chunk.set_offset(static_cast<std::uint64_t>(at));
        chunk.set_data(reinterpret_cast<const char*>(audio.data()) + known,
                       static_cast<std::size_t>(frames * frameBytes - known));
        chunk.set_crc32c(crc32c(chunk.data()));
        open = writer->Write(message);
        at = (frame + frames) * frameBytes;
        sent(frame + frames);
    }
    writer->WritesDone();
    check(writer->Finish());
}

v1::Job BounceTransfer::watch(const std::string& jobId, const std::function<void(const v1::Job&)>& changed) {
    grpc::ClientContext context;
    connection_->prepare(context);
    const CancelWith cancel(stop_, context);
    v1::WatchJobRequest request;
    request.set_job_id(jobId);
    const auto reader = stub_->WatchJob(&context, request);
    v1::JobEvent event;
    while (reader->Read(&event))
        changed(event.job());
    check(reader->Finish());
    return event.job();
}

void BounceTransfer::download(const std::string& jobId, const v1::StemFile& stem, const std::filesystem::path& file) {
    const auto damaged = [&stem](const char* why) {
        return ClientError(Problem{"DOWNLOAD_DAMAGED", "stem " + stem.stem() + " arrived damaged: " + why, {}});
    };
    std::ofstream out(file, std::ios::binary | std::ios::trunc);
    grpc::ClientContext context;
    connection_->prepare(context);
    const CancelWith cancel(stop_, context);
    v1::ReadStemRequest request;
    request.set_job_id(jobId);
    request.set_stem(stem.stem());
    request.set_chunk_bytes(chunkBytes);
    const auto reader = stub_->ReadStem(&context, request);
    v1::StemBytes piece;
    Sha256 hash;
    std::uint64_t received = 0;
    bool inOrder = true;
    while (inOrder && out && reader->Read(&piece)) {
        inOrder = piece.offset() == received && crc32c(piece.data()) == piece.crc32c();
        out.write(piece.data().data(), static_cast<std::streamsize>(piece.data().size()));
        hash.update(piece.data());
        received += piece.data().size();
    }
    if (!inOrder || !out)
        context.TryCancel();
    const grpc::Status status = reader->Finish();
    out.close();
    if (!inOrder)
        throw damaged("its checksum");
    if (!out)
        throw ClientError(Problem{"DISK_FULL", "cannot write " + file.string(), {{"path", file.string()}}});
    check(status);
    if (received != stem.bytes() || hex(hash.finish()) != stem.sha256())
        throw damaged("it is not what the server computed");
}

void BounceTransfer::remove(const std::string& jobId) {
    grpc::ClientContext context;
    connection_->prepare(context, quickCallSeconds);
    const CancelWith cancel(stop_, context);
    v1::DeleteJobRequest request;
    request.set_job_id(jobId);
    v1::DeleteJobResponse answer;
    check(stub_->DeleteJob(&context, request, &answer));
}

} // namespace stemline::client
