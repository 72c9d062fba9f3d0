// SPDX-License-Identifier: BSL-1.0
//
// Runs out of memory, says so, keeps the latest of what it had, and ends cleanly: on a reserve that
// was set aside while there was memory. The system's refusal is real: this process limits itself.
//
// Ends with 0 when the reserve took what the system refused: it runs as a test.

#include <cstdlib>
#include <iostream>
#include <memory_resource>
#include <string>
#include <vector>

#include <sys/resource.h>

#include <strata/tracked_block_resource.hpp>

namespace {

using lines = std::pmr::vector<std::pmr::string>;

// A service that remembers all that it is told. Memory ends in small steps, as it mostly does.
// Returns: when the first block came from the reserve; nothing has been lost then.
void remember(lines& all, strata::tracked_block_resource const& memory) {
    std::size_t const reserve_bytes = memory.options().reserve_bytes;
    while (memory.stats().free_bytes == reserve_bytes)
        all.emplace_back(2000, '.');
}

std::size_t blocks_in_reserve(strata::tracked_block_resource const& memory) {
    std::size_t blocks = 0;
    memory.visit_records(
        [&](strata::tracked_block const& block) { blocks += block.from_reserve ? 1u : 0u; });
    return blocks;
}

} // namespace

int main() {
    ::rlimit const limit{256 << 20, 256 << 20};
    ::setrlimit(RLIMIT_AS, &limit);

    // [reserve]
    strata::tracked_block_resource memory{{.reserve_bytes = 64 * 1024}};
    // [reserve]
    lines all{&memory};
    all.reserve(200'000);
    remember(all, memory);
    // The last words need memory as everything does.
    lines const saved{all.end() - 10, all.end(), &memory};
    std::pmr::string words{"out of memory with ", &memory};
    words += std::to_string(memory.stats().live_bytes >> 20);
    words += " MiB in " + std::to_string(memory.stats().live_blocks);
    words += " blocks; the latest " + std::to_string(saved.size()) + " lines are saved, ";
    words += std::to_string(blocks_in_reserve(memory)) + " blocks lie in the reserve\n";
    std::cout << words;
    return blocks_in_reserve(memory) > saved.size() ? EXIT_SUCCESS : EXIT_FAILURE;
}
