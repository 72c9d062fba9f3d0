// SPDX-License-Identifier: BSL-1.0
#include "rare_paths.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <ctime>

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>

#include <strata/detail/rare_path.hpp>

namespace strata::test {

namespace {

// Without locks: it is called under the library's, and a child process goes on with it.
struct counter {
    std::atomic<char const*> name{};
    std::atomic<std::size_t> times{};
};
std::array<counter, 64> counters;

counter& counter_of(char const* name) {
    for (counter& one : counters) {
        char const* there = nullptr;
        if (one.name.compare_exchange_strong(there, name) || std::string_view{there} == name)
            return one;
    }
    return counters.back();
}

std::atomic<char const*> waiting_path{};
std::atomic<char const*> awaited_path{};

// Whether this thread is the first that comes to the path of which something is wanted.
bool is_the_one(std::atomic<char const*>& wanted, char const* name) {
    char const* here = wanted.load();
    return here != nullptr && std::string_view{here} == name &&
           wanted.compare_exchange_strong(here, nullptr);
}

void wait_for_other(char const* name) {
    if (!is_the_one(waiting_path, name))
        return;
    while (times_taken(awaited_path.load()) == 0)
        ::sched_yield();
}

std::atomic<char const*> standing_path{};
enum class standing { not_yet, now, no_more };
std::atomic<standing> somebody{};

void stand(char const* name) {
    if (!is_the_one(standing_path, name))
        return;
    somebody = standing::now;
    timespec const a_while{0, 50'000'000};
    ::nanosleep(&a_while, nullptr);
    somebody = standing::no_more;
}

std::atomic<std::size_t> waits_for_mutexes{};

std::atomic<std::uint64_t> seed_of_pauses{}; // 0: none
std::atomic<std::uint64_t> threads_seen{};

void pause_at_random() noexcept {
    std::uint64_t const seed = seed_of_pauses.load(std::memory_order_relaxed);
    if (seed == 0)
        return;
    thread_local std::uint64_t state = 0;
    if (state == 0)
        state = seed + ++threads_seen;
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::uint64_t const drawn = state >> 33;
    if (drawn % 512 == 0) {
        int const before = errno;
        timespec const some{0, static_cast<long>(drawn / 512 % 50'000)};
        ::nanosleep(&some, nullptr);
        errno = before;
    } else if (drawn % 64 == 0) {
        ::sched_yield();
    }
}

} // namespace

std::size_t times_taken(std::string_view rare_path) {
    for (counter& one : counters)
        if (char const* const name = one.name; name != nullptr && name == rare_path)
            return one.times;
    return 0;
}

void count_rare_paths_anew() {
    for (counter& one : counters)
        one.times = 0;
}

void let_meet(char const* path, char const* other_path) {
    awaited_path = other_path;
    waiting_path = path;
}

void let_stand(char const* path) {
    somebody = standing::not_yet;
    standing_path = path;
}
bool has_come() {
    for (std::time_t const begin = std::time(nullptr); std::time(nullptr) < begin + 10;) {
        if (somebody != standing::not_yet)
            return true;
        ::sched_yield();
    }
    return false;
}
bool has_gone_on() {
    return somebody == standing::no_more;
}

std::size_t times_waited() {
    return waits_for_mutexes + times_taken("biased_mutex: others wait for its owner");
}

pauses::pauses(std::uint64_t seed) {
    seed_of_pauses = seed | 1;
}
pauses::~pauses() {
    seed_of_pauses = 0;
}

} // namespace strata::test

void strata::detail::on_rare_path(char const* name) noexcept {
    ++test::counter_of(name).times;
    test::wait_for_other(name);
    test::stand(name);
    test::pause_at_random();
}

namespace {

using mutex_call = int (*)(pthread_mutex_t*);

// Not a static of the functions below: libc++abi guards such with this very lock.
constinit std::atomic<mutex_call> real_lock{};
constinit std::atomic<mutex_call> real_unlock{};

mutex_call real(std::atomic<mutex_call>& found, char const* name) noexcept {
    if (found.load(std::memory_order_relaxed) == nullptr)
        found.store(reinterpret_cast<mutex_call>(::dlsym(RTLD_NEXT, name)),
                    std::memory_order_relaxed);
    return found.load(std::memory_order_relaxed);
}

} // namespace

// In place of the C library's, for all of the program and the libraries that it uses.
extern "C" {
int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
    strata::test::pause_at_random();
    if (::pthread_mutex_trylock(mutex) == 0)
        return 0;
    ++strata::test::waits_for_mutexes;
    return real(real_lock, "pthread_mutex_lock")(mutex);
}
int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
    int const result = real(real_unlock, "pthread_mutex_unlock")(mutex);
    strata::test::pause_at_random();
    return result;
}
}
