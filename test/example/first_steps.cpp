// SPDX-License-Identifier: BSL-1.0
// [first_steps]
#include <iostream>
#include <memory_resource>
#include <string>
#include <vector>

#include <strata/strata.hpp>

alignas(64) std::byte memory[1 << 20];

int main() {
    strata::best_fit_resource region{memory, sizeof memory, std::pmr::null_memory_resource()};
    strata::segregated_pool_resource pool{&region};
    std::pmr::vector<std::pmr::string> names{&pool};
    for (int i = 0; i < 1000; ++i)
        names.emplace_back("a name too long to fit into the string itself");
    void* const p = pool.allocate(64);
    pool.deallocate(p, 64);
    pool.deallocate(p, 64); // a line on stderr: double free, ignored
    std::cout << pool.stats().live_bytes << " bytes live in " << pool.stats().live_blocks
              << " blocks, " << region.stats().free_bytes << " free in the region\n";
}
// [first_steps]
