// Captured audio and the stems made of it, under names that say what they are; shared by all instances and hosts.
#pragma once

#include "capture/files.h"
#include "engine/stems.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace stemline::capture {

/// All that decides how stems sound: two objects with the same key hold the same samples.
struct StemsRecipe {
    std::string source; // sha256 of its samples
    std::string weightsSha256;
    std::string model;
    int refinerSteps = 0;
    std::uint64_t seed = 0;
    int rateHz = 0;
    int channels = 0;

    std::string key() const;
};

/// Stems of a whole source, mapped. A null file is a silent stem. Kept from deletion as long as this lives.
struct StoredStems {
    std::array<std::shared_ptr<const MappedFile>, numStems> files;
    std::shared_ptr<const MappedFile> info; // holds the lock
};

/// A folder for what is not finished, gone when this is gone or its process has died.
class Workspace {
  public:
    ~Workspace();
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    const std::filesystem::path& folder() const noexcept { return folder_; }

  private:
    friend class CaptureStore;
    Workspace(std::filesystem::path folder, std::filesystem::path lockPath);

    std::filesystem::path folder_, lockPath_;
    FileLock lock_;
};

/// Where captures are kept. What the user has chosen before is looked through as well: who moves on loses nothing.
struct StoreFolders {
    std::filesystem::path root;
    std::vector<std::filesystem::path> earlier;

    bool operator==(const StoreFolders&) const = default;
    /// The root, then the earlier ones that are another folder, each once.
    std::vector<std::filesystem::path> all() const;
};

/// Objects on disk: `source/<sha256>.f32` and `stems/<key>/<stem>.f32`, raw interleaved little-endian floats.
///
/// An object is written beside, made to survive a power cut, and renamed: what has its name is whole. Over the size
/// cap, objects go that were not opened for longest, but none that anybody has open. Several processes may share a
/// folder. What is new goes into the root; in earlier folders things are found and read where they lie, and count.
/// Any thread but the audio thread; all of it may wait for the disk. Throws CaptureError.
class CaptureStore {
  public:
    static constexpr std::uint64_t defaultCapBytes = std::uint64_t{20} << 30;

    /// Makes the folder, and clears away what dead processes left unfinished. A folder that cannot be written is read,
    /// as far as it is there; `requireWritable` says why.
    explicit CaptureStore(StoreFolders, std::uint64_t capBytes = defaultCapBytes);
    explicit CaptureStore(std::filesystem::path root, std::uint64_t capBytes = defaultCapBytes)
        : CaptureStore(StoreFolders{std::move(root), {}}, capBytes) {}

    const std::filesystem::path& root() const noexcept { return root_; }
    const StoreFolders& folders() const noexcept { return folders_; }

    /// By writing something. Throws CaptureError where that fails, for people.
    void requireWritable();

    std::unique_ptr<Workspace> workspace();

    /// Takes a finished file of a workspace over. What comes back keeps it from deletion.
    std::shared_ptr<const MappedFile> addSource(const std::filesystem::path& file, const std::string& sha256);

    /// Null if it is not there, or not whole.
    std::shared_ptr<const MappedFile> source(const std::string& sha256, std::int64_t frames, int channels);

    /// Takes a folder of a workspace over that holds `<stem>.f32` for each stem; those that are missing are silent, and
    /// those that are silent are left out. All must have `frames` frames. Throws CaptureError OBJECT_MISSING if they
    /// have not.
    std::shared_ptr<const StoredStems> addStems(const StemsRecipe&, std::int64_t frames,
                                                const std::filesystem::path& folder);

    /// Null if they are not there, or not whole.
    std::shared_ptr<const StoredStems> stems(const std::string& key, std::int64_t frames, int channels);

    /// Deletes what is over the cap. Comes by itself when something is added.
    void trim();
    void setCap(std::uint64_t bytes) noexcept { capBytes_.store(bytes); }
    /// Deletes everything that nobody has open.
    void clear();

    /// Of all objects, whoever made them, in all folders.
    std::uint64_t sizeBytes() const { return sizeBytes(folders_); }
    /// The same of folders that need not be there, without making them.
    static std::uint64_t sizeBytes(const StoreFolders&);

  private:
    void makeFolders() const;
    void clearUnfinished();
    void trimTo(std::uint64_t bytes);
    std::shared_ptr<const StoredStems> stemsIn(const std::filesystem::path& folder, std::int64_t frames, int channels);
    std::filesystem::path sourcePath(const std::string& sha256) const;
    std::filesystem::path stemsPath(const std::string& key) const;

    const StoreFolders folders_;
    const std::vector<std::filesystem::path> all_; // root_ first
    const std::filesystem::path& root_ = folders_.root;
    std::atomic<std::uint64_t> capBytes_;
};

/// The folder of the store within one that somebody chose, or that one itself if it is one already: what else lies in
/// the chosen folder may have the same names.
std::filesystem::path storeWithin(const std::filesystem::path& chosen);

/// `stemline/captures` among the user's data; below STEMLINE_HOME if that is set.
std::filesystem::path defaultStoreRoot();

} // namespace stemline::capture
