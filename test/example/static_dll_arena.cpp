// SPDX-License-Identifier: BSL-1.0
// A static arena that never touches the heap: for code that must not, or cannot. Proved by counting
// every call of operator new and malloc's kin that the program makes while it works in the arena.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <map>
#include <memory_resource>
#include <new>
#include <string>

#include <strata/strata.hpp>

namespace {
std::size_t heap_calls = 0;
}

void* operator new(std::size_t bytes) {
    ++heap_calls;
    if (void* const p = std::malloc(bytes != 0 ? bytes : 1))
        return p;
    throw std::bad_alloc{};
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    ++heap_calls;
    auto const a = static_cast<std::size_t>(alignment);
    if (void* const p = std::aligned_alloc(a, (bytes + a) / a * a))
        return p;
    throw std::bad_alloc{};
}
void operator delete(void* p) noexcept {
    std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
    std::free(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
    std::free(p);
}
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
    std::free(p);
}

// [static]
constinit strata::dll_arena_resource arena; // 64 KiB, ready before main, no heap

int work() {
    std::pmr::map<int, std::pmr::string> names{&arena};
    std::pmr::list<int> queue{&arena};
    for (int i = 0; i < 200; ++i) {
        names[i % 50] = "a name that is too long for the string itself";
        queue.push_back(i);
        if (queue.size() > 20)
            queue.pop_front();
    }
    return static_cast<int>(names.size() + queue.size());
}
// [static]

int main() {
    std::size_t const before = heap_calls;
    int const result = work();
    std::size_t const during = heap_calls - before;
    auto const after = arena.stats();
    std::printf("result %d, %zu heap calls, arena: %zu of %zu bytes free\n", result, during,
                after.free_bytes, arena.capacity_bytes());
    // That the counter counts:
    { std::list<int> const on_the_heap{1, 2, 3}; }
    bool const counts = heap_calls == before + during + 3;
    return result == 70 && during == 0 && counts && after.free_bytes == arena.capacity_bytes()
               ? EXIT_SUCCESS
               : EXIT_FAILURE;
}
