// SPDX-License-Identifier: BSL-1.0
#pragma once

// Small programs that use a resource in one way each. What they do in which order is drawn before
// the clock starts, from the same seed in every round and for every candidate.

#include <cstddef>
#include <functional>
#include <memory_resource>
#include <string>
#include <vector>

#include "candidates.hpp"

namespace strata::bench {

/// An op is one allocation and one free, unless the workload says what else.
struct sample {
    double ns;
    double ops;
};

/// Where a workload runs.
class stage {
  public:
    stage() = default;
    stage(stage const&) = delete;
    stage& operator=(stage const&) = delete;
    virtual ~stage() = default;

    /// Returns: the resource to use, made at this moment; the one before, if any, is destroyed. To
    /// be called when the workload has set up what is its own.
    virtual std::pmr::memory_resource& open() = 0;
    /// Returns: one more like it, which goes when that goes.
    virtual std::pmr::memory_resource& open_another() = 0;
    /// Destroys the resource, for workloads that time this.
    virtual void close() {}
    /// Called once in each run, outside the clock, when most is live.
    virtual void full() {}
};

struct workload {
    std::string name;
    std::string about;      ///< sizes, numbers and order, in one line
    std::string group = {}; ///< whose table it stands in; empty: that of single workloads
    bool threads = false;
    bool drops_all = false; ///< suits resources that free nothing before their end
    /// One round: sets up, warms up, times, frees all.
    std::function<sample(stage&)> run;
};

/// Returns: all of them; with `smoke` a hundredth of the ops.
[[nodiscard]] std::vector<workload> all_workloads(bool smoke);

/// Returns: who allocates where and frees where: in one thread, in threads with a resource each or with
/// one resource, and in another thread; by threads that live on, and by threads that end. After
/// libstdc++'s performance test of its pools.
[[nodiscard]] std::vector<workload> thread_workloads(bool smoke);
inline constexpr char const* about_threads = "A round: a thread takes 4000 blocks of 8 to 512 "
                                             "bytes, replaces random ones as often, frees all.";

/// Returns: what a run asks for, by running it.
[[nodiscard]] needs needs_of(workload const& of);

} // namespace strata::bench
