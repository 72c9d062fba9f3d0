// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE dll_arena
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <list>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#include <strata/detail/annotate.hpp>
#include <strata/dll_arena_resource.hpp>

#include "support/counting_upstream.hpp"
#include "support/misuse_recorder.hpp"
#include "support/seed.hpp"

using strata::basic_dll_arena_resource;
using strata::dll_arena_resource;
using strata::misuse_kind;
using strata::detail::redzone_bytes;
using strata::test::counting_upstream;
using strata::test::misuse_recorder;

namespace {

constinit dll_arena_resource static_arena{};

template <class Arena>
std::vector<long> picture(Arena const& arena) {
    std::vector<long> blocks;
    arena.visit_blocks([&](strata::block_info const& b) {
        blocks.push_back(b.live ? static_cast<long>(b.bytes) : -static_cast<long>(b.bytes));
    });
    return blocks;
}

template <class Arena>
bool is_one_free_block(Arena const& arena) {
    return picture(arena) == std::vector<long>{-static_cast<long>(arena.capacity_bytes())} &&
           arena.stats().largest_free_bytes == arena.capacity_bytes() && arena.check_invariants();
}

// Fills an arena with blocks of random sizes and frees every other one.
template <class Arena>
std::vector<std::pair<std::byte*, std::size_t>> litter(Arena& arena, std::mt19937_64& random) {
    std::vector<std::pair<std::byte*, std::size_t>> live;
    for (int i = 0; i < 200; ++i) {
        std::size_t const bytes = 1 + random() % 300;
        auto* const p = static_cast<std::byte*>(arena.allocate(bytes, 8));
        std::memset(p, static_cast<int>(bytes % 251), bytes);
        live.emplace_back(p, bytes);
    }
    for (std::size_t i = 0; i < live.size(); ++i) {
        arena.deallocate(live[i].first, live[i].second, 8);
        live.erase(live.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return live;
}

} // namespace

BOOST_AUTO_TEST_SUITE(dll_arena)

BOOST_AUTO_TEST_CASE(a_static_arena_is_ready_before_any_constructor_and_asks_nobody) {
    void* const p = static_arena.allocate(100, 8);
    BOOST_TEST(static_arena.owns(p));
    BOOST_TEST((static_cast<void*>(&static_arena) < p && p < &static_arena + 1));
    BOOST_TEST(static_arena.capacity_bytes() == 65536u);
    static_arena.deallocate(p, 100, 8);
    BOOST_TEST(is_one_free_block(static_arena));
}

BOOST_AUTO_TEST_CASE(upstream_is_not_touched_until_the_arena_is_full) {
    counting_upstream upstream;
    {
        dll_arena_resource arena{&upstream};
        std::vector<void*> blocks;
        for (int i = 0; i < 512; ++i)
            blocks.push_back(arena.allocate(128));
        BOOST_TEST(upstream.allocations() == 0u);
        BOOST_TEST(arena.stats().free_bytes == 0u);
        blocks.push_back(arena.allocate(128));
        BOOST_TEST(!arena.owns(blocks.back()));
        BOOST_TEST(arena.stats().upstream_live_blocks == 1u);
        for (void* p : blocks)
            arena.deallocate(p, 128);
        BOOST_TEST(is_one_free_block(arena));
    }
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(without_upstream_the_arena_is_the_limit) {
    dll_arena_resource arena{std::pmr::null_memory_resource()};
    void* const all = arena.allocate(65536);
    BOOST_CHECK_THROW(static_cast<void>(arena.allocate(1)), std::bad_alloc);
    arena.deallocate(all, 65536);
    BOOST_CHECK_THROW(static_cast<void>(arena.allocate(65537)), std::bad_alloc);
    BOOST_TEST(is_one_free_block(arena));
}

BOOST_AUTO_TEST_CASE(live_chunks_cost_bits_and_nothing_else) {
    dll_arena_resource arena;
    auto const empty = arena.stats();
    for (int i = 0; i < 1000; ++i)
        static_cast<void>(arena.allocate(24, 8));
    BOOST_TEST(arena.stats().live_bytes == 24000u);
    BOOST_TEST(arena.stats().overhead_bytes == empty.overhead_bytes);
    BOOST_TEST(empty.overhead_bytes <= 65536u / 32 + 64);
}

BOOST_AUTO_TEST_CASE(every_size_fits_or_goes_upstream) {
    auto const arena = std::make_unique<dll_arena_resource>();
    for (std::size_t bytes = 0; bytes <= 65537; ++bytes) {
        void* const p = arena->allocate(bytes, 8);
        BOOST_REQUIRE(arena->owns(p) == (bytes <= 65536));
        BOOST_REQUIRE(arena->stats().live_bytes == arena->good_size(bytes, 8));
        BOOST_REQUIRE(arena->good_size(bytes, 8) - bytes < 8u + (bytes == 0 ? 1u : 0u));
        arena->deallocate(p, bytes, 8);
        BOOST_REQUIRE(is_one_free_block(*arena));
    }
}

// Wherever the arena itself lies: a place that is so aligned is found where there is one.
BOOST_AUTO_TEST_CASE(every_alignment_is_kept_inside_the_arena) {
    auto const arena = std::make_unique<dll_arena_resource>();
    void const* const base = arena->image().places.base();
    for (std::size_t alignment = 1; alignment <= 131072; alignment *= 2) {
        std::size_t const gap = (0 - strata::detail::address_of(base)) & (alignment - 1);
        for (std::size_t bytes : {std::size_t{0}, std::size_t{1}, alignment - 1, alignment,
                                  alignment + 1, alignment * 3 / 2, 65536 - gap, 65537 - gap}) {
            if (bytes > 70000)
                continue;
            void* const p = arena->allocate(bytes, alignment);
            bool const fits = gap + arena->good_size(bytes, alignment) <= 65536;
            BOOST_REQUIRE(arena->owns(p) == fits);
            BOOST_REQUIRE(strata::detail::is_aligned(p, alignment));
            BOOST_REQUIRE(arena->check_invariants());
            arena->deallocate(p, bytes, alignment);
            BOOST_REQUIRE(is_one_free_block(*arena));
        }
    }
}

BOOST_AUTO_TEST_CASE(over_aligned_blocks_leave_both_ends_free) {
    auto const arena = std::make_unique<dll_arena_resource>();
    std::vector<std::pair<void*, std::size_t>> blocks;
    for (std::size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        blocks.emplace_back(arena->allocate(40, alignment), alignment);
        BOOST_TEST(arena->owns(blocks.back().first));
        BOOST_TEST(arena->check_invariants());
    }
    BOOST_TEST(arena->stats().live_bytes == 13u * 40u);
    for (auto const& [p, alignment] : blocks)
        arena->deallocate(p, 40, alignment);
    BOOST_TEST(is_one_free_block(*arena));
}

BOOST_AUTO_TEST_CASE(neighbours_coalesce_in_every_order) {
    for (std::size_t n = 1; n <= 8; ++n) {
        basic_dll_arena_resource<512> arena;
        std::vector<std::size_t> order(n);
        std::iota(order.begin(), order.end(), 0u);
        do {
            std::array<void*, 8> blocks{};
            for (std::size_t i = 0; i < n; ++i)
                blocks[i] = arena.allocate(8 * (i + 1), 8);
            void* const behind = arena.allocate(8, 8); // else top is their neighbour
            for (std::size_t i : order)
                arena.deallocate(blocks[i], 8 * (i + 1), 8);
            BOOST_REQUIRE(arena.stats().free_blocks == 2u);
            arena.deallocate(behind, 8, 8);
            for (std::size_t i = 0; i < n; ++i)
                blocks[i] = arena.allocate(8 * (i + 1), 8);
            for (std::size_t i : order)
                arena.deallocate(blocks[i], 8 * (i + 1), 8);
            BOOST_REQUIRE(is_one_free_block(arena));
        } while (std::next_permutation(order.begin(), order.end()));
    }
}

// All ways to cut ten granules into blocks, and of each all ways to free some of them: every request
// that one free block can hold is served, no other is; then all is freed.
BOOST_AUTO_TEST_CASE(every_state_of_a_small_arena_serves_what_fits) {
    constexpr unsigned n = 10;
    basic_dll_arena_resource<n * 4, std::uint8_t> arena{std::pmr::null_memory_resource()};
    BOOST_TEST(arena.granule_bytes == 4u);
    std::array<std::pair<void*, std::size_t>, n> blocks{};
    for (unsigned cuts = 0; cuts < 1u << (n - 1); ++cuts) { // a 1 ends a block
        std::size_t const count = static_cast<std::size_t>(std::popcount(cuts)) + 1;
        for (unsigned freed = 0; freed < 1u << count; ++freed) {
            std::size_t i = 0;
            for (unsigned at = 0, bytes = 4; at < n; ++at, bytes += 4) {
                if (at < n - 1 && (cuts >> at & 1) == 0)
                    continue;
                blocks[i++] = {arena.allocate(bytes, 4), bytes};
                bytes = 0;
            }
            std::size_t run = 0;
            std::size_t longest = 0;
            for (i = 0; i < count; ++i) {
                run = (freed >> i & 1) != 0 ? run + blocks[i].second : 0;
                longest = std::max(longest, run);
                if ((freed >> i & 1) != 0)
                    arena.deallocate(blocks[i].first, blocks[i].second, 4);
            }
            BOOST_REQUIRE(arena.check_invariants());
            BOOST_REQUIRE(arena.stats().largest_free_bytes == longest);
            if (longest != 0)
                arena.deallocate(arena.allocate(longest, 4), longest, 4);
            BOOST_REQUIRE_THROW(static_cast<void>(arena.allocate(longest + 1, 4)), std::bad_alloc);
            for (i = count; i-- > 0;)
                if ((freed >> i & 1) == 0)
                    arena.deallocate(blocks[i].first, blocks[i].second, 4);
            BOOST_REQUIRE(is_one_free_block(arena));
        }
    }
}

// 254 granules are the most that an index of 8 bits counts.
BOOST_AUTO_TEST_CASE(the_narrowest_index_serves_its_largest_arena) {
    basic_dll_arena_resource<254 * 4, std::uint8_t> arena{std::pmr::null_memory_resource()};
    std::array<void*, 254> blocks{};
    for (std::size_t size = 1; size <= blocks.size(); ++size) { // in granules
        std::size_t const count = blocks.size() / size;
        for (std::size_t i = 0; i < count; ++i)
            blocks[i] = arena.allocate(4 * size, 4);
        BOOST_REQUIRE(arena.stats().free_bytes == arena.capacity_bytes() - 4 * size * count);
        for (std::size_t odd : {1u, 0u})
            for (std::size_t i = odd; i < count; i += 2)
                arena.deallocate(blocks[i], 4 * size, 4);
        BOOST_REQUIRE(is_one_free_block(arena));
    }
}

BOOST_AUTO_TEST_CASE(of_a_buffer_no_more_is_used_than_its_index_counts) {
    alignas(64) std::array<std::byte, 2000> memory;
    basic_dll_arena_resource<0, std::uint8_t> arena{memory.data(), memory.size(),
                                                    std::pmr::null_memory_resource()};
    BOOST_TEST(arena.capacity_bytes() == 254u * 4);
    std::array<void*, 254> blocks{};
    for (void*& p : blocks)
        p = arena.allocate(4, 4);
    arena.deallocate(blocks[100], 4, 4);
    BOOST_TEST(arena.stats().free_bytes == 4u);
    BOOST_TEST(arena.check_invariants());
}

BOOST_AUTO_TEST_CASE(wider_indices_reach_further) {
    using wide = basic_dll_arena_resource<std::size_t{4} << 20, std::uint32_t>;
    auto const arena = std::make_unique<wide>(std::pmr::null_memory_resource());
    void* const p = arena->allocate(std::size_t{3} << 20);
    void* const q = arena->allocate(std::size_t{1} << 20);
    BOOST_TEST((arena->owns(p) && arena->owns(q)));
    arena->deallocate(p, std::size_t{3} << 20);
    arena->deallocate(q, std::size_t{1} << 20);
    BOOST_TEST(is_one_free_block(*arena));
    auto const middle = std::make_unique<basic_dll_arena_resource<std::size_t{256} << 10>>();
    BOOST_TEST(middle->capacity_bytes() == 262144u); // 16-bit indices beyond 64 KiB
}

BOOST_AUTO_TEST_CASE(the_storage_may_be_the_caller_s) {
    alignas(64) std::array<std::byte, 1100> memory;
    for (std::size_t skip = 0; skip < 20; ++skip) {
        basic_dll_arena_resource<0> arena{memory.data() + skip, 1000,
                                          std::pmr::null_memory_resource()};
        auto* const p = static_cast<std::byte*>(arena.allocate(arena.capacity_bytes(), 8));
        BOOST_TEST(arena.capacity_bytes() >= 1000u - 80u - redzone_bytes);
        BOOST_TEST((p >= memory.data() + skip &&
                    p + arena.capacity_bytes() <= memory.data() + skip + 1000));
        std::memset(p, 0xff, arena.capacity_bytes());
        arena.deallocate(p, arena.capacity_bytes(), 8);
        BOOST_TEST(is_one_free_block(arena));
        BOOST_TEST(arena.stats().footprint_bytes == 1000u);
    }
    std::size_t const least = 8 + redzone_bytes + 8; // granule, marks
    BOOST_CHECK_NO_THROW((basic_dll_arena_resource<0>{memory.data(), least}));
    BOOST_CHECK_THROW((basic_dll_arena_resource<0>{memory.data(), least - 1}),
                      std::invalid_argument);
    BOOST_CHECK_THROW((basic_dll_arena_resource<0>{nullptr, 1000}), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(an_image_is_an_arena_wherever_it_is_copied) {
    std::mt19937_64 random{strata::test::seed("dll_arena image")};
    auto const arena = std::make_unique<dll_arena_resource>();
    auto const live = litter(*arena, random);
    using image = dll_arena_resource::image_type;
    auto const copy = std::make_unique<image>();
    std::memcpy(static_cast<void*>(copy.get()), &arena->image(), sizeof(image));
    arena->release();
    BOOST_TEST((copy->broken_invariant() == nullptr));
    auto const there = [&](std::byte const* p) {
        return copy->places.base() + (p - arena->image().places.base());
    };
    for (auto const& one : live)
        BOOST_REQUIRE(std::all_of(there(one.first), there(one.first) + one.second,
                                  [&](std::byte b) { return b == std::byte(one.second % 251); }));
    std::vector<void*> more;
    for (int i = 0; i < 50; ++i)
        more.push_back(copy->allocate(80, 16));
    for (auto const& [p, bytes] : live)
        BOOST_REQUIRE(copy->deallocate(there(p), bytes, 8));
    for (void* p : more)
        BOOST_REQUIRE(copy->deallocate(p, 80, 16));
    BOOST_TEST((copy->broken_invariant() == nullptr));
    strata::statistics s;
    copy->add_to(s);
    BOOST_TEST(s.largest_free_bytes == 65536u);
    BOOST_TEST(is_one_free_block(*arena));
}

// As many chunks of one bin as 64 KiB have room for, and only the one behind all others will do.
BOOST_AUTO_TEST_CASE(a_nearly_full_arena_is_searched_further) {
    dll_arena_resource arena{std::pmr::null_memory_resource()};
    void* const large = arena.allocate(8 * 71, 8);
    std::vector<void*> holes;
    static_cast<void>(arena.allocate(8, 8));
    while (arena.stats().largest_free_bytes >= 8 * 65) {
        holes.push_back(arena.allocate(8 * 64, 8));
        static_cast<void>(arena.allocate(8, 8));
    }
    static_cast<void>(arena.allocate(arena.stats().largest_free_bytes, 8));
    arena.deallocate(large, 8 * 71, 8);
    for (void* p : holes)
        arena.deallocate(p, 8 * 64, 8);
    BOOST_TEST(holes.size() == 124u);
    BOOST_TEST(arena.stats().free_blocks == 125u);
    BOOST_TEST(arena.stats().largest_free_bytes == 8u * 71u);
    BOOST_TEST(arena.allocate(8 * 70, 8) == large);
}

// 32-bit indices: where more chunks of one bin are tried than is allowed, what the statistics name
// as the largest request is one that is served.
BOOST_AUTO_TEST_CASE(the_largest_free_block_is_one_that_can_be_had) {
    using wide = basic_dll_arena_resource<std::size_t{1} << 20, std::uint32_t>;
    auto const arena = std::make_unique<wide>(std::pmr::null_memory_resource());
    std::vector<std::pair<void*, std::size_t>> blocks;
    for (std::size_t i = 0; i < 500; ++i) { // the largest first, so that they are last in the list
        std::size_t const bytes = 16 * (i < 100 ? 71u : 64 + i % 4);
        blocks.emplace_back(arena->allocate(bytes), bytes);
        static_cast<void>(arena->allocate(16));
    }
    static_cast<void>(arena->allocate(arena->stats().largest_free_bytes));
    for (auto const& [p, bytes] : blocks)
        arena->deallocate(p, bytes);
    BOOST_TEST(arena->stats().free_blocks == 500u);
    while (arena->stats().largest_free_bytes != 0)
        static_cast<void>(arena->allocate(arena->stats().largest_free_bytes, 16));
    BOOST_TEST(arena->stats().free_bytes == 0u);
}

// More chunks of the request's own bin are too small than are tried.
BOOST_AUTO_TEST_CASE(a_later_bin_serves_whatever_is_too_small) {
    using wide = basic_dll_arena_resource<std::size_t{1} << 20, std::uint32_t>;
    auto const arena = std::make_unique<wide>(std::pmr::null_memory_resource());
    void* const large = arena->allocate(std::size_t{16} * 500);
    static_cast<void>(arena->allocate(16));
    std::vector<void*> small;
    for (int i = 0; i < 300; ++i) {
        small.push_back(arena->allocate(std::size_t{16} * 64));
        static_cast<void>(arena->allocate(16));
    }
    static_cast<void>(arena->allocate(arena->stats().largest_free_bytes));
    arena->deallocate(large, std::size_t{16} * 500);
    for (void* p : small)
        arena->deallocate(p, std::size_t{16} * 64);
    BOOST_TEST(arena->allocate(std::size_t{16} * 70) == large);
}

// A hundred chunks are large enough, but only one, at the end of their list, lies right.
BOOST_AUTO_TEST_CASE(an_aligned_request_finds_the_one_place_that_is_aligned) {
    auto const arena = std::make_unique<dll_arena_resource>(std::pmr::null_memory_resource());
    for (std::size_t alignment : {16u, 64u, 256u}) {
        std::vector<std::byte*> granules(8192);
        for (std::byte*& p : granules)
            p = static_cast<std::byte*>(arena->allocate(8, 8));
        auto const free_three = [&](std::size_t first) {
            for (std::size_t i = 0; i < 3; ++i)
                arena->deallocate(granules[first + i], 8, 8);
        };
        std::size_t const step = std::max<std::size_t>(alignment / 8, 4);
        std::size_t const aligned =
            ((0 - strata::detail::address_of(granules[0])) & (alignment - 1)) / 8;
        free_three(aligned + 110 * step);
        for (std::size_t i = 0; i < 100; ++i)
            free_three(aligned + i * step + 1);
        BOOST_TEST(arena->stats().free_blocks == 101u);
        BOOST_TEST(arena->allocate(24, alignment) == granules[aligned + 110 * step]);
        BOOST_CHECK_THROW(static_cast<void>(arena->allocate(24, alignment)), std::bad_alloc);
        BOOST_TEST(arena->check_invariants());
        arena->release();
    }
}

// Of the chunks of that size none lies right; a larger one does, but not from its start on.
BOOST_AUTO_TEST_CASE(an_aligned_request_finds_its_place_within_a_larger_chunk) {
    auto const arena = std::make_unique<dll_arena_resource>(std::pmr::null_memory_resource());
    for (std::size_t alignment : {64u, 256u}) {
        std::vector<std::byte*> granules(8192);
        for (std::byte*& p : granules)
            p = static_cast<std::byte*>(arena->allocate(8, 8));
        auto const free_some = [&](std::size_t first, std::size_t count) {
            for (std::size_t i = 0; i < count; ++i)
                arena->deallocate(granules[first + i], 8, 8);
        };
        std::size_t const step = alignment / 8;
        std::size_t const aligned =
            ((0 - strata::detail::address_of(granules[0])) & (alignment - 1)) / 8;
        for (std::size_t i = 0; i < 10; ++i)
            free_some(aligned + i * step + 1, 3);
        free_some(aligned + 20 * step - 1, 5);
        BOOST_TEST(arena->allocate(24, alignment) == granules[aligned + 20 * step]);
        BOOST_TEST(arena->check_invariants());
        arena->release();
    }
}

BOOST_AUTO_TEST_CASE(misuse_is_named_and_changes_nothing) {
    misuse_recorder recorder;
    dll_arena_resource arena;
    auto* const p = static_cast<std::byte*>(arena.allocate(100, 8));
    auto* const q = static_cast<std::byte*>(arena.allocate(200, 8));
    auto* const r = static_cast<std::byte*>(arena.allocate(100, 8));
    arena.deallocate(q, 200, 8);
    auto const before = arena.stats();
    auto const expect = [&](void* address, std::size_t bytes, misuse_kind kind) {
        arena.deallocate(address, bytes, 8);
        auto const heard = recorder.take();
        BOOST_REQUIRE(heard.size() == 1u);
        BOOST_TEST((heard[0].kind == kind), strata::to_string(heard[0].kind));
        BOOST_TEST((arena.stats() == before));
        BOOST_TEST(arena.check_invariants());
    };
    for (int i = 0; i < 1000; ++i)
        expect(q, 200, misuse_kind::double_free);
    expect(r + 104, 8, misuse_kind::double_free); // in what was never handed out
    for (std::size_t offset : {1u, 8u, 16u, 96u})
        expect(p + offset, 8, misuse_kind::misaligned_pointer);
    for (std::size_t bytes : {8u, 96u, 105u, 112u, 304u, 408u, 100000u})
        expect(p, bytes, misuse_kind::size_mismatch);
    BOOST_TEST((arena.try_deallocate(r, 100, 64) == misuse_kind::alignment_mismatch));
    BOOST_TEST((arena.stats() == before));
    expect(&arena, 100, misuse_kind::foreign_pointer);
    int a_local = 0;
    expect(&a_local, 4, misuse_kind::foreign_pointer);
}

BOOST_AUTO_TEST_CASE(random_operations_agree_with_a_model) {
    struct block {
        unsigned char* p;
        std::size_t bytes;
        std::size_t alignment;
        unsigned char fill;
    };
    std::mt19937_64 random{strata::test::seed("dll_arena model")};
    auto const below = [&](std::size_t n) { return random() % n; };
    counting_upstream upstream;
    auto const arena = std::make_unique<dll_arena_resource>(&upstream);
    std::vector<block> live;
    for (int step = 0; step < 20000; ++step) {
        bool const grow = below(1000) < (step / 2500 % 2 == 0 ? 650u : 350u);
        if (grow || live.empty()) {
            std::size_t const bytes = below(std::size_t{2} << below(12));
            std::size_t const alignment = below(4) == 0 ? std::size_t{1} << below(10) : 8;
            auto* const p = static_cast<unsigned char*>(arena->allocate(bytes, alignment));
            BOOST_REQUIRE(strata::detail::is_aligned(p, alignment));
            live.push_back({p, bytes, alignment, static_cast<unsigned char>(below(256))});
            std::fill_n(p, bytes, live.back().fill);
        } else {
            std::swap(live[below(live.size())], live.back());
            block const b = live.back();
            live.pop_back();
            BOOST_REQUIRE(std::all_of(b.p, b.p + b.bytes, [&](auto c) { return c == b.fill; }));
            BOOST_REQUIRE(!arena->try_deallocate(b.p, b.bytes, b.alignment));
            BOOST_REQUIRE(arena->try_deallocate(b.p, b.bytes, b.alignment));
        }
        BOOST_REQUIRE(arena->check_invariants());
        if (step % 16 == 0) {
            auto const s = arena->stats();
            BOOST_REQUIRE(s.live_blocks == live.size());
            std::size_t requested = 0;
            for (block const& b : live)
                requested += b.bytes;
            BOOST_REQUIRE(s.requested_bytes >= requested); // upstream is asked for at least 1
            BOOST_REQUIRE(s.requested_bytes <= requested + s.upstream_live_blocks);
            BOOST_REQUIRE(s.footprint_bytes - sizeof(dll_arena_resource::places_type) ==
                          upstream.live_bytes());
        }
    }
    arena->release();
    BOOST_TEST(upstream.settled());
    BOOST_TEST(is_one_free_block(*arena));
}

BOOST_AUTO_TEST_SUITE_END()
