#include "capture/capture_export.h"

#include "capture/audio_files.h"

namespace stemline::capture {

std::vector<std::filesystem::path> exportStems(const CaptureLibrary& library, const Capture& capture,
                                               const std::vector<Stem>& stems, const std::filesystem::path& folder) {
    const auto set = library.peek(capture);
    const auto& pieces = capture.map.pieces();
    const std::int64_t start = pieces.front().start, frames = pieces.back().stop() - start;
    const int channels = pieces.front().channels;
    std::filesystem::create_directories(folder);
    std::vector<std::filesystem::path> files;
    for (const Stem stem : stems) {
        files.push_back(folder / (std::string(stemName(stem)) + ".wav"));
        writeWav(files.back(), capture.rateHz, channels, frames,
                 [&](std::int64_t frame, int count, float* interleaved) {
                     readStem(*set, stem, start + frame, count, channels, interleaved);
                 });
    }
    return files;
}

} // namespace stemline::capture
