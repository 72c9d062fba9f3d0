// SPDX-License-Identifier: BSL-1.0
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include <strata/best_fit_resource.hpp>

#include "support/make_subject.hpp"
#include "target.hpp"

namespace strata::test {

namespace {

/// Its region is assigned, in place of one from upstream or of none.
subject assigned(std::size_t bytes_before, std::size_t bytes, best_fit_options const& options) {
    struct both {
        both(std::size_t before, best_fit_options const& o, std::pmr::memory_resource* upstream)
            : resource{before, o, upstream} {}
        std::vector<std::byte> buffer;
        best_fit_resource resource;
    };
    subject s;
    s.name = "best_fit_resource, assigned";
    s.make = [=](std::pmr::memory_resource* upstream) {
        auto const made = std::make_shared<both>(bytes_before, options, upstream);
        made->buffer.resize(bytes);
        made->resource.assign(made->buffer.data(), bytes);
        return std::shared_ptr<resource>{made, &made->resource};
    };
    s.storage_bytes = bytes;
    return s;
}

void special(bench& b, ledger& l, choices& drawn) {
    auto& r = dynamic_cast<best_fit_resource&>(b.tested());
    expect(r.capacity_bytes() <= r.stats().footprint_bytes, "it has more than it holds");
    if (l.size() != 0)
        expect_throw<std::invalid_argument>([&] { r.assign(nullptr, 4096); },
                                            "assign while blocks are live");
    call_directly<best_fit_resource>(b, drawn);
}

} // namespace

subject drawn_subject(choices& drawn) {
    best_fit_options options;
    if (drawn.one_in(2))
        options.deferred_bytes = drawn_bytes(drawn, 32768);
    if (drawn.one_in(2))
        options.growth_bytes = drawn_bytes(drawn, 1u << 18);
    std::size_t const bytes = drawn_bytes(drawn, 1u << 20);
    auto const made = [&]() -> subject {
        switch (drawn.below(5)) {
        case 0:
            return growing<best_fit_resource>("best_fit_resource of none", options);
        case 1:
            return in_a_buffer<best_fit_resource>("best_fit_resource in a buffer", bytes, options);
        case 2:
            return assigned(drawn_bytes(drawn, 65536), bytes, options);
        default:
            return bounded<best_fit_resource>("best_fit_resource", bytes, options);
        }
    };
    subject s = made();
    s.merges_late = options.deferred_bytes != 0;
    s.special = special;
    return s;
}

} // namespace strata::test
