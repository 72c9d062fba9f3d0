// SPDX-License-Identifier: BSL-1.0
#pragma once

// Structures as programs have them, by size: how fast they grow, how near their elements lie when
// the program has run for a while, what it costs to replace them.
//
// Source: Halpern, Lakos, "Quantifying memory-allocation strategies", P0089R1; sizes and counts are
// those that fit one machine of today.

#include <vector>

#include "workloads.hpp"

namespace strata::bench {

inline constexpr char const* about_structures =
    "growth              a structure of 2^k elements is made in a resource of its own, and both "
    "are\n"
    "                    destroyed; strings of 33 to 128 characters, inner sets of 32; an op is an "
    "element\n"
    "locality            lists of 2^k numbers, 65,536 in all, in one resource; as many elements "
    "are\n"
    "                    handed from list to list at random, then all are walked; an op is a step\n"
    "utilization         4 MiB in blocks of 2^k bytes, the oldest of which is replaced each time";

/// Returns: the groups "growth: …" (an op is an element made), "locality" (a step from one element
/// of a list to the next) and "utilization" (a block replaced).
[[nodiscard]] std::vector<workload> structure_workloads(bool smoke);

} // namespace strata::bench
