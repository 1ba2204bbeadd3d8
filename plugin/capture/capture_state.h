// A Capture as the few bytes that a host keeps in its project.
#pragma once

#include "capture/capture_map.h"

#include <string>
#include <string_view>

namespace stemline::capture {

/// Text, with a version in its first line and a checksum in its last.
std::string saveCapture(const Capture&);

/// Empty for anything that `saveCapture` of this or an earlier version did not write, whole and unchanged. Never
/// throws.
Capture loadCapture(std::string_view) noexcept;

} // namespace stemline::capture
