#include "capture/capture_store.h"

#include "capture/capture_error.h"
#include "client/hashes.h"

#include <algorithm>
#include <cstdlib>
#include <system_error>
#include <vector>

namespace stemline::capture {

namespace fs = std::filesystem;

namespace {

constexpr const char* infoName = "info";

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string() : std::string(value);
}

/// What lies under one name: a source's file, or a folder of stems.
struct Object {
    fs::path root; // of the store
    fs::path path;
    fs::path token; // the file that users lock, and whose time tells when the object was opened last
    std::uint64_t bytes = 0;
    fs::file_time_type time;
};

/// Goes on where others delete meanwhile: what is not there any more needs no room.
void addFile(Object& object, const fs::path& file) {
    std::error_code error;
    const std::uintmax_t bytes = fs::file_size(file, error);
    if (error)
        return;
    object.bytes += bytes;
}

void findObjects(const fs::path& root, std::vector<Object>& objects) {
    std::error_code error;
    const std::size_t before = objects.size();
    for (const fs::directory_entry& entry : fs::directory_iterator(root / "source", error))
        addFile(objects.emplace_back(Object{root, entry.path(), entry.path(), 0, {}}), entry.path());
    for (const fs::directory_entry& entry : fs::directory_iterator(root / "stems", error)) {
        Object& object = objects.emplace_back(Object{root, entry.path(), entry.path() / infoName, 0, {}});
        for (const fs::directory_entry& file : fs::directory_iterator(entry.path(), error))
            addFile(object, file.path());
    }
    for (std::size_t index = before; index < objects.size(); ++index)
        objects[index].time = fs::last_write_time(objects[index].token, error);
}

std::vector<Object> findObjects(const std::vector<fs::path>& roots) {
    std::vector<Object> objects;
    for (const fs::path& root : roots)
        findObjects(root, objects);
    return objects;
}

/// False if anybody uses it: of stems, who uses them holds the info.
bool remove(const Object& object) {
    const std::optional<FileLock> lock = FileLock::aloneIfFree(object.token);
    std::error_code error;
    if (!lock && fs::exists(object.token, error))
        return false;
    fs::remove_all(object.path, error);
    return !error;
}

void markUsed(const fs::path& file) {
    std::error_code error; // a store that one may only read works, too
    fs::last_write_time(file, fs::file_time_type::clock::now(), error);
}

std::size_t bytesOf(std::int64_t frames, int channels) {
    return static_cast<std::size_t>(frames) * static_cast<std::size_t>(channels) * sizeof(float);
}

/// How an info file begins: what has to be there for the object to be whole. `stems`: names, each after a space.
std::string infoHead(std::int64_t frames, int channels) {
    return "stemline-stems 1\nframes " + std::to_string(frames) + "\nchannels " + std::to_string(channels) + "\nstems";
}

/// The rest is for people.
std::string infoRest(const StemsRecipe& recipe) {
    return "\nrate " + std::to_string(recipe.rateHz) + "\nsource " + recipe.source + "\nmodel " + recipe.model +
           "\nweights " + recipe.weightsSha256 + "\nsteps " + std::to_string(recipe.refinerSteps) + "\nseed " +
           std::to_string(recipe.seed) + '\n';
}

/// The line of names, with a space before each and one behind the last.
std::optional<std::string> namesIn(const MappedFile& info, std::int64_t frames, int channels) {
    std::string_view text(reinterpret_cast<const char*>(info.data()), info.size());
    const std::string head = infoHead(frames, channels);
    if (!text.starts_with(head))
        return std::nullopt;
    text.remove_prefix(head.size());
    return std::string(text.substr(0, text.find('\n'))) + ' ';
}

/// Reads no further than the first sound.
bool isSilent(const fs::path& file) {
    const std::shared_ptr<const MappedFile> mapped = MappedFile::openFree(file);
    if (mapped == nullptr)
        return false;
    const std::size_t count = mapped->size() / sizeof(float);
    return std::all_of(mapped->samples(), mapped->samples() + count, [](float sample) { return sample == 0.0f; });
}

fs::path sourceIn(const fs::path& root, const std::string& sha256) { return root / "source" / (sha256 + ".f32"); }

/// Of a folder that may be there no more, or for reading only, nothing is deleted.
std::optional<FileLock> lockIfPossible(const fs::path& root) {
    try {
        return FileLock::alone(root / "lock");
    } catch (const CaptureError&) {
        return std::nullopt;
    }
}

fs::path stemFile(const fs::path& folder, int stem) {
    return folder / (std::string(stemName(static_cast<Stem>(stem))) + ".f32");
}

} // namespace

