// SPDX-License-Identifier: BSL-1.0
// The program's own malloc, over one region: every allocation of every library that it uses comes
// from 64 MiB of static memory. What does not fit fails, as on a machine of that size.
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <memory_resource>
#include <mutex>
#include <new>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <strata/strata.hpp>

namespace {

constexpr std::size_t region_bytes = std::size_t{64} << 20;
alignas(64) std::array<std::byte, region_bytes> region_memory; // .bss: untouched pages cost nothing

// null_memory_resource() is no constant, and the default, operator new, would call malloc again.
struct no_more final : std::pmr::memory_resource {
    void* do_allocate(std::size_t, std::size_t) override { throw std::bad_alloc{}; }
    void do_deallocate(void*, std::size_t, std::size_t) override {}
    bool do_is_equal(memory_resource const& other) const noexcept override {
        return this == &other;
    }
};
constinit no_more nowhere;

// Constant-initialised, since malloc is called before any constructor has run; never destroyed,
// since it is called after the last destructor too.
union immortal {
    constexpr immortal() : region{&nowhere} {}
    ~immortal() {}
    strata::best_fit_resource region;
};
constinit immortal heap;
constinit std::mutex lock;

// A full region throws, and a thrown object is itself allocated: by malloc, from within malloc. That
// inner call fails, and the C++ runtime falls back to its own reserve.
constinit thread_local bool inside_malloc = false;

// Before each block: what free must know. An over-aligned block begins so much later.
struct alignas(16) header {
    std::uint32_t granules; // of 16 bytes, what was taken from the region
    std::uint32_t alignment;
};

std::size_t whole_granules(std::size_t bytes) {
    return (bytes + 15) / 16 * 16;
}
std::size_t lead(std::size_t alignment) {
    return alignment > sizeof(header) ? alignment : sizeof(header);
}
header* header_of(void* p) {
    return static_cast<header*>(p) - 1;
}
std::byte* block_of(void* p) {
    return static_cast<std::byte*>(p) - lead(header_of(p)->alignment);
}
std::size_t block_bytes(void* p) {
    return header_of(p)->granules * std::size_t{16};
}
std::size_t usable_bytes(void* p) {
    return block_bytes(p) - lead(header_of(p)->alignment);
}

void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    if (inside_malloc || bytes > region_bytes || alignment > region_bytes) {
        errno = ENOMEM;
        return nullptr;
    }
    std::size_t const total = whole_granules(lead(alignment) + bytes);
    std::lock_guard const guard{lock};
    struct scope {
        scope() { inside_malloc = true; }
        ~scope() { inside_malloc = false; }
    } const inside;
    if (heap.region.capacity_bytes() == 0)
        heap.region.assign(region_memory.data(), region_bytes);
    try {
        auto* const block = static_cast<std::byte*>(heap.region.allocate(total, alignment));
        void* const p = block + lead(alignment);
        ::new (header_of(p))
            header{static_cast<std::uint32_t>(total / 16), static_cast<std::uint32_t>(alignment)};
        return p;
    } catch (std::bad_alloc const&) {
        errno = ENOMEM;
        return nullptr;
    }
}

bool resize_in_place(void* p, std::size_t bytes) noexcept {
    if (bytes > region_bytes)
        return false;
    header* const h = header_of(p);
    std::size_t const total = whole_granules(lead(h->alignment) + bytes);
    std::lock_guard const guard{lock};
    if (!heap.region.try_resize(block_of(p), block_bytes(p), total, h->alignment))
        return false;
    h->granules = static_cast<std::uint32_t>(total / 16);
    return true;
}

bool in_region(void const* p) {
    auto const* const byte = static_cast<std::byte const*>(p);
    return byte >= region_memory.data() && byte < region_memory.data() + region_bytes;
}

} // namespace

