// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE pool_shard
// Memory goes from thread to thread: each case fixes who has what, and upstream counts.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <optional>
#include <thread>
#include <vector>

#include <strata/detail/pool_shard.hpp>
#include <strata/detail/slab.hpp>
#include <strata/detail/slab_source.hpp>
#include <strata/synchronized_segregated_pool_resource.hpp>

#include "support/counted_pool.hpp"
#include "support/other_thread.hpp"
#include "support/threads.hpp"
#include "support/valgrind.hpp"

using strata::segregated_pool_options;
using strata::detail::pool_shard;
using strata::detail::slab;
using strata::detail::slab_source;
using strata::test::counted_pool;
using strata::test::other_thread;
using strata::test::tiny;

namespace {

// This thread has a block, and so a shard.
struct used_pool : counted_pool {
    explicit used_pool(segregated_pool_options const& options = tiny)
        : counted_pool{options}, kept{pool.allocate(8, 8)} {}
    used_pool(used_pool const&) = delete;
    used_pool& operator=(used_pool const&) = delete;
    ~used_pool() { pool.deallocate(kept, 8, 8); }

    [[nodiscard]] bool takes_without_growth(std::size_t count, std::size_t bytes) {
        std::size_t const before = upstream.live_bytes();
        give(take(count, bytes), bytes);
        return upstream.live_bytes() == before;
    }

    void* kept;
};

} // namespace

BOOST_AUTO_TEST_SUITE(pool_shard_memory)

BOOST_AUTO_TEST_CASE(empty_slabs_of_one_class_serve_the_others) {
    used_pool of;
    of.give(of.take(400, 1000), 1000);
    BOOST_TEST(of.takes_without_growth(700, 500));
}

BOOST_AUTO_TEST_CASE(empty_slabs_of_a_thread_that_has_ended_serve_others) {
    used_pool of{{}};
    auto const sizes = of.pool.options().block_sizes;
    std::thread{[&] {
        for (std::size_t const bytes : sizes)
            of.pool.deallocate(of.pool.allocate(bytes, 8), bytes, 8);
    }}.join();
    for (std::size_t const bytes : sizes)
        BOOST_TEST(of.takes_without_growth(1, bytes));
}

BOOST_AUTO_TEST_CASE(what_others_freed_of_a_thread_that_has_ended_serves_others) {
    used_pool of;
    {
        std::vector<void*> blocks;
        other_thread ends;
        ends.run([&] { blocks = of.take(40, 500); });
        of.give(blocks, 500);
    }
    BOOST_TEST(of.takes_without_growth(20, 1000));
}

BOOST_AUTO_TEST_CASE(what_others_freed_of_a_thread_that_lives_on_serves_them) {
    used_pool of;
    std::vector<void*> blocks;
    other_thread first;
    first.run([&] { blocks = of.take(120, 1000); }); // 30 slabs
    of.give(blocks, 1000);
    BOOST_TEST(of.takes_without_growth(100, 500));
}

BOOST_AUTO_TEST_CASE(a_thread_is_idle_that_has_taken_none_of_64_slabs) {
    used_pool of;
    other_thread idle;
    idle.run([&] {
        std::vector<void*> const blocks = of.take(2000, 64);
        for (std::size_t i = 0; i < blocks.size(); ++i)
            if (i % 8 != 0)
                of.pool.deallocate(blocks[i], 64);
    });
    static_cast<void>(of.take(66 * 4, 1000));
    BOOST_TEST(of.takes_without_growth(1000, 64));
}

BOOST_AUTO_TEST_CASE(a_full_slab_of_an_idle_thread_serves_others_once_a_block_of_it_is_free) {
    for (bool const its_owner_frees : {true, false}) {
        used_pool of;
        std::vector<void*> full;
        other_thread owner;
        owner.run(
            [&] { full = of.take(9 * 4 + 1, 1000); }); // of nine slabs that are full, and one not
        static_cast<void>(of.take(66 * 8, 500));       // the owner is idle
        static_cast<void>(of.take(8, 1000)); // takes the one that is not, and finds no other
        owner.run([&] { static_cast<void>(of.take(1, 64)); }); // is not idle
        auto const free_of_each = [&] {
            for (std::size_t i = 0; i < 9 * 4; i += 4)
                of.pool.deallocate(full[i], 1000);
        };
        if (its_owner_frees) {
            owner.run(free_of_each);
        } else {
            free_of_each();
            static_cast<void>(of.take(8, 500)); // collects these, and has no use for them
        }
        static_cast<void>(of.take(66 * 8, 500)); // is idle again
        std::vector<void*> const next = of.take(8, 1000);
        BOOST_TEST(std::count(next.begin(), next.end(), full.front()) == 1);
    }
}

