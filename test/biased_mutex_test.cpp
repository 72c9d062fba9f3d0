// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE biased_mutex
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <cstddef>
#include <thread>

#include <strata/detail/biased_mutex.hpp>

#include "support/threads.hpp"

using strata::detail::biased_mutex;
using strata::detail::inside;
using strata::test::on_threads;

namespace {

// Whether `enters`, in a thread of its own, comes to its end, which is given time; then `lets_go`.
template <class Enters, class LetsGo>
bool is_kept_waiting(Enters const& enters, LetsGo const& lets_go) {
    std::atomic<bool> has_begun{false};
    std::atomic<bool> has_entered{false};
    std::thread one{[&] {
        has_begun = true;
        enters();
        has_entered = true;
    }};
    while (!has_begun)
        std::this_thread::yield();
    for (int i = 0; i < 10'000; ++i)
        std::this_thread::yield();
    bool const waits = !has_entered;
    lets_go();
    one.join();
    return waits;
}

} // namespace

BOOST_AUTO_TEST_SUITE(biased_mutex_promises)

BOOST_AUTO_TEST_CASE(its_owner_waits_for_another_who_has_the_lock) {
    biased_mutex mutex;
    mutex.lock();
    BOOST_TEST(is_kept_waiting(
        [&] {
            mutex.enter();
            mutex.leave();
        },
        [&] { mutex.unlock(); }));
}

BOOST_AUTO_TEST_CASE(another_waits_for_its_owner_who_is_inside) {
    biased_mutex mutex;
    mutex.enter();
    BOOST_TEST(is_kept_waiting(
        [&] {
            mutex.lock();
            mutex.unlock();
        },
        [&] { mutex.leave(); }));
}

BOOST_AUTO_TEST_CASE(others_wait_for_each_other) {
    biased_mutex mutex;
    mutex.lock();
    BOOST_TEST(is_kept_waiting(
        [&] {
            mutex.lock();
            mutex.unlock();
        },
        [&] { mutex.unlock(); }));
}

BOOST_AUTO_TEST_CASE(what_one_did_inside_the_next_sees) {
    constexpr std::size_t times = 5'000;
    biased_mutex mutex;
    std::size_t entered = 0;
    std::size_t by_owner = 0;
    std::atomic<int> others{2};
    on_threads(3, [&](std::size_t i) {
        if (i != 0) {
            for (std::size_t k = 0; k < times; ++k) {
                inside const in{mutex, inside::as::other};
                ++entered;
            }
            --others;
            return;
        }
        while (others != 0) {
            inside const in{mutex, inside::as::owner};
            ++entered;
            ++by_owner;
        }
    });
    BOOST_TEST(entered == by_owner + 2 * times);
}

BOOST_AUTO_TEST_SUITE_END()
