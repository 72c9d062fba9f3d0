// SPDX-License-Identifier: BSL-1.0

// General-purpose allocators, loaded beside the program's own malloc and not instead of it: each
// library is opened with RTLD_LOCAL and called through pointers, so that containers, the benchmark
// itself and the upstreams stay on the C library's heap. What was loaded is put to the test.

#include "candidates.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>
#include <optional>
#include <string_view>

#include <dlfcn.h>
#include <malloc.h>
#include <unistd.h>

namespace strata::bench {

namespace {

// One library's functions, by name. A missing one makes the whole library missing.
class shared_library {
  public:
    explicit shared_library(char const* file) : handle_{::dlopen(file, RTLD_NOW | RTLD_LOCAL)} {
        if (handle_ == nullptr)
            error_ = ::dlerror();
    }

    template <class Function>
    void find(Function*& function, char const* name) {
        void* const symbol = handle_ != nullptr ? ::dlsym(handle_, name) : nullptr;
        function = reinterpret_cast<Function*>(symbol);
        if (symbol == nullptr && error_.empty())
            error_ = std::string{"no "} + name;
    }
    [[nodiscard]] std::string const& error() const { return error_; }

  private:
    void* handle_; // kept open: its memory may outlive any one resource
    std::string error_;
};

// Each library: plain(bytes), aligned(bytes, alignment over 16), free(p, bytes), and
// free_aligned(p, bytes, alignment over 16), by size where the library has such a call, and realloc.

struct mimalloc {
    static constexpr char const* name = "mimalloc";
    static constexpr char const* file = "libmimalloc.so.2";
    static constexpr char const* about = "mi_malloc, mi_free";
    static inline void* (*plain)(std::size_t);
    static inline void* (*malloc_aligned)(std::size_t, std::size_t);
    static inline void (*free_any)(void*);
    static inline void* (*realloc)(void*, std::size_t);

    static void load(shared_library& from) {
        from.find(realloc, "mi_realloc");
        from.find(plain, "mi_malloc");
        from.find(malloc_aligned, "mi_malloc_aligned");
        from.find(free_any, "mi_free");
    }
    // Version 2.0.9 misaligns blocks whose size is a multiple of an alignment of 256 or more.
    static void* aligned(std::size_t bytes, std::size_t alignment) {
        return malloc_aligned(bytes | 1, alignment);
    }
    static void free(void* p, std::size_t) { free_any(p); }
    static void free_aligned(void* p, std::size_t, std::size_t) { free_any(p); }
};

struct jemalloc {
    static constexpr char const* name = "jemalloc";
    static constexpr char const* file = "libjemalloc.so.2";
    static constexpr char const* about = "its malloc, sdallocx";
    static inline void* (*plain)(std::size_t);
    static inline void* (*aligned_alloc)(std::size_t, std::size_t);
    static inline void (*sdallocx)(void*, std::size_t, int);
    static inline void* (*realloc)(void*, std::size_t);

    static void load(shared_library& from) {
        from.find(realloc, "realloc");
        from.find(plain, "malloc");
        from.find(aligned_alloc, "aligned_alloc");
        from.find(sdallocx, "sdallocx");
    }
    static void* aligned(std::size_t bytes, std::size_t alignment) {
        return aligned_alloc(alignment, bytes);
    }
    static void free(void* p, std::size_t bytes) { sdallocx(p, bytes, 0); }
    static void free_aligned(void* p, std::size_t bytes, std::size_t alignment) {
        sdallocx(p, bytes, std::countr_zero(alignment)); // MALLOCX_ALIGN(alignment)
    }
};

struct tcmalloc {
    static constexpr char const* name = "tcmalloc";
    static constexpr char const* file = "libtcmalloc_minimal.so.4";
    static constexpr char const* about = "gperftools' tc_malloc, tc_free_sized";
    static inline void* (*plain)(std::size_t);
    static inline void* (*memalign)(std::size_t, std::size_t);
    static inline void (*free_any)(void*);
    static inline void (*free_sized)(void*, std::size_t);
    static inline void* (*realloc)(void*, std::size_t);

    static void load(shared_library& from) {
        from.find(realloc, "tc_realloc");
        from.find(plain, "tc_malloc");
        from.find(memalign, "tc_memalign");
        from.find(free_any, "tc_free");
        from.find(free_sized, "tc_free_sized");
    }
    static void* aligned(std::size_t bytes, std::size_t alignment) {
        return memalign(alignment, bytes);
    }
    static void free(void* p, std::size_t bytes) { free_sized(p, bytes); }
    static void free_aligned(void* p, std::size_t, std::size_t) { free_any(p); }
};

struct tbb {
    static constexpr char const* name = "oneTBB";
    static constexpr char const* file = "libtbbmalloc.so.2";
    static constexpr char const* about = "scalable_malloc, scalable_free";
    static inline void* (*plain)(std::size_t);
    static inline void* (*aligned)(std::size_t, std::size_t);
    static inline void (*free_plain)(void*);
    static inline void (*free_other)(void*);
    static inline void* (*realloc)(void*, std::size_t);

