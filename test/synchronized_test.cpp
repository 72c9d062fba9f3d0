// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE synchronized
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <strata/segregated_pool_resource.hpp>
#include <strata/synchronized.hpp>
#include <strata/tracked_block_resource.hpp>

#include "support/counting_upstream.hpp"
#include "support/misuse_recorder.hpp"
#include "support/reference_resource.hpp"

using strata::misuse;
using strata::misuse_kind;
using strata::synchronized;
using strata::test::counting_upstream;
using strata::test::handler_scope;
using strata::test::misuse_recorder;
using strata::test::reference_resource;

namespace {

// The least that a lock can be, and it counts: what synchronized may ask of a Mutex.
class spin_lock {
  public:
    void lock() noexcept {
        while (flag_.test_and_set(std::memory_order_acquire))
            std::this_thread::yield();
        ++locks;
    }
    void unlock() noexcept {
        ++unlocks;
        flag_.clear(std::memory_order_release);
    }

    static inline std::size_t locks = 0; // read and written under the lock alone
    static inline std::size_t unlocks = 0;

  private:
    std::atomic_flag flag_;
};

using spinning = synchronized<reference_resource, spin_lock>;

// What went through the lock since the last call.
std::size_t locks_taken() {
    BOOST_TEST(spin_lock::locks == spin_lock::unlocks);
    spin_lock::unlocks = 0;
    return std::exchange(spin_lock::locks, 0);
}

template <class Function>
void on_threads(std::size_t count, Function f) {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < count; ++i)
        threads.emplace_back([&f, i] { f(i); });
    for (std::thread& thread : threads)
        thread.join();
}

} // namespace

BOOST_AUTO_TEST_SUITE(synchronized_promises)

BOOST_AUTO_TEST_CASE(constructor_arguments_reach_the_owned_resource) {
    counting_upstream upstream;
    {
        synchronized<reference_resource> resource{&upstream};
        BOOST_TEST(resource.upstream_resource() == &upstream);
        BOOST_TEST(resource.name() == std::string_view{"synchronized_reference_resource"});
        static_cast<void>(resource.allocate(100));
        BOOST_TEST(upstream.live_blocks() == 1u);
    }
    BOOST_TEST(upstream.settled());
    synchronized<reference_resource> by_default;
    BOOST_TEST(by_default.upstream_resource() == std::pmr::new_delete_resource());
}

BOOST_AUTO_TEST_CASE(options_reach_it_too_and_apply_shows_what_it_made_of_them) {
    synchronized<strata::segregated_pool_resource> const pool{
        strata::segregated_pool_options{.largest_block_bytes = 1024}};
    BOOST_TEST(pool.name() == std::string_view{"synchronized_segregated_pool_resource"});
    auto const options = [](strata::segregated_pool_resource const& p) { return p.options(); };
    BOOST_TEST(pool.apply(options).largest_block_bytes == 1024u);
}

BOOST_AUTO_TEST_CASE(any_basic_lockable_is_a_lock_and_is_held_once_a_call) {
    spinning resource;
    static_cast<void>(locks_taken());
    void* p = resource.allocate(100);
    BOOST_TEST(locks_taken() == 1u);
    p = resource.reallocate(p, 100, 1000);
    BOOST_TEST(locks_taken() == 1u);
    p = resource.reallocate(p, 1000, 5000); // moves
    BOOST_TEST(locks_taken() == 1u);
    static_cast<strata::resource&>(resource).deallocate(p, 5000);
    BOOST_TEST(locks_taken() == 1u);
    p = resource.allocate_zeroed(10, 10);
    BOOST_TEST(locks_taken() == 1u);
    BOOST_TEST(resource.try_resize(p, 100, 50));
    BOOST_TEST(locks_taken() == 2u); // the check, then the check and the resizing in one
    BOOST_TEST(!resource.try_deallocate(p, 50));
    static_cast<void>(resource.diagnose(p, 50, 16));
    static_cast<void>(resource.owns(p));
    static_cast<void>(resource.good_size(1));
    static_cast<void>(resource.stats());
    resource.visit_blocks([](strata::block_info const&) {});
    BOOST_TEST(resource.check_invariants());
    resource.trim();
    resource.release();
    BOOST_TEST(locks_taken() == 9u);
    resource.deallocate(nullptr, 8);
    BOOST_TEST(locks_taken() == 0u);
}