extern "C" {

void* malloc(std::size_t bytes) {
    return allocate(bytes, 16);
}

void free(void* p) {
    if (p == nullptr || !in_region(p))
        return;
    std::lock_guard const guard{lock};
    heap.region.deallocate(block_of(p), block_bytes(p), header_of(p)->alignment);
}

void* calloc(std::size_t count, std::size_t bytes) {
    if (bytes != 0 && count > region_bytes / bytes) {
        errno = ENOMEM;
        return nullptr;
    }
    void* const p = allocate(count * bytes, 16);
    return p != nullptr ? std::memset(p, 0, count * bytes) : nullptr;
}

void* realloc(void* p, std::size_t bytes) {
    if (p == nullptr)
        return malloc(bytes);
    if (resize_in_place(p, bytes))
        return p;
    void* const moved = malloc(bytes);
    if (moved == nullptr)
        return nullptr;
    std::memcpy(moved, p, bytes < usable_bytes(p) ? bytes : usable_bytes(p));
    free(p);
    return moved;
}

void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
    if (!std::has_single_bit(alignment)) {
        errno = EINVAL;
        return nullptr;
    }
    return allocate(bytes, alignment < 16 ? 16 : alignment);
}
void* memalign(std::size_t alignment, std::size_t bytes) {
    return aligned_alloc(alignment, bytes);
}
int posix_memalign(void** result, std::size_t alignment, std::size_t bytes) {
    if (!std::has_single_bit(alignment) || alignment < sizeof(void*))
        return EINVAL;
    void* const p = aligned_alloc(alignment, bytes);
    if (p == nullptr)
        return ENOMEM;
    *result = p;
    return 0;
}
std::size_t malloc_usable_size(void* p) {
    return p != nullptr ? usable_bytes(p) : 0;
}

} // extern "C"

int main() {
    std::atomic<bool> inside = true;
    auto const work = [&inside](int seed) {
        std::map<int, std::string> words;
        for (int i = 0; i < 2000; ++i)
            words[(i * seed) % 997] += " another word for this number";
        std::ostringstream text;
        for (auto const& [number, word] : words)
            text << number << word << '\n';
        std::string const copy = text.str();
        for (void const* p : {static_cast<void const*>(&words.begin()->second),
                              static_cast<void const*>(copy.data())})
            if (!in_region(p))
                inside = false;
    };
    std::vector<std::thread> threads;
    for (int seed = 1; seed <= 4; ++seed)
        threads.emplace_back(work, seed);
    for (std::thread& t : threads)
        t.join();

    void* const aligned = std::aligned_alloc(4096, 100);
    bool const on_page = reinterpret_cast<std::uintptr_t>(aligned) % 4096 == 0;
    std::free(aligned);
    void* refused = nullptr;
    bool const checked = ::posix_memalign(&refused, 24, 100) == EINVAL;

    auto* grown = static_cast<char*>(std::malloc(6));
    std::strcpy(grown, "hello");
    for (std::size_t bytes : {1000u, 1000000u, 10u})
        grown = static_cast<char*>(std::realloc(grown, bytes));
    bool const kept = std::strcmp(grown, "hello") == 0;
    std::free(grown);

    // A full region fails as a machine without memory does, and works again when there is some.
    bool bounded = false;
    try {
        std::vector<std::vector<char>> hoard;
        for (;;)
            hoard.emplace_back(std::size_t{1} << 20);
    } catch (std::bad_alloc const&) {
        bounded = true;
    }
    std::vector<char> const large(region_bytes / 2);

    lock.lock();
    bool const sound = heap.region.check_invariants();
    lock.unlock();
    std::cout << "all blocks inside the region: " << (inside && in_region(large.data()))
              << ", on a page: " << on_page << ", arguments checked: " << checked
              << ", contents kept: " << kept << ", bounded: " << bounded << ", sound: " << sound
              << std::endl;
    bool const all = inside && in_region(large.data()) && on_page && checked && kept && bounded;
    return all && sound ? EXIT_SUCCESS : EXIT_FAILURE;
}
