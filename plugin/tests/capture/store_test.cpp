#include "capture/capture_error.h"
#include "parts.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>

using namespace stemline;
using namespace stemline::capture;
using namespace stemline::capture::tests;

namespace {

std::size_t filesIn(const fs::path& folder) {
    return static_cast<std::size_t>(std::distance(fs::recursive_directory_iterator(folder), {}));
}

void makeOlder(const fs::path& path, int hours) {
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(hours));
}

} // namespace

TEST_CASE("a source comes back by its digest, and only whole") {
    const Folder folder;
    CaptureStore store(folder.path / "store");
    const auto samples = noise(2000);
    const std::string sha = digest(samples);
    CHECK(store.source(sha, 1000, 2) == nullptr);
    REQUIRE(addSource(store, samples) != nullptr);
    const auto found = store.source(sha, 1000, 2);
    REQUIRE(found != nullptr);
    CHECK(std::string(reinterpret_cast<const char*>(found->data()), found->size()) == bytesOf(samples));
    CHECK(bytesOf(store.root() / "source" / (sha + ".f32")) == bytesOf(samples));
    CHECK(store.source(sha, 999, 2) == nullptr);
    addSource(store, samples); // once more: the same object
    CHECK(filesIn(store.root() / "source") == 1);
    CHECK(filesIn(store.root() / "unfinished") == 0);
    CHECK(store.sizeBytes() == 8000);
    fs::resize_file(store.root() / "source" / (sha + ".f32"), 7996);
    CHECK(store.source(sha, 1000, 2) == nullptr);
    addSource(store, samples); // repairs it
    CHECK(store.source(sha, 1000, 2) != nullptr);
}

TEST_CASE("every part of a recipe makes another key") {
    const StemsRecipe base = recipeFor("s");
    std::vector<StemsRecipe> recipes(8, base);
    recipes[1].source = "t";
    recipes[2].weightsSha256 = "v";
    recipes[3].model = "n";
    recipes[4].refinerSteps = 1;
    recipes[5].seed = 1;
    recipes[6].rateHz = 44100;
    recipes[7].channels = 1;
    std::set<std::string> keys;
    for (const StemsRecipe& recipe : recipes)
        keys.insert(recipe.key());
    CHECK(keys.size() == recipes.size());
    CHECK(StemsRecipe(base).key() == base.key());
}

TEST_CASE("stems come back by their key, and only all of them, whole") {
    const Folder folder;
    CaptureStore store(folder.path / "store");
    const auto samples = noise(2000);
    const std::string key = recipeFor(digest(samples)).key();
    const fs::path place = store.root() / "stems" / key;
    REQUIRE(addStems(store, samples) != nullptr);
    const auto found = store.stems(key, 1000, 2);
    REQUIRE(found != nullptr);
    CHECK(found->files[static_cast<std::size_t>(Stem::piano)] == nullptr);
    CHECK(found->files[static_cast<std::size_t>(Stem::bass)]->samples()[17] == samples[17] * shareOf(1));
    CHECK(store.stems(key, 1000, 1) == nullptr);
    CHECK(store.stems(key, 1001, 2) == nullptr);

    SECTION("a stem cut off") { fs::resize_file(place / "vocals.f32", 100); }
    SECTION("a stem gone, which does not make it a silent one") { fs::remove(place / "vocals.f32"); }
    SECTION("no info") { fs::remove(place / "info"); }
    SECTION("half an info") { fs::resize_file(place / "info", 20); }
    CHECK(store.stems(key, 1000, 2) == nullptr);
    CHECK(addStems(store, samples) != nullptr); // repairs it
    CHECK(store.stems(key, 1000, 2) != nullptr);
}

