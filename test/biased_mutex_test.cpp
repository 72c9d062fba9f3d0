// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE biased_mutex
#include <boost/test/unit_test.hpp>

#include <array>
#include <atomic>
#include <cstdarg>
#include <cstddef>
#include <thread>

#include <dlfcn.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <strata/detail/biased_mutex.hpp>

#include "support/threads.hpp"

using strata::detail::biased_mutex;
using strata::detail::inside;
using strata::test::on_threads;

namespace {

std::atomic<int> fences{0};

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

using system_call = long (*)(long, ...);
constinit std::atomic<system_call> real{}; // no static of the function: its guard may call that

} // namespace

// In place of the C library's, which the library calls for a fence in all threads' cores.
extern "C" long syscall(long number, ...) noexcept {
    if (real == nullptr)
        real = reinterpret_cast<system_call>(::dlsym(RTLD_NEXT, "syscall"));
    std::array<long, 6> with{};
    std::va_list list;
    va_start(list, number);
    for (long& one : with)
        one = va_arg(list, long);
    va_end(list);
    if (number == SYS_membarrier && with[0] == MEMBARRIER_CMD_PRIVATE_EXPEDITED)
        ++fences;
    return real.load()(number, with[0], with[1], with[2], with[3], with[4], with[5]);
}

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

BOOST_AUTO_TEST_CASE(whoever_locks_it_has_the_owner_s_core_fence) {
    biased_mutex mutex;
    if (::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0) != 0)
        return; // the system has none: its owner locks like others
    int const before = fences;
    inside const in{mutex, inside::as::other};
    BOOST_TEST(fences == before + 1);
}

// Without a fence in the owner's core, of two that come at once each may go in before it sees the other:
// of 20,000 times 264 to 775, on two cores that had nothing else to do.
BOOST_AUTO_TEST_CASE(only_one_is_inside_of_two_that_come_at_once) {
    biased_mutex mutex;
    std::atomic<int> come{0};
    std::array<std::atomic<bool>, 2> is_inside{};
    std::atomic<int> met{0};
    on_threads(2, [&](std::size_t i) {
        for (int round = 1; round <= 20'000; ++round) {
            ++come;
            for (int patience = 100'000; come < 2 * round; --patience)
                if (patience < 0)
                    std::this_thread::yield();
            for (int volatile late = round % (i == 0 ? 7 : 11); late != 0;)
                late = late - 1;
            inside const in{mutex, i == 0 ? inside::as::owner : inside::as::other};
            is_inside[i].store(true, std::memory_order_relaxed);
            bool is_alone = true;
            for (int k = 0; k < 20; ++k)
                is_alone = !is_inside[1 - i].load(std::memory_order_relaxed) && is_alone;
            met += is_alone ? 0 : 1;
            is_inside[i].store(false, std::memory_order_relaxed);
        }
    });
    BOOST_TEST(met == 0);
}

BOOST_AUTO_TEST_SUITE_END()
