// SPDX-License-Identifier: BSL-1.0
#include "program.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <new>
#include <numeric>
#include <stdexcept>

#include "expect.hpp"
#include "wrong_call.hpp"

namespace strata::test {

namespace {

using enum misuse_kind;

// Each step looks at all that is live.
constexpr std::size_t most_blocks = 300;
constexpr std::size_t most_bytes = 1u << 20;

} // namespace

program::program(bench& b, choices& drawn)
    : bench_{b}, ledger_{b}, drawn_{drawn}, ending_{drawn.below(4)} {
    expect(b.tested().name() != nullptr && *b.tested().name() != '\0', "it has no name");
    expect(b.tested().upstream_resource() == &b.upstream(), "upstream_resource() is another");
}

template <std::size_t N>
void program::act(operation const (&list)[N]) {
    std::size_t const total =
        std::accumulate(list, list + N, std::size_t{0},
                        [](std::size_t sum, operation const& o) { return sum + o.weight; });
    std::size_t drawn = drawn_.below(total);
    for (operation const& o : list) {
        if (drawn < o.weight)
            return (this->*o.act)();
        drawn -= o.weight;
    }
}

void program::step() {
    static constexpr operation all[] = {
        {30, &program::take_one},
        {24, &program::give_one},
        {10, &program::reallocate},
        {10, &program::try_resize},
        {3, &program::take_zeroed},
        {3, &program::take_many},
        {3, &program::give_many},
        {3, &program::trim},
        {1, &program::release},
        {5, &program::do_special},
        {1, &program::pass_null},
        {1, &program::ask_the_impossible},
        {8, &program::free_again},
        {5, &program::free_inside},
        {4, &program::free_near},
        {3, &program::free_foreign},
        {4, &program::free_with_other_size},
        {2, &program::free_with_other_alignment},
        {4, &program::fail},
    };
    try {
        act(all);
    } catch (std::bad_alloc const&) {
        expect(bench_.traits().has_budget, "upstream has memory, but it throws bad_alloc");
    }
    ledger_.expect_contents();
    ledger_.expect_books();
    expect(bench_.recorder().take().empty(), "a misuse was reported that was none");
}

void program::finish() {
    switch (ending_) {
    case 0:
        while (ledger_.size() != 0)
            give(0);
        break;
    case 1:
        ledger_.give_all();
        break;
    case 2:
        release();
        break;
    default: // what is live is the destructor's
        break;
    }
    ledger_.expect_contents();
    ledger_.expect_books();
    bench_.finish();
}

// --- what is drawn ---

std::size_t program::bytes() {
    switch (drawn_.below(16)) {
    case 0:
        return 0;
    case 1:
    case 2:
        return drawn_.below(5000);
    case 3:
        return drawn_.below(drawn_.one_in(3) ? 200'000 : 20'000);
    case 4: // what a freed block leaves
        return freed_[drawn_.below(freed_.size())].bytes;
    case 5:
        return drawn_.below(64) * 64;
    case 6: // many large ones of nearly one size
        return (std::size_t{8192} << drawn_.below(3)) + drawn_.below(64) * 16;
    default:
        return drawn_.below(256);
    }
}

std::size_t program::alignment() {
    std::size_t const drawn = drawn_.below(64);
    return std::size_t{1} << (drawn < 50 ? drawn % 5 : drawn - 50);
}

bool program::has_room(std::size_t bytes) const noexcept {
    return ledger_.size() < most_blocks && bytes <= most_bytes &&
           ledger_.bytes() <= most_bytes - bytes;
}

// --- right calls ---

void program::take(std::size_t bytes, std::size_t alignment) {
    if (has_room(bytes))
        ledger_.take(bytes, alignment);
}

void program::give(std::size_t i) {
    freed_[drawn_.below(freed_.size())] = ledger_[i];
    ledger_.give(i);
}

void program::take_one() {
    std::size_t const n = bytes();
    take(n, alignment());
}

void program::take_zeroed() {
    std::size_t const count = drawn_.below(50);
    std::size_t const each = drawn_.below(50);
    if (has_room(count * each))
        ledger_.take_zeroed(count, each, alignment());
}

void program::take_many() {
    std::size_t const n = bytes();
    std::size_t const aligned_to = alignment();
    for (std::size_t count = drawn_.below(128); count != 0; --count)
        take(n, aligned_to);
}

void program::give_one() {
    if (ledger_.size() != 0)
        give(drawn_.below(ledger_.size()));
}

// Every one, every second, … of those from a place on.
void program::give_many() {
    if (ledger_.size() == 0)
        return;
    std::size_t const stride = drawn_.below(4);
    for (std::size_t i = drawn_.below(ledger_.size()); i < ledger_.size(); i += stride)
        ledger_.give(i);
}

void program::reallocate() {
    if (ledger_.size() == 0)
        return;
    std::size_t const i = drawn_.below(ledger_.size());
    std::size_t const n = bytes();
    block const before = ledger_[i];
    if (!has_room(n))
        return;
    ledger_.reallocate(i, n);
    if (ledger_[i].p != before.p)
        freed_[drawn_.below(freed_.size())] = before;
}

void program::try_resize() {
    if (ledger_.size() == 0)
        return;
    std::size_t const i = drawn_.below(ledger_.size());
    std::size_t const n = bytes();
    if (has_room(n))
        ledger_.try_resize(i, n);
}

void program::trim() {
    std::size_t const held = bench_.upstream().live_bytes();
    std::size_t const went = bench_.tested().trim();
    expect_equal(went, held - bench_.upstream().live_bytes(), "bytes that trim says went");
}

void program::release() {
    bench_.tested().release();
    ledger_.forget_all();
}

void program::do_special() {
    if (bench_.traits().special)
        bench_.traits().special(bench_, ledger_, drawn_);
}

// --- calls that cannot be right ---

void program::pass_null() {
    resource& r = bench_.tested();
    std::size_t const n = drawn_.below(200);
    picture const before{bench_};
    r.deallocate(nullptr, n);
    expect(!r.try_deallocate(nullptr, n), "try_deallocate of null is wrong");
    expect(!r.try_resize(nullptr, n, 8), "try_resize of null says that it did");
    before.expect_same(bench_, "calls with null");
    void* const p = r.reallocate(nullptr, 0, n);
    r.deallocate(p, n);
}

void program::ask_the_impossible() {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    std::size_t const n = most - (drawn_.one_in(2) ? drawn_.below(5000) : most / 2 - 5000);
    std::size_t const aligned_to = alignment();
    std::size_t const askew = 32 + (64u << drawn_.below(8)); // no power of two
    expect_throw<std::bad_alloc>([&] { ledger_.take(n, aligned_to); }, "allocate(", n, ", ",
                                 aligned_to, ")");
    expect_throw<std::bad_alloc>([&] { ledger_.take_zeroed(n / 8, 9 + drawn_.below(100)); },
                                 "allocate_zeroed of ", n / 8);
    expect_throw<std::invalid_argument>([&] { ledger_.take(drawn_.below(5000), askew); },
                                        "an alignment of ", askew);
    if (ledger_.size() == 0)
        return;
    std::size_t const i = drawn_.below(ledger_.size());
    expect_throw<std::bad_alloc>([&] { ledger_.reallocate(i, n); }, "reallocate to ", n);
    expect(!ledger_.try_resize(i, n), "try_resize to ", n, " says that it did");
}

void program::free_again() {
    block const& old = freed_[drawn_.below(freed_.size())];
    if (old.p != nullptr && !ledger_.covers(old.p))
        expect_refused(bench_, {old.p, old.bytes, old.alignment},
                       {double_free, foreign_pointer, misaligned_pointer});
}

void program::free_inside() {
    if (ledger_.size() == 0)
        return;
    block const& b = ledger_[drawn_.below(ledger_.size())];
    if (b.bytes < 2)
        return;
    std::size_t const offset = 1 + drawn_.below(b.bytes - 1);
    expect_refused(bench_, {b.p + offset, drawn_.one_in(2) ? b.bytes : bytes(), b.alignment},
                   {misaligned_pointer, foreign_pointer, double_free});
}

// In free memory, in what the resource keeps for itself, or past its end.
void program::free_near() {
    if (ledger_.size() == 0)
        return;
    block const& b = ledger_[drawn_.below(ledger_.size())];
    std::size_t const offset = drawn_.below(drawn_.one_in(2) ? 256 : 65536);
    std::uintptr_t const address = std::bit_cast<std::uintptr_t>(b.p);
    void* const p = std::bit_cast<void*>(drawn_.one_in(2) ? address + offset : address - offset);
    if (!ledger_.covers(p))
        expect_refused(bench_, {p, bytes(), alignment()},
                       {double_free, misaligned_pointer, foreign_pointer});
}

void program::free_foreign() {
    static std::array<std::byte, 4096> fixed{};
    void* const p = fixed.data() + drawn_.below(fixed.size());
    expect_refused(bench_, {p, bytes(), alignment()}, {foreign_pointer});
    std::uintptr_t const anywhere = drawn_.below(65536) << drawn_.below(49);
    void* const q = std::bit_cast<void*>(anywhere + 1);
    if (!ledger_.covers(q))
        expect_refused(bench_, {q, bytes(), alignment()},
                       {foreign_pointer, misaligned_pointer, double_free});
}

void program::free_with_other_size() {
    if (ledger_.size() == 0)
        return;
    std::size_t const i = drawn_.below(ledger_.size());
    block const& b = ledger_[i];
    std::size_t const n = drawn_.one_in(2) ? bytes() : b.bytes + drawn_.below(256) - 128;
    resource const& r = bench_.tested();
    bool const shows =
        n != b.bytes &&
        (ledger_.is_served(i) || r.good_size(n, b.alignment) != r.good_size(b.bytes, b.alignment));
    if (shows || r.diagnose(b.p, n, b.alignment))
        expect_refused(bench_, {b.p, n, b.alignment}, {size_mismatch, alignment_mismatch});
}

void program::free_with_other_alignment() {
    if (ledger_.size() == 0)
        return;
    std::size_t const i = drawn_.below(ledger_.size());
    block const& b = ledger_[i];
    std::size_t const other = alignment();
    bool const shows =
        other != b.alignment && (ledger_.is_served(i) || bench_.traits().records_alignment);
    if (shows || bench_.tested().diagnose(b.p, b.bytes, other))
        expect_refused(bench_, {b.p, b.bytes, other}, {alignment_mismatch, size_mismatch});
}

// --- upstream fails ---

// The next few calls find upstream short of memory.
void program::fail() {
    static constexpr operation those_that_may_need_memory[] = {
        {8, &program::take_one},    {3, &program::give_one},   {4, &program::reallocate},
        {2, &program::take_zeroed}, {3, &program::try_resize}, {2, &program::take_many},
        {1, &program::give_many},   {1, &program::trim},
    };
    if (drawn_.one_in(2))
        bench_.upstream().fail_after(drawn_.below(3));
    else
        bench_.upstream().hold_at_most(bench_.upstream().live_bytes() + drawn_.below(20'000));
    for (std::size_t count = 1 + drawn_.below(8); count != 0; --count) {
        try {
            act(those_that_may_need_memory);
        } catch (std::bad_alloc const&) {
        }
        expect(bench_.tested().check_invariants(), "an invariant is broken");
        ledger_.expect_contents();
    }
    bench_.upstream().never_fail();
}

} // namespace strata::test
