// SPDX-License-Identifier: BSL-1.0
// malloc-style calls over one region, under names of one's own. The caller of free does not say how
// large a block is, so the block has to: 16 bytes before it hold its size.
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <new>

#include <strata/strata.hpp>

// [explicit]
constexpr std::size_t region_bytes = std::size_t{1} << 20;
alignas(64) static std::byte region_memory[region_bytes];
static strata::best_fit_resource region{std::pmr::null_memory_resource()}; // assigned in main
// With threads: strata::synchronized_best_fit_resource, or synchronized<…, your_lock>.

constexpr std::size_t header_bytes = 16; // keeps the block behind it aligned

void* my_malloc(std::size_t bytes) {
    if (bytes > region_bytes)
        return nullptr;
    try {
        auto* const block = static_cast<std::byte*>(region.allocate(header_bytes + bytes));
        ::new (block) std::size_t{bytes};
        return block + header_bytes;
    } catch (std::bad_alloc const&) {
        return nullptr;
    }
}

std::byte* block_of(void* p) {
    return static_cast<std::byte*>(p) - header_bytes;
}
std::size_t bytes_of(void* p) {
    std::size_t bytes = 0;
    std::memcpy(&bytes, block_of(p), sizeof bytes);
    return bytes;
}

void my_free(void* p) {
    if (p != nullptr)
        region.deallocate(block_of(p), header_bytes + bytes_of(p));
}

void* my_realloc(void* p, std::size_t bytes) {
    if (p == nullptr)
        return my_malloc(bytes);
    if (bytes > region_bytes)
        return nullptr;
    try {
        void* const block =
            region.reallocate(block_of(p), header_bytes + bytes_of(p), header_bytes + bytes);
        if (block == nullptr)
            return nullptr; // p was no live block; that was reported
        ::new (block) std::size_t{bytes};
        return static_cast<std::byte*>(block) + header_bytes;
    } catch (std::bad_alloc const&) {
        return nullptr; // p is still valid
    }
}
// [explicit]

int main() {
    region.assign(region_memory, region_bytes);

    // As documented: allocate some, free them in an arbitrary order; one free block remains.
    void* const a = my_malloc(100);
    void* const b = my_malloc(50);
    void* const c = my_malloc(100);
    void* const d = my_malloc(60);
    my_free(b);
    my_free(c);
    my_free(a);
    my_free(d);
    bool const whole = region.stats().free_blocks == 1;
    std::cout << region.stats().free_bytes << " of " << region_bytes << " bytes in "
              << region.stats().free_blocks << " free block\n";

    char* text = static_cast<char*>(my_malloc(6));
    std::strcpy(text, "hello");
    text = static_cast<char*>(my_realloc(text, 100000));
    bool const kept = std::strcmp(text, "hello") == 0;
    bool const limited = my_malloc(region_bytes) == nullptr;
    my_free(text);
    std::cout << (kept && limited ? "reallocated, and bounded\n" : "wrong\n");
    return whole && kept && limited ? EXIT_SUCCESS : EXIT_FAILURE;
}
