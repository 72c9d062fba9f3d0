// SPDX-License-Identifier: BSL-1.0
#pragma once

// The seed of a random test: printed always, taken from the environment variable STRATA_SEED where
// it is set, so that a failure can be run again.

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>

namespace strata::test {

inline std::uint64_t seed(char const* test) {
    char const* const given = std::getenv("STRATA_SEED");
    std::uint64_t const chosen = given != nullptr ? std::stoull(given) : std::random_device{}();
    std::cout << test << ": STRATA_SEED=" << chosen << std::endl;
    return chosen;
}

} // namespace strata::test
