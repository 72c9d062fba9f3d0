// SPDX-License-Identifier: BSL-1.0
#include "conformance.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <list>
#include <map>
#include <memory_resource>
#include <new>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include <strata/detail/bits.hpp>

#include "bench.hpp"
#include "expect.hpp"

// Requests that are served rightly, and what the resource says of them.

namespace strata::test {

namespace {

constexpr std::size_t most = std::numeric_limits<std::size_t>::max();

// Around every boundary that a resource may have: granules, classes, slabs, regions, upstream.
constexpr std::array<std::size_t, 22> sizes{0,    1,    7,    8,    15,     16,     17,  31,
                                            33,   63,   65,   100,  255,    511,    513, 1000,
                                            1025, 2047, 4097, 9001, 33'333, 100'001};

void constructor_calls_upstream_as_promised(subject const& s) {
    bench b{s};
    expect_equal(b.upstream().allocations(), s.constructor_calls, "upstream calls");
    expect_equal(b.upstream().deallocations(), std::size_t{0}, "blocks given back");
    expect(b.tested().upstream_resource() == &b.upstream(), "upstream_resource() is another");
    expect(b.tested().is_equal(b.tested()), "a resource is not equal to itself");
    expect(!s.name.empty() && b.tested().name() != nullptr && *b.tested().name() != '\0',
           "it has no name");
    ledger{b}.expect_books();
    b.finish();
}

void null_upstream_stands_for_new_delete_resource(subject const& s) {
    auto const r = s.make(nullptr);
    expect(r->upstream_resource() == std::pmr::new_delete_resource(), "it is another");
    for (std::size_t bytes : sizes)
        r->deallocate(r->allocate(bytes), bytes);
    expect_equal(r->stats().live_blocks, std::size_t{0}, "live blocks");
}

void every_alignment_is_kept_for_every_size(subject const& s) {
    bench b{s};
    ledger l{b};
    for (std::size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        for (std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{13}, alignment / 2,
                                  alignment - 1, alignment, alignment + 1, 3 * alignment + 5})
            l.take(bytes, alignment);
        l.expect_books();
        for (std::size_t i = l.size(); i > l.size() / 2; --i) // others stay, to crowd what follows
            l.give((i * 7 + 3) % l.size());
    }
    for (std::size_t alignment = 8192; alignment <= 1u << 20; alignment *= 2)
        l.take(100, alignment);
    l.expect_books();
    l.give_all();
    l.expect_books();
    b.finish();
}

// The sizes of all classes that come by default and twice as much; what lies below is the same to all.
void every_size_and_alignment_is_served_and_freed(subject const& s) {
    if (s.make_below)
        return;
    bench b{s};
    resource& r = b.tested();
    struct held {
        std::byte* p;
        std::size_t bytes;
        std::size_t alignment;
        std::byte mark; // at both ends
    };
    std::array<held, 4> last{}; // live at a time
    auto const give = [&](held const& h) {
        if (h.p == nullptr)
            return;
        expect(h.bytes == 0 || (h.p[0] == h.mark && h.p[h.bytes - 1] == h.mark), "a block of ",
               h.bytes, " bytes, alignment ", h.alignment, ", was changed while it was live");
        r.deallocate(h.p, h.bytes, h.alignment);
    };
    std::size_t n = 0;
    for (std::size_t alignment = 1; alignment <= 4096; alignment *= 2)
        for (std::size_t bytes = 0; bytes <= 4200; ++bytes, ++n) {
            held& next = last[n % last.size()];
            give(next);
            next = {detail::as_bytes(r.allocate(bytes, alignment)), bytes, alignment,
                    static_cast<std::byte>(n)};
            expect(detail::is_aligned(next.p, alignment), "allocate(", bytes, ", ", alignment,
                   ") is not aligned");
            expect(!r.diagnose(next.p, bytes, alignment), "allocate(", bytes, ", ", alignment,
                   ") gave what cannot be freed");
            expect(!r.owns(next.p) || r.good_size(bytes, alignment) >= bytes, "good_size(", bytes,
                   ", ", alignment, ") is less");
            if (bytes != 0)
                next.p[0] = next.p[bytes - 1] = next.mark;
        }
    for (held const& h : last)
        give(h);
    expect(b.recorder().take().empty(), "a misuse was reported that was none");
    ledger{b}.expect_books(); // nothing is live
    b.finish();
}

void zero_bytes_give_distinct_blocks(subject const& s) {
    bench b{s};
    ledger l{b}; // it expects that no two blocks share an address
    for (std::size_t alignment : {1u, 8u, 16u, 64u, 1024u})
        for (int i = 0; i < 10; ++i)
            l.take(0, alignment);
    l.expect_books();
    l.give_all();
    b.finish();
}

void impossible_requests_throw_bad_alloc_and_change_nothing(subject const& s) {
    bench b{s};
    for (int round = 0; round < 2; ++round) { // fresh, and in use
        ledger l{b};
        if (round == 1)
            for (std::size_t bytes : sizes)
                l.take(bytes);
        picture const before{b};
        for (std::size_t bytes : {most, most - 1, most - 15, most - 4095, most / 2 + 1}) {
            for (std::size_t alignment : {1u, 16u, 64u, 4096u})
                expect_throw<std::bad_alloc>(
                    [&] { static_cast<void>(b.tested().allocate(bytes, alignment)); }, "allocate(",
                    bytes, ", ", alignment, ")");
            expect_throw<std::bad_alloc>(
                [&] { static_cast<void>(b.tested().allocate_zeroed(1, bytes)); },
                "allocate_zeroed(1, ", bytes, ")");
            if (round == 0)
                continue;
            block const& held = l[5];
            expect_throw<std::bad_alloc>(
                [&] {
                    static_cast<void>(
                        b.tested().reallocate(held.p, held.bytes, bytes, held.alignment));
                },
                "reallocate to ", bytes);
            expect(!b.tested().try_resize(held.p, held.bytes, bytes, held.alignment),
                   "try_resize to ", bytes, " says that it did");
        }
        before.expect_same(b, "impossible requests");
        l.expect_contents();
        l.give_all();
    }
    b.finish();
}

void an_alignment_that_is_no_power_of_two_is_refused(subject const& s) {
    bench b{s};
    picture const before{b};
    for (std::size_t bytes : {0u, 8u, 100u, 1000u, 100'000u})
        for (std::size_t alignment : {3u * 4096, 4096u + 16, (1u << 20) + 1})
            expect_throw<std::invalid_argument>(
                [&] { static_cast<void>(b.tested().allocate(bytes, alignment)); }, "allocate(",
                bytes, ", ", alignment, ")");
    before.expect_same(b, "alignments that are no powers of two");
    b.finish();
}

void overflowing_products_throw_bad_alloc(subject const& s) {
    bench b{s};
    picture const before{b};
    struct product {
        std::size_t count;
        std::size_t bytes;
    };
    for (auto const [count, bytes] : {product{most / 2 + 1, 2}, product{2, most / 2 + 1},
                                      product{most, most}, product{most / 16 + 2, 16}})
        expect_throw<std::bad_alloc>(
            [&b, n = count, each = bytes] {
                static_cast<void>(b.tested().allocate_zeroed(n, each));
            },
            count, " * ", bytes, " bytes");
    before.expect_same(b, "overflowing products");
    b.finish();
}

void zeroed_blocks_are_zero_where_others_have_been(subject const& s) {
    bench b{s};
    ledger l{b};
    for (int round = 0; round < 2; ++round) { // the ledger leaves its patterns in freed memory
        for (std::size_t bytes : sizes) {
            l.take_zeroed(1, bytes);
            l.take_zeroed(bytes, 3, 64);
        }
        l.take_zeroed(0, 8);
        l.take_zeroed(8, 0);
        l.expect_books();
        l.give_all();
    }
    b.finish();
}

void content_stays_while_a_block_is_live(subject const& s) {
    bench b{s};
    ledger l{b};
    for (int round = 0; round < 3; ++round) {
        for (std::size_t bytes : sizes)
            for (std::size_t alignment : {1u, 8u, 16u, 32u, 256u})
                l.take(bytes / 2, alignment);
        l.expect_contents();
        for (std::size_t i = 0; i < l.size(); ++i)
            l.give(i);
        l.expect_contents();
    }
    l.expect_books();
    l.give_all();
    l.expect_books();
    b.finish();
}

void destructor_returns_what_is_live(subject const& s) {
    bench b{s};
    ledger l{b};
    for (std::size_t bytes : sizes)
        for (std::size_t alignment : {8u, 128u, 4096u})
            l.take(bytes, alignment);
    b.finish();
}

void release_makes_it_as_new(subject const& s) {
    bench b{s};
    ledger l{b};
    statistics fresh = b.tested().stats();
    std::size_t const held = b.upstream().live_bytes();
    std::array<void*, 3> old{};
    for (int round = 0; round < 3; ++round) {
        for (std::size_t bytes : sizes)
            for (std::size_t alignment : {1u, 16u, 512u})
                l.take(bytes, alignment);
        l.expect_books();
        for (std::size_t i = 0; i < l.size(); i += 2)
            l.give(i);
        old = {l[0].p, l[20].p, l[l.size() - 1].p};
        b.tested().release();
        l.forget_all();
        expect_equal(b.upstream().live_bytes(), held, "bytes of upstream after release");
        expect_equal(b.upstream().live_blocks(), s.constructor_calls,
                     "blocks of upstream after release");
        statistics now = b.tested().stats();
        now.peak_live_bytes = fresh.peak_live_bytes;
        expect(now == fresh, "the statistics are not as new");
        l.expect_books();
        for (void* p : old)
            expect(b.tested().diagnose(p, 1, 1).has_value(), "a block outlives release");
    }
    b.tested().release();
    l.expect_books();
    b.finish();
}

void good_size_is_what_a_request_gets(subject const& s) {
    bench b{s};
    for (std::size_t alignment : {1u, 8u, 16u, 64u, 512u, 4096u}) {
        for (std::size_t bytes : sizes) {
            ledger l{b};
            std::size_t const promised = b.tested().good_size(bytes, alignment);
            expect(promised >= bytes, "good_size(", bytes, ", ", alignment, ") is only ", promised);
            statistics const before = b.tested().stats();
            l.take(bytes, alignment);
            std::size_t const got = b.tested().stats().live_bytes - before.live_bytes;
            expect_equal(got, l.is_served(0) ? std::max<std::size_t>(bytes, 1) : promised,
                         "bytes that a request of ", bytes, ", ", alignment, " got");
            l.give(0);
            if (promised != bytes)
                expect_equal(b.tested().good_size(promised, alignment), promised,
                             "good_size of a good size");
        }
    }
    expect_equal(b.tested().good_size(1u << 30), std::size_t{1} << 30,
                 "good_size of what is passed upstream");
    b.finish();
}

void try_resize_keeps_place_and_content(subject const& s) {
    bench b{s};
    for (std::size_t from : sizes) {
        for (std::size_t to : sizes) {
            ledger l{b}; // it expects what is promised of either answer
            l.take(from);
            l.take(from); // in the way, often
            l.try_resize(1, to);
            bool const done = l.try_resize(0, to);
            expect(done || from != to, "a block of ", from, " bytes cannot keep its size");
            l.expect_books();
            l.give_all();
        }
    }
    picture const before{b};
    expect(!b.tested().try_resize(nullptr, 0, 8), "try_resize of null says that it did");
    before.expect_same(b, "try_resize of null");
    b.finish();
}

void reallocate_keeps_content_and_alignment(subject const& s) {
    bench b{s};
    ledger l{b};
    for (std::size_t alignment : {1u, 16u, 256u}) {
        l.take(10, alignment);
        l.take(10, alignment); // in the way
        for (std::size_t bytes : sizes)
            l.reallocate(l.size() - 2, bytes);
        l.expect_books();
        for (std::size_t i = sizes.size(); i-- > 0;)
            l.reallocate(l.size() - 2, sizes[i]); // down to 0, which keeps a block
        l.expect_books();
    }
    for (std::size_t i = 0; i < sizes.size(); ++i)
        l.reallocate(i % l.size(), sizes[(i * 7) % sizes.size()]);
    l.expect_contents();
    l.give_all();
    void* const p = b.tested().reallocate(nullptr, 0, 100, 64);
    expect(detail::is_aligned(p, 64), "reallocate of null is not aligned");
    b.tested().deallocate(p, 100, 64);
    l.expect_books();
    b.finish();
}

void freed_memory_serves_again(subject const& s) {
    bench b{s};
    ledger l{b};
    std::size_t footprint = 0;
    for (int round = 0; round < 20; ++round) {
        for (std::size_t i = 0; i < 100; ++i)
            l.take(8 + i % 40 * 8);
        if (round == 4)
            footprint = b.tested().stats().footprint_bytes;
        if (round % 2 == 0)
            l.give_all();
        while (l.size() != 0)
            l.give(l.size() / 2);
    }
    std::size_t const now = b.tested().stats().footprint_bytes;
    expect(now <= footprint, "the footprint grows: ", footprint, " then ", now);
    b.finish();
}

void containers_of_std_live_on_it(subject const& s) {
    bench b{s};
    {
        std::pmr::map<int, std::pmr::string> names{&b.tested()};
        std::pmr::unordered_map<int, std::pmr::vector<int>> rows{&b.tested()};
        std::pmr::list<std::pmr::string> lines{&b.tested()};
        for (int i = 0; i < 300; ++i) {
            names.try_emplace(i * 7 % 300, std::to_string(i) + " is longer than a small string");
            rows[i % 50].push_back(i);
            lines.emplace_front(names.begin()->second);
            if (i % 3 == 0)
                lines.pop_back();
        }
        std::pmr::map<int, std::pmr::string> const copied{names, &b.tested()};
        expect(copied == names, "a copied map differs");
        expect_equal(rows[49].back(), 299, "last element");
        expect_equal(lines.size(), std::size_t{200}, "lines");
        expect(b.tested().stats().live_blocks > 1000, "the containers live elsewhere");
        expect(b.tested().check_invariants(), "an invariant is broken");
    }
    ledger{b}.expect_books(); // nothing is live
    b.finish();
}

constexpr promise list[] = {
    {"constructor_calls_upstream_as_promised", constructor_calls_upstream_as_promised},
    {"null_upstream_stands_for_new_delete_resource", null_upstream_stands_for_new_delete_resource},
    {"every_alignment_is_kept_for_every_size", every_alignment_is_kept_for_every_size},
    {"every_size_and_alignment_is_served_and_freed", every_size_and_alignment_is_served_and_freed},
    {"zero_bytes_give_distinct_blocks", zero_bytes_give_distinct_blocks},
    {"impossible_requests_throw_bad_alloc_and_change_nothing",
     impossible_requests_throw_bad_alloc_and_change_nothing},
    {"an_alignment_that_is_no_power_of_two_is_refused",
     an_alignment_that_is_no_power_of_two_is_refused},
    {"overflowing_products_throw_bad_alloc", overflowing_products_throw_bad_alloc},
    {"zeroed_blocks_are_zero_where_others_have_been",
     zeroed_blocks_are_zero_where_others_have_been},
    {"content_stays_while_a_block_is_live", content_stays_while_a_block_is_live},
    {"destructor_returns_what_is_live", destructor_returns_what_is_live},
    {"release_makes_it_as_new", release_makes_it_as_new},
    {"good_size_is_what_a_request_gets", good_size_is_what_a_request_gets},
    {"try_resize_keeps_place_and_content", try_resize_keeps_place_and_content},
    {"reallocate_keeps_content_and_alignment", reallocate_keeps_content_and_alignment},
    {"freed_memory_serves_again", freed_memory_serves_again},
    {"containers_of_std_live_on_it", containers_of_std_live_on_it},
};

} // namespace

std::span<promise const> promises_of_requests() {
    return list;
}

} // namespace strata::test
