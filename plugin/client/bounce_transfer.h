// The calls that a bounce job is made of, each to its end or to an exception.
#pragma once

#include "client/bounce_job.h"
#include "client/connection.h"
#include "stems/v1/bounce.grpc.pb.h"

#include <functional>
#include <map>

namespace stemline::client {

/// One job on one connection. The job's thread only; every call ends soon after `stop` is requested. Throws
/// ClientError.
class BounceTransfer {
  public:
    BounceTransfer(std::shared_ptr<Connection>, const BounceRequest&, std::stop_token stop);

    /// The job of this request: a new one, or the one that was begun before.
    stems::v1::Job create();
    /// Sends what the server does not have yet. `sent`: frames so far.
    void upload(const stems::v1::Job&, const BounceJob::Source&, const std::function<void(std::int64_t sent)>&);
    /// Follows the job to its end.
    stems::v1::Job watch(const std::string& jobId, const std::function<void(const stems::v1::Job&)>& changed);
    /// Fetches one stem into `file` and makes sure that it is what was computed.
    void download(const std::string& jobId, const stems::v1::StemFile&, const std::filesystem::path& file);
    void remove(const std::string& jobId);

  private:
    void check(const grpc::Status&);

    std::shared_ptr<Connection> connection_;
    const BounceRequest& request_;
    std::stop_token stop_;
    std::unique_ptr<stems::v1::BounceService::Stub> stub_;
};

} // namespace stemline::client
