#ifdef _WIN32
#include "capture/capture_error.h"
#include "capture/files.h"

#define NOMINMAX
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <random>
#include <utility>

namespace stemline::capture {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t bufferBytes = 1 << 18;
// Beyond the end of every file, so that a lock keeps nobody from reading.
constexpr DWORD lockOffsetHigh = 0x7fffffff;

[[noreturn]] void fail(const fs::path& path, DWORD error) {
    if (error == ERROR_DISK_FULL || error == ERROR_HANDLE_DISK_FULL)
        throw CaptureError("DISK_FULL", "there is no room left for captures in " + path.parent_path().string());
    throw CaptureError("DISK_ERROR", path.string() + ": " + std::system_category().message(static_cast<int>(error)));
}

HANDLE handleOf(std::intptr_t value) noexcept { return reinterpret_cast<HANDLE>(value); }
std::intptr_t valueOf(HANDLE handle) noexcept { return reinterpret_cast<std::intptr_t>(handle); }

/// -1, which is INVALID_HANDLE_VALUE, if it cannot be opened.
std::intptr_t openFile(const fs::path& path, DWORD access, DWORD disposition) noexcept {
    const DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    return valueOf(CreateFileW(path.c_str(), access, share, nullptr, disposition, FILE_ATTRIBUTE_NORMAL, nullptr));
}

bool lockFile(std::intptr_t handle, DWORD flags) noexcept {
    OVERLAPPED where{};
    where.OffsetHigh = lockOffsetHigh;
    return LockFileEx(handleOf(handle), flags, 0, 1, 0, &where) != 0;
}

bool stillThere(std::intptr_t handle) noexcept {
    FILE_STANDARD_INFO info{};
    return GetFileInformationByHandleEx(handleOf(handle), FileStandardInfo, &info, sizeof info) != 0 &&
           !info.DeletePending;
}

} // namespace

OutputFile::OutputFile(fs::path path) : path_(std::move(path)) {
    buffer_.reserve(bufferBytes);
    handle_ = openFile(path_, GENERIC_WRITE, CREATE_ALWAYS);
    if (handle_ == -1)
        fail(path_, GetLastError());
}

OutputFile::~OutputFile() { abandon(); }

void OutputFile::close() {
    flush();
    buffer_ = {};
    abandon();
}

void OutputFile::write(const void* bytes, std::size_t size) {
    const auto* data = static_cast<const std::byte*>(bytes);
    if (buffer_.size() + size > bufferBytes)
        flush();
    if (size >= bufferBytes)
        writeThrough(data, size);
    else
        buffer_.insert(buffer_.end(), data, data + size);
}

void OutputFile::flush() {
    writeThrough(buffer_.data(), buffer_.size());
    buffer_.clear();
}

void OutputFile::writeThrough(const std::byte* bytes, std::size_t size) {
    while (size > 0) {
        DWORD written = 0;
        const auto piece = static_cast<DWORD>(size < (1U << 30) ? size : (1U << 30));
        if (WriteFile(handleOf(handle_), bytes, piece, &written, nullptr) == 0)
            fail(path_, GetLastError());
        bytes += written, size -= written;
    }
}

void OutputFile::finish() {
    flush();
    if (FlushFileBuffers(handleOf(handle_)) == 0)
        fail(path_, GetLastError());
    abandon();
}

void OutputFile::abandon() noexcept {
    if (handle_ != -1)
        CloseHandle(handleOf(std::exchange(handle_, -1)));
}

void syncFile(const fs::path& path) {
    const std::intptr_t handle = openFile(path, GENERIC_WRITE, OPEN_EXISTING);
    if (handle == -1)
        fail(path, GetLastError());
    const bool done = FlushFileBuffers(handleOf(handle)) != 0;
    const DWORD error = GetLastError();
    CloseHandle(handleOf(handle));
    if (!done)
        fail(path, error);
}

void moveInto(const fs::path& from, const fs::path& to) {
    if (MoveFileExW(from.c_str(), to.c_str(), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH) == 0)
        fail(to, GetLastError());
}

std::optional<FileLock> FileLock::shared(const fs::path& path) {
    const std::intptr_t handle = openFile(path, GENERIC_READ, OPEN_EXISTING);
    if (handle == -1)
        return std::nullopt;
    FileLock lock(handle);
    if (!lockFile(handle, 0) || !stillThere(handle))
        return std::nullopt;
    return lock;
}

FileLock FileLock::alone(const fs::path& path) {
    const std::intptr_t handle = openFile(path, GENERIC_READ | GENERIC_WRITE, OPEN_ALWAYS);
    if (handle == -1)
        fail(path, GetLastError());
    FileLock lock(handle);
    if (!lockFile(handle, LOCKFILE_EXCLUSIVE_LOCK))
        fail(path, GetLastError());
    return lock;
}

std::optional<FileLock> FileLock::aloneIfFree(const fs::path& path) {
    const std::intptr_t handle = openFile(path, GENERIC_READ, OPEN_EXISTING);
    if (handle == -1)
        return std::nullopt;
    FileLock lock(handle);
    if (!lockFile(handle, LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY) || !stillThere(handle))
        return std::nullopt;
    return lock;
}

FileLock::FileLock(FileLock&& other) noexcept : handle_(std::exchange(other.handle_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
}

FileLock::~FileLock() {
    if (handle_ != -1)
        CloseHandle(handleOf(handle_)); // which unlocks
}

std::shared_ptr<const MappedFile> MappedFile::open(const fs::path& path) {
    std::optional<FileLock> lock = FileLock::shared(path);
    const std::shared_ptr<MappedFile> mapped = lock ? map(*lock) : nullptr;
    if (mapped != nullptr)
        mapped->lock_ = std::move(lock);
    return mapped;
}

std::shared_ptr<const MappedFile> MappedFile::openFree(const fs::path& path) {
    const FileLock file(openFile(path, GENERIC_READ, OPEN_EXISTING));
    return map(file);
}

std::shared_ptr<MappedFile> MappedFile::map(const FileLock& file) {
    LARGE_INTEGER size{};
    if (file.handle_ == -1 || GetFileSizeEx(handleOf(file.handle_), &size) == 0 || size.QuadPart <= 0)
        return nullptr;
    const HANDLE mapping = CreateFileMappingW(handleOf(file.handle_), nullptr, PAGE_READONLY, 0, 0, nullptr);
    if (mapping == nullptr)
        return nullptr;
    const void* const data = MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0);
    CloseHandle(mapping); // the view keeps it
    if (data == nullptr)
        return nullptr;
    return std::shared_ptr<MappedFile>(
        new MappedFile(static_cast<const std::byte*>(data), static_cast<std::size_t>(size.QuadPart)));
}

MappedFile::~MappedFile() { UnmapViewOfFile(data_); }

void touch(const void* data, std::size_t size) noexcept {
    constexpr std::size_t page = 4096;
    const auto* bytes = static_cast<const volatile std::byte*>(data);
    volatile std::byte sum{};
    for (std::size_t at = 0; at < size; at += page)
        sum = bytes[at];
    (void)sum;
}

std::string uniqueName() {
    std::random_device random;
    std::string name = std::to_string(GetCurrentProcessId()) + "-";
    for (int i = 0; i < 16; ++i)
        name.append(1, "0123456789abcdef"[random() & 15]);
    return name;
}

} // namespace stemline::capture
#endif
