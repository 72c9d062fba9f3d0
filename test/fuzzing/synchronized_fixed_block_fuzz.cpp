// SPDX-License-Identifier: BSL-1.0
#include <strata/synchronized_fixed_block_resource.hpp>

#include "support/make_subject.hpp"
#include "target.hpp"

namespace strata::test {

// One thread at a time, so that an input does the same each time it runs: what threads do to each
// other is for synchronized_fixed_block_test.
subject drawn_subject(choices& drawn) {
    using tested = synchronized_fixed_block_resource;
    std::size_t const block_bytes = drawn.one_in(16) ? drawn_bytes(drawn, 8192) : drawn.below(256);
    std::size_t const bytes = drawn_bytes(drawn, 65536);
    subject s = drawn.one_in(3) ? in_a_buffer<tested>("fixed blocks for threads in a buffer", bytes,
                                                      block_bytes)
                                : bounded<tested>("fixed blocks for threads", bytes, block_bytes);
    s.gathers_late = true;
    s.keeps_cache = true;
    s.special = [](bench& b, ledger& l, choices& c) {
        auto const& r = dynamic_cast<tested const&>(b.tested());
        expect(r.capacity_blocks() * r.block_bytes() <= r.stats().footprint_bytes,
               "it has more than it holds");
        call_directly<tested>(b, c);
        use_elsewhere(b, l, c);
    };
    return s;
}

} // namespace strata::test
