// SPDX-License-Identifier: BSL-1.0
//
// An A* solver of the 15-puzzle with its nodes in one pool of fixed blocks.
//
// The solver knows std::pmr::memory_resource alone. The pool gives it what a search wants of
// memory: one region taken at the start, 48 bytes a node without a header, nodes side by side in
// the order in which they were made, and at any time the figures of what is in use.

#include <array>
#include <chrono>
#include <cstdio>
#include <exception>

#include <strata/fixed_block_resource.hpp>

#include "benchmarks/support/astar.hpp"

using strata::bench::astar;
using strata::bench::board;

namespace {

struct instance {
    char const* name;
    std::array<int, 16> tiles;
    int shortest; // moves, as published
};

// Korf, "Depth-First Iterative-Deepening", 1985, table of 100 random instances.
constexpr instance instances[] = {
    {"Korf 12", {14, 1, 9, 6, 4, 8, 12, 5, 7, 2, 3, 0, 10, 11, 13, 15}, 45},
    {"Korf 55", {13, 8, 14, 3, 9, 1, 0, 7, 15, 5, 4, 10, 12, 2, 6, 11}, 41},
    {"Korf 79", {0, 1, 9, 7, 11, 13, 5, 3, 14, 12, 4, 2, 8, 6, 10, 15}, 42},
};

// Returns: the number of moves, or -1 where two boards on the way are not one move apart.
int checked_length(astar::node const* last, board const& start) {
    int moves = 0;
    for (; last->parent != nullptr; last = last->parent, ++moves)
        if (last->parent->state.slid(last->blank, last->parent->blank) != last->state)
            return -1;
    return last->state == start ? moves : -1;
}

bool solve(instance const& puzzle, strata::fixed_block_resource& pool) {
    board const start{puzzle.tiles};
    auto const begin = std::chrono::steady_clock::now();
    astar search{&pool};
    astar::node const* const last = search.solve(start);
    std::chrono::duration<double, std::milli> const time = std::chrono::steady_clock::now() - begin;

    int const moves = last != nullptr ? checked_length(last, start) : -1;
    auto const memory = pool.stats(); // nothing was freed for good yet: this is the peak
    std::printf("%s: %d moves, %zu nodes made, %zu kept, %.1f MiB at its peak, %.0f ms\n",
                puzzle.name, moves, search.generated(), search.kept(),
                static_cast<double>(memory.live_bytes) / (1024.0 * 1024.0), time.count());
    return moves == puzzle.shortest && memory.live_blocks == search.kept();
}

} // namespace

int main() try {
    strata::fixed_block_resource pool{64u << 20, sizeof(astar::node)};
    bool right = true;
    for (instance const& puzzle : instances)
        right = solve(puzzle, pool) && right;
    if (!right)
        std::puts("a solution is not the shortest, or nodes are not accounted for");
    return right ? 0 : 1;
} catch (std::exception const& failure) {
    std::printf("failed: %s\n", failure.what());
    return 1;
}
