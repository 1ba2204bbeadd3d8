// Preloaded into the console host: what the audio thread must not do, seen by standing in front of the C library.
//
// `stemline_watch(true)` begins for the calling thread; from then on each allocation, lock or wait of that thread is
// counted, and the first of them remembered. System calls are watched by a seccomp filter in the host itself.

#include <atomic>
#include <cstddef>
#include <cstring>
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <semaphore.h>

namespace {

thread_local bool watched = false;
std::atomic<int> offences{0};
char firstOffence[64];
void* firstTrace[32];
std::atomic<int> firstDepth{0};

void note(const char* name) {
    if (!watched)
        return;
    watched = false; // what follows allocates
    if (offences.fetch_add(1) == 0) {
        std::strncpy(firstOffence, name, sizeof firstOffence - 1);
        firstDepth = backtrace(firstTrace, 32);
    }
    watched = true;
}

template <class Function> Function* next(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

// dlsym itself may call calloc before anything is there to answer it.
alignas(16) char early[65536];
std::size_t earlyUsed = 0;
bool resolving = false;

void* earlyBytes(std::size_t size) {
    void* bytes = early + earlyUsed;
    earlyUsed += (size + 15) & ~std::size_t{15};
    return earlyUsed <= sizeof early ? bytes : nullptr;
}

} // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void stemline_watch(bool on) { watched = on; }
EXPORT int stemline_offences() { return offences; }
EXPORT const char* stemline_first_offence() { return firstOffence; }
EXPORT void stemline_print_first_offence() { backtrace_symbols_fd(firstTrace, firstDepth, 2); }

EXPORT void* malloc(std::size_t size) {
    note("malloc");
    static void* (*real)(std::size_t) = nullptr;
    if (real == nullptr) {
        if (resolving)
            return earlyBytes(size);
        resolving = true;
        real = next<void*(std::size_t)>("malloc");
        resolving = false;
    }
    return real(size);
}
EXPORT void* calloc(std::size_t count, std::size_t size) {
    note("calloc");
    static void* (*real)(std::size_t, std::size_t) = nullptr;
    if (real == nullptr) {
        if (resolving)
            return earlyBytes(count * size); // static memory: already zero
        resolving = true;
        real = next<void*(std::size_t, std::size_t)>("calloc");
        resolving = false;
    }
    return real(count, size);
}
EXPORT void* realloc(void* bytes, std::size_t size) {
    note("realloc");
    static auto real = next<void*(void*, std::size_t)>("realloc");
    return real(bytes, size);
}
EXPORT void free(void* bytes) {
    if (bytes >= early && bytes < early + sizeof early)
        return;
    if (bytes != nullptr)
        note("free");
    static auto real = next<void(void*)>("free");
    real(bytes);
}
EXPORT int posix_memalign(void** bytes, std::size_t alignment, std::size_t size) {
    note("posix_memalign");
    static auto real = next<int(void**, std::size_t, std::size_t)>("posix_memalign");
    return real(bytes, alignment, size);
}
EXPORT void* aligned_alloc(std::size_t alignment, std::size_t size) {
    note("aligned_alloc");
    static auto real = next<void*(std::size_t, std::size_t)>("aligned_alloc");
    return real(alignment, size);
}
EXPORT int pthread_mutex_lock(pthread_mutex_t* mutex) {
    note("pthread_mutex_lock");
    static auto real = next<int(pthread_mutex_t*)>("pthread_mutex_lock");
    return real(mutex);
}
EXPORT int pthread_mutex_trylock(pthread_mutex_t* mutex) {
    note("pthread_mutex_trylock");
    static auto real = next<int(pthread_mutex_t*)>("pthread_mutex_trylock");
    return real(mutex);
}
EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t* lock) {
    note("pthread_rwlock_rdlock");
    static auto real = next<int(pthread_rwlock_t*)>("pthread_rwlock_rdlock");
    return real(lock);
}
EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t* lock) {
    note("pthread_rwlock_wrlock");
    static auto real = next<int(pthread_rwlock_t*)>("pthread_rwlock_wrlock");
    return real(lock);
}
EXPORT int pthread_cond_signal(pthread_cond_t* condition) {
    note("pthread_cond_signal");
    static auto real = next<int(pthread_cond_t*)>("pthread_cond_signal");
    return real(condition);
}
EXPORT int pthread_cond_broadcast(pthread_cond_t* condition) {
    note("pthread_cond_broadcast");
    static auto real = next<int(pthread_cond_t*)>("pthread_cond_broadcast");
    return real(condition);
}
EXPORT int sem_wait(sem_t* semaphore) {
    note("sem_wait");
    static auto real = next<int(sem_t*)>("sem_wait");
    return real(semaphore);
}
EXPORT int sem_post(sem_t* semaphore) {
    note("sem_post");
    static auto real = next<int(sem_t*)>("sem_post");
    return real(semaphore);
}