    static void load(shared_library& from) {
        from.find(realloc, "scalable_realloc");
        from.find(plain, "scalable_malloc");
        from.find(aligned, "scalable_aligned_malloc");
        from.find(free_plain, "scalable_free");
        from.find(free_other, "scalable_aligned_free");
    }
    static void free(void* p, std::size_t) { free_plain(p); }
    static void free_aligned(void* p, std::size_t, std::size_t) { free_other(p); }
};

template <class Library>
class malloc_resource final : public std::pmr::memory_resource, public reallocating {
  public:
    void* reallocate(void* p, std::size_t, std::size_t new_bytes) override {
        void* const moved = Library::realloc(p, rounded(new_bytes, 16));
        if (moved == nullptr)
            throw std::bad_alloc{};
        return moved;
    }

  private:
    // Below 16 bytes these libraries align to the size alone.
    static std::size_t rounded(std::size_t bytes, std::size_t alignment) {
        return bytes < alignment && alignment <= 16 ? alignment : std::max<std::size_t>(bytes, 1);
    }
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        bytes = rounded(bytes, alignment);
        void* const p =
            alignment <= 16 ? Library::plain(bytes) : Library::aligned(bytes, alignment);
        if (p == nullptr)
            throw std::bad_alloc{};
        return p;
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        bytes = rounded(bytes, alignment);
        if (alignment <= 16)
            Library::free(p, bytes);
        else
            Library::free_aligned(p, bytes, alignment);
    }
    bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }
};

std::string file_of(void* symbol) {
    Dl_info info{};
    return ::dladdr(symbol, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}

// Returns: what is wrong with a library that has been loaded, or nothing: its functions must be its
// own, the program's malloc must be the one that was there before, and must not serve its blocks.
template <class Library>
std::optional<std::string> intrusion(void* program_malloc) {
    if (file_of(reinterpret_cast<void*>(Library::plain)).find(Library::file) == std::string::npos)
        return "its functions are another library's";
    if (::dlsym(RTLD_DEFAULT, "malloc") != program_malloc)
        return "it replaced the program's malloc";
    constexpr std::size_t bytes = 65536;
    std::size_t const before = ::mallinfo2().uordblks;
    malloc_resource<Library> heap;
    void* const p = heap.allocate(bytes, 16);
    std::size_t const after = ::mallinfo2().uordblks;
    heap.deallocate(p, bytes, 16);
    if (after - before >= bytes)
        return "its blocks come from the program's malloc";
    return std::nullopt;
}

template <class Library>
void add(candidates& list, std::vector<std::string>& missing) {
    void* const program_malloc = ::dlsym(RTLD_DEFAULT, "malloc");
    shared_library library{Library::file};
    Library::load(library);
    std::optional<std::string> error;
    if (!library.error().empty())
        error = library.error();
    else
        error = intrusion<Library>(program_malloc);
    if (error) {
        missing.push_back(std::string{Library::name} + ": " + *error);
        return;
    }
    list.push_back({.name = Library::name,
                    .about = std::string{Library::about} + ", of " + Library::file,
                    .thread_safe = true,
                    .has_own_heap = true,
                    .upstream_tells = false,
                    .make = [](needs const&, std::pmr::memory_resource*) {
                        return make_resource<malloc_resource<Library>>();
                    }});
}

} // namespace

void add_mallocs(candidates& list, std::vector<std::string>& missing) {
    add<mimalloc>(list, missing);
    add<jemalloc>(list, missing);
    add<tcmalloc>(list, missing);
    add<tbb>(list, missing);
}

void make_room_for_thread_locals(char** argv) {
    constexpr char const* variable = "GLIBC_TUNABLES";
    constexpr std::string_view room = "glibc.rtld.optional_static_tls=";
    char const* const set = std::getenv(variable);
    std::string tunables = set != nullptr ? set : "";
    if (tunables.find(room) != std::string::npos)
        return;
    tunables += (tunables.empty() ? "" : ":") + std::string{room} + "16384";
    ::setenv(variable, tunables.c_str(), 1);
    ::execv("/proc/self/exe", argv); // where that fails, a library or two will be missing
}

} // namespace strata::bench
