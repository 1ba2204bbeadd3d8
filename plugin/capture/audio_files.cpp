#include "capture/audio_files.h"

#include "capture/capture_error.h"
#include "client/hashes.h"

#ifdef _WIN32
#define NOMINMAX
#include <windows.h>
#define ENABLE_SNDFILE_WINDOWS_PROTOTYPES 1
#endif
#include <sndfile.h>
#include <soxr.h>

#include <algorithm>
#include <memory>
#include <system_error>
#include <vector>

namespace stemline::capture {

namespace fs = std::filesystem;

namespace {

constexpr int pieceFrames = 1 << 15;

struct CloseSound {
    void operator()(SNDFILE* file) const { sf_close(file); }
};
using Sound = std::unique_ptr<SNDFILE, CloseSound>;

struct DeleteResampler {
    void operator()(soxr_t resampler) const { soxr_delete(resampler); }
};
using Resampler = std::unique_ptr<soxr, DeleteResampler>;

Sound openSound(const fs::path& path, int mode, SF_INFO& info) {
#ifdef _WIN32
    return Sound(sf_wchar_open(path.c_str(), mode, &info));
#else
    return Sound(sf_open(path.c_str(), mode, &info));
#endif
}

CaptureError cannotRead() { return {"CANNOT_READ", "Use WAV, FLAC, AIFF or OGG, one at a time."}; }

bool isWelcome(int format) {
    switch (format & SF_FORMAT_TYPEMASK) {
    case SF_FORMAT_WAV:
    case SF_FORMAT_WAVEX:
    case SF_FORMAT_RF64:
    case SF_FORMAT_W64:
    case SF_FORMAT_AIFF:
    case SF_FORMAT_FLAC:
    case SF_FORMAT_OGG:
        return true;
    default:
        return false;
    }
}

void report(const Progress& progress, std::int64_t done, std::int64_t total) {
    if (progress && !progress(total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0.0))
        throw CaptureError("CANCELLED", "Cancelled.");
}

/// What is written of a source, and its digest.
class SourceFile {
  public:
    SourceFile(const fs::path& path, int channels) : file_(path), channels_(static_cast<std::size_t>(channels)) {}

    void write(const float* interleaved, std::size_t frames) {
        const std::size_t bytes = frames * channels_ * sizeof(float);
        file_.write(interleaved, bytes);
        hash_.update({reinterpret_cast<const char*>(interleaved), bytes});
        frames_ += static_cast<std::int64_t>(frames);
    }

    std::string finish() {
        file_.finish();
        return client::hex(hash_.finish());
    }

    const fs::path& path() const { return file_.path(); }
    std::int64_t frames() const { return frames_; }

  private:
    OutputFile file_;
    client::Sha256 hash_;
    std::size_t channels_;
    std::int64_t frames_ = 0;
};

void copySound(SNDFILE* sound, const SF_INFO& info, SourceFile& out, const Progress& progress) {
    std::vector<float> samples(static_cast<std::size_t>(pieceFrames * info.channels));
    std::int64_t done = 0;
    while (const sf_count_t frames = sf_readf_float(sound, samples.data(), pieceFrames)) {
        out.write(samples.data(), static_cast<std::size_t>(frames));
        report(progress, done += frames, info.frames);
    }
}

void resampleSound(SNDFILE* sound, const SF_INFO& info, int rateHz, SourceFile& out, const Progress& progress) {
    soxr_error_t error = nullptr;
    const soxr_io_spec_t format = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
    const soxr_quality_spec_t quality = soxr_quality_spec(SOXR_VHQ, 0);
    const Resampler resampler(
        soxr_create(info.samplerate, rateHz, static_cast<unsigned>(info.channels), &error, &format, &quality, nullptr));
    if (error != nullptr)
        throw CaptureError("CANNOT_READ", "A file at " + std::to_string(info.samplerate) + " Hz cannot be converted.");
    std::vector<float> in(static_cast<std::size_t>(pieceFrames * info.channels));
    const auto room = static_cast<std::size_t>(static_cast<double>(pieceFrames) * rateHz / info.samplerate) + 64;
    std::vector<float> converted(room * static_cast<std::size_t>(info.channels));
    std::int64_t done = 0;
    for (bool ended = false; !ended;) {
        const sf_count_t frames = sf_readf_float(sound, in.data(), pieceFrames);
        ended = frames == 0;
        std::size_t taken = 0, given = 0;
        // Null in place of the input: the end, after which the rest comes out.
        for (std::size_t offset = 0;;) {
            const float* const from = ended ? nullptr : in.data() + offset * static_cast<std::size_t>(info.channels);
            soxr_process(resampler.get(), from, ended ? 0 : static_cast<std::size_t>(frames) - offset, &taken,
                         converted.data(), room, &given);
            out.write(converted.data(), given);
            offset += taken;
            if (given < room && (ended || offset == static_cast<std::size_t>(frames)))
                break;
        }
        report(progress, done += frames, info.frames);
    }
}

/// Beside the file until it is whole.
class Beside {
  public:
    explicit Beside(const fs::path& path) : path_(path) { path_ += "." + uniqueName() + ".part"; }
    ~Beside() {
        std::error_code error;
        fs::remove(path_, error);
    }
    Beside(const Beside&) = delete;
    Beside& operator=(const Beside&) = delete;

