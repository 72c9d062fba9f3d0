// SPDX-License-Identifier: BSL-1.0
#include "target.hpp"

#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <stdexcept>
#include <vector>

#include "support/counting_upstream.hpp"
#include "support/expect.hpp"
#include "support/program.hpp"
#include "support/subjects.hpp"

// A broken promise leaves as an exception that nobody catches: its words, and a crash to keep.

namespace strata::test {

namespace {

constexpr std::size_t most_bytes = 16u << 20; // that a constructor may take

/// Returns: whether the constructor throws nothing; where it does, all went back upstream.
bool can_be_made(subject const& s, std::size_t calls) {
    counting_upstream upstream;
    upstream.hold_at_most(most_bytes);
    upstream.fail_after(calls);
    bool made = false;
    try {
        s.make(&upstream);
        made = true;
    } catch (std::bad_alloc const&) {
    } catch (std::invalid_argument const&) {
    }
    expect(upstream.settled(), "the constructor or the destructor left memory behind");
    return made;
}

} // namespace

} // namespace strata::test

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    using namespace strata::test;

    byte_choices drawn{{data, size}};
    std::size_t const layer = drawn.below(16);
    subject s = drawn_subject(drawn);
    std::vector<subject> const layers = every_resource();
    if (layer < layers.size())
        s = stacked(s, layers[layer]);
    if (drawn.one_in(8))
        static_cast<void>(can_be_made(s, drawn.below(4)));
    if (!can_be_made(s, most_bytes))
        return 0;
    std::optional<bench> b;
    try {
        b.emplace(s);
    } catch (std::invalid_argument const&) { // a buffer may lie better one time than the next
        return 0;
    }
    program any{*b, drawn};
    while (!drawn.are_over())
        any.step();
    any.finish();
    return 0;
}
