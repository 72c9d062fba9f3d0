// SPDX-License-Identifier: BSL-1.0
#pragma once

// The command line that the benchmarks share.

#include <cstddef>
#include <string>
#include <vector>

#include "table.hpp"

namespace strata::bench {

struct arguments {
    std::vector<std::string> operands; ///< what is no option: traces, workloads
    std::string candidate;             ///< a part of their names
    std::size_t rounds;
    bool smoke; ///< whether it works, not how fast
    bool list;
    bool regions;    ///< the smallest that does, in place of times
    bool reallocate; ///< where the block stands, by those who can
    bool structures; ///< P0089's, in place of the small workloads
    bool threads;    ///< libstdc++'s scenarios, in place of the small workloads
    bool littered;   ///< in a heap that was churned and fragmented before
    table::style style;
};

/// What a benchmark's main does: reads the command line, or gives the help that it asks for, and
/// runs. `usage` begins with the program's name. Returns: the exit status; stderr has what is wrong.
int run_program(int argc, char** argv, std::string const& usage, bool (*run)(arguments const&));

} // namespace strata::bench
