// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE thread_caches
// What threads leave is found again: caches of threads that ended, that trim() emptied, that a fork lost.
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory_resource>
#include <optional>
#include <thread>
#include <vector>

#include <strata/detail/annotate.hpp>
#include <strata/detail/pool_shard.hpp>
#include <strata/synchronized_fixed_block_resource.hpp>
#include <strata/synchronized_segregated_pool_resource.hpp>

#include "support/counting_upstream.hpp"
#include "support/other_thread.hpp"
#include "support/threads.hpp"

using pool_type = strata::synchronized_segregated_pool_resource;
using strata::detail::pool_shard;
using strata::test::counting_upstream;
using strata::test::is_sound_in_a_child;
using strata::test::on_threads;
using strata::test::other_thread;

namespace {

// Overwrites what it gets back, keeps it, and hides it from tools: whoever looks there finds no sense.
class scribbling_upstream final : public std::pmr::memory_resource {
  public:
    scribbling_upstream() = default;
    scribbling_upstream(scribbling_upstream const&) = delete;
    scribbling_upstream& operator=(scribbling_upstream const&) = delete;
    ~scribbling_upstream() override {
        for (kept const& one : kept_) {
            strata::detail::open(one.p, one.bytes);
            std::pmr::new_delete_resource()->deallocate(one.p, one.bytes, one.alignment);
        }
    }

  private:
    struct kept {
        void* p;
        std::size_t bytes;
        std::size_t alignment;
    };

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        std::memset(p, 0x5a, bytes);
        strata::detail::hide(p, bytes);
        kept_.push_back({p, bytes, alignment});
    }
    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& to) const noexcept override {
        return this == &to;
    }

    std::vector<kept> kept_;
};

// Counts who is inside.
class slow_upstream final : public std::pmr::memory_resource {
  public:
    [[nodiscard]] int most_at_once() const noexcept { return most_at_once_; }

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        most_at_once_ = std::max(++inside_, most_at_once_.load());
        std::this_thread::sleep_for(std::chrono::milliseconds{1});
        --inside_;
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
    }
    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& to) const noexcept override {
        return this == &to;
    }

    std::atomic<int> inside_{0};
    std::atomic<int> most_at_once_{0};
};

void use(pool_type& pool) {
    pool.deallocate(pool.allocate(64), 64);
}

std::size_t overhead_bytes(pool_type const& of) {
    return of.stats().overhead_bytes;
}

} // namespace

BOOST_AUTO_TEST_SUITE(thread_caches)

// That is promised of upstream; first calls ask it for a cache each.
template <class Pool>
void begin_at_once(Pool&& pool, slow_upstream& upstream) {
    std::barrier at_once{8};
    on_threads(8, [&](std::size_t) {
        at_once.arrive_and_wait();
        pool.deallocate(pool.allocate(64), 64);
    });
    BOOST_TEST(upstream.most_at_once() == 1);
}

