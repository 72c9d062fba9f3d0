// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE interleavings
#include <boost/test/unit_test.hpp>

// A thread's call stops after its n-th instruction, what others do meanwhile runs to its end, and the
// call goes on: for every n, or every few where a call has thousands.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include <pthread.h>
#include <sched.h>

#include <strata/detail/biased_mutex.hpp>
#include <strata/misuse.hpp>
#include <strata/synchronized_fixed_block_resource.hpp>
#include <strata/synchronized_segregated_pool_resource.hpp>

#include "support/counted_pool.hpp"
#include "support/counting_upstream.hpp"
#include "support/interleave.hpp"
#include "support/misuse_recorder.hpp"
#include "support/other_thread.hpp"
#include "support/rare_paths.hpp"
#include "support/threads.hpp"

using pool_type = strata::synchronized_segregated_pool_resource;
using fixed_type = strata::synchronized_fixed_block_resource;
using strata::misuse;
using strata::detail::inside;
using strata::test::churn;
using strata::test::count_rare_paths_anew;
using strata::test::counted_pool;
using strata::test::counting_upstream;
using strata::test::for_each_instruction;
using strata::test::handler_scope;
using strata::test::interleave;
using strata::test::interleave_end;
using strata::test::interleave_last;
using strata::test::is_empty;
using strata::test::is_sound_in_a_child;
using strata::test::misuse_recorder;
using strata::test::other_thread;
using strata::test::times_taken;
using strata::test::tiny;

namespace {

std::vector<void*> take_all_of(strata::resource& from, std::size_t bytes) {
    std::vector<void*> blocks;
    try {
        for (;;)
            blocks.push_back(from.allocate(bytes));
    } catch (std::bad_alloc const&) {
    }
    return blocks;
}

void demand_that_all_differ(std::vector<void*> blocks) {
    std::sort(blocks.begin(), blocks.end());
    BOOST_TEST((std::adjacent_find(blocks.begin(), blocks.end()) == blocks.end()));
}

// A pool, and two threads besides this one; each has a cache.
struct shared_pool : counted_pool {
    shared_pool() {
        use();
        stopped->run([this] { use(); });
        bystander.run([this] { use(); });
    }
    void use() { pool.deallocate(pool.allocate(8), 8); }
    // Then the thread that is to be stopped knows all chunks.
    void teach(other_thread& thread) {
        void* const p = pool.allocate(250);
        thread.run([&] { pool.deallocate(p, 250); });
    }
    // Whatever others have freed is collected for it, and all slabs that are empty become those of this
    // size.
    std::vector<void*> take_all(std::size_t bytes) {
        upstream.hold_at_most(0);
        auto const blocks = take_all_of(pool, bytes);
        upstream.never_fail();
        return blocks;
    }

    std::optional<other_thread> stopped{std::in_place};
    other_thread bystander;
};

} // namespace

BOOST_AUTO_TEST_SUITE(interleavings, *boost::unit_test::precondition(strata::test::can_step))

namespace {

// A thread that has so many blocks allocates one more, or frees one, while another takes all.
void demand_that_none_is_handed_out_twice(strata::resource& from, std::size_t bytes,
                                          std::size_t owned, bool frees) {
    for_each_instruction([&](std::size_t n) {
        other_thread stopped;
        std::vector<void*> blocks;
        stopped.run([&] {
            for (std::size_t i = 0; i < owned; ++i)
                blocks.push_back(from.allocate(bytes));
        });
        void* one = blocks.front();
        std::vector<void*> others;
        bool const stood = interleave(
            n, stopped,
            [&] {
                try {
                    if (frees)
                        from.deallocate(one, bytes);
                    else
                        one = from.allocate(bytes);
                } catch (std::bad_alloc const&) { // they were faster
                    one = nullptr;
                }
            },
            [&] { others = take_all_of(from, bytes); });
        if (frees)
            blocks.erase(blocks.begin());
        else if (one != nullptr)
            blocks.push_back(one);
        blocks.insert(blocks.end(), others.begin(), others.end());
        demand_that_all_differ(blocks);
        for (void* const p : blocks)
            from.deallocate(p, bytes);
        BOOST_TEST(is_empty(from));
        BOOST_TEST(from.check_invariants());
        return stood;
    });
}

} // namespace

