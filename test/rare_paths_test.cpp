// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE rare_paths
#include <boost/test/unit_test.hpp>

// What the resources for threads promise, where it is hardest to keep: slabs are tiny, threads and
// resources come and go, upstream has too little, and threads pause at locks and on rare paths. Each
// case names the rare paths that it must have taken.

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <memory_resource>
#include <new>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include <strata/synchronized_fixed_block_resource.hpp>
#include <strata/synchronized_segregated_pool_resource.hpp>

#include "support/counting_upstream.hpp"
#include "support/other_thread.hpp"
#include "support/rare_paths.hpp"
#include "support/seed.hpp"
#include "support/threads.hpp"

using pool_type = strata::synchronized_segregated_pool_resource;
using fixed_type = strata::synchronized_fixed_block_resource;
using strata::test::belt;
using strata::test::churn;
using strata::test::count_rare_paths_anew;
using strata::test::counting_upstream;
using strata::test::filled_block;
using strata::test::has_come;
using strata::test::has_gone_on;
using strata::test::is_empty;
using strata::test::is_sound_in_a_child;
using strata::test::let_meet;
using strata::test::let_stand;
using strata::test::on_threads;
using strata::test::other_thread;
using strata::test::pauses;
using strata::test::producers_and_consumers;
using strata::test::times_taken;
using strata::test::tiny;

