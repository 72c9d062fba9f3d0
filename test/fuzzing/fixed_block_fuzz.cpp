// SPDX-License-Identifier: BSL-1.0
#include <limits>

#include <strata/fixed_block_resource.hpp>

#include "support/make_subject.hpp"
#include "target.hpp"

namespace strata::test {

namespace {

void special(bench& b, ledger&, choices& drawn) {
    auto const& r = dynamic_cast<fixed_block_resource const&>(b.tested());
    expect(r.block_bytes() % 8 == 0, "blocks are no multiple of 8 bytes");
    expect(r.capacity_blocks() * r.block_bytes() <= r.stats().footprint_bytes,
           "it has more than it holds");
    expect(r.options().growth <= fixed_block_options::by_regions, "its options are lost");
    call_directly<fixed_block_resource>(b, drawn);
}

} // namespace

subject drawn_subject(choices& drawn) {
    fixed_block_options options;
    if (drawn.one_in(2))
        options.growth = fixed_block_options::by_regions;
    options.prefault = drawn.one_in(8);
    std::size_t const block_bytes = drawn.one_in(16) ? drawn_bytes(drawn, 8192) : drawn.below(256);
    std::size_t const bytes = drawn_bytes(drawn, 65536);
    auto const made = [&]() -> subject {
        std::size_t const place = drawn.below(16);
        if (place == 0)
            return bounded<fixed_block_resource>("fixed_block_resource of too much",
                                                 ~std::size_t{0} - bytes, block_bytes, options);
        if (place == 1)
            return bounded<fixed_block_resource>("fixed_block_resource of blocks too large", bytes,
                                                 ~std::size_t{0} - block_bytes, options);
        if (place < 6)
            return in_a_buffer<fixed_block_resource>("fixed_block_resource in a buffer", bytes,
                                                     block_bytes, options);
        return bounded<fixed_block_resource>("fixed_block_resource", bytes, block_bytes, options);
    };
    subject s = made();
    s.special = special;
    return s;
}

} // namespace strata::test
