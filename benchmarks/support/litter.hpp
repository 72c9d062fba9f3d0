// SPDX-License-Identifier: BSL-1.0
#pragma once

// A heap full of holes, as after a long run of some other program part.
//
// Source: Berger, Zorn, McKinley, "Reconsidering custom memory allocation", 2002, and its
// re-examination by Berger and van Kempen, 2026: pools look worse, or better, in a fresh heap than
// they are.

#include <cstddef>
#include <vector>

#include "candidates.hpp"

namespace strata::bench {

/// Litters the C library's heap, and that of a candidate that brings its own; what stays live stays
/// so until this is destroyed.
class litter {
  public:
    static constexpr std::size_t many_blocks = 200'000;
    static constexpr char const* about =
        "Littered: before each run 200,000 blocks of 16 to 2048 bytes are made in the heap below, "
        "each replaced once on the average, and a random half is freed.";

    litter(candidate const& who, needs const& need, std::size_t blocks);
    litter(litter const&) = delete;
    litter& operator=(litter const&) = delete;
    ~litter();

  private:
    struct block {
        void* p;
        std::size_t bytes;
    };
    struct heap {
        resource_ptr memory;
        std::vector<block> live;
    };

    std::vector<heap> heaps_;
};

} // namespace strata::bench