namespace {

// Each test case begins with an own count.
struct counted {
    counted() { count_rare_paths_anew(); }
    static void demand(std::initializer_list<char const*> paths) {
        for (char const* const path : paths) {
            BOOST_TEST_MESSAGE(times_taken(path) << " x " << path);
            BOOST_TEST(times_taken(path) != 0u, "never taken: " << path);
        }
    }
};

// Blocks go from each generation of threads to the next. Returns: whether all content was there.
bool generations(strata::resource& in, std::uint64_t seed, std::size_t most_bytes) {
    belt between;
    std::atomic<int> unsound{0};
    for (std::uint64_t generation = 0; generation < 40; ++generation)
        on_threads(3, [&](std::size_t i) {
            std::mt19937_64 random{seed + 3 * generation + i};
            for (int k = 0; k < 200; ++k)
                if (auto block = between.take(); block && !block->give_back(in))
                    ++unsound;
            if (!churn(in, seed + i, 300, most_bytes))
                ++unsound;
            for (int k = 0; k < 200; ++k)
                between.put({in, 1 + random() % most_bytes, static_cast<unsigned char>(random())});
        });
    while (auto block = between.take())
        if (!block->give_back(in))
            ++unsound;
    return unsound == 0;
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(rare_paths, counted)

BOOST_AUTO_TEST_CASE(threads_come_and_go_and_hand_their_blocks_on) {
    auto const seed = strata::test::seed("generations");
    pauses const some{seed};
    pool_type pool{tiny};
    fixed_type blocks{100'000, 64};
    BOOST_TEST(generations(pool, seed, 700));
    BOOST_TEST(generations(blocks, seed, 100));
    for (strata::resource* const one :
         {static_cast<strata::resource*>(&pool), static_cast<strata::resource*>(&blocks)}) {
        BOOST_TEST(is_empty(*one));
        BOOST_TEST(one->check_invariants());
    }
    demand({"thread_caches: a thread ends", "thread_caches: a cache is used again", "slab: full",
            "slab: nearly full", "slab: serves again", "slab: empty again",
            "slab_source: the table grows", "segregated pool: others collect",
            "segregated pool: a thread's table is old, or has no such address",
            "biased_mutex: its owner waits"});
}

BOOST_AUTO_TEST_CASE(producers_and_consumers_that_pause) {
    auto const seed = strata::test::seed("producers");
    pauses const some{seed};
    pool_type pool{tiny};
    fixed_type blocks{200'000, 64};
    BOOST_TEST(producers_and_consumers(pool, seed, 700));
    BOOST_TEST(producers_and_consumers(blocks, seed, 100));
    BOOST_TEST(is_empty(pool));
    BOOST_TEST(is_empty(blocks));
    BOOST_TEST(pool.check_invariants());
    BOOST_TEST(blocks.check_invariants());
    demand({"slab: full", "slab: serves again", "slab: empty again"});
}

// Some stand on a pool that all share; threads that used those before live on, or end.
BOOST_AUTO_TEST_CASE(resources_are_made_and_destroyed_while_threads_work) {
    auto const seed = strata::test::seed("resources");
    pauses const some{seed};
    pool_type shared{tiny};
    std::atomic<bool> done{false};
    std::atomic<int> unsound{0};
    std::vector<std::thread> others;
    for (std::uint64_t i = 0; i < 2; ++i)
        others.emplace_back([&, i] {
            for (std::uint64_t round = 0; !done; ++round)
                if (!churn(shared, seed + i + round, 500, 700))
                    ++unsound;
        });
    for (int round = 0; round < 20; ++round) {
        std::vector<std::unique_ptr<strata::resource>> made; // more than a thread has slots for
        for (std::size_t i = 0; i < 9; ++i) {
            made.push_back(std::make_unique<pool_type>(tiny, &shared));
            made.push_back(std::make_unique<fixed_type>(20'000u, 64u, &shared));
        }
        std::barrier used{3};
        std::vector<std::thread> users;
        for (std::uint64_t i = 0; i < 2; ++i)
            users.emplace_back([&, i] {
                for (auto const& one : made)
                    if (!churn(*one, seed + i, 100, 150))
                        ++unsound;
                if (i == 0) { // ends while the resources do
                    used.arrive_and_drop();
                    return;
                }
                used.arrive_and_wait();
                used.arrive_and_wait();
                if (!churn(shared, seed, 100, 700))
                    ++unsound;
            });
        used.arrive_and_wait();
        for (auto const& one : made)
            BOOST_TEST(is_empty(*one));
        made.clear();
        used.arrive_and_wait();
        for (std::thread& user : users)
            user.join();
    }
    done = true;
    for (std::thread& one : others)
        one.join();
    BOOST_TEST(unsound == 0);
    BOOST_TEST(is_empty(shared));
    BOOST_TEST(shared.check_invariants());
    demand({"thread_caches: a thread ends", "thread_caches: a cache is taken from its thread",
            "thread_caches: instances share a slot"});
}

BOOST_AUTO_TEST_CASE(a_resource_waits_for_a_thread_that_gives_its_cache_back) {
    for (int i = 0; i < 2; ++i) {
        count_rare_paths_anew();
        std::unique_ptr<strata::resource> gone;
        if (i == 0)
            gone = std::make_unique<pool_type>(tiny);
        else
            gone = std::make_unique<fixed_type>(20'000u, 64u);
        let_meet("thread_caches: a thread ends",
                 "thread_caches: an instance waits for a thread that ends");
        std::thread thread{[&] { churn(*gone, 1, 100, 100); }};
        while (times_taken("thread_caches: a thread ends") == 0)
            std::this_thread::yield();
        gone.reset();
        thread.join();
        demand({"thread_caches: an instance waits for a thread that ends"});
    }
}

// It asks for less then, and takes what there is of any size, of any thread.
BOOST_AUTO_TEST_CASE(threads_share_what_is_left_when_upstream_has_nothing_more) {
    auto const seed = strata::test::seed("little");
    pauses const some{seed};
    counting_upstream upstream;
    upstream.hold_at_most(150'000);
    pool_type pool{tiny, &upstream};
    other_thread idle; // a slab of each of these sizes is in part its own, until others need it
    std::vector<filled_block> kept;
    idle.run([&] {
        for (std::size_t bytes = 8; bytes <= 1024; bytes *= 2)
            kept.emplace_back(pool, bytes, static_cast<unsigned char>(bytes));
    });
    std::atomic<int> unsound{0};
    std::atomic<int> refused{0};
    on_threads(4, [&](std::size_t i) {
        std::mt19937_64 random{seed + i};
        for (int round = 0; round < 20; ++round) {
            std::size_t const most_bytes = 1u << random() % 11; // of a few classes each time
            std::vector<filled_block> blocks;
            try {
                while (blocks.size() < 3000)
                    blocks.emplace_back(pool, 1 + random() % most_bytes,
                                        static_cast<unsigned char>(random()));
            } catch (std::bad_alloc const&) {
                ++refused;
            }
            for (filled_block& block : blocks)
                if (!block.give_back(pool))
                    ++unsound;
        }
    });
    idle.run([&] {
        for (filled_block& block : kept)
            if (!block.give_back(pool))
                ++unsound;
    });
    BOOST_TEST(unsound == 0);
    BOOST_TEST(refused != 0);
    BOOST_TEST(is_empty(pool));
    BOOST_TEST(pool.check_invariants());
    pool.trim();
    BOOST_TEST(upstream.live_blocks() == 0u);
    demand({"slab_source: a smaller chunk", "slab_source: no chunk, but a slab of another size",
            "slab_source: a chunk is idle", "slab: empty again",
            "segregated pool: upstream has none",
            "segregated pool: an idle thread's slabs are taken"});
}

BOOST_AUTO_TEST_CASE(threads_that_upstream_has_no_memory_for_work_without_a_cache) {
    auto const seed = strata::test::seed("no cache");
    pauses const some{seed};
    counting_upstream upstream;
    pool_type pool{tiny, &upstream};
    fixed_type blocks{100'000, 64, &upstream};
    std::vector<void*> taken(2000);
    for (void*& p : taken)
        p = pool.allocate(60);
    for (void* const p : taken)
        pool.deallocate(p, 60);
    upstream.fail_after(0);
    std::atomic<int> unsound{0};
    on_threads(2, [&](std::size_t i) {
        std::vector<filled_block> own;
        for (std::size_t round = 0; round < 4; ++round) {
            for (std::size_t k = 0; k < 300; ++k)
                own.emplace_back(pool, 60, static_cast<unsigned char>(k));
            for (filled_block& block : own)
                if (!block.give_back(pool))
                    ++unsound;
            own.clear();
        }
        if (!churn(blocks, seed + i, 5000, 64))
            ++unsound;
    });
    upstream.never_fail();
    BOOST_TEST(unsound == 0);
    BOOST_TEST(is_empty(pool));
    BOOST_TEST(is_empty(blocks));
    BOOST_TEST(pool.check_invariants());
    BOOST_TEST(blocks.check_invariants());
    demand({"segregated pool: no memory for a shard", "segregated pool: a free without a shard"});
}

BOOST_AUTO_TEST_CASE(threads_take_all_that_a_fixed_pool_has_again_and_again) {
    auto const seed = strata::test::seed("all");
    pauses const some{seed};
    fixed_type blocks{64 * 1000, 64, std::pmr::new_delete_resource()};
    std::barrier all_taken{4};
    std::atomic<int> unsound{0};
    std::atomic<std::size_t> owned{0};
    on_threads(4, [&](std::size_t i) {
        for (int round = 0; round < 20; ++round) {
            std::vector<std::pair<void*, unsigned char>> own;
            for (bool is_ours = true; is_ours; ++owned) {
                own.emplace_back(blocks.allocate(64), static_cast<unsigned char>(own.size() + i));
                std::memset(own.back().first, own.back().second, 64);
                is_ours = blocks.owns(own.back().first);
            }
            --owned; // the last one is upstream's
            all_taken.arrive_and_wait();
            if (owned > 1000 || owned < 1000 - 4 * 64) // a magazine may hold as many
                ++unsound;
            all_taken.arrive_and_wait();
            owned = 0;
            for (auto const& [p, value] : own) {
                auto const* const bytes = static_cast<unsigned char const*>(p);
                if (std::count(bytes, bytes + 64, value) != 64)
                    ++unsound;
                blocks.deallocate(p, 64);
            }
            all_taken.arrive_and_wait();
        }
    });
    BOOST_TEST(unsound == 0);
    BOOST_TEST(is_empty(blocks));
    BOOST_TEST(blocks.check_invariants());
}

BOOST_AUTO_TEST_CASE(blocks_become_runs_and_single_again_while_threads_work) {
    auto const seed = strata::test::seed("runs");
    pauses const some{seed};
    fixed_type blocks{64 * 1000, 64};
    std::atomic<int> unsound{0};
    std::atomic<int> grown{0};
    on_threads(4, [&](std::size_t i) {
        std::mt19937_64 random{seed + i};
        for (int round = 0; round < 1000; ++round) {
            std::array<std::pair<void*, std::size_t>, 40> own;
            for (auto& [p, bytes] : own) {
                bytes = 64;
                p = blocks.allocate(bytes);
                if (std::size_t const wanted = 1 + random() % 200;
                    blocks.try_resize(p, bytes, wanted)) {
                    grown += wanted > 64 ? 1 : 0;
                    bytes = wanted;
                }
                std::memset(p, static_cast<int>(i), bytes);
            }
            for (auto const& [p, bytes] : own) {
                auto const* const at = static_cast<unsigned char const*>(p);
                if (std::count(at, at + bytes, i) != static_cast<std::ptrdiff_t>(bytes))
                    ++unsound;
                blocks.deallocate(p, bytes);
            }
        }
    });
    BOOST_TEST(unsound == 0);
    BOOST_TEST(grown != 0);
    BOOST_TEST(is_empty(blocks));
    BOOST_TEST(blocks.check_invariants());
}

namespace {

// Made before a thread's caches are, so that it goes after them.
struct late {
    std::array<strata::resource*, 2> in{};
    bool* sound = nullptr;
    ~late() {
        for (strata::resource* const one : in)
            *sound = churn(*one, 1, 2000, 100) && *sound;
    }
};

} // namespace

// What it was at would be half done in what the question sees.
BOOST_AUTO_TEST_CASE(who_asks_waits_for_a_thread_that_is_inside) {
    for (bool const asks_of_all : {false, true}) {
        pool_type pool{tiny};
        std::atomic<void*> block{nullptr};
        let_stand("slab: serves again");
        std::thread inside{[&] {
            void* const first = pool.allocate(1000);
            for (int i = 0; i < 4; ++i) // the first's slab is full then
                block = pool.allocate(1000);
            pool.deallocate(first, 1000);
        }};
        BOOST_REQUIRE(has_come());
        if (asks_of_all)
            static_cast<void>(pool.stats());
        else
            static_cast<void>(pool.diagnose(block, 1000, 8));
        BOOST_TEST(has_gone_on());
        inside.join();
    }
}

BOOST_AUTO_TEST_CASE(a_slab_may_be_taken_while_its_owner_frees_a_block_of_it) {
    constexpr char const* taken = "segregated pool: a slab was taken while a block of it came back";
    for (int round = 0; round < 100 && times_taken(taken) == 0; ++round) {
        pool_type pool{tiny};
        void* const kept = pool.allocate(8);
        void* block = nullptr;
        void* pending = nullptr;
        other_thread idle;
        idle.run([&] {
            block = pool.allocate(500);
            pending = pool.allocate(1000);
            for (int i = 0; i < 4; ++i) // its slab is full
                static_cast<void>(pool.allocate(1000));
        });
        std::vector<void*> mine(66 * 4); // slabs until another is idle
        for (void*& p : mine)
            p = pool.allocate(1000);
        pool.deallocate(pending, 1000);
        let_stand("slab: serves again");
        std::thread takes{[&] { pool.deallocate(pool.allocate(500), 500); }};
        BOOST_REQUIRE(has_come());
        idle.run([&] { BOOST_TEST(!pool.try_deallocate(block, 500)); });
        takes.join();
        for (void* const p : mine)
            pool.deallocate(p, 1000);
        pool.deallocate(kept, 8);
        BOOST_TEST(pool.stats().live_blocks == 4u);
        BOOST_TEST(pool.check_invariants());
    }
    demand({taken});
}

BOOST_AUTO_TEST_CASE(a_thread_that_has_ended_goes_without_a_cache) {
    pool_type pool{tiny};
    fixed_type blocks{20'000, 64};
    bool sound = true;
    std::thread{[&] {
        thread_local late after;
        after.sound = &sound;
        after.in = {&pool, &blocks};
        churn(pool, 2, 100, 100);
        churn(blocks, 2, 100, 100);
    }}.join();
    BOOST_TEST(sound);
    BOOST_TEST(is_empty(pool));
    BOOST_TEST(is_empty(blocks));
    demand({"thread_caches: a thread that has ended gets no cache"});
}

#if !defined(__SANITIZE_THREAD__) // which ends a child of many threads
BOOST_AUTO_TEST_CASE(a_fork_waits_for_whoever_is_inside) {
    for (char const* const path : {"slab: serves again", "slab_source: the table grows",
                                   "thread_caches: a cache is taken from its thread"}) {
        pool_type older{tiny};
        pool_type const newer{tiny};
        let_stand(path);
        std::thread inside{[&] {
            void* const first = older.allocate(1000);
            for (int i = 0; i < 4; ++i)
                static_cast<void>(older.allocate(1000));
            older.deallocate(first, 1000);
            pool_type of_its_own{tiny};
            static_cast<void>(of_its_own.allocate(8));
        }};
        BOOST_REQUIRE(has_come());
        BOOST_TEST(is_sound_in_a_child(has_gone_on), path);
        inside.join();
    }
}

BOOST_AUTO_TEST_CASE(a_child_does_not_wait_for_a_thread_that_gave_back_its_cache) {
    std::optional<pool_type> pool{tiny};
    let_stand("thread_caches: a thread ends");
    std::thread ends{[&] { static_cast<void>(pool->allocate(8)); }};
    BOOST_REQUIRE(has_come());
    BOOST_TEST(is_sound_in_a_child([&] {
        pool.reset();
        return true;
    }));
    ends.join();
}

BOOST_AUTO_TEST_CASE(a_child_goes_on_without_the_caches_of_others) {
    auto const seed = strata::test::seed("child");
    pauses const some{seed};
    pool_type pool{tiny};
    fixed_type blocks{100'000, 64, &pool};
    std::atomic<bool> done{false};
    std::barrier have_caches{4};
    on_threads(4, [&](std::size_t i) {
        strata::resource& own = i % 2 != 0 ? static_cast<strata::resource&>(pool) : blocks;
        churn(own, seed, 300, 150);
        have_caches.arrive_and_wait();
        for (std::uint64_t round = 0; i != 0 && !done; ++round)
            churn(own, seed + round, 300, 150);
        for (int k = 0; i == 0 && k < 20; ++k) {
            BOOST_TEST(is_sound_in_a_child([&] {
                return churn(pool, seed, 1000, 700) && churn(blocks, seed, 1000, 150) &&
                       times_taken("thread_caches: a child loses a cache") != 0;
            }));
        }
        if (i == 0)
            done = true;
    });
    BOOST_TEST(is_empty(blocks));
}

// A thread that has its first slab, or is on its way to tell of a block that it freed, is not there.
BOOST_AUTO_TEST_CASE(a_child_is_sound_whatever_others_were_at) {
    auto const seed = strata::test::seed("sound child");
    pauses const some{seed};
    for (std::uint64_t round = 0; round < 100; ++round) {
        pool_type pool{tiny};
        std::barrier all{4};
        on_threads(4, [&](std::size_t i) {
            void* const early = i == 1 ? pool.allocate(900) : nullptr; // some have a shard
            all.arrive_and_wait();
            if (i != 0) {
                void* const p = pool.allocate(64 * i);
                pool.deallocate(p, 64 * i);
            } else {
                BOOST_TEST(is_sound_in_a_child([&] {
                    return pool.check_invariants() && churn(pool, seed, 300, 700) &&
                           pool.check_invariants();
                }));
            }
            if (early != nullptr)
                pool.deallocate(early, 900);
        });
        BOOST_TEST(is_empty(pool));
    }
}
#endif

BOOST_AUTO_TEST_SUITE_END()
