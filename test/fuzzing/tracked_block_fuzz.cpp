// SPDX-License-Identifier: BSL-1.0
#include <array>
#include <cstdint>
#include <cstdio>
#include <new>
#include <sstream>

#include <strata/detail/annotate.hpp>
#include <strata/tracked_block_resource.hpp>

#include "support/make_subject.hpp"
#include "target.hpp"

namespace strata::test {

namespace {

/// Writes where a sanitizer would stop it, for the resource to find.
void flip_unseen(std::byte* at) {
    detail::poke(at, detail::peek<std::byte>(at) ^ std::byte{0x11});
}

/// Writes outside a live block, of which the free is reported, and done.
void overrun(bench& b, ledger& l, choices& drawn) {
    if (l.size() == 0)
        return;
    std::size_t const i = drawn.below(l.size());
    block const damaged = l[i];
    bool const behind = drawn.one_in(2);
    std::byte* const at =
        behind ? damaged.p + damaged.bytes + drawn.below(16) : damaged.p - 1 - drawn.below(12);
    flip_unseen(at);
    switch (drawn.below(4)) {
    case 0:
        b.tested().release();
        l.forget_all();
        break;
    case 1: // repaired before anybody has noticed, but for these
        expect(!b.tested().try_resize(damaged.p, damaged.bytes, 1, damaged.alignment),
               "a damaged block was resized");
        expect(b.tested().reallocate(damaged.p, damaged.bytes, 1, damaged.alignment) == nullptr,
               "a damaged block was moved");
        expect_equal(b.recorder().take().size(), std::size_t{2}, "reports of one damaged block");
        flip_unseen(at);
        return;
    default:
        b.tested().deallocate(damaged.p, damaged.bytes, damaged.alignment);
        l.forget(i);
        break;
    }
    auto const heard = b.recorder().take();
    expect_equal(heard.size(), std::size_t{1}, "reports of one damaged block");
    expect(heard.front().kind == (behind ? misuse_kind::overrun : misuse_kind::underrun),
           "damage is called ", to_string(heard.front().kind));
}

void inject_failures(tracked_block_resource& r, ledger& l, choices& drawn) {
    std::size_t const calls = drawn.below(4);
    r.fail_after(calls);
    std::size_t failures = 0;
    for (std::size_t i = 0; i < 4; ++i) {
        try {
            l.take(drawn.below(100));
        } catch (std::bad_alloc const&) {
            ++failures;
        }
    }
    expect(r.injected_failures() <= failures && failures >= 4 - calls,
           "an injected failure is lost");
    r.never_fail();
}

void look(tracked_block_resource const& r, ledger const& l) {
    std::size_t records = 0;
    std::uint64_t sequence = 0;
    r.visit_records([&](tracked_block const& record) {
        expect(record.sequence > sequence, "records are out of order");
        expect(l.covers(record.address), "a record is of no live block");
        sequence = record.sequence;
        ++records;
    });
    expect_equal(records, l.size(), "records");
    tracked_block_totals const totals = r.totals();
    expect_equal(static_cast<std::size_t>(totals.allocations - totals.deallocations), l.size(),
                 "allocations less deallocations");
    expect(totals.all_misuses() >= totals.misuses_of(misuse_kind::overrun),
           "misuses do not add up");
    std::ostringstream report;
    report << r;
    expect(!report.str().empty(), "nothing is reported");
}

void special(bench& b, ledger& l, choices& drawn) {
    auto& r = dynamic_cast<tracked_block_resource&>(b.tested());
    switch (drawn.below(5)) {
    case 0:
        return inject_failures(r, l, drawn);
    case 1:
        return look(r, l);
    case 2:
        r.set_label(drawn.one_in(2) ? nullptr : "a label");
        return;
    case 3:
        return call_directly<tracked_block_resource>(b, drawn);
    default:
        return overrun(b, l, drawn);
    }
}

} // namespace

subject drawn_subject(choices& drawn) {
    static std::FILE* const nowhere = std::fopen("/dev/null", "w");
    tracked_block_options options;
    if (drawn.one_in(4))
        options.budget_bytes = drawn_bytes(drawn, 65536);
    if (drawn.one_in(2))
        options.reserve_bytes = drawn_bytes(drawn, 65536);
    if (drawn.one_in(8))
        options.call_stacks = drawn.below(80);
    options.report_leaks = drawn.one_in(2);
    options.scribble = drawn.one_in(8);
    options.log = drawn.one_in(8) ? nowhere : nullptr;
    subject s = tracked<tracked_block_resource>("tracked_block_resource", options);
    s.special = special;
    return s;
}

} // namespace strata::test
