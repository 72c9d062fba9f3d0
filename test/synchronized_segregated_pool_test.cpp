// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE synchronized_segregated_pool
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <new>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include <strata/best_fit_resource.hpp>
#include <strata/detail/pool_shard.hpp>
#include <strata/detail/slab.hpp>
#include <strata/detail/slab_source.hpp>
#include <strata/synchronized.hpp>
#include <strata/synchronized_segregated_pool_resource.hpp>

#include "support/counting_upstream.hpp"
#include "support/misuse_recorder.hpp"
#include "support/seed.hpp"
#include "support/threads.hpp"

using pool_type = strata::synchronized_segregated_pool_resource;
using strata::misuse_kind;
using strata::segregated_pool_options;
using strata::detail::pool_shard;
using strata::detail::slab;
using strata::detail::slab_source;
using strata::test::answers_while_threads_work;
using strata::test::children_can_use;
using strata::test::churn;
using strata::test::counting_upstream;
using strata::test::filled_block;
using strata::test::freed_wrongly;
using strata::test::is_empty;
using strata::test::is_sound_in_a_child;
using strata::test::misuse_recorder;
using strata::test::on_threads;
using strata::test::producers_and_consumers;
using strata::test::reported_of_freed_wrongly;
using strata::test::tiny;

namespace {

// Runs `work` in this thread while another asks all the time whether the block is live that `work` says
// was freed last: its index and 1 more. Returns: how often it looked live.
template <class Work>
std::size_t times_live(slab const& of, Work const& work) {
    std::atomic<std::size_t> freed{0};
    std::atomic<bool> done{false};
    std::size_t live = 0;
    std::barrier at_work{2};
    std::thread other{[&] {
        at_work.arrive_and_wait();
        while (!done)
            if (std::size_t const i = freed.load(); i != 0 && pool_shard::is_live(of, i - 1))
                ++live;
    }};
    at_work.arrive_and_wait();
    work(freed);
    done = true;
    other.join();
    return live;
}

} // namespace

BOOST_AUTO_TEST_SUITE(synchronized_segregated_pool)