TEST_CASE("a stem of zeros takes no room and is silent") {
    const Folder folder;
    CaptureStore store(folder.path / "store");
    const auto workspace = store.workspace();
    std::vector<float> samples(2000);
    write(workspace->folder() / "drums.f32", bytesOf(samples));
    samples.back() = 1e-20f;
    write(workspace->folder() / "bass.f32", bytesOf(samples));
    const auto stems = store.addStems(recipeFor("s"), 1000, workspace->folder());
    REQUIRE(stems != nullptr);
    CHECK(stems->files[static_cast<std::size_t>(Stem::drums)] == nullptr);
    CHECK(stems->files[static_cast<std::size_t>(Stem::bass)] != nullptr);
    CHECK(filesIn(store.root() / "stems") == 3); // a folder, the bass, and the info
}

TEST_CASE("clearing deletes all but what is open, a smaller cap what is over it") {
    const Folder folder;
    CaptureStore store(folder.path / "store");
    const auto open = addSource(store, noise(2000, 1));
    addSource(store, noise(2000, 2));
    addStems(store, noise(2000, 2));
    store.setCap(20000);
    store.trim();
    CHECK(store.sizeBytes() <= 20000);
    store.clear();
    CHECK(store.sizeBytes() == 8000);
    CHECK(store.source(digest(noise(2000, 1)), 1000, 2) != nullptr);
}

TEST_CASE("stems that do not fit their source are refused") {
    const Folder folder;
    CaptureStore store(folder.path / "store");
    const auto workspace = store.workspace();
    write(workspace->folder() / "bass.f32", bytesOf(noise(100)));
    CHECK_THROWS_AS(store.addStems(recipeFor("s"), 51, workspace->folder()), CaptureError);
    CHECK(store.stems(recipeFor("s").key(), 51, 2) == nullptr);
}

TEST_CASE("over the cap the oldest go, and what is open stays") {
    const Folder folder;
    const auto first = noise(2000, 1), second = noise(2000, 2), third = noise(2000, 3);
    CaptureStore store(folder.path / "store", 3 * 8000);
    for (const auto* samples : {&first, &second, &third})
        addSource(store, *samples);
    const auto path = [&store](const std::vector<float>& samples) {
        return store.root() / "source" / (digest(samples) + ".f32");
    };
    makeOlder(path(first), 3);
    makeOlder(path(second), 2);
    makeOlder(path(third), 1);

    SECTION("oldest first") {
        addSource(store, noise(2000, 4));
        CHECK_FALSE(fs::exists(path(first)));
        CHECK(fs::exists(path(second)));
    }
    SECTION("opening counts as use") {
        store.source(digest(first), 1000, 2);
        addSource(store, noise(2000, 4));
        CHECK(fs::exists(path(first)));
        CHECK_FALSE(fs::exists(path(second)));
    }
    SECTION("what is open stays, here and in another process") {
        const auto open = store.source(digest(first), 1000, 2);
        makeOlder(path(first), 3);
        int ready[2], done[2];
        REQUIRE((::pipe(ready) == 0 && ::pipe(done) == 0));
        const pid_t child = ::fork();
        if (child == 0) {
            const auto theirs = store.source(digest(second), 1000, 2);
            makeOlder(path(second), 2);
            char c = theirs != nullptr ? 'y' : 'n';
            (void)!::write(ready[1], &c, 1);
            (void)!::read(done[0], &c, 1);
            ::_exit(0);
        }
        char answer = 0;
        REQUIRE(::read(ready[0], &answer, 1) == 1);
        REQUIRE(answer == 'y');
        addSource(store, noise(2000, 4));
        CHECK(fs::exists(path(first)));
        CHECK(fs::exists(path(second)));
        CHECK_FALSE(fs::exists(path(third)));
        REQUIRE(::write(done[1], "x", 1) == 1);
        ::waitpid(child, nullptr, 0);
    }
    SECTION("stems go as a whole, and their memory stays with who has them") {
        const auto stems = addStems(store, noise(200, 5)); // 6 files of 800 bytes
        makeOlder(store.root() / "stems" / recipeFor(digest(noise(200, 5))).key() / "info", 9);
        const fs::path place = store.root() / "stems" / recipeFor(digest(noise(200, 5))).key();
        addSource(store, noise(2000, 6));
        CHECK(fs::exists(place / "vocals.f32"));
    }
    SECTION("stems that nobody has go as a whole") {
        addStems(store, noise(200, 5));
        const fs::path place = store.root() / "stems" / recipeFor(digest(noise(200, 5))).key();
        makeOlder(place / "info", 9);
        addSource(store, noise(2000, 6));
        CHECK_FALSE(fs::exists(place));
    }
    CHECK(store.sizeBytes() <= 3 * 8000 + 6 * 1000);
}

