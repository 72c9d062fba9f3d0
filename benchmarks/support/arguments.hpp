// SPDX-License-Identifier: BSL-1.0
#pragma once

// The command line that the benchmarks share.

#include <cstddef>
#include <optional>
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
    bool structures; ///< P0089's, in place of the small workloads
    bool littered;   ///< in a heap that was churned and fragmented before
    table::style style;
};

/// Returns: what the command line says; nothing when help was asked for, and given.
/// Throws: std::exception with what is wrong with it.
[[nodiscard]] std::optional<arguments> parse(int argc, char** argv, std::string const& usage);

} // namespace strata::bench