BOOST_AUTO_TEST_CASE(threads_share_it_and_upstream_sees_one_at_a_time) {
    auto const seed = strata::test::seed("threads");
    for (segregated_pool_options const& options : {segregated_pool_options{}, tiny}) {
        counting_upstream upstream; // not made for threads
        pool_type pool{options, &upstream};
        std::atomic<int> unsound{0};
        on_threads(4, [&](std::size_t i) {
            if (!churn(pool, seed + i, 20'000, 3000))
                ++unsound;
        });
        BOOST_TEST(unsound == 0);
        BOOST_TEST(is_empty(pool));
        BOOST_TEST(pool.check_invariants());
        pool.trim();
        BOOST_TEST(upstream.live_blocks() == 0u);
    }
}

BOOST_AUTO_TEST_CASE(blocks_go_from_producers_to_consumers) {
    auto const seed = strata::test::seed("producers");
    for (segregated_pool_options const& options : {segregated_pool_options{}, tiny}) {
        pool_type pool{options};
        BOOST_TEST(producers_and_consumers(pool, seed, 600));
        BOOST_TEST(is_empty(pool));
        BOOST_TEST(pool.check_invariants());
    }
}

BOOST_AUTO_TEST_CASE(handed_over_from_thread_to_thread_it_does_not_grow) {
    for (segregated_pool_options const& options : {segregated_pool_options{}, tiny}) {
        counting_upstream upstream;
        pool_type pool{options, &upstream};
        std::vector<filled_block> blocks;
        std::size_t settled = 0;
        for (int round = 0; round < 60; ++round) {
            std::thread{[&] {
                for (filled_block& block : blocks)
                    BOOST_CHECK(block.give_back(pool));
                blocks.clear();
                for (std::size_t i = 0; i < 3000; ++i)
                    blocks.emplace_back(pool, 1 + i * 7 % 500, static_cast<unsigned char>(i));
            }}.join();
            if (round == 10)
                settled = upstream.live_bytes();
        }
        BOOST_TEST(upstream.live_bytes() <= settled + settled / 8);
        for (filled_block& block : blocks)
            BOOST_CHECK(block.give_back(pool));
        BOOST_TEST(is_empty(pool));
        BOOST_TEST(pool.check_invariants());
    }
}

// They allocate in turn, or one does so all the time, and the other frees.
BOOST_AUTO_TEST_CASE(between_two_threads_that_live_on_it_does_not_grow_either) {
    for (bool const is_in_turn : {true, false}) {
        pool_type pool;
        std::barrier turn{2};
        std::vector<filled_block> blocks;
        std::array<std::size_t, 40> held{};
        on_threads(2, [&](std::size_t i) {
            for (std::size_t round = 0; round < held.size(); ++round) {
                std::size_t const allocates = is_in_turn ? round % 2 : 0;
                if (i == allocates) {
                    for (std::size_t k = 0; k < 3000; ++k)
                        blocks.emplace_back(pool, 1 + k * 7 % 500, static_cast<unsigned char>(k));
                }
                turn.arrive_and_wait();
                if (i != allocates) {
                    for (filled_block& block : blocks)
                        BOOST_CHECK(block.give_back(pool));
                    blocks.clear();
                    held[round] = pool.stats().footprint_bytes;
                }
                turn.arrive_and_wait();
            }
        });
        BOOST_TEST(held.back() <= held[4] + held[4] / 8);
        BOOST_TEST(is_empty(pool));
    }
}

BOOST_AUTO_TEST_CASE(sixteen_idle_threads_hold_two_mebibytes_at_most) {
    pool_type pool;
    auto const sizes = pool.options().block_sizes;
    std::barrier idle{17};
    std::vector<std::thread> threads;
    for (int i = 0; i < 16; ++i)
        threads.emplace_back([&] {
            for (std::size_t const bytes : sizes) {
                void* const p = pool.allocate(bytes, 8);
                void* const q = pool.allocate(bytes, 8);
                pool.deallocate(p, bytes, 8);
                pool.deallocate(q, bytes, 8);
            }
            idle.arrive_and_wait();
            idle.arrive_and_wait();
        });
    idle.arrive_and_wait();
    BOOST_TEST(is_empty(pool));
    BOOST_TEST(pool.stats().footprint_bytes <= 2u << 20);
    idle.arrive_and_wait();
    for (std::thread& thread : threads)
        thread.join();
}

BOOST_AUTO_TEST_CASE(slabs_of_idle_threads_serve_others) {
    pool_type pool;
    std::barrier idle{9};
    std::mutex alone;
    std::vector<std::thread> threads;
    auto const use = [&](std::size_t bytes_of_each_class) {
        for (std::size_t const bytes : pool.options().block_sizes) {
            std::vector<void*> blocks(bytes_of_each_class / bytes);
            for (void*& p : blocks)
                p = pool.allocate(bytes, 8);
            for (void* const p : blocks)
                pool.deallocate(p, bytes, 8);
        }
    };
    for (int i = 0; i < 8; ++i)
        threads.emplace_back([&] {
            {
                std::lock_guard const one_by_one{alone};
                use(200'000);
            }
            idle.arrive_and_wait();
            idle.arrive_and_wait();
        });
    idle.arrive_and_wait();
    std::size_t const held = pool.stats().footprint_bytes;
    // The same from a pool that nobody used before needs that much more from upstream.
    pool_type fresh;
    std::vector<std::pair<void*, std::size_t>> blocks;
    while (pool.stats().footprint_bytes <
           held + (6u << 20)) // 64 slabs until a thread counts as idle
        for (std::size_t const bytes : pool.options().block_sizes)
            for (std::size_t k = 0; k < 2000 / bytes + 1; ++k) {
                blocks.emplace_back(pool.allocate(bytes, 8), bytes);
                static_cast<void>(fresh.allocate(bytes, 8));
            }
    std::size_t const grown = pool.stats().footprint_bytes - held;
    std::size_t const saved = fresh.stats().footprint_bytes - grown;
    BOOST_TEST_MESSAGE(saved << " of " << held << " held served");
    BOOST_TEST(saved >= held / 4 * 3);
    fresh.release();
    for (auto const& [p, bytes] : blocks)
        pool.deallocate(p, bytes, 8);
    idle.arrive_and_wait();
    for (std::thread& thread : threads)
        thread.join();
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(where_upstream_has_nothing_left_all_threads_blocks_are_found) {
    counting_upstream upstream;
    upstream.hold_at_most(300'000);
    pool_type pool{tiny, &upstream};
    std::size_t by_one = 0;
    auto const fill = [&] {
        std::vector<void*> blocks;
        try {
            for (;;)
                blocks.push_back(pool.allocate(100));
        } catch (std::bad_alloc const&) {
        }
        return blocks;
    };
    std::vector<void*> blocks;
    std::barrier turn{2};
    std::thread first{[&] {
        blocks = fill();
        by_one = blocks.size();
        for (void* const p : blocks)
            pool.deallocate(p, 100);
        turn.arrive_and_wait(); // idle, with slabs
        turn.arrive_and_wait();
    }};
    turn.arrive_and_wait();
    blocks = fill();
    BOOST_TEST(by_one > 1500u);
    BOOST_TEST(blocks.size() + 64 >= by_one);
    for (void* const p : blocks)
        pool.deallocate(p, 100);
    turn.arrive_and_wait();
    first.join();
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(where_upstream_has_nothing_left_a_thread_s_own_slabs_serve_all_its_sizes) {
    counting_upstream upstream;
    pool_type pool{tiny, &upstream};
    std::vector<void*> blocks(10); // in one slab, which stays when it is empty
    for (void*& p : blocks)
        p = pool.allocate(100);
    upstream.fail_after(0);
    try {
        for (;;) // whatever was not in use yet
            static_cast<void>(pool.allocate(500));
    } catch (std::bad_alloc const&) {
    }
    for (void* const p : blocks)
        pool.deallocate(p, 100);
    BOOST_CHECK_NO_THROW(static_cast<void>(pool.allocate(500)));
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(the_last_block_is_free_once_whichever_call_freed_it) {
    misuse_recorder recorder;
    pool_type pool;
    void* const other = pool.allocate(100);
    void* const p = pool.allocate(100);
    BOOST_TEST(!pool.try_deallocate(p, 100));
    pool.deallocate(p, 100);
    BOOST_TEST(recorder.take().size() == 1u);
    BOOST_TEST(pool.check_invariants());
    pool.deallocate(other, 100);
    BOOST_TEST(is_empty(pool));
}

BOOST_AUTO_TEST_CASE(misuse_is_found_whichever_thread_freed_before) {
    pool_type pool;
    for (std::size_t const bytes : {8u, 64u, 512u, 2048u})
        BOOST_TEST(freed_wrongly(pool, bytes) == reported_of_freed_wrongly,
                   boost::test_tools::per_element());
    BOOST_TEST(is_empty(pool));
    BOOST_TEST(pool.check_invariants());
}

// The second free is found while its bit is in the slab, in the word that is claimed, or a remote one.
BOOST_AUTO_TEST_CASE(a_block_freed_long_ago_is_found_wherever_it_is_now) {
    pool_type pool{tiny};
    misuse_recorder recorder;
    std::vector<void*> blocks(2000);
    for (void*& p : blocks)
        p = pool.allocate(48);
    std::thread{[&] {
        for (void* const p : blocks)
            pool.deallocate(p, 48);
        for (int i = 0; i < 10; ++i) // draws some anew
            pool.deallocate(pool.allocate(48), 48);
        for (void* const p : blocks)
            pool.deallocate(p, 48);
    }}.join();
    for (void* const p : blocks)
        pool.deallocate(p, 48);
    auto const heard = recorder.take();
    BOOST_TEST(heard.size() == 2 * blocks.size());
    BOOST_TEST(std::all_of(heard.begin(), heard.end(), [](strata::misuse const& what) {
        return what.kind == misuse_kind::double_free;
    }));
    BOOST_TEST(is_empty(pool));
    BOOST_TEST(pool.check_invariants());
}

// A block that its thread freed waits in its slab, or in the word that the thread takes from next.
BOOST_AUTO_TEST_CASE(what_its_owner_freed_nobody_else_may_free_again) {
    pool_type pool;
    misuse_recorder recorder;
    for (std::size_t const bytes : {8u, 64u, 500u}) {
        std::vector<void*> blocks(300);
        for (void*& p : blocks)
            p = pool.allocate(bytes);
        for (void* const p : blocks)
            pool.deallocate(p, bytes);
        for (int taken = 0; taken < 1000; ++taken) {
            if (taken % 10 == 0) {
                std::thread{[&] {
                    for (void* const p : blocks)
                        pool.deallocate(p, bytes);
                }}.join();
                BOOST_TEST(recorder.take().size() == blocks.size());
            }
            std::erase(blocks, pool.allocate(bytes));
        }
        BOOST_TEST(blocks.size() < 300u); // some were served again
        BOOST_TEST(pool.check_invariants());
        pool.release();
    }
}

// Its bit goes from the remote ones to the owner's, and to the word that the owner takes from, and back.
BOOST_AUTO_TEST_CASE(a_free_block_never_looks_live_while_its_bit_moves) {
    slab_source source{
        {1 << 20, 1 << 22, 1 << 22}, std::pmr::new_delete_resource(), slab_source::users::many};
    auto const shards = std::make_unique<std::array<pool_shard, 2>>();
    pool_shard& mine = shards->front();
    pool_shard& other = shards->back();
    pool_shard::findings found;

    slab* const s = source.take(8, 2048);
    std::size_t live = 0;
    for (int round = 0; round < 300; ++round) {
        s->assign(mine.pools[0], 0, 8);
        while (s->turn())
            static_cast<void>(s->pop());
        live += times_live(*s, [&](std::atomic<std::size_t>& freed) {
            for (std::size_t i = 0; i < s->blocks; ++i) {
                s->push_remote(i);
                freed = i + 1;
                std::byte* twice = nullptr;
                s->collect(twice);
            }
        });
    }
    BOOST_TEST(live == 0u);

    s->bytes = 2 * 64 * 8; // two words
    s->assign(mine.pools[0], 0, 8);
    for (std::size_t i = 0; i < 60; ++i) // few are free: the next word's turn comes
        for (std::size_t const word : {0u, 1u})
            s->bits()[word] &= ~(std::uint64_t{1} << i);
    s->count = 120;
    mine.adopt(s, 0);
    BOOST_TEST(times_live(*s, [&](std::atomic<std::size_t>& freed) {
                   freed = 126 + 1;
                   for (int i = 0; i < 1'000'000; ++i) {
                       pool_shard& from = i % 6 < 3 ? mine : other;
                       pool_shard& to = i % 6 < 2 || i % 6 == 5 ? mine : other;
                       from.serve(0, found);
                       to.adopt(from.surrender(0), 0);
                   }
               }) == 0u);
}

BOOST_AUTO_TEST_CASE(a_thread_that_begins_with_a_wrong_free_changes_nothing) {
    counting_upstream upstream;
    pool_type pool{&upstream};
    misuse_recorder recorder;
    auto* const block = static_cast<std::byte*>(pool.allocate(64));
    auto* const freed = pool.allocate(64);
    pool.deallocate(freed, 64);
    auto const before = pool.stats();
    std::size_t const calls = upstream.allocations();
    std::thread{[&] {
        pool.deallocate(freed, 64);
        pool.deallocate(block + 1, 64);
        pool.deallocate(block, 640);
    }}.join();
    BOOST_TEST(recorder.take().size() == 3u);
    BOOST_TEST(upstream.allocations() == calls);
    BOOST_CHECK(pool.stats() == before);
    pool.deallocate(block, 64);
}

// Not even an address inside what the pool keeps about its blocks brings one back that is live.
BOOST_AUTO_TEST_CASE(no_address_of_its_own_memory_makes_a_live_block_free) {
    struct : std::pmr::memory_resource {
        std::byte* own = nullptr;

        void* do_allocate(std::size_t bytes, std::size_t alignment) override {
            void* const p = std::pmr::new_delete_resource()->allocate(bytes, alignment);
            if (bytes == sizeof(pool_shard))
                own = static_cast<std::byte*>(p);
            return p;
        }
        void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
            std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
        }
        bool do_is_equal(std::pmr::memory_resource const& to) const noexcept override {
            return this == &to;
        }
    } upstream;
    pool_type pool{&upstream};
    misuse_recorder recorder;
    std::vector<void*> blocks;
    auto const take_some = [&] {
        for (int i = 0; i < 200; ++i)
            blocks.push_back(pool.allocate(64));
    };
    take_some();
    pool.trim(); // what the thread takes from next goes back to its slab
    pool.deallocate(pool.allocate(500), 500);
    BOOST_REQUIRE(upstream.own != nullptr);
    for (std::size_t at = 0; at < sizeof(pool_shard); at += 8)
        pool.deallocate(upstream.own + at, 64);
    take_some();
    std::sort(blocks.begin(), blocks.end());
    BOOST_CHECK(std::adjacent_find(blocks.begin(), blocks.end()) == blocks.end());
    BOOST_TEST(recorder.take().size() == sizeof(pool_shard) / 8);
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(resources_come_and_go_while_threads_live) {
    auto const seed = strata::test::seed("resources");
    pool_type shared{tiny};
    std::atomic<bool> done{false};
    std::atomic<int> unsound{0};
    std::thread second{[&] {
        for (std::uint64_t i = 0; !done; ++i)
            if (!churn(shared, seed + i, 500, 500))
                ++unsound;
    }};
    for (int i = 0; i < 100; ++i) {
        std::array<std::unique_ptr<pool_type>, 20> pools; // more than a thread has slots for
        for (auto& pool : pools)
            pool = std::make_unique<pool_type>(tiny);
        on_threads(2, [&](std::size_t k) {
            for (auto& pool : pools)
                if (!churn(*pool, seed + k, 50, 500))
                    ++unsound;
        });
        for (auto& pool : pools)
            BOOST_REQUIRE(is_empty(*pool));
        if (!churn(shared, seed, 500, 500))
            ++unsound;
    }
    done = true;
    second.join();
    BOOST_TEST(unsound == 0);
    BOOST_TEST(is_empty(shared));
}

BOOST_AUTO_TEST_CASE(threads_that_end_while_their_resources_do) {
    for (int i = 0; i < 300; ++i) {
        std::optional<pool_type> pool;
        pool.emplace(tiny);
        std::atomic<bool> used{false};
        std::thread thread{[&] {
            pool->deallocate(pool->allocate(100), 100);
            used = true;
        }};
        while (!used)
            std::this_thread::yield();
        pool.reset(); // the thread ends meanwhile, or has, or will
        thread.join();
    }
}

namespace {

// Made before a thread's caches are, so that it goes after them.
struct late {
    pool_type* pool = nullptr;
    std::vector<void*> blocks;
    ~late() {
        for (void* const p : blocks)
            pool->deallocate(p, 100);
        for (int i = 0; i < 1000; ++i)
            pool->deallocate(pool->allocate(200), 200);
    }
};

} // namespace

BOOST_AUTO_TEST_CASE(thread_local_destructors_may_allocate_and_free) {
    pool_type pool;
    on_threads(4, [&](std::size_t) {
        thread_local late after;
        after.pool = &pool;
        for (int i = 0; i < 300; ++i)
            after.blocks.push_back(pool.allocate(100));
    });
    BOOST_TEST(is_empty(pool));
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(a_visitor_that_throws_lets_go_of_all_locks) {
    pool_type pool;
    void* const p = pool.allocate(100);
    BOOST_CHECK_THROW(pool.visit_blocks([](strata::block_info const&) { throw 1; }), int);
    BOOST_TEST(pool.stats().live_blocks == 1u);
    pool.deallocate(p, 100);
}

// The thread's last call has returned, but the thread is not over.
BOOST_AUTO_TEST_CASE(trim_and_release_while_threads_end) {
    counting_upstream upstream;
    pool_type pool{tiny, &upstream};
    for (int i = 0; i < 300; ++i) {
        std::atomic<bool> used{false};
        std::thread thread{[&] {
            churn(pool, 1, 200, 500);
            used = true;
        }};
        while (!used)
            std::this_thread::yield();
        if (i % 2 == 0)
            pool.trim();
        else
            pool.release();
        BOOST_REQUIRE(upstream.live_blocks() == 0u);
        thread.join();
    }
}

BOOST_AUTO_TEST_CASE(trim_gives_all_back_whoever_freed_last) {
    counting_upstream upstream;
    pool_type pool{&upstream};
    pool.deallocate(pool.allocate(40), 40);
    std::vector<void*> blocks(1000);
    std::thread{[&] {
        for (void*& p : blocks)
            p = pool.allocate(40);
    }}.join();
    for (void* const p : blocks)
        pool.deallocate(p, 40);
    pool.trim();
    BOOST_TEST(upstream.live_blocks() == 0u);
}

BOOST_AUTO_TEST_CASE(two_of_them_may_be_stacked) {
    auto const seed = strata::test::seed("stack");
    counting_upstream upstream;
    {
        pool_type below{{.largest_block_bytes = 32768}, &upstream};
        pool_type above{tiny, &below};
        std::atomic<int> unsound{0};
        on_threads(4, [&](std::size_t i) {
            if (!churn(above, seed + i, 10'000, 3000) || !churn(below, seed + i, 10'000, 3000))
                ++unsound;
        });
        BOOST_TEST(unsound == 0);
        BOOST_TEST(is_empty(above));
    }
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(it_can_be_asked_while_threads_work) {
    auto const seed = strata::test::seed("asked");
    pool_type pool{tiny};
    BOOST_TEST(answers_while_threads_work(pool, seed));
    BOOST_TEST(is_empty(pool));
}

#if !defined(__SANITIZE_THREAD__)
BOOST_AUTO_TEST_CASE(a_child_process_can_use_it) {
    auto const seed = strata::test::seed("fork");
    counting_upstream upstream;
    pool_type below{&upstream};
    pool_type pool{tiny, &below};
    BOOST_TEST(children_can_use(pool, seed));
    BOOST_TEST(is_empty(pool));
}

// Their caches are known to the resource; their stacks are gone, or another thread's.
BOOST_AUTO_TEST_CASE(a_child_process_can_destroy_what_lost_threads_used) {
    auto pool = std::make_unique<pool_type>(tiny);
    std::barrier idle{17};
    std::vector<std::thread> threads;
    for (int i = 0; i < 16; ++i)
        threads.emplace_back([&] {
            churn(*pool, 1, 500, 500);
            idle.arrive_and_wait();
            idle.arrive_and_wait();
        });
    idle.arrive_and_wait();
    BOOST_TEST(is_sound_in_a_child([&] {
        bool sound = true;
        std::thread{[&] { sound = churn(*pool, 2, 5000, 500); }}.join();
        pool->trim();
        sound = is_empty(*pool) && pool->check_invariants() && sound;
        pool.reset();
        return sound;
    }));
    idle.arrive_and_wait();
    for (std::thread& thread : threads)
        thread.join();
}
#endif

BOOST_AUTO_TEST_SUITE_END()
