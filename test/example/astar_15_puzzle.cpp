// SPDX-License-Identifier: BSL-1.0
//
// An A* solver of the 15-puzzle with its nodes in one pool of fixed blocks.
//
// The solver knows std::pmr::memory_resource alone. The pool gives it what a search wants of
// memory: one region taken at the start, its pages touched, so that no node waits for the system;
// 48 bytes a node without a header, nodes side by side in the order in which they were made; a hard
// bound; and at any time the figures of what is in use. For each puzzle the program prints the tiles
// in the order in which they slide, and what the search took, beside the same search on malloc.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <memory_resource>
#include <vector>

#include <strata/fixed_block_resource.hpp>

#include "benchmarks/support/astar.hpp"

using strata::bench::astar;
using strata::bench::board;
using strata::bench::puzzle;

namespace {

// Returns: the tiles in the order in which they slide; nothing where two boards on the way are not
// one move apart, or the first is another.
std::vector<unsigned> solution(astar::node const* last, board const& start) {
    std::vector<unsigned> tiles;
    for (; last->parent != nullptr; last = last->parent) {
        astar::node const& before = *last->parent;
        if (before.state.slid(last->blank, before.blank) != last->state)
            return {};
        tiles.push_back(before.state.tile(last->blank));
    }
    std::ranges::reverse(tiles);
    return last->state == start ? tiles : std::vector<unsigned>{};
}

struct found {
    std::vector<unsigned> tiles;
    std::size_t made;
    std::size_t kept;
    strata::statistics memory;
    double ms; // all nodes given back at the end
};

template <class Figures>
found solve(puzzle const& one, std::pmr::memory_resource& nodes, Figures figures) {
    board const start{one.tiles};
    auto const begin = std::chrono::steady_clock::now();
    astar search{&nodes};
    astar::node const* const last = search.solve(start);
    found result{last != nullptr ? solution(last, start) : std::vector<unsigned>{},
                 search.generated(), search.kept(), figures(), 0};
    search.clear();
    result.ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    return result;
}

bool show(puzzle const& one, strata::fixed_block_resource& pool) {
    // Nothing was freed for good when the figures are asked for: they are the peak.
    found const here = solve(one, pool, [&] { return pool.stats(); });
    found const there =
        solve(one, *std::pmr::new_delete_resource(), [] { return strata::statistics{}; });
    std::printf("%s, %zu moves:", one.name, here.tiles.size());
    for (unsigned tile : here.tiles)
        std::printf(" %u", tile);
    std::printf("\n  %zu nodes made, %zu kept in %.1f MiB (%.2f bytes a node, bits included); "
                "%.0f ms, on malloc %.0f ms\n",
                here.made, here.kept, static_cast<double>(here.memory.live_bytes) / (1 << 20),
                static_cast<double>(here.memory.live_bytes) / static_cast<double>(here.kept) +
                    static_cast<double>(here.memory.overhead_bytes) /
                        static_cast<double>(pool.capacity_blocks()),
                here.ms, there.ms);
    return here.tiles.size() == static_cast<std::size_t>(one.shortest) &&
           here.tiles == there.tiles && here.memory.live_blocks == here.kept &&
           pool.stats().live_blocks == 0;
}

} // namespace

int main() try {
    strata::fixed_block_resource pool{std::size_t{32} << 20,
                                      sizeof(astar::node),
                                      {.prefault = true},
                                      std::pmr::new_delete_resource()};
    bool right = true;
    for (puzzle const& one : strata::bench::puzzles)
        right = show(one, pool) && right;
    if (!right)
        std::puts("a solution is not the shortest, or nodes are not accounted for");
    return right ? 0 : 1;
} catch (std::exception const& failure) {
    std::printf("failed: %s\n", failure.what());
    return 1;
}
