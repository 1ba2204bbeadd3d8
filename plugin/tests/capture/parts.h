// What the tests of captures have in common.
#pragma once

#include "capture/capture_library.h"
#include "capture/capture_writer.h"
#include "capture/files.h"
#include "client/hashes.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace stemline::capture::tests {

namespace fs = std::filesystem;

/// Gone when this is gone.
class Folder {
  public:
    Folder() : path(fs::temp_directory_path() / ("stemline-test-" + uniqueName())) { fs::create_directories(path); }
    ~Folder() { fs::remove_all(path); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    const fs::path path;
};

inline std::vector<float> noise(std::size_t count, unsigned seed = 1) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> sample(-0.5f, 0.5f);
    std::vector<float> samples(count);
    for (float& value : samples)
        value = sample(random);
    return samples;
}

inline std::string bytesOf(const std::vector<float>& samples) {
    return {reinterpret_cast<const char*>(samples.data()), samples.size() * sizeof(float)};
}

inline std::string bytesOf(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline void write(const fs::path& path, const std::string& bytes) {
    OutputFile file(path);
    file.write(bytes.data(), bytes.size());
    file.finish();
}

inline std::string digest(const std::vector<float>& samples) { return client::hex(client::sha256(bytesOf(samples))); }

inline std::shared_ptr<const MappedFile> addSource(CaptureStore& store, const std::vector<float>& samples) {
    const auto workspace = store.workspace();
    const fs::path file = workspace->folder() / "x.f32";
    write(file, bytesOf(samples));
    return store.addSource(file, digest(samples));
}

inline StemsRecipe recipeFor(const std::string& source, int channels = 2) {
    StemsRecipe recipe;
    recipe.source = source;
    recipe.weightsSha256 = "w";
    recipe.model = "m";
    recipe.rateHz = 48000;
    recipe.channels = channels;
    return recipe;
}

/// Stem number n is the source times 1 / (n + 2); the piano is silent, and so has no file.
inline float shareOf(int stem) {
    return stem == static_cast<int>(Stem::piano) ? 0.0f : 1.0f / static_cast<float>(stem + 2);
}

inline std::shared_ptr<const StoredStems> addStems(CaptureStore& store, const std::vector<float>& source,
                                                   int channels = 2) {
    const auto workspace = store.workspace();
    for (int stem = 0; stem < numStems; ++stem) {
        if (shareOf(stem) == 0.0f)
            continue;
        std::vector<float> samples = source;
        for (float& sample : samples)
            sample *= shareOf(stem);
        write(workspace->folder() / (std::string(stemName(static_cast<Stem>(stem))) + ".f32"), bytesOf(samples));
    }
    const auto frames = static_cast<std::int64_t>(source.size()) / channels;
    return store.addStems(recipeFor(digest(source), channels), frames, workspace->folder());
}

/// A source with its stems at a place.
inline Piece addPiece(CaptureStore& store, const std::vector<float>& source, std::int64_t start, int channels = 2) {
    addSource(store, source);
    addStems(store, source, channels);
    Piece piece;
    piece.start = start;
    piece.length = piece.sourceFrames = static_cast<std::int64_t>(source.size()) / channels;
    piece.channels = channels;
    piece.source = digest(source);
    piece.stems = recipeFor(piece.source, channels).key();
    return piece;
}

/// Runs it in a process of its own, which must not have threads to lose; its exit code.
template <class Work> int inChild(Work work) {
    const pid_t child = ::fork();
    if (child == 0) {
        try {
            ::_exit(work());
        } catch (...) {
            ::_exit(99);
        }
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/// From here on no file of this process can grow beyond so many bytes, as on a full disk.
inline void limitFiles(rlim_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, bytes};
    ::setrlimit(RLIMIT_FSIZE, &limit);
}

} // namespace stemline::capture::tests
