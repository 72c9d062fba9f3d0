// SPDX-License-Identifier: BSL-1.0
#pragma once

// Clocks, medians, and processes of one's own to measure in.

#include <chrono>
#include <cstddef>
#include <optional>
#include <type_traits>
#include <vector>

#include <strata/detail/function_ref.hpp>

namespace strata::bench {

/// Nanoseconds since construction.
class stopwatch {
  public:
    [[nodiscard]] double ns() const {
        return std::chrono::duration<double, std::nano>(clock::now() - start_).count();
    }

  private:
    using clock = std::chrono::steady_clock;
    clock::time_point start_ = clock::now();
};

/// Returns: nanoseconds since some moment, as finely as the machine tells.
[[nodiscard]] double now();
/// Returns: what lies at least between two calls of now().
[[nodiscard]] double cost_of_now();

/// Tells the optimiser that somebody looks at p, and at all memory.
inline void keep(void const* p) {
    asm volatile("" : : "g"(p) : "memory");
}

/// Returns: the middle of the values, the mean of the two middle ones; NaN of none.
[[nodiscard]] double median(std::vector<double> values);

/// How much memory a measurement held, in bytes.
struct footprint {
    std::size_t held = 0;     ///< peak of what was taken from upstream
    std::size_t resident = 0; ///< peak growth of the process's resident memory
};

/// Follows resident memory, from construction on.
class resident_peak {
  public:
    resident_peak();
    void sample();
    /// Returns: the most that any sample was above the start.
    [[nodiscard]] std::size_t growth_bytes() const { return peak_ - start_; }

  private:
    std::size_t start_;
    std::size_t peak_;
};

/// For a child process that is to have its memory measured: switches huge pages off, so that
/// memory is counted by pages, and takes every hole in the C library's heap for good, so that all
/// memory that is asked for from then on is new to the process.
void prepare_to_meter();

/// Runs `work` in a child process, which starts with a trimmed heap: what ran in other children has
/// no part in what it measures.
/// Returns: whether it ended well; `result` then holds what it held in the child. If not, stderr has
/// the reason. Requires: this process has one thread.
bool in_child(void* result, std::size_t bytes, detail::function_ref<void()> work);

/// Returns: what work returned in a child process; nothing when that failed.
template <class Work, class Result = std::invoke_result_t<Work>>
[[nodiscard]] std::optional<Result> in_child(Work work) {
    static_assert(std::is_trivially_copyable_v<Result>, "it crosses a pipe");
    Result result{};
    auto const store = [&] { result = work(); };
    return in_child(&result, sizeof result, store) ? std::optional{result} : std::nullopt;
}

} // namespace strata::bench
