#include "client/error_details.h"

#include <google/protobuf/io/coded_stream.h>

#include <array>
#include <cstdint>

namespace stemline::client {

namespace {

using google::protobuf::io::CodedInputStream;

/// The fields of a serialised message that carry bytes, one call each; others are passed over. False if it is damaged.
/// By hand, because google.rpc's own classes need the full protobuf runtime, which aborts hosts.
template <class Visit> bool forEachBytesField(std::string_view bytes, Visit visit) {
    CodedInputStream in(reinterpret_cast<const std::uint8_t*>(bytes.data()), static_cast<int>(bytes.size()));
    while (const std::uint32_t tag = in.ReadTag()) {
        std::uint32_t size = 0;
        std::uint64_t ignored = 0;
        std::string value;
        switch (tag & 7) {
        case 0:
            if (!in.ReadVarint64(&ignored))
                return false;
            break;
        case 1:
            if (!in.ReadLittleEndian64(&ignored))
                return false;
            break;
        case 2:
            if (!in.ReadVarint32(&size) || size > bytes.size() || !in.ReadString(&value, static_cast<int>(size)))
                return false;
            visit(tag >> 3, value);
            break;
        case 5:
            if (!in.Skip(4))
                return false;
            break;
        default:
            return false;
        }
    }
    return in.ConsumedEntireMessage();
}

/// google.rpc.ErrorInfo: reason = 1, domain = 2, metadata = 3 (a map: key = 1, value = 2).
std::optional<Problem> errorInfo(std::string_view bytes) {
    Problem problem;
    std::string domain;
    const bool whole = forEachBytesField(bytes, [&](std::uint32_t field, const std::string& value) {
        if (field == 1)
            problem.reason = value;
        else if (field == 2)
            domain = value;
        else if (field == 3) {
            std::array<std::string, 2> pair;
            forEachBytesField(value, [&pair](std::uint32_t part, const std::string& text) {
                if (part == 1 || part == 2)
                    pair[part - 1] = text;
            });
            problem.metadata[pair[0]] = pair[1];
        }
    });
    if (!whole || domain != "stemline" || problem.reason.empty())
        return std::nullopt;
    return problem;
}

const char* codeName(grpc::StatusCode code) {
    constexpr std::array names{
        "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
        "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
        "DATA_LOSS", "UNAUTHENTICATED"};
    const auto index = static_cast<std::size_t>(code);
    return index < names.size() ? names[index] : "UNKNOWN";
}

} // namespace

std::optional<Problem> parseStatusDetails(std::string_view bytes) {
    // google.rpc.Status: message = 2, details = 3 (Any: type_url = 1, value = 2).
    std::string message;
    std::optional<Problem> found;
    const bool whole = forEachBytesField(bytes, [&](std::uint32_t field, const std::string& value) {
        if (field == 2)
            message = value;
        if (field != 3)
            return;
        std::string type;
        std::string inner;
        forEachBytesField(value,
                          [&](std::uint32_t part, const std::string& text) { (part == 1 ? type : inner) = text; });
        if (type == "type.googleapis.com/google.rpc.ErrorInfo" && !found)
            found = errorInfo(inner);
    });
    if (!whole || !found)
        return std::nullopt;
    found->message = message;
    return found;
}

Problem problemOf(const grpc::Status& status, const std::string& address) {
    if (auto details = parseStatusDetails(status.error_details()))
        return *details;
    const std::string text = status.error_message();
    switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
        return {"SERVER_UNREACHABLE", "it is not running, or has just died (" + text + ")", {{"address", address}}};
    case grpc::StatusCode::DEADLINE_EXCEEDED:
        return {"SERVER_UNREACHABLE", "it does not answer (" + text + ")", {{"address", address}}};
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
        if (text.find("larger than max") != std::string::npos)
            return {"MESSAGE_TOO_LARGE", "a message is larger than is allowed: send audio in smaller pieces", {}};
        break;
    case grpc::StatusCode::CANCELLED:
        return {"CANCELLED", "the call was cancelled", {}};
    default:
        break;
    }
    return {codeName(status.error_code()), text, {}};
}

bool meansLost(const Problem& problem) {
    for (const char* reason : {"SERVER_UNREACHABLE", "SHUTTING_DOWN", "CANCELLED", "UNTRUSTED_SERVER"})
        if (problem.reason == reason)
            return true;
    return false;
}

} // namespace stemline::client
