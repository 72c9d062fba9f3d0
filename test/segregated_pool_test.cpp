// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE segregated_pool
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <list>
#include <memory_resource>
#include <random>
#include <stdexcept>
#include <vector>

#include <strata/best_fit_resource.hpp>
#include <strata/segregated_pool_resource.hpp>

#include "support/counting_upstream.hpp"
#include "support/misuse_recorder.hpp"
#include "support/seed.hpp"

using strata::misuse_kind;
using strata::segregated_pool_options;
using strata::segregated_pool_resource;
using strata::test::counting_upstream;
using strata::test::misuse_recorder;

namespace {

constexpr std::size_t kib = 1024;

// Slabs of 4 KiB: the rare paths (full slab, next slab, empty chunk) run all the time.
segregated_pool_options tiny_slabs() {
    segregated_pool_options options;
    options.slab_bytes = 4 * kib;
    options.largest_chunk_bytes = 8 * kib;
    return options;
}

} // namespace

BOOST_AUTO_TEST_SUITE(segregated_pool)

BOOST_AUTO_TEST_CASE(constructor_does_not_touch_upstream) {
    counting_upstream upstream;
    segregated_pool_resource const pool{&upstream};
    BOOST_TEST(upstream.allocations() == 0u);
    BOOST_TEST((pool.stats() == strata::statistics{}));
}

BOOST_AUTO_TEST_CASE(options_report_what_is_in_effect) {
    segregated_pool_resource const pool;
    BOOST_TEST(pool.options().largest_block_bytes == 512u);
    BOOST_TEST(pool.options().slab_bytes == 64 * kib);
    BOOST_TEST(pool.options().block_sizes.front() == 8u);
    BOOST_TEST(pool.options().block_sizes.back() == 512u);

    std::size_t const sizes[] = {100, 20, 3000};
    segregated_pool_options options;
    options.block_sizes = sizes;
    segregated_pool_resource const mine{options};
    auto const effective = mine.options().block_sizes;
    std::vector<std::size_t> const expected{24, 104, 3072};
    BOOST_TEST(std::vector<std::size_t>(effective.begin(), effective.end()) == expected);
    BOOST_TEST(mine.good_size(1) == 3072u); // the default alignment is 16: 24 and 104 are not
    BOOST_TEST(mine.good_size(1, 8) == 24u);
    BOOST_TEST(mine.good_size(3001, 8) == 3072u);
    BOOST_TEST(mine.good_size(3073, 8) == 3073u);
}

