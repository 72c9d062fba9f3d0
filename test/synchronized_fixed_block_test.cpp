// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE synchronized_fixed_block
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <memory_resource>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include <strata/synchronized_fixed_block_resource.hpp>

#include "support/counting_upstream.hpp"
#include "support/misuse_recorder.hpp"
#include "support/other_thread.hpp"
#include "support/seed.hpp"
#include "support/threads.hpp"

using pool_type = strata::synchronized_fixed_block_resource;
using strata::misuse_kind;
using strata::test::answers_while_threads_work;
using strata::test::children_can_use;
using strata::test::churn;
using strata::test::counting_upstream;
using strata::test::freed_wrongly;
using strata::test::is_empty;
using strata::test::is_sound_in_a_child;
using strata::test::misuse_recorder;
using strata::test::on_threads;
using strata::test::other_thread;
using strata::test::producers_and_consumers;
using strata::test::reported_of_freed_wrongly;

namespace {

// Returns: how many single blocks it could have at once.
std::size_t take_and_give_all(pool_type& from) {
    std::vector<void*> blocks;
    for (;;) {
        void* const p = from.allocate(from.block_bytes(), 8);
        blocks.push_back(p);
        if (!from.owns(p)) // from here on, upstream's
            break;
    }
    for (void* const p : blocks)
        from.deallocate(p, from.block_bytes(), 8);
    return blocks.size() - 1;
}

} // namespace

BOOST_AUTO_TEST_SUITE(synchronized_fixed_block)