// It has some at hand, takes 64 more of a slab, takes a slab.
BOOST_AUTO_TEST_CASE(a_pool_of_slabs_hands_out_no_block_twice) {
    for (std::size_t const owned : {2u, 64u, 512u})
        for (bool const frees : {false, true}) {
            counting_upstream upstream;
            pool_type pool{tiny, &upstream};
            pool.deallocate(pool.allocate(8), 8);
            upstream.hold_at_most(upstream.live_bytes() + 20'000); // the other thread's cache
            demand_that_none_is_handed_out_twice(pool, 8, owned, frees);
        }
}

// It has some at hand, or draws.
BOOST_AUTO_TEST_CASE(a_pool_of_equal_blocks_hands_out_none_twice) {
    for (std::size_t const owned : {2u, 64u})
        for (bool const frees : {false, true}) {
            counting_upstream upstream;
            fixed_type blocks{200 * 64, 64, &upstream};
            blocks.deallocate(blocks.allocate(64), 64);
            upstream.hold_at_most(upstream.live_bytes() + 4000);
            demand_that_none_is_handed_out_twice(blocks, 64, owned, frees);
        }
}

namespace {

using nothing = std::vector<misuse>;
constexpr char const* found = "segregated pool: a block was freed by two at once";
constexpr char const* no_more_its = "segregated pool: pending slabs are another's";

struct two_frees {
    bool owner_stands;
    bool is_last;              // the block that was handed out last
    bool is_all_taken = false; // of other sizes
};

// Both may pass; then collect(pool and threads) finds it, and one is told of, there or as it returns.
template <class Collect>
void demand_that_one_is_told(two_frees const& how, Collect const& collect) {
    count_rare_paths_anew();
    for_each_instruction([&](std::size_t n) {
        misuse_recorder recorder;
        shared_pool of;
        void* p = nullptr;
        auto const take = [&] {
            p = of.pool.allocate(60);
            if (!how.is_last)
                static_cast<void>(of.pool.allocate(60));
        };
        how.owner_stands ? of.stopped->run(take) : take();
        of.teach(*of.stopped);
        if (how.is_all_taken)
            static_cast<void>(of.take_all(1000));
        auto const live = of.pool.stats().live_blocks;
        auto const free = [&] { of.pool.deallocate(p, 60); };
        if (!interleave(n, *of.stopped, free, free))
            return false;
        auto told = recorder.take();
        if (told.empty()) {
            told = collect(of);
            for (misuse const& what : recorder.take())
                told.push_back(what);
        }
        BOOST_REQUIRE(told.size() == 1u);
        BOOST_CHECK(told[0].kind == strata::misuse_kind::double_free);
        BOOST_TEST(told[0].address == p);
        BOOST_TEST(of.pool.stats().live_blocks == live - 1);
        BOOST_TEST(of.pool.check_invariants());
        return true;
    });
    BOOST_TEST(times_taken(found) != 0u);
}

} // namespace

BOOST_AUTO_TEST_CASE(one_of_two_frees_is_told_when_trim_collects) {
    for (bool const owner_stands : {true, false})
        for (bool const is_last : {true, false})
            demand_that_one_is_told({owner_stands, is_last}, [&](shared_pool& of) {
                of.pool.trim();
                BOOST_TEST((!is_last || of.upstream.live_blocks() == 0));
                return nothing{};
            });
}

BOOST_AUTO_TEST_CASE(one_of_two_frees_is_told_when_the_thread_ends) {
    demand_that_one_is_told({true, false}, [](shared_pool& of) {
        of.stopped.reset();
        return nothing{};
    });
}

BOOST_AUTO_TEST_CASE(one_of_two_frees_is_told_where_upstream_has_nothing_left) {
    demand_that_one_is_told({true, false, true}, [](shared_pool& of) {
        of.upstream.hold_at_most(0);
        BOOST_CHECK_THROW(static_cast<void>(of.pool.allocate(1000)), std::bad_alloc);
        return nothing{};
    });
}

BOOST_AUTO_TEST_CASE(nothing_is_lost_where_who_is_told_of_two_frees_throws) {
    demand_that_one_is_told({false, false}, [](shared_pool& of) {
        handler_scope const throwing{[](misuse const& what) { throw what; }};
        std::size_t const requested = of.pool.stats().requested_bytes;
        std::vector<misuse> thrown;
        try {
            static_cast<void>(of.pool.allocate(500));
        } catch (misuse const& what) {
            thrown.push_back(what);
        }
        BOOST_TEST(of.pool.stats().requested_bytes == requested);
        return thrown;
    });
}

// It is collected with another, and the slab goes to the source, and from there to another class.
BOOST_AUTO_TEST_CASE(a_slab_may_go_while_a_block_of_it_is_freed) {
    count_rare_paths_anew();
    for (bool const is_used_anew : {true, false})
        for_each_instruction([&](std::size_t n) {
            shared_pool of;
            std::vector<void*> first;
            std::vector<void*> slab;
            std::vector<void*> taken;
            of.bystander.run([&] {
                first = of.take(2, 1000);
                slab = of.take(5, 1000); // and one of the next
            });
            of.teach(*of.stopped);
            bool const stood = interleave(
                n, *of.stopped, [&] { of.pool.deallocate(slab[0], 1000); },
                [&] {
                    of.pool.deallocate(slab[1], 1000);
                    of.bystander.run([&] { of.give({slab[2], slab[3]}, 1000); });
                    taken = of.take_all(500);
                    if (!is_used_anew)
                        of.give(taken, 500);
                });
            if (!stood)
                return false;
            BOOST_TEST(of.pool.check_invariants());
            if (is_used_anew)
                of.give(taken, 500);
            of.give({first[0], first[1], slab[4]}, 1000);
            of.give(of.take_all(250), 250);
            BOOST_TEST(is_empty(of.pool));
            of.pool.release();
            BOOST_TEST(of.upstream.settled());
            return true;
        });
    BOOST_TEST(times_taken(no_more_its) != 0u);
}

// Its owner is idle. Who frees a block may have told the old owner, which hands that on, if only when it
// ends.
BOOST_AUTO_TEST_CASE(a_slab_may_change_hands_whoever_is_at_it) {
    count_rare_paths_anew();
    enum class call { another_frees, owner_frees, owner_frees_beside_another, owner_allocates };
    for (call const what : {call::another_frees, call::owner_frees,
                            call::owner_frees_beside_another, call::owner_allocates})
        for_each_instruction([&](std::size_t n) {
            shared_pool of;
            std::optional<other_thread> owner{std::in_place};
            std::vector<void*> blocks;
            owner->run([&] { blocks = of.take(3, 500); });          // of a slab of 4
            std::vector<void*> const taken = of.take(66 * 4, 1000); // of so many slabs
            other_thread& stopped = what == call::another_frees ? *of.stopped : *owner;
            of.teach(stopped);
            if (what == call::owner_frees_beside_another) {
                of.pool.deallocate(blocks.back(), 500);
                blocks.pop_back();
            }
            void* p = blocks.front();
            std::vector<void*> others;
            bool const stood = interleave(
                n, stopped,
                [&] {
                    if (what == call::owner_allocates)
                        p = of.pool.allocate(500);
                    else
                        of.pool.deallocate(p, 500);
                },
                [&] { others = of.take(1, 500); });
            owner.reset();
            BOOST_TEST(of.pool.check_invariants());
            if (what == call::owner_allocates)
                blocks.push_back(p);
            else
                blocks.erase(blocks.begin());
            for (std::vector<void*> const& more : {others, of.take(8, 500)})
                blocks.insert(blocks.end(), more.begin(), more.end());
            demand_that_all_differ(blocks);
            of.give(blocks, 500);
            of.give(taken, 1000);
            of.give(of.take_all(500), 500);
            BOOST_TEST(is_empty(of.pool));
            BOOST_TEST(of.pool.check_invariants());
            return stood;
        });
    BOOST_TEST(times_taken("segregated pool: an idle thread's slabs are taken") != 0u);
}

BOOST_AUTO_TEST_CASE(a_block_that_is_free_never_looks_live_while_its_bit_goes_back_to_the_slab) {
    for_each_instruction(
        [&](std::size_t n) {
            shared_pool of;
            std::vector<void*> blocks;
            of.bystander.run([&] {
                blocks = of.take(3, 60);
                of.pool.deallocate(blocks[2], 60);
            });
            of.teach(*of.stopped);
            void* const next = static_cast<std::byte*>(blocks[2]) + 64; // its bit is the owner's
            bool was_refused = false;
            bool const stood = interleave(
                n, *of.stopped, [&] { was_refused = of.pool.try_deallocate(next, 60).has_value(); },
                [&] {
                    of.pool.deallocate(blocks[1], 60);
                    static_cast<void>(of.take_all(1000));
                });
            BOOST_TEST(was_refused);
            BOOST_TEST(of.pool.check_invariants());
            return stood;
        },
        4);
}

BOOST_AUTO_TEST_CASE(a_block_that_is_free_never_looks_live_while_its_bit_goes_to_another_owner) {
    count_rare_paths_anew();
    for_each_instruction(
        [&](std::size_t n) {
            shared_pool of;
            std::vector<void*> blocks;
            of.bystander.run([&] {
                blocks = of.take(4, 500); // all of a slab
                of.give({blocks[0], blocks[1]}, 500);
            });
            static_cast<void>(of.take(66 * 4, 1000)); // of so many slabs: that owner is idle
            of.teach(*of.stopped);
            bool was_refused = false;
            bool const stood = interleave(
                n, *of.stopped,
                [&] { was_refused = of.pool.try_deallocate(blocks[1], 500).has_value(); },
                [&] { static_cast<void>(of.pool.allocate(500)); }); // the lowest
            BOOST_TEST(was_refused);
            BOOST_TEST(of.pool.check_invariants());
            return stood;
        },
        2);
    BOOST_TEST(times_taken("segregated pool: an idle thread's slabs are taken") != 0u);
}

BOOST_AUTO_TEST_CASE(one_of_two_frees_of_another_s_block_is_told_at_once) {
    for_each_instruction([&](std::size_t n) {
        misuse_recorder recorder;
        shared_pool of;
        std::vector<void*> blocks;
        of.bystander.run([&] { blocks = of.take(2, 60); });
        of.teach(*of.stopped);
        auto const free = [&] { of.pool.deallocate(blocks[0], 60); };
        bool const stood = interleave(n, *of.stopped, free, free);
        BOOST_TEST(recorder.take().size() == (stood ? 1u : 0u));
        BOOST_TEST(of.pool.check_invariants());
        return stood;
    });
}

namespace {

bool works_in_a_child(strata::resource& pool) {
    return is_sound_in_a_child([&] {
        static_cast<void>(pool.stats());
        return pool.check_invariants() && churn(pool, 1, 50, 60) && pool.check_invariants();
    });
}

} // namespace

BOOST_AUTO_TEST_CASE(a_child_is_sound_wherever_another_thread_is) {
    for (int const call : {0, 1, 2, 3})
        for_each_instruction(
            [&](std::size_t n) {
                shared_pool of;
                other_thread{}.run([&] { of.use(); }); // leaves a cache
                other_thread new_thread;
                void* const of_this = of.pool.allocate(60);
                void* own = nullptr;
                of.stopped->run([&] {
                    own = of.pool.allocate(60);
                    static_cast<void>(of.pool.allocate(60)); // so that it is not the last
                });
                of.teach(*of.stopped);
                return interleave(
                    n, call == 3 ? new_thread : *of.stopped,
                    [&] {
                        if (call == 0)
                            static_cast<void>(of.pool.allocate(60));
                        else
                            of.pool.deallocate(call == 1 ? own : of_this, 60);
                    },
                    [&] { BOOST_TEST(works_in_a_child(of.pool)); });
            },
            call == 3 ? 37 : 1); // of 2000
}

// It set a bit, and may not have told of it.
BOOST_AUTO_TEST_CASE(a_child_is_sound_where_a_thread_without_a_cache_frees) {
    for_each_instruction(
        [&](std::size_t n) {
            pool_type pool{tiny};
            std::vector<void*> const blocks{pool.allocate(60), pool.allocate(60)};
            return interleave_last(
                n, [&] { pool.deallocate(pool.allocate(8), 8); },
                [&] { pool.deallocate(blocks[0], 60); },
                [&] { BOOST_TEST(works_in_a_child(pool)); });
        },
        23); // of 4000
}

namespace {

// Called by fork with all of the library's locks: handlers that were registered later run before.
std::function<void()> with_all_locks;
[[maybe_unused]] int const follows_fork = ::pthread_atfork(
    [] {
        if (with_all_locks)
            with_all_locks();
    },
    nullptr, nullptr);

} // namespace

// A thread is on its way into its shard, or out again to wait.
BOOST_AUTO_TEST_CASE(a_child_does_not_wait_for_a_thread_that_was_about_to_wait) {
    using namespace strata::test::stepping;
    constexpr char const* waits = "biased_mutex: its owner waits";
    bool has_waited = false;
    for (std::size_t n = 0; !has_waited; ++n) {
        count_rare_paths_anew();
        shared_pool of;
        with_all_locks = [&] {
            now = state::steps;
            of.stopped->begin([&]() noexcept {
                until_here const over;
                begin(n);
                of.use();
            });
            while (now == state::steps && times_taken(waits) == 0)
                ::sched_yield();
            has_waited = times_taken(waits) != 0;
        };
        bool const is_sound = works_in_a_child(of.pool);
        with_all_locks = nullptr;
        for (; now != state::is_over; ::sched_yield())
            if (now == state::stands)
                now = state::goes_on;
        of.stopped->end();
        BOOST_TEST_REQUIRE(is_sound, "after " << n << " instructions");
    }
}

// Others free a block of its, take all that is there, destroy the pool, fork.
BOOST_AUTO_TEST_CASE(a_thread_may_end_whatever_others_do) {
    enum class others { free, take_all, destroy, fork };
    for (bool const has_slabs : {true, false})
        for (others const what : {others::free, others::take_all, others::destroy, others::fork})
            for_each_instruction(
                [&](std::size_t n) {
                    counting_upstream upstream;
                    std::unique_ptr<strata::resource> pool;
                    if (has_slabs)
                        pool = std::make_unique<pool_type>(tiny, &upstream);
                    else
                        pool = std::make_unique<fixed_type>(1000u, 60u, &upstream);
                    std::vector<void*> blocks;
                    bool const stood = interleave_end(
                        n,
                        [&] {
                            for (int i = 0; i < 3; ++i)
                                blocks.push_back(pool->allocate(60));
                            pool->deallocate(blocks.back(), 60);
                            blocks.pop_back();
                        },
                        [&] {
                            if (what == others::free) {
                                pool->deallocate(blocks.back(), 60);
                                blocks.pop_back();
                            } else if (what == others::take_all) {
                                upstream.hold_at_most(0);
                                for (void* const p : take_all_of(*pool, 60))
                                    blocks.push_back(p);
                                upstream.never_fail();
                            } else if (what == others::destroy) {
                                pool.reset();
                            } else {
                                BOOST_TEST(works_in_a_child(*pool));
                            }
                        });
                    if (pool != nullptr) {
                        demand_that_all_differ(blocks);
                        for (void* const p : blocks)
                            pool->deallocate(p, 60);
                        BOOST_TEST(is_empty(*pool));
                        BOOST_TEST(pool->check_invariants());
                        pool.reset();
                    }
                    BOOST_TEST(upstream.settled());
                    return stood;
                },
                79); // of 2000
}

BOOST_AUTO_TEST_CASE(nobody_is_inside_beside_the_owner) {
    for (bool const owner_stands : {true, false}) {
        strata::detail::biased_mutex mutex;
        std::atomic<int> inside_now{0};
        std::atomic<bool> met{false};
        auto const enter = [&](inside::as who) {
            inside const in{mutex, who};
            if (++inside_now != 1)
                met = true;
            --inside_now;
        };
        other_thread stopped;
        for_each_instruction([&](std::size_t n) {
            return interleave(
                n, stopped, [&] { enter(owner_stands ? inside::as::owner : inside::as::other); },
                [&] { enter(owner_stands ? inside::as::other : inside::as::owner); });
        });
        BOOST_TEST(!met);
    }
}

BOOST_AUTO_TEST_SUITE_END()
