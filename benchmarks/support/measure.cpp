// SPDX-License-Identifier: BSL-1.0
#include "measure.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>

#include <malloc.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trace/footprint.hpp"

namespace strata::bench {

#if defined(__x86_64__)
double now() {
    static double const ns_a_tick = [] {
        stopwatch const watch;
        auto const first = __builtin_ia32_rdtsc();
        while (watch.ns() < 20e6) {
        }
        return watch.ns() / static_cast<double>(__builtin_ia32_rdtsc() - first);
    }();
    return static_cast<double>(__builtin_ia32_rdtsc()) * ns_a_tick;
}
#else
double now() {
    static stopwatch const watch;
    return watch.ns();
}
#endif

double cost_of_now() {
    double least = std::numeric_limits<double>::max();
    for (int i = 0; i < 1000; ++i) {
        double const before = now();
        least = std::min(least, now() - before);
    }
    return least;
}

double median(std::vector<double> values) {
    if (values.empty())
        return std::numeric_limits<double>::quiet_NaN();
    std::ranges::sort(values);
    std::size_t const middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

resident_peak::resident_peak() : start_{trace::resident_anonymous_bytes()}, peak_{start_} {}

void resident_peak::sample() {
    peak_ = std::max(peak_, trace::resident_anonymous_bytes());
}

namespace {

// In the child: work, and what it stored at `result` into the pipe. Nothing of the parent's is
// flushed or destroyed by it.
[[noreturn]] void run_and_exit(int pipe, void const* result, std::size_t bytes,
                               detail::function_ref<void()> work) {
    ::malloc_trim(0);
    bool sent = false;
    try {
        work();
        sent = ::write(pipe, result, bytes) == static_cast<::ssize_t>(bytes);
    } catch (std::exception const& error) {
        std::fprintf(stderr, "\n%s", error.what());
    }
    ::_exit(sent ? 0 : 1);
}

} // namespace

void prepare_to_meter() {
    ::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    auto const holes_bytes = [] {
        auto const heap = ::mallinfo2();
        return heap.fordblks - heap.keepcost; // all that is free, but for the heap's end
    };
    constexpr std::size_t cached_bytes = 1040; // glibc keeps seven of each size up to here aside
    for (std::size_t bytes = 16; bytes < cached_bytes; bytes += 16)
        for (int i = 0; i < 7; ++i)
            keep(std::malloc(bytes));
    for (std::size_t bytes = 1 << 20; bytes >= 16; bytes -= std::max<std::size_t>(16, bytes / 16))
        for (std::size_t before = holes_bytes(), after = 0; before != 0; before = after) {
            keep(std::malloc(bytes));
            after = holes_bytes();
            if (after >= before)
                break; // no hole was large enough: it came from the end
        }
}

bool in_child(void* result, std::size_t bytes, detail::function_ref<void()> work) {
    int ends[2];
    if (::pipe(ends) != 0)
        return false;
    ::pid_t const child = ::fork();
    if (child == 0)
        run_and_exit(ends[1], result, bytes, work);
    ::close(ends[1]);
    bool const received =
        child > 0 && ::read(ends[0], result, bytes) == static_cast<::ssize_t>(bytes);
    ::close(ends[0]);
    int status = 0;
    if (child > 0)
        ::waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        std::fprintf(stderr, "\n%s", ::strsignal(WTERMSIG(status)));
    return received && status == 0;
}

} // namespace strata::bench
