// SPDX-License-Identifier: BSL-1.0
#include "conformance.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <new>
#include <vector>

#include <strata/detail/bits.hpp>

#include "bench.hpp"
#include "expect.hpp"

// What the resource says of its memory: statistics, walk, ownership, trim.

namespace strata::test {

namespace {

// Sizes from 0 to 3 KiB, some over-aligned, and a few that upstream must serve in most resources.
void take_a_mixture(ledger& l, std::size_t blocks) {
    for (std::size_t i = 0; i < blocks; ++i)
        l.take(i * i * 31 % (i % 8 == 0 ? 3001 : 301), std::size_t{1} << (i % 5 == 0 ? i % 11 : 3));
    l.take(70'000);
    l.take(300'000, 128);
}

void give_some(ledger& l, std::size_t step) {
    for (std::size_t i = l.size(); i > 0; i -= std::min(i, step))
        l.give(i - 1);
}

void the_books_agree_at_every_step(subject const& s) {
    bench b{s};
    ledger l{b};
    l.expect_books();
    for (std::size_t step : {3u, 2u, 1u}) {
        take_a_mixture(l, 120);
        l.expect_books();
        give_some(l, step);
        l.expect_books();
        b.tested().trim();
        l.expect_books();
        l.expect_contents();
    }
    l.give_all();
    l.expect_books();
    b.finish();
}

void the_peak_is_the_most_that_was_live(subject const& s) {
    bench b{s};
    ledger l{b};
    std::size_t most_live = 0;
    for (std::size_t step : {2u, 3u, 1u}) {
        take_a_mixture(l, 60);
        most_live = std::max(most_live, b.tested().stats().live_bytes);
        give_some(l, step);
        l.take(1); // the peak is not what is live now
    }
    statistics const now = b.tested().stats();
    expect(now.peak_live_bytes == 0 || now.peak_live_bytes == most_live, "peak ",
           now.peak_live_bytes, ", live were ", most_live);
    l.give_all();
    b.finish();
}

void owns_is_true_of_carved_memory_alone(subject const& s) {
    static int const fixed = 0;
    bench b{s};
    ledger l{b};
    int const local = 0;
    take_a_mixture(l, 60);
    for (void const* p : {static_cast<void const*>(nullptr), static_cast<void const*>(&fixed),
                          static_cast<void const*>(&local), static_cast<void const*>(&b),
                          std::bit_cast<void const*>(std::uintptr_t{1}),
                          std::bit_cast<void const*>(~std::uintptr_t{0}),
                          std::bit_cast<void const*>(std::uintptr_t{0xdeadb000})})
        expect(!b.tested().owns(p), "it owns ", p);
    for (std::size_t i = 0; i < l.size(); ++i) {
        bool const carved = b.tested().owns(l[i].p); // expected to be right when it was taken
        for (std::size_t offset = 0; offset < l[i].bytes; offset += 1 + l[i].bytes / 7)
            expect(b.tested().owns(l[i].p + offset) == carved, "it owns only parts of a block of ",
                   l[i].bytes, " bytes");
    }
    std::vector<void const*> served;
    for (std::size_t i = 0; i < l.size(); ++i)
        if (l.is_served(i))
            served.push_back(l[i].p);
    statistics const now = b.tested().stats();
    expect_equal(served.size(), now.upstream_live_blocks, "blocks that it does not own");
    l.give_all();
    b.finish();
}

void the_largest_free_block_can_be_had_without_upstream(subject const& s) {
    bench b{s};
    ledger l{b};
    for (std::size_t step : {4u, 3u, 2u, 1u}) {
        take_a_mixture(l, 80);
        give_some(l, step);
        std::size_t const largest = b.tested().stats().largest_free_bytes;
        if (largest == 0)
            continue;
        b.upstream().fail_after(0);
        try {
            l.take(largest, 1);
        } catch (std::bad_alloc const&) {
            expect(false, "the largest free block, of ", largest, " bytes, cannot be had");
        }
        b.upstream().never_fail();
        expect(!l.is_served(l.size() - 1), "the largest free block is upstream's");
        l.give(l.size() - 1);
        l.expect_books();
    }
    l.give_all();
    b.finish();
}

void trim_returns_what_upstream_sees_come_back(subject const& s) {
    bench b{s};
    ledger l{b};
    for (std::size_t step : {5u, 2u, 1u}) {
        for (int i = 0; i < 3; ++i)
            take_a_mixture(l, 200);
        give_some(l, step);
        std::size_t const held = b.upstream().live_bytes();
        std::size_t const went = b.tested().trim();
        expect_equal(went, held - b.upstream().live_bytes(), "bytes that trim says went");
        expect_equal(b.tested().trim(), std::size_t{0}, "bytes that went in a second trim");
        l.expect_contents();
        l.expect_books();
    }
    l.give_all();
    b.tested().trim();
    expect_equal(b.upstream().live_blocks(), s.constructor_calls,
                 "upstream's blocks held after all was freed and trimmed");
    take_a_mixture(l, 10); // and it goes on
    l.give_all();
    b.finish();
}

void a_full_region_is_whole_again_when_all_is_freed(subject const& s) {
    if (!s.bounded)
        return;
    bench b{s};
    statistics const fresh = b.tested().stats();
    for (std::size_t step : {1u, 2u, 3u, 7u}) {
        ledger l{b};
        b.upstream().fail_after(0);
        expect_throw<std::bad_alloc>(
            [&] {
                for (std::size_t i = 0; i < 100'000; ++i)
                    l.take(40 + i * 97 % 2000);
            },
            "filling the region");
        b.upstream().never_fail();
        expect(l.size() > 4, "a region of ", fresh.footprint_bytes, " bytes served ", l.size(),
               " blocks");
        l.expect_books();
        while (l.size() != 0)
            give_some(l, step);
        l.expect_books();
        b.tested().trim();
        statistics now = b.tested().stats();
        now.peak_live_bytes = fresh.peak_live_bytes;
        expect(now == fresh, "it has ", now.free_blocks, " free blocks, the largest of ",
               now.largest_free_bytes, " bytes; at first ", fresh.free_blocks, " and ",
               fresh.largest_free_bytes);
    }
    b.finish();
}

constexpr promise list[] = {
    {"the_books_agree_at_every_step", the_books_agree_at_every_step},
    {"the_peak_is_the_most_that_was_live", the_peak_is_the_most_that_was_live},
    {"owns_is_true_of_carved_memory_alone", owns_is_true_of_carved_memory_alone},
    {"the_largest_free_block_can_be_had_without_upstream",
     the_largest_free_block_can_be_had_without_upstream},
    {"trim_returns_what_upstream_sees_come_back", trim_returns_what_upstream_sees_come_back},
    {"a_full_region_is_whole_again_when_all_is_freed",
     a_full_region_is_whole_again_when_all_is_freed},
};

} // namespace

std::span<promise const> promises_of_books() {
    return list;
}

} // namespace strata::test
