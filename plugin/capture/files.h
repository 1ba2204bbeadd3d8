// Files as the store needs them: written to the end or not at all, locked against deletion, mapped for reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace stemline::capture {

/// A new file, written from beginning to end through a buffer. One thread. Throws CaptureError.
class OutputFile {
  public:
    explicit OutputFile(std::filesystem::path path);
    ~OutputFile();
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;

    void write(const void* bytes, std::size_t size);
    /// What was written can be read by others; the file is closed.
    void close();
    /// What was written survives a power cut, too.
    void finish();

    const std::filesystem::path& path() const noexcept { return path_; }

  private:
    void flush();
    void writeThrough(const std::byte* bytes, std::size_t size);
    void abandon() noexcept;

    std::filesystem::path path_;
    std::vector<std::byte> buffer_;
    std::intptr_t handle_ = -1;
};

/// Makes a file that somebody else wrote survive a power cut.
void syncFile(const std::filesystem::path&);
/// Renames a file or a folder, and makes that survive too.
void moveInto(const std::filesystem::path& from, const std::filesystem::path& to);

/// Holds a file as long as it lives: shared among those who use it, alone by who wants to delete it. Locks belong to
/// the object, not to the process, so two of one process exclude each other as well.
class FileLock {
  public:
    /// Waits; none if the file is not there, or went while we waited. (Nobody holds one alone for long.)
    static std::optional<FileLock> shared(const std::filesystem::path&);
    /// Waits; makes the file if need be.
    static FileLock alone(const std::filesystem::path&);
    /// None where anybody holds it, or it is not there.
    static std::optional<FileLock> aloneIfFree(const std::filesystem::path&);

    FileLock(FileLock&&) noexcept;
    FileLock& operator=(FileLock&&) noexcept;
    ~FileLock();

  private:
    friend class MappedFile;
    explicit FileLock(std::intptr_t handle) : handle_(handle) {}

    std::intptr_t handle_ = -1;
};

/// A whole file in memory, read only. Reading may wait for the disk unless `touch` came before. Any thread.
class MappedFile {
  public:
    /// Null if there is no such file, or it is empty. Held by a shared lock.
    static std::shared_ptr<const MappedFile> open(const std::filesystem::path&);
    /// The same without the lock, and the open file that it needs: for who holds another one for it.
    static std::shared_ptr<const MappedFile> openFree(const std::filesystem::path&);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    const std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    const float* samples() const noexcept { return reinterpret_cast<const float*>(data_); }

  private:
    MappedFile(const std::byte* data, std::size_t size) noexcept : data_(data), size_(size) {}
    static std::shared_ptr<MappedFile> map(const FileLock& file);

    std::optional<FileLock> lock_;
    const std::byte* data_;
    std::size_t size_;
};

/// Brings mapped memory in, so that the next one to read it does not wait. Not on the audio thread.
void touch(const void* data, std::size_t size) noexcept;

/// Unlikely to be anybody else's.
std::string uniqueName();

} // namespace stemline::capture