BOOST_AUTO_TEST_CASE(misuse_is_reported_once_and_names_the_synchronized_object) {
    misuse_recorder recorder;
    synchronized<reference_resource> resource;
    void* const p = resource.allocate(40, 32);
    resource.deallocate(p, 400, 32);
    BOOST_TEST(!resource.try_resize(p, 400, 40, 32));
    BOOST_TEST(resource.reallocate(p, 400, 40, 32) == nullptr);
    auto const heard = recorder.take();
    BOOST_TEST(heard.size() == 3u);
    for (misuse const& what : heard) {
        BOOST_TEST((what.kind == misuse_kind::size_mismatch));
        BOOST_TEST(what.where == &resource);
        BOOST_TEST(what.address == p);
        BOOST_TEST(what.bytes == 400u);
        BOOST_TEST(what.alignment == 32u);
    }
    BOOST_TEST(!resource.try_deallocate(p, 40, 32));
    BOOST_TEST(recorder.take().empty());
}

BOOST_AUTO_TEST_CASE(a_handler_may_allocate_from_the_resource_that_it_hears_about) {
    static spinning* under_test = nullptr;
    static std::size_t calls = 0;
    spinning resource;
    under_test = &resource;
    handler_scope const allocating{+[](misuse const&) {
        under_test->deallocate(under_test->allocate(64), 64);
        ++calls;
    }};
    void* const p = resource.allocate(40);
    resource.deallocate(p, 400);
    BOOST_TEST(resource.reallocate(p, 400, 10) == nullptr);
    BOOST_TEST(!resource.try_resize(p, 400, 10));
    BOOST_TEST(calls == 3u);
    BOOST_TEST(resource.stats().live_blocks == 1u);
}

BOOST_AUTO_TEST_CASE(a_throwing_handler_leaves_the_lock_free) {
    handler_scope const throwing{+[](misuse const& what) { throw what.kind; }};
    spinning resource;
    int local = 0;
    BOOST_CHECK_THROW(resource.deallocate(&local, 4, 4), misuse_kind);
    BOOST_CHECK_THROW(resource.reallocate(&local, 4, 8, 4), misuse_kind);
    BOOST_CHECK_THROW(resource.try_resize(&local, 4, 8, 4), misuse_kind);
    resource.deallocate(resource.allocate(10), 10);
    BOOST_TEST(resource.stats().live_blocks == 0u);
}

BOOST_AUTO_TEST_CASE(a_failing_upstream_leaves_the_lock_free) {
    spinning resource{std::pmr::null_memory_resource()};
    BOOST_CHECK_THROW(static_cast<void>(resource.allocate(10)), std::bad_alloc);
    BOOST_CHECK_THROW(static_cast<void>(resource.allocate(10)), std::bad_alloc);
}

BOOST_AUTO_TEST_CASE(apply_runs_under_the_lock_and_returns_what_the_function_returns) {
    spinning resource;
    static_cast<void>(locks_taken());
    int const answer = resource.apply([](reference_resource& inner) {
        inner.deallocate(inner.allocate(8), 8);
        return spin_lock::locks == spin_lock::unlocks + 1 ? 42 : 0;
    });
    BOOST_TEST(answer == 42);
    reference_resource& inner =
        resource.apply([](reference_resource& r) -> reference_resource& { return r; });
    BOOST_TEST(&inner != static_cast<void*>(&resource));
    auto const& constant = resource;
    BOOST_TEST(constant.apply([](reference_resource const& r) { return r.stats().live_blocks; }) ==
               0u);
    BOOST_TEST(locks_taken() == 3u);
}

