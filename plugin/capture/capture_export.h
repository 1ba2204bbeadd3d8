// Captured stems as files for the DAW or the desktop.
#pragma once

#include "capture/capture_library.h"

#include <filesystem>
#include <vector>

namespace stemline::capture {

/// Writes `<folder>/<stem>.wav` for each stem: raw, 32-bit float, from the first captured frame to the last, silent
/// between pieces. Not on the audio or the message thread. Throws CaptureError.
std::vector<std::filesystem::path> exportStems(const CaptureLibrary&, const Capture&, const std::vector<Stem>&,
                                               const std::filesystem::path& folder);

} // namespace stemline::capture
