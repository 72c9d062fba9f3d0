// SPDX-License-Identifier: BSL-1.0
// Swapping strata in under code that names no resource at all.
#include <cstdlib>
#include <iostream>
#include <memory_resource>
#include <string>
#include <vector>

#include <strata/strata.hpp>

namespace {

// Code as one finds it: pmr containers with the default resource.
std::pmr::vector<std::pmr::string> untouched_code() {
    std::pmr::vector<std::pmr::string> lines;
    for (int i = 0; i < 100; ++i)
        lines.emplace_back("a line that is too long for the small string optimisation");
    return lines;
}

} // namespace

int main() {
    // [default]
    strata::synchronized_segregated_pool_resource pool; // for any thread of the program
    strata::default_resource_scope const scope{&pool};
    // [default]
    bool served = false;
    {
        auto const lines = untouched_code();
        served = pool.stats().live_blocks == 101; // 100 strings and the vector's array
        std::cout << pool.stats().live_blocks << " blocks live in the pool\n";
    }
    return served && pool.stats().live_blocks == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