std::string StemsRecipe::key() const {
    // Sizes before what has any length, so that no two recipes read the same.
    client::Sha256 hash;
    for (const std::string& text : {source, weightsSha256, model})
        hash.update(std::to_string(text.size()) + ':' + text);
    hash.update(std::to_string(refinerSteps) + ' ' + std::to_string(seed) + ' ' + std::to_string(rateHz) + ' ' +
                std::to_string(channels));
    return client::hex(hash.finish());
}

Workspace::Workspace(fs::path folder, fs::path lockPath)
    : folder_(std::move(folder)), lockPath_(std::move(lockPath)), lock_(FileLock::alone(lockPath_)) {}

Workspace::~Workspace() {
    std::error_code error;
    fs::remove_all(folder_, error);
    fs::remove(lockPath_, error);
}

std::vector<fs::path> StoreFolders::all() const {
    const auto real = [](const fs::path& path) {
        std::error_code error;
        const fs::path found = fs::weakly_canonical(path, error);
        return error ? path : found;
    };
    std::vector<fs::path> folders{root}, known{real(root)};
    for (const fs::path& folder : earlier) {
        if (std::find(known.begin(), known.end(), real(folder)) != known.end())
            continue;
        folders.push_back(folder);
        known.push_back(real(folder));
    }
    return folders;
}

CaptureStore::CaptureStore(StoreFolders folders, std::uint64_t capBytes)
    : folders_(std::move(folders)), all_(folders_.all()), capBytes_(capBytes) {
    try {
        makeFolders();
        clearUnfinished();
    } catch (const CaptureError&) { // said to whoever wants to write
    }
}

void CaptureStore::requireWritable() {
    const std::unique_ptr<Workspace> proof = workspace();
    OutputFile file(proof->folder() / "proof");
    file.write("proof", 5);
    file.close();
}

void CaptureStore::makeFolders() const {
    std::error_code error;
    const bool isNew = fs::create_directories(root_, error);
    if (isNew)
        fs::permissions(root_, fs::perms::owner_all, error); // what somebody records is nobody else's business
    for (const char* name : {"source", "stems", "unfinished"}) {
        fs::create_directories(root_ / name, error);
        if (error)
            throw CaptureError("DISK_ERROR", "captures cannot be kept in " + root_.string() + " (" + error.message() +
                                                 "): choose another folder in the settings");
    }
}

void CaptureStore::clearUnfinished() {
    const FileLock alone = FileLock::alone(root_ / "lock");
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(root_ / "unfinished", error)) {
        if (entry.path().extension() != ".lock")
            continue;
        const std::optional<FileLock> dead = FileLock::aloneIfFree(entry.path());
        if (!dead)
            continue;
        std::error_code ignored;
        fs::remove_all(fs::path(entry.path()).replace_extension(), ignored);
        fs::remove(entry.path(), ignored);
    }
}

std::unique_ptr<Workspace> CaptureStore::workspace() {
    makeFolders();                                          // somebody may have cleared up by hand
    const FileLock alone = FileLock::alone(root_ / "lock"); // or others would take it for a dead one's
    const fs::path folder = root_ / "unfinished" / uniqueName();
    std::unique_ptr<Workspace> made(new Workspace(folder, fs::path(folder).concat(".lock")));
    std::error_code error;
    if (!fs::create_directory(folder, error))
        throw CaptureError(error == std::errc::no_space_on_device ? "DISK_FULL" : "DISK_ERROR",
                           "cannot write to " + folder.string() + ": " + error.message());
    return made;
}

std::shared_ptr<const MappedFile> CaptureStore::addSource(const fs::path& file, const std::string& sha256) {
    std::shared_ptr<const MappedFile> added = MappedFile::open(file);
    if (added == nullptr)
        throw CaptureError("OBJECT_MISSING", file.string() + " has gone, or is empty");
    const fs::path place = sourcePath(sha256);
    std::shared_ptr<const MappedFile> there = MappedFile::open(place);
    if (there != nullptr && there->size() == added->size()) {
        std::error_code error;
        fs::remove(file, error);
        markUsed(place);
        return there;
    }
    moveInto(file, place);
    trim();
    return added;
}

std::shared_ptr<const MappedFile> CaptureStore::source(const std::string& sha256, std::int64_t frames, int channels) {
    for (const fs::path& root : all_) {
        const fs::path place = sourceIn(root, sha256);
        std::shared_ptr<const MappedFile> found = MappedFile::open(place);
        if (found == nullptr || found->size() != bytesOf(frames, channels))
            continue;
        markUsed(place);
        return found;
    }
    return nullptr;
}