BOOST_AUTO_TEST_CASE(threads_share_it_without_losing_a_byte) {
    counting_upstream upstream; // not synchronized itself: called under the lock
    {
        synchronized<reference_resource> resource{&upstream};
        std::atomic<std::size_t> damaged = 0;
        on_threads(4, [&](std::size_t id) {
            struct block {
                void* p = nullptr;
                std::size_t bytes = 0;
            };
            std::array<block, 32> blocks{};
            auto const intact = [&](block const& b, std::size_t bytes) {
                for (std::size_t i = 0; i < bytes; ++i)
                    if (static_cast<unsigned char const*>(b.p)[i] != id + 1)
                        return false;
                return true;
            };
            for (std::size_t i = 0; i < 2000; ++i) {
                block& b = blocks[i * 7 % blocks.size()];
                std::size_t const bytes = (i * 37 + id) % 700;
                if (b.p != nullptr && i % 3 == 0) {
                    b.p = resource.reallocate(b.p, b.bytes, bytes);
                    damaged += intact(b, std::min(b.bytes, bytes)) ? 0 : 1;
                } else {
                    damaged += b.p == nullptr || intact(b, b.bytes) ? 0 : 1;
                    resource.deallocate(b.p, b.bytes);
                    b.p =
                        i % 2 == 0 ? resource.allocate(bytes) : resource.allocate_zeroed(1, bytes);
                }
                b.bytes = bytes;
                std::memset(b.p, static_cast<int>(id + 1), bytes);
            }
            for (block const& b : blocks)
                resource.deallocate(b.p, b.bytes);
        });
        BOOST_TEST(damaged == 0u);
        BOOST_TEST(resource.check_invariants());
        BOOST_TEST(resource.stats().live_blocks == 0u);
    }
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(one_of_many_frees_of_a_block_wins_the_others_are_reported) {
    static std::atomic<std::size_t> reported = 0;
    handler_scope const counting{+[](misuse const&) { ++reported; }};
    synchronized<reference_resource> resource;
    constexpr std::size_t rounds = 200;
    std::array<void*, rounds> blocks{};
    for (void*& p : blocks)
        p = resource.allocate(48);
    on_threads(3, [&](std::size_t id) {
        for (void* p : blocks)
            if (id == 0)
                static_cast<void>(resource.try_resize(p, 48, 47)); // the block keeps its size
            else
                resource.deallocate(p, 48);
    });
    BOOST_TEST(reported >= rounds); // a second free of each; and resizes that came too late
    BOOST_TEST(resource.stats().live_blocks == 0u);
    BOOST_TEST(resource.check_invariants());
}

// Threads that take all they can get: what is live never exceeds the budget, and all of it is had.
BOOST_AUTO_TEST_CASE(a_budget_holds_for_all_threads_together) {
    constexpr std::size_t budget = 64'000;
    counting_upstream upstream;
    strata::synchronized_tracked_block_resource tracked{
        strata::tracked_block_options{.budget_bytes = budget}, &upstream};
    std::atomic<std::size_t> live{0};
    std::atomic<std::size_t> refused{0};
    on_threads(4, [&](std::size_t thread) {
        std::size_t const bytes = std::size_t{100} << thread;
        std::vector<void*> mine;
        for (int round = 0; round < 50; ++round) {
            try {
                for (;;) {
                    mine.push_back(tracked.allocate(bytes));
                    if (live.fetch_add(bytes) + bytes > budget)
                        std::abort();
                }
            } catch (std::bad_alloc const&) {
                ++refused;
            }
            for (void* p : mine) {
                live -= bytes;
                tracked.deallocate(p, bytes);
            }
            mine.clear();
        }
    });
    BOOST_TEST(refused == 200u);
    auto const s = tracked.stats();
    BOOST_TEST(s.live_blocks == 0u);
    BOOST_TEST(s.peak_live_bytes <= budget);
    BOOST_TEST(s.peak_live_bytes > budget - 100);
    BOOST_TEST(tracked.check_invariants());
    tracked.release();
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_SUITE_END()
