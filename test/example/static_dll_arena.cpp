// SPDX-License-Identifier: BSL-1.0
// A static arena that never touches the heap: for code that must not, or cannot. Proved by counting
// every call of malloc and its kin, and so of operator new, that the program makes while it works in
// the arena. Ends with 0 when there was none: it runs as a test.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <map>
#include <memory_resource>
#include <string>

#include <strata/strata.hpp>

namespace {
constinit std::size_t heap_calls = 0;
}

// The program's own malloc, before the C library's, which glibc offers under these names too.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t bytes) {
    ++heap_calls;
    return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) {
    ++heap_calls;
    return __libc_calloc(count, bytes);
}
void* realloc(void* p, std::size_t bytes) {
    ++heap_calls;
    return __libc_realloc(p, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
    ++heap_calls;
    return __libc_memalign(alignment, bytes);
}
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
    { std::list<int> const on_the_heap{1, 2, 3}; }
    bool const counts = heap_calls - before - during == 3; // the counter does count
    auto const after = arena.stats();
    std::printf("result %d, %zu heap calls, arena: %zu of %zu bytes free\n", result, during,
                after.free_bytes, arena.capacity_bytes());
    return result == 70 && during == 0 && counts && after.free_bytes == arena.capacity_bytes()
               ? EXIT_SUCCESS
               : EXIT_FAILURE;
}