    const fs::path& path() const { return path_; }

  private:
    fs::path path_;
};

} // namespace

Piece importAudioFile(CaptureStore& store, const fs::path& path, int rateHz, const Progress& progress) {
    SF_INFO info{};
    const Sound sound = openSound(path, SFM_READ, info);
    if (sound == nullptr || !isWelcome(info.format) || info.samplerate <= 0)
        throw cannotRead();
    if (info.channels > 2)
        throw CaptureError("CANNOT_READ",
                           "The file has " + std::to_string(info.channels) + " channels. Use a mono or stereo file.");
    const std::unique_ptr<Workspace> workspace = store.workspace();
    SourceFile out(workspace->folder() / "file.f32", info.channels);
    if (info.samplerate == rateHz)
        copySound(sound.get(), info, out, progress);
    else
        resampleSound(sound.get(), info, rateHz, out, progress);
    if (out.frames() == 0)
        throw CaptureError("CANNOT_READ", "The file is empty.");
    Piece piece;
    piece.length = piece.sourceFrames = out.frames();
    piece.channels = info.channels;
    piece.hardStart = piece.hardEnd = true;
    piece.source = out.finish();
    store.addSource(out.path(), piece.source);
    return piece;
}

bool needsRf64(std::int64_t frames, int channels) noexcept {
    return frames > ((std::int64_t{1} << 32) - 4096) / (channels * static_cast<std::int64_t>(sizeof(float)));
}

void writeWav(const fs::path& path, int rateHz, int channels, std::int64_t frames, const FrameSource& source,
              const Progress& progress) {
    const Beside beside(path);
    SF_INFO info{};
    info.samplerate = rateHz;
    info.channels = channels;
    info.format = (needsRf64(frames, channels) ? SF_FORMAT_RF64 : SF_FORMAT_WAV) | SF_FORMAT_FLOAT;
    Sound sound = openSound(beside.path(), SFM_WRITE, info);
    if (sound == nullptr)
        throw CaptureError("DISK_ERROR", "cannot write " + path.string() + ": " + sf_strerror(nullptr));
    // The chunk holds the time of writing, and the same stems should be the same file.
    sf_command(sound.get(), SFC_SET_ADD_PEAK_CHUNK, nullptr, SF_FALSE);
    std::vector<float> samples(static_cast<std::size_t>(pieceFrames * channels));
    for (std::int64_t done = 0; done < frames;) {
        const auto count = static_cast<int>(std::min<std::int64_t>(frames - done, pieceFrames));
        source(done, count, samples.data());
        if (sf_writef_float(sound.get(), samples.data(), count) != count)
            throw CaptureError("DISK_FULL", "there is no room left for " + path.string());
        report(progress, done += count, frames);
    }
    if (sf_close(sound.release()) != 0)
        throw CaptureError("DISK_FULL", "there is no room left for " + path.string());
    syncFile(beside.path());
    moveInto(beside.path(), path);
}

} // namespace stemline::capture
