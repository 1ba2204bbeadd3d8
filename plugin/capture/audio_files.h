// Songs that are dropped on the editor, and stems that leave it, as files.
#pragma once

#include "capture/capture_map.h"
#include "capture/capture_store.h"

#include <cstdint>
#include <filesystem>
#include <functional>

namespace stemline::capture {

/// How much is done, 0 to 1; false: stop.
using Progress = std::function<bool(double)>;

/// The file as a source object at the host's rate (converted by soxr where it has another), as a piece at position 0;
/// mono or stereo. Any thread but the audio and the message thread. Throws CaptureError: CANNOT_READ if it is no WAV,
/// FLAC, AIFF or OGG file, CANCELLED, or what the store throws.
Piece importAudioFile(CaptureStore&, const std::filesystem::path&, int rateHz, const Progress& = {});

/// Gives `frames` interleaved frames from `frame` on.
using FrameSource = std::function<void(std::int64_t frame, int frames, float* interleaved)>;

/// 32-bit float WAV, or RF64 if that is too small for it. Written beside and renamed: what has its name is whole.
/// Throws CaptureError DISK_FULL, DISK_ERROR, CANCELLED.
void writeWav(const std::filesystem::path&, int rateHz, int channels, std::int64_t frames, const FrameSource&,
              const Progress& = {});

/// Whether a WAV's 32-bit sizes do not suffice.
bool needsRf64(std::int64_t frames, int channels) noexcept;

} // namespace stemline::capture