TEST_CASE("what dead processes left unfinished is cleared away, what living ones work on is not") {
    const Folder folder;
    const fs::path root = folder.path / "store";
    CaptureStore store(root);
    const auto mine = store.workspace();
    write(mine->folder() / "a", "x");
    REQUIRE(inChild([&store] {
                const auto workspace = store.workspace();
                write(workspace->folder() / "b", "x");
                ::raise(SIGKILL);
                return 0;
            }) == -SIGKILL);
    REQUIRE(filesIn(root / "unfinished") == 6); // two folders, two files in them, two locks
    const CaptureStore next(root);
    CHECK(filesIn(root / "unfinished") == 3);
    CHECK(bytesOf(mine->folder() / "a") == "x");
}

TEST_CASE("many processes put the same objects into one store and all find them") {
    const Folder folder;
    const fs::path root = folder.path / "store";
    std::vector<pid_t> children;
    for (int child = 0; child < 4; ++child) {
        children.push_back(::fork());
        if (children.back() != 0)
            continue;
        bool good = true;
        try {
            for (unsigned round = 0; round < 10; ++round) {
                CaptureStore store(root, 200000);
                const auto samples = noise(2000, round);
                const Piece piece = addPiece(store, samples, 0);
                const auto added = addSource(store, samples);
                const auto stems = addStems(store, samples);
                good = good && stems != nullptr && added->samples()[1999] == samples[1999] &&
                       stems->files[0]->samples()[1999] == samples[1999] * shareOf(0);
            }
        } catch (...) {
            good = false;
        }
        ::_exit(good ? 0 : 1);
    }
    for (const pid_t child : children) {
        int status = 0;
        ::waitpid(child, &status, 0);
        CHECK(status == 0);
    }
    CaptureStore store(root, 200000);
    CHECK(filesIn(root / "unfinished") == 0);
    store.trim();
    CHECK(store.sizeBytes() <= 200000);
}

TEST_CASE("on a full disk the store says so and keeps nothing of it") {
    const Folder folder;
    const fs::path root = folder.path / "store";
    CaptureStore store(root);
    addSource(store, noise(100));
    CHECK(inChild([&store] {
              limitFiles(10000);
              try {
                  addSource(store, noise(100000));
              } catch (const CaptureError& error) {
                  return error.reason == "DISK_FULL" ? 0 : 1;
              }
              return 2;
          }) == 0);
    CHECK(filesIn(root / "source") == 1);
    CHECK(filesIn(root / "unfinished") == 0);
}

TEST_CASE("a store that somebody deleted by hand is made again") {
    const Folder folder;
    CaptureStore store(folder.path / "store");
    addSource(store, noise(2000));
    fs::remove_all(store.root());
    CHECK(store.sizeBytes() == 0);
    CHECK(store.source(digest(noise(2000)), 1000, 2) == nullptr);
    CHECK(addSource(store, noise(2000)) != nullptr);
    CHECK(store.sizeBytes() == 8000);
    CHECK((fs::status(store.root()).permissions() & (fs::perms::group_all | fs::perms::others_all)) == fs::perms::none);
}

