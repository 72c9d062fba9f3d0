// SPDX-License-Identifier: BSL-1.0
#pragma once

// Options of a segregated pool, as a fuzzer draws them.

#include <cstddef>
#include <memory>
#include <vector>

#include <strata/segregated_pool_resource.hpp>

#include "support/choices.hpp"
#include "target.hpp"

namespace strata::test {

/// Options and the block sizes that they point to.
struct drawn_options {
    explicit drawn_options(choices& drawn) {
        switch (drawn.below(8)) {
        case 0:
            sizes->assign(power_of_two_sizes.begin(), power_of_two_sizes.end());
            break;
        case 1:
            for (std::size_t count = 1 + drawn.below(80); count != 0; --count)
                sizes->push_back(drawn.below(512) * 8 + 1);
            break;
        default:
            break;
        }
        options.block_sizes = *sizes;
        if (drawn.one_in(2))
            options.largest_block_bytes = drawn_bytes(drawn, 40'000);
        if (drawn.one_in(2))
            options.slab_bytes = drawn_bytes(drawn, 1u << 18);
        if (drawn.one_in(2))
            options.first_chunk_bytes = drawn_bytes(drawn, 65536);
        if (drawn.one_in(2))
            options.largest_chunk_bytes = drawn_bytes(drawn, 1u << 18);
        options.pass_through = drawn.below(32) == 31;
    }

    std::shared_ptr<std::vector<std::size_t>> sizes = std::make_shared<std::vector<std::size_t>>();
    segregated_pool_options options;
};

/// A subject for T, a segregated pool with such options.
template <class T>
subject pool_of_drawn_options(choices& drawn) {
    drawn_options const o{drawn};
    subject s;
    s.name = "segregated pool";
    s.make = [o](std::pmr::memory_resource* upstream) {
        return std::make_shared<T>(o.options, upstream);
    };
    s.special = [](bench& b, ledger&, choices& c) {
        auto const& r = dynamic_cast<T const&>(b.tested());
        segregated_pool_options const effective = r.options();
        expect(!effective.block_sizes.empty() &&
                   effective.block_sizes.back() == effective.largest_block_bytes,
               "the largest block is no class");
        call_directly<T>(b, c);
    };
    return s;
}

} // namespace strata::test
