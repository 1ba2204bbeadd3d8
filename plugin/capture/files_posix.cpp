#ifndef _WIN32
#include "capture/capture_error.h"
#include "capture/files.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace stemline::capture {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t bufferBytes = 1 << 18;

[[noreturn]] void fail(const fs::path& path, int error) {
    if (error == ENOSPC || error == EDQUOT || error == EFBIG)
        throw CaptureError("DISK_FULL", "there is no room left for captures in " + path.parent_path().string());
    throw CaptureError("DISK_ERROR", path.string() + ": " + std::strerror(error));
}

int descriptor(std::intptr_t handle) noexcept { return static_cast<int>(handle); }

int openFile(const fs::path& path, int flags) noexcept {
    int opened = -1;
    do
        opened = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
    while (opened < 0 && errno == EINTR);
    return opened;
}

bool lockFile(int opened, int operation) noexcept {
    int result = -1;
    do
        result = ::flock(opened, operation);
    while (result != 0 && errno == EINTR);
    return result == 0;
}

/// 0 or what went wrong.
int sync(int opened) noexcept {
#ifdef __APPLE__
    // fsync leaves the data in the drive's own memory there.
    if (::fcntl(opened, F_FULLFSYNC) == 0)
        return 0;
#endif
    return ::fsync(opened) == 0 || errno == EINVAL ? 0 : errno; // EINVAL: a file system that knows no such thing
}

/// Whether the locked file is still the one with that name, and not one deleted while we waited.
bool stillThere(int opened) noexcept {
    struct stat found {};
    return ::fstat(opened, &found) == 0 && found.st_nlink > 0;
}

} // namespace

OutputFile::OutputFile(fs::path path) : path_(std::move(path)) {
    buffer_.reserve(bufferBytes);
    handle_ = openFile(path_, O_WRONLY | O_CREAT | O_TRUNC);
    if (handle_ < 0)
        fail(path_, errno);
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
        const ssize_t written = ::write(descriptor(handle_), bytes, size);
        if (written < 0 && errno != EINTR)
            fail(path_, errno);
        if (written > 0)
            bytes += written, size -= static_cast<std::size_t>(written);
    }
}

void OutputFile::finish() {
    flush();
    if (const int error = sync(descriptor(handle_)); error != 0)
        fail(path_, error);
    abandon();
}

void OutputFile::abandon() noexcept {
    if (handle_ >= 0)
        ::close(descriptor(std::exchange(handle_, -1)));
}

void syncFile(const fs::path& path) {
    const int opened = openFile(path, O_RDONLY);
    if (opened < 0)
        fail(path, errno);
    const int error = sync(opened);
    ::close(opened);
    if (error != 0)
        fail(path, error);
}

void moveInto(const fs::path& from, const fs::path& to) {
    if (::rename(from.c_str(), to.c_str()) != 0)
        fail(to, errno);
    const int folder = openFile(to.parent_path(), O_RDONLY | O_DIRECTORY);
    if (folder < 0)
        return; // it has its name; only a power cut could still take that back
    ::fsync(folder);
    ::close(folder);
}

std::optional<FileLock> FileLock::shared(const fs::path& path) {
    const int opened = openFile(path, O_RDONLY);
    if (opened < 0)
        return std::nullopt;
    FileLock lock(opened);
    if (!lockFile(opened, LOCK_SH) || !stillThere(opened))
        return std::nullopt;
    return lock;
}

FileLock FileLock::alone(const fs::path& path) {
    while (true) {
        const int opened = openFile(path, O_RDWR | O_CREAT);
        if (opened < 0)
            fail(path, errno);
        FileLock lock(opened);
        if (!lockFile(opened, LOCK_EX))
            fail(path, errno);
        if (stillThere(opened))
            return lock;
    }
}

std::optional<FileLock> FileLock::aloneIfFree(const fs::path& path) {
    const int opened = openFile(path, O_RDONLY);
    if (opened < 0)
        return std::nullopt;
    FileLock lock(opened);
    if (!lockFile(opened, LOCK_EX | LOCK_NB) || !stillThere(opened))
        return std::nullopt;
    return lock;
}

FileLock::FileLock(FileLock&& other) noexcept : handle_(std::exchange(other.handle_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
}

FileLock::~FileLock() {
    if (handle_ >= 0)
        ::close(descriptor(handle_)); // which unlocks
}

std::shared_ptr<const MappedFile> MappedFile::open(const fs::path& path) {
    std::optional<FileLock> lock = FileLock::shared(path);
    const std::shared_ptr<MappedFile> mapped = lock ? map(*lock) : nullptr;
    if (mapped != nullptr)
        mapped->lock_ = std::move(lock);
    return mapped;
}

std::shared_ptr<const MappedFile> MappedFile::openFree(const fs::path& path) {
    const FileLock file(openFile(path, O_RDONLY));
    return map(file);
}

std::shared_ptr<MappedFile> MappedFile::map(const FileLock& file) {
    struct stat found {};
    const int opened = descriptor(file.handle_);
    if (opened < 0 || ::fstat(opened, &found) != 0 || found.st_size <= 0)
        return nullptr;
    const auto size = static_cast<std::size_t>(found.st_size);
    void* const data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, opened, 0);
    if (data == MAP_FAILED)
        return nullptr;
    return std::shared_ptr<MappedFile>(new MappedFile(static_cast<const std::byte*>(data), size));
}

MappedFile::~MappedFile() { ::munmap(const_cast<std::byte*>(data_), size_); }

void touch(const void* data, std::size_t size) noexcept {
    if (size == 0)
        return;
    static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const auto address = reinterpret_cast<std::uintptr_t>(data);
    const std::uintptr_t first = address - address % page;
    ::madvise(reinterpret_cast<void*>(first), address + size - first, MADV_WILLNEED); // reads ahead in large pieces
    volatile std::byte sum{};
    for (std::uintptr_t at = first; at < address + size; at += page)
        sum = *reinterpret_cast<const volatile std::byte*>(at);
    (void)sum;
}

std::string uniqueName() {
    std::string name = std::to_string(::getpid()) + "-";
    unsigned char bytes[8];
    if (::getentropy(bytes, sizeof bytes) != 0)
        throw CaptureError("DISK_ERROR", "no random numbers on this computer");
    for (const unsigned char byte : bytes)
        name.append(1, "0123456789abcdef"[byte >> 4]).append(1, "0123456789abcdef"[byte & 15]);
    return name;
}

} // namespace stemline::capture
#endif
