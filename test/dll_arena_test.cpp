// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE dll_arena
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <list>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#include <strata/dll_arena_resource.hpp>

#include "support/counting_upstream.hpp"
#include "support/misuse_recorder.hpp"
#include "support/seed.hpp"

using strata::basic_dll_arena_resource;
using strata::dll_arena_resource;
using strata::misuse_kind;
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
    for (std::size_t bytes = 0; bytes <= 65537; bytes += bytes < 2000 || bytes > 65000 ? 1 : 61) {
        void* const p = arena->allocate(bytes, 8);
        BOOST_REQUIRE(arena->owns(p) == (bytes <= 65536));
        BOOST_REQUIRE(arena->good_size(bytes, 8) >= bytes);
        arena->deallocate(p, bytes, 8);
    }
    BOOST_TEST(is_one_free_block(*arena));
}

BOOST_AUTO_TEST_CASE(every_alignment_is_kept_inside_the_arena) {
    auto const arena = std::make_unique<dll_arena_resource>();
    std::vector<std::pair<void*, std::size_t>> blocks;
    for (std::size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        for (std::size_t bytes : {1u, 24u, 100u}) {
            void* const p = arena->allocate(bytes, alignment);
            BOOST_TEST(arena->owns(p));
            BOOST_TEST(strata::detail::is_aligned(p, alignment));
            arena->deallocate(p, bytes, alignment);
        }
        blocks.emplace_back(arena->allocate(40, alignment), alignment);
        BOOST_TEST(arena->check_invariants());
    }
    for (auto const& [p, alignment] : blocks)
        arena->deallocate(p, 40, alignment);
    BOOST_TEST(is_one_free_block(*arena));
}

BOOST_AUTO_TEST_CASE(neighbours_coalesce_in_every_order) {
    constexpr std::size_t n = 7;
    basic_dll_arena_resource<512> arena;
    std::array<std::size_t, n> order{};
    std::iota(order.begin(), order.end(), 0u);
    do {
        std::array<void*, n> blocks{};
        for (std::size_t i = 0; i < n; ++i)
            blocks[i] = arena.allocate(8 * (i + 1), 8);
        for (std::size_t i : order)
            arena.deallocate(blocks[i], 8 * (i + 1), 8);
        BOOST_REQUIRE(is_one_free_block(arena));
    } while (std::next_permutation(order.begin(), order.end()));
}

// Each block is carved at each place of a small arena, with each neighbourhood: free or live.
BOOST_AUTO_TEST_CASE(small_arenas_of_narrow_indices_are_exhausted) {
    basic_dll_arena_resource<64, std::uint8_t> arena{std::pmr::null_memory_resource()};
    BOOST_TEST(arena.granule_bytes == 4u);
    for (unsigned cuts = 0; cuts < 1u << 15; cuts += 7) { // a 1 ends a block
        std::vector<std::pair<void*, std::size_t>> blocks;
        for (unsigned at = 0, bytes = 4; at < 16; ++at, bytes += 4) {
            if (at < 15 && (cuts >> at & 1) == 0)
                continue;
            blocks.emplace_back(arena.allocate(bytes, 4), bytes);
            bytes = 0;
        }
        BOOST_REQUIRE(arena.stats().free_bytes == 0u);
        for (std::size_t i = 0; i < blocks.size(); i += 2)
            arena.deallocate(blocks[i].first, blocks[i].second, 4);
        BOOST_REQUIRE(arena.check_invariants());
        for (std::size_t i = 1; i < blocks.size(); i += 2)
            arena.deallocate(blocks[i].first, blocks[i].second, 4);
        BOOST_REQUIRE(is_one_free_block(arena));
    }
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
        BOOST_TEST(arena.capacity_bytes() >= 1000u - 80u);
        BOOST_TEST((p >= memory.data() + skip &&
                    p + arena.capacity_bytes() <= memory.data() + skip + 1000));
        std::memset(p, 0xff, arena.capacity_bytes());
        arena.deallocate(p, arena.capacity_bytes(), 8);
        BOOST_TEST(is_one_free_block(arena));
        BOOST_TEST(arena.stats().footprint_bytes == 1000u);
    }
    BOOST_CHECK_THROW((basic_dll_arena_resource<0>{memory.data(), 20}), std::invalid_argument);
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
    std::ptrdiff_t const moved = reinterpret_cast<std::byte*>(copy.get()) -
                                 reinterpret_cast<std::byte const*>(&arena->image());
    for (auto const& [p, bytes] : live) {
        std::byte const* const there = p + moved;
        BOOST_REQUIRE(std::all_of(there, there + bytes,
                                  [&](std::byte b) { return b == std::byte(bytes % 251); }));
    }
    std::vector<void*> more;
    for (int i = 0; i < 50; ++i)
        more.push_back(copy->allocate(80, 16));
    for (auto const& [p, bytes] : live)
        BOOST_REQUIRE(copy->deallocate(p + moved, bytes, 8));
    for (void* p : more)
        BOOST_REQUIRE(copy->deallocate(p, 80, 16));
    BOOST_TEST((copy->broken_invariant() == nullptr));
    strata::statistics s;
    copy->add_to(s);
    BOOST_TEST(s.largest_free_bytes == 65536u);
    BOOST_TEST(is_one_free_block(*arena));
}

// A request for which only a chunk of its own bin is large enough finds it, behind others.
BOOST_AUTO_TEST_CASE(a_nearly_full_arena_is_searched_further) {
    dll_arena_resource arena{std::pmr::null_memory_resource()};
    void* const large = arena.allocate(8 * 71, 8);
    std::vector<void*> holes;
    std::vector<void*> fences{arena.allocate(8, 8)};
    for (int i = 0; i < 30; ++i) {
        holes.push_back(arena.allocate(8 * 65, 8));
        fences.push_back(arena.allocate(8, 8));
    }
    void* const rest = arena.allocate(arena.stats().largest_free_bytes, 8);
    arena.deallocate(large, 8 * 71, 8);
    for (void* p : holes)
        arena.deallocate(p, 8 * 65, 8);
    BOOST_TEST(arena.allocate(8 * 70, 8) == large);
    BOOST_TEST(arena.owns(rest));
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
            BOOST_REQUIRE(s.footprint_bytes - sizeof(dll_arena_resource::places_type) ==
                          upstream.live_bytes());
        }
    }
    arena->release();
    BOOST_TEST(upstream.settled());
    BOOST_TEST(is_one_free_block(*arena));
}

BOOST_AUTO_TEST_SUITE_END()
