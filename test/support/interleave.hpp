// SPDX-License-Identifier: BSL-1.0
#pragma once

// Stops a thread between any two instructions, so that what others do meanwhile is tried at each.

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <ctime>
#include <thread>

#include <boost/test/tools/assertion_result.hpp>
#include <boost/test/unit_test.hpp>

#include <sched.h>
#include <ucontext.h>

#include <strata/detail/annotate.hpp>

#include "other_thread.hpp"
#include "rare_paths.hpp"
#include "valgrind.hpp"

// Sanitizers make many instructions of one, and hold signals back.
#if defined(__has_feature)
#    if __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#        define STRATA_TRANSLATED 1
#    endif
#endif
#if defined(__x86_64__) && defined(__linux__) && !defined(STRATA_TRANSLATED) &&                    \
    !defined(STRATA_POISON) && !defined(__SANITIZE_THREAD__)
#    define STRATA_CAN_STEP 1
#else
#    define STRATA_CAN_STEP 0
#endif

namespace strata::test {

namespace stepping {

enum class state { steps, stands, others_go, goes_on, is_over };
inline std::atomic<state> now{};

#if STRATA_CAN_STEP
// Of the processor: while it is set, SIGTRAP comes after each instruction; some 10 us.
constexpr unsigned long long trap_flag = 0x100;
inline std::atomic<std::size_t> steps_left{};

inline void stand() noexcept {
    int const before = errno;
    std::size_t const waited = times_waited();
    now = state::stands;
    while (now == state::stands)
        ::sched_yield();
    auto const milliseconds = [] {
        timespec t{};
        ::clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1000 + t.tv_nsec / 1'000'000;
    };
    auto const began = milliseconds(); // they may wait for a lock of the C library's, too
    while (now == state::others_go && times_waited() == waited && milliseconds() - began < 20)
        ::sched_yield();
    errno = before;
}

inline void begin(std::size_t steps) noexcept {
    struct sigaction step {};
    step.sa_sigaction = [](int, siginfo_t*, void* context) {
        if (steps_left-- != 0)
            return;
        static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &=
            ~static_cast<greg_t>(trap_flag);
        stand();
    };
    step.sa_flags = SA_SIGINFO;
    ::sigaction(SIGTRAP, &step, nullptr);
    steps_left = steps;
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | trap_flag);
}
inline void end() noexcept {
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~trap_flag);
}
#else
inline void begin(std::size_t) noexcept {}
inline void end() noexcept {}
#endif

// Returns: whether the thread stood, rather than came to its end.
template <class Meanwhile>
bool meet(Meanwhile const& meanwhile) {
    while (now == state::steps)
        ::sched_yield();
    bool const stands = now == state::stands;
    if (stands) {
        now = state::others_go;
        meanwhile();
        now = state::goes_on;
    }
    return stands;
}

struct until_here {
    ~until_here() {
        end();
        now = state::is_over;
    }
};

} // namespace stepping

/// Has a thread call f(), and stop after so many instructions of it until meanwhile() has returned, or
/// waits for the thread. Requires: nothing throws.
/// Returns: whether f() has so many. Complexity: O(instructions).
template <class F, class Meanwhile>
bool interleave(std::size_t instructions, other_thread& thread, F const& f,
                Meanwhile const& meanwhile) {
    stepping::now = stepping::state::steps;
    thread.begin([&]() noexcept {
        stepping::until_here const over;
        stepping::begin(instructions);
        f();
    });
    bool const stood = stepping::meet(meanwhile);
    thread.end();
    return stood;
}

/// The same of a new thread's end after f().
template <class F, class Meanwhile>
bool interleave_end(std::size_t instructions, F const& f, Meanwhile const& meanwhile) {
    stepping::now = stepping::state::steps;
    std::thread thread{[&]() noexcept {
        thread_local stepping::until_here const over; // goes after what f() makes
        f();
        stepping::begin(instructions);
    }};
    bool const stood = stepping::meet(meanwhile);
    thread.join();
    return stood;
}

/// The same of a call when the caches that f() made are gone.
template <class F, class Last, class Meanwhile>
bool interleave_last(std::size_t instructions, F const& f, Last const& last,
                     Meanwhile const& meanwhile) {
    struct later {
        std::size_t instructions;
        Last const& call;
        ~later() {
            stepping::until_here const over;
            stepping::begin(instructions);
            call();
        }
    };
    stepping::now = stepping::state::steps;
    std::thread thread{[&]() noexcept {
        thread_local later const at_end{instructions, last};
        f();
    }};
    bool const stood = stepping::meet(meanwhile);
    thread.join();
    return stood;
}

/// Asked before tests that stop a thread. Valgrind, debuggers and some machines step none.
inline boost::test_tools::assertion_result can_step(boost::unit_test::test_unit_id) {
    other_thread thread;
    return STRATA_CAN_STEP != 0 && RUNNING_ON_VALGRIND == 0 &&
           interleave(
               1, thread, [] {}, [] {});
}

/// Calls f(n) for each number n of instructions, until it has returned that there are not so many, which
/// may be by chance: three times.
template <class F>
void for_each_instruction(F const& f, std::size_t stride = 1) {
    std::size_t stood = 0;
    for (std::size_t n = 0, over = 0; over < 3; n += stride)
        BOOST_TEST_CONTEXT("after " << n << " instructions") {
            bool const has_so_many = f(n);
            stood += has_so_many ? 1 : 0;
            over = has_so_many ? 0 : over + 1;
        }
    BOOST_TEST(stood >= 10u);
}

} // namespace strata::test