TEST_CASE("a store that cannot be made says so to who wants to write, and what lies elsewhere is still found") {
    const Folder folder;
    write(folder.path / "file", "x");
    const fs::path nowhere = folder.path / "file" / "store";
    CaptureStore before(folder.path / "before");
    const Piece piece = addPiece(before, noise(2000), 0);
    before.requireWritable();
    CHECK(filesIn(before.root() / "unfinished") == 0);

    CaptureStore store(StoreFolders{nowhere, {before.root()}});
    CHECK_THROWS_AS(store.requireWritable(), CaptureError);
    CHECK_THROWS_AS(addSource(store, noise(100)), CaptureError);
    CHECK(store.source(piece.source, 1000, 2) != nullptr);
    CHECK(store.stems(piece.stems, 1000, 2) != nullptr);
    try {
        store.requireWritable();
    } catch (const CaptureError& error) {
        CHECK(std::string(error.what()).find(nowhere.string()) != std::string::npos);
        CHECK(std::string(error.what()).find("settings") != std::string::npos);
    }
}

TEST_CASE("a store in another folder finds what lies in the earlier ones, and adds to its own") {
    const Folder folder;
    const fs::path first = folder.path / "first", second = folder.path / "second";
    CaptureStore old(first);
    const Piece piece = addPiece(old, noise(2000), 0);
    CaptureStore store(StoreFolders{second, {first, folder.path / "unplugged"}});
    CHECK(store.source(piece.source, 1000, 2) != nullptr);
    CHECK(store.stems(piece.stems, 1000, 2) != nullptr);
    addSource(store, noise(2000, 2));
    CHECK(fs::exists(second / "source" / (digest(noise(2000, 2)) + ".f32")));
    CHECK_FALSE(fs::exists(folder.path / "unplugged"));
    CHECK(store.sizeBytes() == old.sizeBytes() + 8000);

    makeOlder(first / "source" / (piece.source + ".f32"), 2);
    store.setCap(store.sizeBytes() - 1);
    store.trim(); // the limit is one for all of them, and the oldest goes wherever it lies
    CHECK(store.source(piece.source, 1000, 2) == nullptr);
    CHECK(store.source(digest(noise(2000, 2)), 1000, 2) != nullptr);
    store.clear();
    CHECK(store.sizeBytes() == 0);
}

TEST_CASE("a folder that is named twice is counted once") {
    const Folder folder;
    CaptureStore store(
        StoreFolders{folder.path / "store", {folder.path / "store", folder.path / "x" / ".." / "store"}});
    addSource(store, noise(2000));
    CHECK(store.sizeBytes() == 8000);
    fs::create_directory_symlink(folder.path / "store", folder.path / "link");
    CHECK(CaptureStore::sizeBytes({folder.path / "store", {folder.path / "link"}}) == 8000);
}

TEST_CASE("the store never takes a chosen folder's own files for its objects") {
    CHECK(storeWithin("/home/me/Music") == fs::path("/home/me/Music/Stemline captures"));
    CHECK(storeWithin("/home/me/Music/Stemline captures") == fs::path("/home/me/Music/Stemline captures"));
    CHECK(storeWithin(defaultStoreRoot()) == defaultStoreRoot());
}

TEST_CASE("the store lies among the user's data, or where STEMLINE_HOME says") {
    CHECK(inChild([] {
              ::setenv("STEMLINE_HOME", "/a/b", 1);
              if (defaultStoreRoot() != "/a/b/captures")
                  return 1;
              ::unsetenv("STEMLINE_HOME");
#ifndef __APPLE__
              ::setenv("XDG_DATA_HOME", "/c", 1);
              if (defaultStoreRoot() != "/c/stemline/captures")
                  return 2;
              ::unsetenv("XDG_DATA_HOME");
              ::setenv("HOME", "/d", 1);
              if (defaultStoreRoot() != "/d/.local/share/stemline/captures")
                  return 3;
#endif
              return 0;
          }) == 0);
}
