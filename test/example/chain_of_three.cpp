// SPDX-License-Identifier: BSL-1.0
// Three layers: a pool for speed, over a region for a hard bound, over a tracker that accounts for
// what the region took. Each sees only the layer below it.
#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <list>
#include <memory_resource>
#include <new>

#include <strata/strata.hpp>

int main() {
    // [chain]
    strata::tracked_block_resource tracked;                 // who took how much from the system
    strata::best_fit_resource region{256 * 1024, &tracked}; // one region of 256 KiB
    strata::segregated_pool_resource pool{&region};         // constant time on top of it
    // [chain]
    std::pmr::list<int> numbers{&pool};
    for (int i = 0; i < 1000; ++i)
        numbers.push_back(i);
    std::cout << "pool: " << pool.stats().live_blocks << " blocks\n"
              << "region: " << region.stats().live_blocks << " blocks, "
              << region.stats().free_bytes << " bytes free\n"
              << "tracked: " << tracked.stats().live_blocks << " blocks\n";
    bool const layered = pool.stats().live_blocks == 1000 && region.stats().live_blocks < 20 &&
                         tracked.stats().live_blocks == 1;

    // A region that may not grow: the limit is std::bad_alloc, and nothing is lost.
    alignas(64) std::byte memory[64 * 1024];
    strata::best_fit_resource small{memory, sizeof memory, std::pmr::null_memory_resource()};
    strata::segregated_pool_resource bounded{&small};
    std::pmr::list<int> until_full{&bounded};
    try {
        for (;;)
            until_full.push_back(0);
    } catch (std::bad_alloc const&) {
        std::cout << "bounded: full after " << until_full.size() << " nodes\n";
    }
    bool const held = until_full.size() > 1000 && bounded.check_invariants();
    return layered && held ? EXIT_SUCCESS : EXIT_FAILURE;
}
