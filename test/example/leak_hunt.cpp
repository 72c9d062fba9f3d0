// SPDX-License-Identifier: BSL-1.0
//
// Finds three bugs of a small program with tracked_block_resource: a block that is never freed, a
// write behind a block's end, and a block that is freed twice. Then it shows that the mended
// program survives the failure of each of its allocations.
//
// Ends with 0 when all three were found: it runs as a test.

#include <cstdlib>
#include <iostream>
#include <memory_resource>
#include <string>
#include <string_view>
#include <vector>

#include <strata/tracked_block_tools.hpp>

namespace {

// What a misuse handler hears, in order. The default handler prints such lines on stderr.
std::vector<strata::misuse_kind> heard;

void collect(strata::misuse const& what) {
    std::cout << "  heard: " << strata::to_string(what.kind) << " of " << what.bytes << " bytes\n";
    heard.push_back(what.kind);
}

// Keeps a copy of a name, and forgets to give it back.
void remember(std::pmr::memory_resource& memory, std::string_view name) {
    auto* const text = static_cast<char*>(memory.allocate(name.size() + 1, 1));
    name.copy(text, name.size());
    text[name.size()] = '\0';
}

// Makes room for the name, but not for the null behind it.
void greet(std::pmr::memory_resource& memory, std::string_view name) {
    auto* const text = static_cast<char*>(memory.allocate(name.size(), 1));
    name.copy(text, name.size());
    text[name.size()] = '\0';
    memory.deallocate(text, name.size(), 1); // freed all the same: this call is right
}

// Two owners, both of which clean up.
void share(std::pmr::memory_resource& memory) {
    void* const mine = memory.allocate(64);
    void* const yours = mine;
    memory.deallocate(mine, 64);
    memory.deallocate(yours, 64); // ignored, after the report
}

// The mended program: containers give back what they take.
void mended(std::pmr::memory_resource& memory) {
    std::pmr::vector<std::pmr::string> lines{&memory};
    for (char const* word : {"a word that needs memory of its own", "and another one like it"})
        lines.emplace_back(word);
}

} // namespace

int main(int, char** argv) {
    std::string_view const name = argv[0];
    strata::set_misuse_handler(collect);
    {
        strata::tracked_block_resource memory;
        {
            strata::label_scope const label{memory, "names"};
            remember(memory, name);
        }
        greet(memory, name);
        share(memory);
        std::cout << memory; // what is live now, and how to find where it came from
    }                        // the destructor reports the leak, and reclaims it
    std::vector<strata::misuse_kind> const expected{
        strata::misuse_kind::overrun, strata::misuse_kind::double_free, strata::misuse_kind::leak};
    if (heard != expected)
        return EXIT_FAILURE;

    strata::tracked_block_resource memory;
    std::size_t const failures = strata::for_each_failure(memory, [&] { mended(memory); });
    std::cout << "survived the failure of each of " << failures << " allocations\n";
    return memory.stats().live_blocks == 0 && failures != 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
