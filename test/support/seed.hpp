// SPDX-License-Identifier: BSL-1.0
#pragma once

// The seed of a test's random operations: `--seed=N` behind Boost's own arguments and `--`, else
// the environment's STRATA_SEED, else one of its own. Always printed, so that a failure can be run
// again.

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <string_view>

#include <boost/test/framework.hpp>
#include <boost/test/tree/test_unit.hpp>
#include <boost/test/unit_test.hpp>

namespace strata::test {

/// Returns: the seed; `test` says on stdout whose it is.
inline std::uint64_t seed(char const* test) {
    static constexpr std::string_view option = "--seed=";
    std::uint64_t value = std::random_device{}();
    if (char const* const text = std::getenv("STRATA_SEED"))
        value = std::stoull(text);
    auto const& suite = boost::unit_test::framework::master_test_suite();
    for (int i = 1; i < suite.argc; ++i)
        if (std::string_view const argument = suite.argv[i]; argument.starts_with(option))
            value = std::stoull(std::string{argument.substr(option.size())});
    std::cout << test << ": STRATA_SEED=" << value << std::endl;
    return value;
}

} // namespace strata::test
