// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <vector>

#include <strata/synchronized_segregated_pool_resource.hpp>

#include "counting_upstream.hpp"
#include "threads.hpp"

namespace strata::test {

/// A pool for threads, its upstream, and blocks by the dozen.
struct counted_pool {
    explicit counted_pool(segregated_pool_options const& options = tiny)
        : pool{options, &upstream} {}

    [[nodiscard]] std::vector<void*> take(std::size_t count, std::size_t bytes) {
        std::vector<void*> blocks(count);
        for (void*& p : blocks)
            p = pool.allocate(bytes);
        return blocks;
    }
    void give(std::vector<void*> const& blocks, std::size_t bytes) {
        for (void* const p : blocks)
            pool.deallocate(p, bytes);
    }

    counting_upstream upstream;
    synchronized_segregated_pool_resource pool;
};

} // namespace strata::test
