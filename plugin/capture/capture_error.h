// What can go wrong with captures, in words for the editor.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace stemline::capture {

/// `reason` is for programs: DISK_FULL, DISK_ERROR, CANNOT_READ, OBJECT_MISSING. Never thrown on the audio thread.
class CaptureError : public std::runtime_error {
  public:
    CaptureError(std::string why, const std::string& message) : std::runtime_error(message), reason(std::move(why)) {}

    std::string reason;
};

} // namespace stemline::capture