std::shared_ptr<const StoredStems> CaptureStore::addStems(const StemsRecipe& recipe, std::int64_t frames,
                                                          const fs::path& folder) {
    std::string text = infoHead(frames, recipe.channels);
    for (int stem = 0; stem < numStems; ++stem) {
        const fs::path file = stemFile(folder, stem);
        std::error_code error;
        if (!fs::exists(file, error))
            continue;
        if (fs::file_size(file, error) != bytesOf(frames, recipe.channels) || error)
            throw CaptureError("OBJECT_MISSING", file.string() + " is not whole");
        if (isSilent(file)) {
            fs::remove(file, error);
            continue;
        }
        syncFile(file);
        text.append(1, ' ').append(stemName(static_cast<Stem>(stem)));
    }
    text += infoRest(recipe);
    OutputFile info(folder / infoName);
    info.write(text.data(), text.size());
    info.finish();
    const fs::path place = stemsPath(recipe.key());
    {
        const FileLock alone = FileLock::alone(root_ / "lock");
        if (stems(recipe.key(), frames, recipe.channels) == nullptr) {
            std::error_code error;
            fs::remove_all(place, error);
            moveInto(folder, place);
        }
    }
    std::shared_ptr<const StoredStems> added = stems(recipe.key(), frames, recipe.channels);
    trim();
    return added;
}

std::shared_ptr<const StoredStems> CaptureStore::stems(const std::string& key, std::int64_t frames, int channels) {
    for (const fs::path& root : all_)
        if (auto found = stemsIn(root / "stems" / key, frames, channels))
            return found;
    return nullptr;
}

std::shared_ptr<const StoredStems> CaptureStore::stemsIn(const fs::path& folder, std::int64_t frames, int channels) {
    auto found = std::make_shared<StoredStems>();
    found->info = MappedFile::open(folder / infoName);
    const auto names = found->info ? namesIn(*found->info, frames, channels) : std::nullopt;
    if (!names)
        return nullptr;
    for (int stem = 0; stem < numStems; ++stem) {
        if (names->find(std::string(" ") + stemName(static_cast<Stem>(stem)) + ' ') == std::string::npos)
            continue;
        auto& mapped = found->files[static_cast<std::size_t>(stem)];
        mapped = MappedFile::openFree(stemFile(folder, stem));
        if (mapped == nullptr || mapped->size() != bytesOf(frames, channels))
            return nullptr;
    }
    markUsed(folder / infoName);
    return found;
}

void CaptureStore::trim() { trimTo(capBytes_.load()); }

void CaptureStore::clear() { trimTo(0); }

void CaptureStore::trimTo(std::uint64_t bytes) {
    std::vector<Object> objects = findObjects(all_);
    std::uint64_t total = 0;
    for (const Object& object : objects)
        total += object.bytes;
    std::sort(objects.begin(), objects.end(), [](const Object& a, const Object& b) { return a.time < b.time; });
    for (const Object& object : objects) {
        if (total <= bytes)
            return;
        // One folder's lock at a time: others may know the same folders in another order.
        const std::optional<FileLock> alone = lockIfPossible(object.root);
        if (alone && remove(object))
            total -= object.bytes;
    }
}

std::uint64_t CaptureStore::sizeBytes(const StoreFolders& folders) {
    std::uint64_t total = 0;
    for (const Object& object : findObjects(folders.all()))
        total += object.bytes;
    return total;
}

fs::path CaptureStore::sourcePath(const std::string& sha256) const { return sourceIn(root_, sha256); }
fs::path CaptureStore::stemsPath(const std::string& key) const { return root_ / "stems" / key; }

fs::path storeWithin(const fs::path& chosen) {
    constexpr const char* name = "Stemline captures";
    return chosen.filename() == name || chosen == defaultStoreRoot() ? chosen : chosen / name;
}

fs::path defaultStoreRoot() {
    if (const std::string home = environment("STEMLINE_HOME"); !home.empty())
        return fs::absolute(home) / "captures";
#if defined(_WIN32)
    return fs::path(environment("LOCALAPPDATA")) / "stemline" / "captures";
#elif defined(__APPLE__)
    return fs::path(environment("HOME")) / "Library/Application Support/stemline/captures";
#else
    const std::string data = environment("XDG_DATA_HOME");
    return (data.empty() ? fs::path(environment("HOME")) / ".local/share" : fs::path(data)) / "stemline" / "captures";
#endif
}

} // namespace stemline::capture