BOOST_AUTO_TEST_CASE(where_upstream_has_nothing_left_slabs_that_others_use_in_part_serve) {
    used_pool of;
    of.upstream.hold_at_most(300'000);
    auto const take_all = [&] {
        std::vector<void*> blocks;
        try {
            for (;;)
                blocks.push_back(of.pool.allocate(100));
        } catch (std::bad_alloc const&) {
        }
        return blocks;
    };
    std::size_t freed = 0;
    other_thread other;
    other.run([&] {
        std::vector<void*> const blocks = take_all();
        for (; 2 * freed < blocks.size(); ++freed)
            of.pool.deallocate(blocks[2 * freed], 100);
    });
    BOOST_TEST(take_all().size() + 64 >= freed);
}

BOOST_AUTO_TEST_CASE(trim_finds_what_others_freed_wherever_it_is) {
    used_pool of;
    {
        std::vector<void*> blocks;
        other_thread ends;
        ends.run([&] { blocks = of.take(400, 1000); });
        for (std::size_t i = 0; i < blocks.size();
             ++i) // most slabs are in use when they are collected
            if (i % 8 != 0)
                of.pool.deallocate(blocks[i], 1000);
        for (std::size_t i = 16; i < blocks.size(); i += 8)
            of.pool.deallocate(blocks[i], 1000);
        ends.run([&] { static_cast<void>(of.pool.allocate(1000)); });
    }
    BOOST_TEST(of.pool.check_invariants());
    of.pool.trim();
    BOOST_TEST(of.upstream.live_bytes() < 80'000u);
    BOOST_TEST(of.pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(trim_keeps_count_of_what_is_asked_for) {
    used_pool of;
    void* const less_than_its_block = of.pool.allocate(99);
    {
        void* block = nullptr;
        other_thread ends;
        ends.run([&] { block = of.pool.allocate(1000); });
        of.pool.deallocate(block, 1000);
    }
    of.pool.trim();
    BOOST_TEST(of.pool.stats().requested_bytes == 8u + 99u);
    of.pool.deallocate(less_than_its_block, 99);
}

BOOST_AUTO_TEST_CASE(it_can_be_asked_while_its_table_of_slabs_grows) {
    used_pool of;
    std::atomic<bool> done{false};
    std::size_t wrong = 0;
    std::thread asks{[&] {
        while (!done)
            if (!of.pool.owns(of.kept) || of.pool.diagnose(of.kept, 8, 8))
                ++wrong;
    }};
    of.give(of.take(4000, 1000), 1000);
    done = true;
    asks.join();
    BOOST_TEST(wrong == 0u);
}

// Whose free took so long that the slab went to another class meanwhile: it was the second of two.
BOOST_AUTO_TEST_CASE(a_late_free_of_a_block_that_its_slab_has_no_more_is_none) {
    slab_source source{
        {1 << 16, 1 << 20, 1 << 20}, std::pmr::new_delete_resource(), slab_source::users::many};
    auto const shard = std::make_unique<pool_shard>();
    slab& s = *source.take(1000, 0);
    s.assign(shard->pools[0], 0, 1000);
    BOOST_REQUIRE(s.blocks % 64 != 0);
    static_cast<void>(s.pop());
    s.is_pending = 1;
    s.remote[0] |= 1;
    s.remote[s.blocks / 64] |= std::uint64_t{1} << s.blocks % 64;
    std::byte* twice = nullptr;
    BOOST_TEST(s.collect(twice) == 1u);
    BOOST_TEST(twice == nullptr);
    BOOST_TEST((s.free_bits(s.blocks / 64) >> s.blocks % 64) == 0u);
}

#if !defined(__SANITIZE_THREAD__) // which orders them, and takes long
// Two threads, a store and a load each, in turn: that one sees the other's is for both orders to say.
BOOST_AUTO_TEST_CASE(whoever_frees_a_block_of_another_s_tells_it_or_is_seen,
                     *boost::unit_test::precondition(strata::test::is_without_valgrind)) {
    slab_source source{
        {1 << 16, 1 << 20, 1 << 20}, std::pmr::new_delete_resource(), slab_source::users::many};
    auto const shard = std::make_unique<pool_shard>();
    slab& s = *source.take(8, 2048);
    s.assign(shard->pools[0], 0, 8);
    while (s.turn())
        static_cast<void>(s.pop());
    std::atomic<bool> done{false};
    std::atomic<std::size_t> collected{0};
    std::atomic<std::size_t> looks{0};
    std::thread owner{[&] {
        std::byte* twice = nullptr;
        for (int patience = 1000; !done; ++looks) {
            if (s.is_pending.load(std::memory_order_relaxed) == 0) {
                if (--patience < 0) // the other may wait for this core
                    std::this_thread::yield();
                continue;
            }
            patience = 1000;
            std::size_t const came_back = s.collect(twice);
            for (std::size_t i = 0; i < s.words(); ++i)
                s.bits()[i] = 0; // live again
            collected += came_back;
        }
    }};
    bool is_lost = false;
    for (std::size_t freed = 64; freed <= 64 * 50'000 && !is_lost; freed += 64) {
        for (std::size_t i = 0; i < 64; ++i) {
            s.push_remote(i);
            if (s.is_pending.load() == 0)
                s.is_pending.exchange(1);
        }
        for (std::size_t first = looks; collected != freed && !is_lost;) {
            std::this_thread::yield();
            if (s.is_pending.load() != 0)
                first = looks;
            else // the owner has looked, and has dealt with what it saw
                is_lost = looks > first + 2 && collected != freed;
        }
    }
    BOOST_TEST(!is_lost);
    done = true;
    owner.join();
}
#endif

BOOST_AUTO_TEST_SUITE_END()