BOOST_AUTO_TEST_CASE(threads_that_begin_at_once_call_upstream_one_at_a_time) {
    slow_upstream upstream;
    begin_at_once(pool_type{&upstream}, upstream);
    begin_at_once(strata::synchronized_fixed_block_resource{64'000, 64, &upstream}, upstream);
}

BOOST_AUTO_TEST_CASE(trim_takes_from_a_thread_that_is_busy_elsewhere) {
    std::array<pool_type, 200> before;
    std::array<pool_type, 20> now; // more than a thread knows without looking into its list
    std::barrier turn{2};
    std::thread busy{[&] {
        std::for_each(now.begin(), now.end(), use);
        std::for_each(before.begin(), before.end(), use); // its list begins with the last
        turn.arrive_and_wait();
        for (int i = 0; i < 50; ++i) {
            std::for_each(now.begin(), now.end(), use);
            pool_type fresh;
            for (int k = 0; k < 1000; ++k) // without a lock, once it has a cache
                use(fresh);
        }
    }};
    turn.arrive_and_wait();
    std::for_each(before.rbegin(), before.rend(),
                  [](pool_type& pool) { BOOST_TEST(pool.trim() != 0u); });
    busy.join();
}

BOOST_AUTO_TEST_CASE(what_trim_takes_from_a_thread_it_gets_back) {
    pool_type pool;
    void* const kept = pool.allocate(64); // so that its shard stays
    std::size_t const before = overhead_bytes(pool);
    for (int i = 0; i < 3; ++i) {
        pool.trim();
        use(pool);
    }
    BOOST_TEST(overhead_bytes(pool) == before);
    pool.deallocate(kept, 64);
}

BOOST_AUTO_TEST_CASE(trim_destroys_what_threads_left_wherever_it_is_listed) {
    scribbling_upstream upstream;
    pool_type pool{&upstream};
    std::optional<other_thread> first{std::in_place};
    first->run([&] { use(pool); });
    void* const kept = pool.allocate(64);
    first.reset();
    BOOST_TEST(pool.trim() != 0u);
    std::size_t const held = pool.stats().footprint_bytes;
    BOOST_TEST(pool.trim() == 0u);
    BOOST_TEST(pool.stats().footprint_bytes == held);
    BOOST_TEST(pool.check_invariants());
    pool.deallocate(kept, 64);
}

// A thread looks blocks up in a table that it has seen before; what has gone upstream is in none.
BOOST_AUTO_TEST_CASE(nobody_finds_what_trim_has_given_back) {
    scribbling_upstream upstream;
    pool_type pool{&upstream};
    strata::test::misuse_recorder recorder;
    std::vector<void*> blocks(40'000);
    void* const kept = pool.allocate(64);
    {
        other_thread first;
        first.run([&] {
            for (std::size_t i = 0; i < 200; ++i)
                blocks[i] = pool.allocate(1000);
        });
        pool.deallocate(blocks[100], 1000);
        first.run([&] {
            for (std::size_t i = 200; i < blocks.size(); ++i)
                blocks[i] = pool.allocate(1000);
            for (std::size_t i = 0; i < blocks.size(); ++i)
                if (i != 100)
                    pool.deallocate(blocks[i], 1000);
        });
    }
    pool.trim();
    use(pool);
    for (void* const p : blocks)
        pool.deallocate(p, 1000);
    BOOST_TEST(recorder.take().size() == blocks.size());
    pool.deallocate(kept, 64);
    BOOST_TEST(pool.check_invariants());
}

namespace {

// Made before the thread's first allocation, it is destroyed after the library's own.
struct late {
    pool_type* pool = nullptr;
    ~late() {
        for (int i = 0; i < 100; ++i)
            use(*pool);
    }
};

} // namespace

BOOST_AUTO_TEST_CASE(calls_of_a_thread_that_is_over_share_one) {
    pool_type pool;
    {
        other_thread ends;
        ends.run([&] {
            thread_local late after;
            after.pool = &pool;
            use(pool);
        });
    }
    BOOST_TEST(overhead_bytes(pool) < 3 * sizeof(pool_shard));
}

BOOST_AUTO_TEST_CASE(where_a_thread_s_first_call_fails_another_thread_gets_what_it_had) {
    counting_upstream upstream;
    pool_type pool{&upstream};
    std::optional<other_thread> thread{std::in_place};
    thread->run([&] { use(pool); });
    upstream.fail_after(0);
    thread.emplace(); // has what the first left, and all that there is
    thread->run([&] {
        BOOST_CHECK_THROW(for (;;) static_cast<void>(pool.allocate(1024)), std::bad_alloc);
    });
    thread.emplace();
    thread->run([&] { BOOST_CHECK_THROW(static_cast<void>(pool.allocate(1024)), std::bad_alloc); });
    upstream.never_fail();
    std::size_t const before = overhead_bytes(pool);
    thread.emplace();
    thread->run([&] { pool.deallocate(pool.allocate(1024), 1024); });
    BOOST_TEST(overhead_bytes(pool) - before < sizeof(pool_shard));
}

#if !defined(__SANITIZE_THREAD__)
BOOST_AUTO_TEST_CASE(a_child_uses_again_what_lost_threads_had) {
    pool_type pool;
    other_thread lost;
    lost.run([&] { use(pool); });
    std::size_t const before = overhead_bytes(pool);
    BOOST_TEST(is_sound_in_a_child([&] {
        use(pool);
        return overhead_bytes(pool) == before;
    }));
}
#endif

BOOST_AUTO_TEST_SUITE_END()
