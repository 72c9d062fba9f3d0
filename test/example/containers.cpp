// SPDX-License-Identifier: BSL-1.0
// Standard containers on each of the five resources: one line each to change where memory is.
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory_resource>
#include <string>
#include <unordered_map>
#include <vector>

#include <strata/strata.hpp>

namespace {

// Counts words; every node, bucket and long string comes from `memory`.
std::size_t count_words(std::pmr::memory_resource& memory) {
    std::pmr::unordered_map<std::pmr::string, int> counts{&memory};
    std::pmr::map<int, std::pmr::vector<std::pmr::string>> by_count{&memory};
    for (int i = 0; i < 500; ++i) {
        std::pmr::string word{"a word of some length, number ", &memory};
        word += std::to_string(i % 50);
        ++counts[word];
    }
    for (auto const& [word, count] : counts)
        by_count[count].push_back(word);
    return by_count.at(10).size();
}

bool works_on(strata::resource& memory) {
    std::size_t const words = count_words(memory);
    auto const after = memory.stats();
    std::cout << memory.name() << ": " << words << " words, " << after.live_blocks
              << " blocks live afterwards, footprint " << after.footprint_bytes << " bytes\n";
    return words == 50 && after.live_blocks == 0 && memory.check_invariants();
}

} // namespace

int main() {
    // [containers]
    strata::segregated_pool_resource pool;            // many sizes, grows
    strata::best_fit_resource region{4 << 20};        // one region, tight packing
    strata::fixed_block_resource blocks{1 << 20, 64}; // equal blocks, hard bound
    strata::tracked_block_resource tracked;           // every block accounted for
    static strata::dll_arena_resource arena;          // 64 KiB inside the object
    // [containers]
    bool works = true;
    for (strata::resource* memory :
         std::initializer_list<strata::resource*>{&pool, &region, &blocks, &tracked, &arena})
        works = works_on(*memory) && works;
    return works ? EXIT_SUCCESS : EXIT_FAILURE;
}