// Single blocks, runs, and what does not fit.
BOOST_AUTO_TEST_CASE(threads_share_it_and_upstream_sees_one_at_a_time) {
    auto const seed = strata::test::seed("threads");
    for (std::size_t const most_bytes : {64u, 200u, 3000u}) {
        counting_upstream upstream; // not made for threads
        pool_type pool{200'000, 64, &upstream};
        std::atomic<int> unsound{0};
        on_threads(4, [&](std::size_t i) {
            if (!churn(pool, seed + i, 20'000, most_bytes))
                ++unsound;
        });
        BOOST_TEST(unsound == 0);
        BOOST_TEST(is_empty(pool));
        BOOST_TEST(pool.check_invariants());
        pool.trim();
        BOOST_TEST(pool.stats().free_blocks == pool.capacity_blocks());
        BOOST_TEST(upstream.live_blocks() == 2u); // the region, the marks
    }
}

BOOST_AUTO_TEST_CASE(blocks_go_from_producers_to_consumers) {
    auto const seed = strata::test::seed("producers");
    pool_type pool{1 << 20, 48};
    BOOST_TEST(producers_and_consumers(pool, seed, 60));
    BOOST_TEST(is_empty(pool));
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(idle_threads_keep_no_more_than_their_magazines) {
    counting_upstream upstream;
    pool_type pool{64 * 4096, 64, &upstream};
    std::barrier idle{5};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            std::vector<void*> blocks(500);
            for (void*& p : blocks)
                p = pool.allocate(64);
            for (void* const p : blocks)
                pool.deallocate(p, 64);
            idle.arrive_and_wait();
            idle.arrive_and_wait();
        });
    idle.arrive_and_wait();
    std::set<void*> blocks;
    while (pool.owns(*blocks.insert(pool.allocate(64)).first)) {
    }
    BOOST_TEST(blocks.size() > 4096u - 4 * 64);
    for (void* const p : blocks)
        pool.deallocate(p, 64);
    idle.arrive_and_wait();
    for (std::thread& thread : threads)
        thread.join();
    BOOST_TEST(is_empty(pool));
    BOOST_TEST(pool.check_invariants());
    // Their threads have ended: all blocks are there again.
    std::vector<void*> all(4096);
    for (void*& p : all)
        p = pool.allocate(64);
    BOOST_TEST(std::all_of(all.begin(), all.end(), [&](void* p) { return pool.owns(p); }));
    for (void* const p : all)
        pool.deallocate(p, 64);
}

// Blocks that one thread has freed and keeps are as many as its magazine holds: 64, 8 KiB of them, or a
// 32nd of all, whichever is least, and one at least.
BOOST_AUTO_TEST_CASE(magazines_of_any_size_leave_the_rest_to_others) {
    struct {
        std::size_t blocks;
        std::size_t block_bytes;
        std::size_t kept;
    } const cases[]{{6400, 64, 64}, {200, 8192, 1}, {200, 4096, 2}, {96, 64, 3}, {20, 64, 1}};
    for (auto const& [blocks, block_bytes, kept] : cases) {
        std::vector<std::byte> buffer(blocks * (block_bytes + 2) + 1024);
        pool_type owner{blocks * block_bytes, block_bytes};
        pool_type in_buffer{buffer.data(), buffer.size(), block_bytes};
        for (pool_type* const pool : {&owner, &in_buffer}) {
            std::size_t const all = pool->capacity_blocks();
            std::size_t const most_kept = pool == &owner ? kept : std::max(kept, all / 32);
            take_and_give_all(*pool);
            BOOST_TEST(pool->stats().free_blocks == all);
            BOOST_TEST(pool->stats().largest_free_bytes >= block_bytes);
            std::size_t taken = 0;
            std::thread{[&, p = pool] { taken = take_and_give_all(*p); }}.join();
            BOOST_TEST(taken >= all - most_kept);
            BOOST_TEST(pool->check_invariants());
        }
    }
}

BOOST_AUTO_TEST_CASE(what_a_magazine_holds_counts_as_a_free_block) {
    pool_type pool{3 * 64, 64};
    std::array<void*, 3> blocks{};
    for (void*& p : blocks)
        p = pool.allocate(64);
    pool.deallocate(blocks[0], 64);
    BOOST_TEST(pool.stats().free_blocks == 1u);
    BOOST_TEST(pool.stats().largest_free_bytes == 64u);
    for (std::size_t i : {1u, 2u})
        pool.deallocate(blocks[i], 64);
}

BOOST_AUTO_TEST_CASE(a_fresh_pool_serves_ascending_addresses) {
    pool_type pool{6400 * 64, 64};
    std::byte const* before = nullptr;
    for (int i = 0; i < 1000; ++i) {
        auto* const p = static_cast<std::byte*>(pool.allocate(64));
        BOOST_REQUIRE(p > before);
        before = p;
    }
    pool.release();
}

BOOST_AUTO_TEST_CASE(misuse_is_found_whichever_thread_freed_before) {
    pool_type pool{64 * 1000, 64};
    for (std::size_t const bytes : {8u, 64u, 200u}) // a run, too
        BOOST_TEST(freed_wrongly(pool, bytes) == reported_of_freed_wrongly,
                   boost::test_tools::per_element());
    BOOST_TEST(is_empty(pool));
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(a_part_of_a_run_is_not_freed) {
    pool_type pool{64 * 1000, 64};
    misuse_recorder recorder;
    auto* const run = static_cast<std::byte*>(pool.allocate(200));
    std::thread{[&] {
        pool.deallocate(run, 64);
        pool.deallocate(run + 64, 64);
    }}.join();
    auto const heard = recorder.take();
    BOOST_REQUIRE(heard.size() == 2u);
    BOOST_CHECK(heard[0].kind == misuse_kind::size_mismatch);
    BOOST_CHECK(heard[1].kind == misuse_kind::misaligned_pointer);
    pool.deallocate(run, 200);
    BOOST_TEST(recorder.take().empty());
    BOOST_TEST(is_empty(pool));
}

// A block that grew is no single block any more, and back.
BOOST_AUTO_TEST_CASE(a_block_that_grew_is_freed_as_a_run) {
    pool_type pool{64 * 1000, 64};
    misuse_recorder recorder;
    void* p = pool.allocate(64);
    std::size_t blocks = 1;
    for (; blocks < 64 && !pool.try_resize(p, 64, 128); ++blocks) // the next is in the magazine
        p = pool.allocate(64);
    BOOST_REQUIRE(blocks < 64);
    pool.deallocate(p, 64);
    BOOST_TEST(recorder.take().size() == 1u);
    BOOST_TEST(pool.try_resize(p, 128, 40));
    pool.deallocate(p, 40);
    BOOST_TEST(recorder.take().empty());
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(a_run_is_made_of_blocks_that_the_thread_has_freed) {
    pool_type pool{64 * 64, 64};
    std::vector<void*> blocks(64);
    for (void*& p : blocks)
        p = pool.allocate(64);
    std::sort(blocks.begin(), blocks.end());
    pool.deallocate(blocks[10], 64);
    pool.deallocate(blocks[11], 64);
    BOOST_TEST(pool.allocate(128) == blocks[10]);
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(trim_keeps_count_of_what_is_asked_for) {
    pool_type pool{64 * 1000, 64};
    void* const p = pool.allocate(40);
    pool.trim();
    BOOST_TEST(pool.stats().requested_bytes == 40u);
    pool.deallocate(p, 40);
    BOOST_TEST(pool.stats().requested_bytes == 0u);
}

// What it had before is no thread's any more.
BOOST_AUTO_TEST_CASE(a_thread_begins_anew_after_release_and_trim) {
    pool_type pool{64 * 4096, 64};
    for (int round = 0; round < 4; ++round) {
        void* const p = pool.allocate(64);
        if (round % 2 == 0) {
            pool.release();
        } else {
            pool.deallocate(p, 64);
            pool.trim();
        }
        BOOST_TEST(is_empty(pool));
        std::set<void*> blocks;
        while (blocks.size() < 4096)
            BOOST_REQUIRE(blocks.insert(pool.allocate(64)).second);
        BOOST_TEST(pool.check_invariants());
        BOOST_TEST(
            std::all_of(blocks.begin(), blocks.end(), [&](void* b) { return pool.owns(b); }));
        for (void* const b : blocks)
            pool.deallocate(b, 64);
        BOOST_TEST(is_empty(pool));
    }
}

// What the first did, nothing but its cache tells the second: the thread sanitizer looks at that.
BOOST_AUTO_TEST_CASE(a_thread_takes_over_the_cache_of_one_that_has_ended) {
    pool_type pool{64 * 1000, 64};
    std::atomic<bool> has_ended{false};
    std::thread second{[&] {
        while (!has_ended.load(std::memory_order_relaxed))
            std::this_thread::yield();
        pool.deallocate(pool.allocate(64), 64);
    }};
    std::thread{[&] { pool.deallocate(pool.allocate(64), 64); }}.join();
    has_ended.store(true, std::memory_order_relaxed);
    second.join();
    BOOST_TEST(is_empty(pool));
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(resources_and_threads_come_and_go) {
    auto const seed = strata::test::seed("resources");
    std::atomic<int> unsound{0};
    for (int i = 0; i < 100; ++i) {
        std::optional<pool_type> pool;
        pool.emplace(20'000u, 64u);
        std::atomic<bool> used{false};
        std::thread thread{[&] {
            if (!churn(*pool, seed, 300, 150))
                ++unsound;
            used = true;
        }};
        on_threads(2, [&](std::size_t k) {
            if (!churn(*pool, seed + k, 300, 150))
                ++unsound;
        });
        while (!used)
            std::this_thread::yield();
        pool.reset(); // the thread ends meanwhile
        thread.join();
    }
    BOOST_TEST(unsound == 0);
}

BOOST_AUTO_TEST_CASE(it_can_be_asked_while_threads_work) {
    auto const seed = strata::test::seed("asked");
    pool_type pool{100'000, 64};
    BOOST_TEST(answers_while_threads_work(pool, seed));
    BOOST_TEST(is_empty(pool));
}

#if !defined(__SANITIZE_THREAD__)
// What a lost thread's magazine held may be half taken: nobody gets it.
BOOST_AUTO_TEST_CASE(a_child_goes_without_what_lost_threads_kept) {
    pool_type pool{6400 * 64, 64};
    other_thread lost;
    lost.run([&] { pool.deallocate(pool.allocate(64), 64); });
    BOOST_TEST(is_sound_in_a_child([&] {
        bool const is_sound = pool.check_invariants();
        std::size_t taken = 0;
        std::thread{[&] { taken = take_and_give_all(pool); }}.join();
        pool.release();
        return is_sound && taken <= 6400 - 32 && pool.stats().free_blocks == 6400;
    }));
}

BOOST_AUTO_TEST_CASE(a_child_process_can_use_it) {
    auto const seed = strata::test::seed("fork");
    pool_type pool{100'000, 64};
    BOOST_TEST(children_can_use(pool, seed));
    BOOST_TEST(is_empty(pool));
}
#endif

BOOST_AUTO_TEST_SUITE_END()
