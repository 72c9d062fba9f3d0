// SPDX-License-Identifier: BSL-1.0
#pragma once

// The conformance suite: what every resource promises, written once.
//
// A program lists subjects (subject.hpp) and calls run_conformance; each promise to each subject is
// then a test case of its own, named after both. The suite compiles once: it knows a resource by
// its interface alone. The seed of its random parts is printed, and read from STRATA_SEED.

#include <span>
#include <vector>

#include "subject.hpp"

namespace strata::test {

struct promise {
    char const* name;
    void (*check)(subject const&); ///< throws broken_promise when it is broken
};

/// Returns: all promises, in the order in which to check them.
std::span<promise const> promises();

/// Checks every promise to every subject, as a Boost.Test program does.
/// Returns: what main returns.
int run_conformance(int argc, char* argv[], std::vector<subject> const& subjects);

// The parts, each in a file of its own: conformance_<part>.cpp.
std::span<promise const> promises_of_requests();
std::span<promise const> promises_of_misuse();
std::span<promise const> promises_of_books();
std::span<promise const> promises_of_failure();
std::span<promise const> promises_of_random_use();

} // namespace strata::test
