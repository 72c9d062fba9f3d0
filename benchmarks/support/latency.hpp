// SPDX-License-Identifier: BSL-1.0
#pragma once

// How long single operations take: a resource that times each call to another, and what came of it.
//
// The same operations are run several times, each time in a fresh process, and of each the shortest
// time counts: what comes of the machine (interrupts, other processes) goes, what comes of the
// allocator stays, page faults and system calls included. An allocation is timed with the writing
// of the block's first byte.

#include <algorithm>
#include <cstddef>
#include <memory_resource>
#include <span>

#include "measure.hpp"

namespace strata::bench {

struct percentiles {
    double p50 = 0;
    double p99 = 0;
    double p999 = 0;
    double max = 0;
};

/// The shortest time of each operation, in memory that child processes share.
class operation_times {
  public:
    /// Throws: bad_alloc.
    explicit operation_times(std::size_t most_operations);
    operation_times(operation_times const&) = delete;
    operation_times& operator=(operation_times const&) = delete;
    ~operation_times();

    /// Requires: i is below most_operations.
    void note(std::size_t i, double ns) {
        float& least = shared_->least[i];
        least =
            i < shared_->noted ? std::min(least, static_cast<float>(ns)) : static_cast<float>(ns);
        shared_->noted = std::max(shared_->noted, i + 1);
    }

    [[nodiscard]] std::size_t most_operations() const { return most_; }
    /// Returns: those of the operations that were noted. Sorts them: to be called once.
    [[nodiscard]] percentiles sorted() const;

  private:
    struct book {
        std::size_t noted; ///< operations, from the first on
        float least[1];    ///< ns; as many as there is room for
    };
    [[nodiscard]] std::size_t bytes() const;

    std::size_t most_;
    book* shared_;
};

/// Times each call to `target` (held, not owned), in order.
class timing_resource final : public std::pmr::memory_resource {
  public:
    timing_resource(std::pmr::memory_resource* target, operation_times& times)
        : target_{target}, times_{times}, reading_{cost_of_now()} {}

    /// Returns: the longest time of this run, ns.
    [[nodiscard]] double longest() const { return longest_; }

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        double const before = now();
        void* const p = target_->allocate(bytes, alignment);
        *static_cast<char volatile*>(p) = 0;
        note(now() - before);
        return p;
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        double const before = now();
        target_->deallocate(p, bytes, alignment);
        note(now() - before);
    }
    bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }
    void note(double ns) {
        double const own = std::max(ns - reading_, 0.0);
        longest_ = std::max(longest_, own);
        if (next_ < times_.most_operations())
            times_.note(next_++, own);
    }

    std::pmr::memory_resource* target_;
    operation_times& times_;
    double reading_;
    double longest_ = 0;
    std::size_t next_ = 0;
};

} // namespace strata::bench