BOOST_AUTO_TEST_CASE(options_out_of_range_are_refused) {
    std::size_t const zero[] = {16, 0};
    std::size_t const large[] = {16, 33 * kib};
    std::vector<std::size_t> many;
    for (std::size_t i = 1; i <= 66; ++i)
        many.push_back(8 * i);
    for (std::span<std::size_t const> sizes :
         {std::span<std::size_t const>{zero}, std::span<std::size_t const>{large},
          std::span<std::size_t const>{many}}) {
        segregated_pool_options options;
        options.block_sizes = sizes;
        BOOST_CHECK_THROW(segregated_pool_resource{options}, std::invalid_argument);
    }
    segregated_pool_options options;
    options.largest_block_bytes = 32 * kib + 1;
    BOOST_CHECK_THROW(segregated_pool_resource{options}, std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(documented_sizes_are_a_preset) {
    segregated_pool_options options;
    options.block_sizes = strata::power_of_two_sizes;
    segregated_pool_resource const pool{options};
    for (std::size_t bytes = 1; bytes <= 512; ++bytes)
        BOOST_TEST(pool.good_size(bytes, 1) == std::max<std::size_t>(8, std::bit_ceil(bytes)));
}

BOOST_AUTO_TEST_CASE(default_classes_waste_at_most_a_fifth) {
    segregated_pool_options options;
    options.largest_block_bytes = 32 * kib;
    segregated_pool_resource const pool{options};
    for (std::size_t bytes = 1; bytes <= 8 * kib; ++bytes) {
        std::size_t const block = pool.good_size(bytes, 8);
        BOOST_REQUIRE(block >= bytes);
        BOOST_REQUIRE(block - bytes <= std::max<std::size_t>(7, block / 5 + 128 * (bytes > kib)));
    }
}

BOOST_AUTO_TEST_CASE(every_size_and_alignment_is_served_and_freed) {
    counting_upstream upstream;
    segregated_pool_options options;
    options.largest_block_bytes = 32 * kib;
    segregated_pool_resource pool{options, &upstream};
    auto const classes = pool.options().block_sizes;
    for (std::size_t alignment = 1; alignment <= 64 * kib; alignment *= 2) {
        for (std::size_t bytes = 0; bytes <= 33 * kib; ++bytes) {
            auto const serving = std::find_if(classes.begin(), classes.end(), [&](std::size_t c) {
                return c >= bytes && strata::detail::natural_alignment(c) >= alignment;
            });
            auto* const p = static_cast<char*>(pool.allocate(bytes, alignment));
            bool const is_right =
                strata::detail::is_aligned(p, alignment) &&
                pool.owns(p) == (serving != classes.end()) &&
                pool.good_size(bytes, alignment) == (pool.owns(p) ? *serving : bytes) &&
                !pool.diagnose(p, bytes, alignment);
            if (!is_right)
                BOOST_TEST(is_right, bytes << " bytes, alignment " << alignment);
            if (bytes != 0)
                p[0] = p[bytes - 1] = 'Z';
            pool.deallocate(p, bytes, alignment);
        }
    }
    BOOST_TEST(pool.stats().live_blocks == 0u);
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(no_alignment_but_a_power_of_two) {
    segregated_pool_resource pool;
    for (std::size_t alignment : {24u, 48u, 100u, 4097u})
        BOOST_CHECK_THROW(static_cast<void>(pool.allocate(64, alignment)), std::invalid_argument);
    BOOST_TEST((pool.stats() == strata::statistics{}));
}

BOOST_AUTO_TEST_CASE(a_small_pool_stays_small) {
    for (std::size_t bytes : {16u, 24u, 40u, 64u, 128u}) {
        counting_upstream upstream;
        segregated_pool_resource pool{&upstream};
        for (int i = 0; i < 20; ++i)
            static_cast<void>(pool.allocate(bytes, 8));
        BOOST_TEST(upstream.live_bytes() <= 8 * kib);
        BOOST_TEST(pool.stats().footprint_bytes == upstream.live_bytes());
    }
}

BOOST_AUTO_TEST_CASE(an_emptied_slab_hands_out_in_address_order) {
    segregated_pool_resource pool;
    std::vector<void*> blocks(200);
    for (void*& p : blocks)
        p = pool.allocate(64);
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937_64{7});
    for (void* p : blocks)
        pool.deallocate(p, 64);
    void const* before = pool.allocate(64);
    std::size_t ascending = 0;
    for (int i = 1; i < 200; ++i) {
        void const* const p = pool.allocate(64);
        ascending += p == static_cast<std::byte const*>(before) + 64 ? 1u : 0u;
        before = p;
    }
    BOOST_TEST(ascending >= 180u); // but at slab borders
}

// Its bit says live (class_pool.hpp, I2); nobody must be able to tell.
BOOST_AUTO_TEST_CASE(a_block_freed_at_once_is_free_in_every_book) {
    misuse_recorder recorder;
    counting_upstream upstream;
    segregated_pool_resource pool{&upstream};
    void* const other = pool.allocate(48);
    void* const p = pool.allocate(48);
    auto const live = pool.stats();
    pool.deallocate(p, 48);
    auto const now = pool.stats();
    BOOST_TEST(now.live_blocks == 1u);
    BOOST_TEST(now.live_bytes == live.live_bytes / 2);
    BOOST_TEST(now.requested_bytes == 48u);
    BOOST_TEST(now.free_blocks == live.free_blocks + 1);
    BOOST_TEST(now.free_bytes == live.free_bytes + live.live_bytes / 2);
    BOOST_TEST(now.largest_free_bytes == live.largest_free_bytes);
    pool.visit_blocks([&](strata::block_info const& block) {
        if (block.address == p || block.address == other)
            BOOST_TEST(block.live == (block.address == other));
    });
    BOOST_TEST((pool.diagnose(p, 48, 16) == misuse_kind::double_free));
    pool.deallocate(p, 48);
    BOOST_TEST(recorder.take().size() == 1u);
    BOOST_TEST(pool.check_invariants());
    BOOST_TEST(pool.allocate(48) == p);
    pool.deallocate(p, 48);
    pool.deallocate(other, 48);
    BOOST_TEST(pool.stats().live_blocks == 0u);
    pool.trim();
    BOOST_TEST(upstream.live_bytes() == 0u);
}

BOOST_AUTO_TEST_CASE(what_lies_beside_a_block_freed_at_once_is_refused) {
    misuse_recorder recorder;
    segregated_pool_resource pool;
    auto* const p = static_cast<std::byte*>(pool.allocate(64));
    for (bool const freed : {false, true}) {
        if (freed)
            pool.deallocate(p, 64);
        for (std::ptrdiff_t offset = -64; offset < 128; ++offset) {
            if (offset == 0 && !freed)
                continue;
            BOOST_TEST_CONTEXT("offset " << offset << ", freed " << freed) {
                auto const before = pool.stats();
                bool const diagnosed = pool.diagnose(p + offset, 64, 8).has_value();
                BOOST_TEST(diagnosed);
                pool.deallocate(p + offset, 64, 8);
                BOOST_TEST(recorder.take().size() == 1u);
                BOOST_TEST((pool.stats() == before));
            }
        }
    }
    BOOST_TEST(pool.check_invariants());
    BOOST_TEST(pool.allocate(64) == p);
}

BOOST_AUTO_TEST_CASE(a_bounded_upstream_is_used_up) {
    for (std::size_t kibibytes : {16u, 32u, 64u, 128u, 192u, 256u, 1024u}) {
        std::vector<std::byte> memory(kibibytes * kib);
        strata::best_fit_resource bound{memory.data(), memory.size(),
                                        std::pmr::null_memory_resource()};
        segregated_pool_resource pool{&bound};
        std::size_t served = 0;
        try {
            for (;; ++served)
                static_cast<void>(pool.allocate(64, 8));
        } catch (std::bad_alloc const&) {
        }
        BOOST_TEST(served * 64 >= kibibytes * kib * 2 / 3, kibibytes << " KiB: " << served);
        BOOST_TEST(pool.check_invariants());
    }
}

BOOST_AUTO_TEST_CASE(blocks_are_visited_in_address_order_from_many_chunks) {
    segregated_pool_options options = tiny_slabs();
    options.largest_chunk_bytes = 8192;
    segregated_pool_resource pool{options};
    for (int i = 0; i < 5000; ++i)
        static_cast<void>(pool.allocate(16 + static_cast<std::size_t>(i) % 400));
    for (int round = 0; round < 2; ++round) {
        void const* before = nullptr;
        std::size_t live = 0;
        pool.visit_blocks([&](strata::block_info const& block) {
            BOOST_TEST(std::less<>{}(before, block.address));
            before = block.address;
            live += block.live ? 1u : 0u;
        });
        BOOST_TEST(live == 5000u);
        BOOST_TEST(pool.check_invariants());
    }
}

BOOST_AUTO_TEST_CASE(an_empty_slab_serves_any_class) {
    counting_upstream upstream;
    segregated_pool_resource pool{tiny_slabs(), &upstream};
    std::vector<void*> blocks;
    for (std::size_t bytes : {16u, 48u, 256u, 512u, 80u}) {
        for (int i = 0; i < 100; ++i)
            blocks.push_back(pool.allocate(bytes));
        std::size_t const held = upstream.live_bytes();
        for (void* p : blocks)
            pool.deallocate(p, bytes);
        blocks.clear();
        static_cast<void>(pool.trim());
        BOOST_TEST(pool.stats().footprint_bytes == 0u);
        BOOST_TEST(held < 80 * kib);
    }
    BOOST_TEST(upstream.settled());
}

// Where a chunk ends in a short slab, that must not hide a longer one of another chunk.
BOOST_AUTO_TEST_CASE(the_largest_free_bytes_are_served_without_upstream) {
    struct block {
        void* p;
        std::size_t bytes;
        std::size_t alignment;
    };
    counting_upstream upstream;
    segregated_pool_options options;
    options.largest_block_bytes = 32 * kib;
    options.largest_chunk_bytes = 1;
    segregated_pool_resource pool{options, &upstream};
    std::mt19937 random{1};
    std::vector<block> live;
    for (int step = 0; step < 20'000; ++step) {
        if (random() % 40 == 0)
            pool.trim();
        if (live.empty() || random() % 2 == 0) {
            std::size_t const bytes = random() % (std::size_t{1} << random() % 14);
            std::size_t const alignment = std::size_t{1} << random() % 9;
            live.push_back({pool.allocate(bytes, alignment), bytes, alignment});
        } else {
            std::swap(live[random() % live.size()], live.back());
            pool.deallocate(live.back().p, live.back().bytes, live.back().alignment);
            live.pop_back();
        }
        std::size_t const largest = pool.stats().largest_free_bytes;
        std::size_t const calls = upstream.allocations();
        if (largest != 0)
            pool.deallocate(pool.allocate(largest, 1), largest, 1);
        BOOST_REQUIRE(upstream.allocations() == calls);
        if (random() % 300 == 0)
            while (!live.empty()) {
                pool.deallocate(live.back().p, live.back().bytes, live.back().alignment);
                live.pop_back();
            }
    }
}

BOOST_AUTO_TEST_CASE(empty_chunks_go_back_but_one) {
    counting_upstream upstream;
    segregated_pool_resource pool{tiny_slabs(), &upstream};
    std::vector<void*> blocks(10000);
    for (void*& p : blocks)
        p = pool.allocate(128);
    std::size_t const peak = upstream.live_bytes();
    for (void* p : blocks)
        pool.deallocate(p, 128);
    BOOST_TEST(peak > 10000u * 128u);
    BOOST_TEST(upstream.live_bytes() < 64 * kib);
    std::size_t const held = upstream.live_bytes();
    BOOST_TEST(pool.trim() == held);
    BOOST_TEST(upstream.settled());
}

// What upstream gets back stays as it was left: who believes it finds a slab there.
BOOST_AUTO_TEST_CASE(an_address_in_a_chunk_that_went_back_is_foreign) {
    std::pmr::monotonic_buffer_resource upstream;
    segregated_pool_resource pool{tiny_slabs(), &upstream};
    static_cast<void>(pool.allocate(128));
    std::vector<void*> blocks(1000);
    for (void*& p : blocks)
        p = pool.allocate(128);
    for (void* p : blocks)
        pool.deallocate(p, 128);
    pool.trim();
    BOOST_TEST(!pool.owns(blocks.back()));
    BOOST_TEST((pool.diagnose(blocks.back(), 128, 16) == misuse_kind::foreign_pointer));
}

BOOST_AUTO_TEST_CASE(a_tide_of_work_settles) {
    counting_upstream upstream;
    segregated_pool_resource pool{tiny_slabs(), &upstream};
    std::vector<void*> blocks(500);
    auto const tide = [&] {
        for (void*& p : blocks)
            p = pool.allocate(128);
        for (void* p : blocks)
            pool.deallocate(p, 128);
    };
    for (int i = 0; i < 3; ++i)
        tide();
    std::size_t const calls = upstream.allocations();
    for (int i = 0; i < 50; ++i)
        tide();
    BOOST_TEST(upstream.allocations() == calls);
}

// Which idle chunks are kept depends on how many were missed before.
BOOST_AUTO_TEST_CASE(what_a_tide_leaves_is_that_of_a_new_pool_after_release_and_trim) {
    counting_upstream upstream;
    segregated_pool_resource pool{tiny_slabs(), &upstream};
    std::vector<void*> blocks(500);
    auto const left_by_a_tide = [&] {
        for (void*& p : blocks)
            p = pool.allocate(128);
        for (void* p : blocks)
            pool.deallocate(p, 128);
        return upstream.live_bytes();
    };
    std::size_t const left_at_first = left_by_a_tide();
    auto const tides_leave_more = [&] {
        static_cast<void>(left_by_a_tide());
        return left_by_a_tide() > left_at_first;
    };
    BOOST_TEST(tides_leave_more());
    pool.release();
    BOOST_TEST(left_by_a_tide() == left_at_first);
    BOOST_TEST(tides_leave_more());
    pool.trim();
    BOOST_TEST(left_by_a_tide() == left_at_first);
}

BOOST_AUTO_TEST_CASE(chunks_shrink_to_what_upstream_can_give) {
    // Room for one small chunk only: growth must not ask for more than is needed.
    counting_upstream upstream;
    segregated_pool_resource pool{&upstream};
    static_cast<void>(pool.allocate(32));
    upstream.fail_after(0);
    std::size_t served = 1;
    try {
        for (;; ++served)
            static_cast<void>(pool.allocate(32));
    } catch (std::bad_alloc const&) {
    }
    BOOST_TEST(served >= 20u);
    BOOST_TEST(pool.check_invariants());
    BOOST_TEST(pool.stats().live_blocks == served);
    upstream.never_fail();
    static_cast<void>(pool.allocate(32));
    BOOST_TEST(pool.stats().live_blocks == served + 1);
}

BOOST_AUTO_TEST_CASE(large_requests_go_upstream_one_by_one) {
    counting_upstream upstream;
    segregated_pool_resource pool{&upstream};
    void* const p = pool.allocate(513, 8);
    BOOST_TEST(!pool.owns(p));
    BOOST_TEST(pool.stats().upstream_live_blocks == 1u);
    BOOST_TEST(pool.stats().upstream_live_bytes == 513u);
    pool.deallocate(p, 513, 8);
    BOOST_TEST(pool.trim() > 0u);
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(pass_through_turns_the_manager_off) {
    counting_upstream upstream;
    segregated_pool_options options;
    options.pass_through = true;
    segregated_pool_resource pool{options, &upstream};
    void* const p = pool.allocate(0);
    void* const q = pool.allocate(40, 8);
    BOOST_TEST(p != q);
    BOOST_TEST(pool.stats().upstream_live_blocks == 2u);
    pool.deallocate(p, 0);
    pool.deallocate(q, 40, 8);
    BOOST_TEST(pool.stats().live_blocks == 0u);

    ::setenv("STRATA_FORCE_UPSTREAM", "1", 1);
    segregated_pool_resource forced;
    ::unsetenv("STRATA_FORCE_UPSTREAM");
    BOOST_TEST(forced.options().pass_through);
}

BOOST_AUTO_TEST_CASE(misuse_is_named_and_changes_nothing) {
    misuse_recorder recorder;
    segregated_pool_resource pool;
    segregated_pool_resource sibling;
    void* const p = pool.allocate(48);
    void* const q = pool.allocate(48);
    void* const foreign = sibling.allocate(48);
    pool.deallocate(q, 48);
    auto const before = pool.stats();
    auto const expect = [&](void* address, std::size_t bytes, misuse_kind kind) {
        pool.deallocate(address, bytes);
        auto const heard = recorder.take();
        BOOST_REQUIRE(heard.size() == 1u);
        BOOST_TEST((heard[0].kind == kind), strata::to_string(heard[0].kind));
        BOOST_TEST(heard[0].address == address);
        BOOST_TEST(heard[0].where == &pool);
        BOOST_TEST((pool.stats() == before));
    };
    for (int i = 0; i < 1000; ++i)
        expect(q, 48, misuse_kind::double_free);
    for (std::size_t offset : {1u, 8u, 16u, 32u, 47u})
        expect(static_cast<std::byte*>(p) + offset, 48, misuse_kind::misaligned_pointer);
    expect(p, 49, misuse_kind::size_mismatch);
    BOOST_TEST((pool.diagnose(p, 48, 4096) == misuse_kind::alignment_mismatch));
    expect(p, 10, misuse_kind::size_mismatch);
    expect(p, 100000, misuse_kind::size_mismatch);
    expect(foreign, 48, misuse_kind::foreign_pointer);
    static int a_static = 0;
    int a_local = 0;
    expect(&a_static, 48, misuse_kind::foreign_pointer);
    expect(&a_local, 4096, misuse_kind::foreign_pointer);
    void* volatile nothing = nullptr;
    pool.deallocate(nothing, 48);
    BOOST_TEST(recorder.take().empty());
    BOOST_TEST(pool.check_invariants());
}

// Of 40 bytes at 8 there are blocks of 40, at 16 of 48.
BOOST_AUTO_TEST_CASE(an_alignment_that_would_have_had_another_class_is_told_from_a_size) {
    segregated_pool_resource pool;
    void* const p = pool.allocate(40, 16);
    BOOST_TEST(!pool.diagnose(p, 40, 16));
    for (std::size_t alignment : {8u, 64u})
        BOOST_TEST((pool.diagnose(p, 40, alignment) == misuse_kind::alignment_mismatch));
    BOOST_TEST((pool.diagnose(p, 100, 16) == misuse_kind::size_mismatch));
    pool.deallocate(p, 40, 16);
}

BOOST_AUTO_TEST_CASE(in_an_empty_slab_only_what_could_be_a_block_was_freed) {
    segregated_pool_resource pool;
    void* const p = pool.allocate(40);
    std::byte const* empty = nullptr;
    pool.visit_blocks([&](strata::block_info const& block) {
        if (!block.live && block.bytes > 512) // no class has such blocks
            empty = static_cast<std::byte const*>(block.address);
    });
    BOOST_REQUIRE(empty != nullptr);
    BOOST_TEST((pool.diagnose(empty + 8, 40, 8) == misuse_kind::double_free));
    BOOST_TEST((pool.diagnose(empty + 3, 40, 8) == misuse_kind::misaligned_pointer));
    pool.deallocate(p, 40);
}

BOOST_AUTO_TEST_CASE(reallocate_stays_within_a_class) {
    segregated_pool_resource pool;
    void* const small = pool.allocate(1); // of its 8 bytes, 7 are not asked for
    void* const p = pool.allocate(33);
    std::memset(p, 7, 33);
    BOOST_TEST(pool.try_resize(p, 33, 48));
    BOOST_TEST(!pool.try_resize(p, 48, 49));
    BOOST_TEST(pool.stats().requested_bytes == 1u + 48);
    pool.deallocate(small, 1);
    void* const q = pool.reallocate(p, 48, 200);
    BOOST_TEST(q != p);
    BOOST_TEST(static_cast<unsigned char*>(q)[32] == 7u);
    pool.deallocate(q, 200);
    BOOST_TEST(pool.stats().requested_bytes == 0u);
}

BOOST_AUTO_TEST_CASE(random_operations_agree_with_a_model) {
    struct block {
        unsigned char* p;
        std::size_t bytes;
        std::size_t alignment;
        unsigned char fill;
    };
    std::mt19937_64 random{strata::test::seed("segregated_pool model")};
    auto const below = [&](std::size_t n) { return random() % n; };
    counting_upstream upstream;
    segregated_pool_resource pool{tiny_slabs(), &upstream};
    std::vector<block> live;
    auto const sound = [](block const& b) {
        return std::all_of(b.p, b.p + b.bytes, [&](unsigned char c) { return c == b.fill; });
    };
    for (int step = 0; step < 20000; ++step) {
        bool const grow = below(1000) < (step / 2500 % 2 == 0 ? 650u : 350u);
        if (grow || live.empty()) {
            std::size_t const bytes = below(std::size_t{2} << below(10));
            std::size_t const alignment = std::size_t{1} << below(8);
            auto* const p = static_cast<unsigned char*>(pool.allocate(bytes, alignment));
            BOOST_REQUIRE(strata::detail::is_aligned(p, alignment));
            live.push_back({p, bytes, alignment, static_cast<unsigned char>(below(256))});
            std::fill_n(p, bytes, live.back().fill);
        } else {
            std::swap(live[below(live.size())], live.back());
            BOOST_REQUIRE(sound(live.back()));
            BOOST_REQUIRE(
                !pool.try_deallocate(live.back().p, live.back().bytes, live.back().alignment));
            BOOST_REQUIRE(
                pool.try_deallocate(live.back().p, live.back().bytes, live.back().alignment));
            live.pop_back();
        }
        if (step % 2500 == 0)
            static_cast<void>(pool.trim());
        if (step % 16 == 0) {
            auto const s = pool.stats();
            BOOST_REQUIRE(pool.check_invariants());
            BOOST_REQUIRE(s.live_blocks == live.size());
            BOOST_REQUIRE(s.footprint_bytes == upstream.live_bytes());
        }
    }
    for (block const& b : live)
        BOOST_REQUIRE(sound(b));
    pool.release();
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(serves_pmr_containers) {
    counting_upstream upstream;
    {
        segregated_pool_resource pool{&upstream};
        std::pmr::list<std::pmr::vector<int>> lists{&pool};
        for (int i = 0; i < 300; ++i)
            lists.emplace_back(static_cast<std::size_t>(i), i);
        BOOST_TEST(pool.stats().live_blocks == 599u);
        lists.clear();
        BOOST_TEST(pool.stats().live_blocks == 0u);
    }
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_SUITE_END()
