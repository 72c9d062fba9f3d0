// SPDX-License-Identifier: BSL-1.0
#include "conformance.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <vector>

#include <strata/detail/bits.hpp>

#include "bench.hpp"
#include "expect.hpp"
#include "wrong_call.hpp"

// Calls that cannot be right: each is reported once, rightly named, and changes nothing.

namespace strata::test {

namespace {

using enum misuse_kind;

// Small, medium, and what upstream serves in most resources.
constexpr std::array<std::size_t, 8> sizes{1, 24, 64, 100, 512, 2000, 70'000, 300'000};

// Blocks of each size, and live neighbours, so that no chunk empties.
void take_threes(ledger& l) {
    for (std::size_t bytes : sizes)
        for (int i = 0; i < 3; ++i)
            l.take(bytes);
}

// After misuse: what is free is handed out once, and all can still be freed.
void expect_sound(bench& b, ledger& l) {
    l.expect_contents();
    for (std::size_t bytes : sizes)
        for (int i = 0; i < 8; ++i)
            l.take(bytes);
    l.expect_books();
    l.give_all();
    l.expect_books();
    b.finish();
}

void null_is_ignored_in_silence(subject const& s) {
    bench b{s};
    ledger l{b};
    for (int round = 0; round < 2; ++round) {
        picture const before{b};
        for (std::size_t bytes : {std::size_t{0}, std::size_t{8}, detail::max_request_bytes}) {
            b.tested().deallocate(nullptr, bytes);
            expect(!b.tested().try_deallocate(nullptr, bytes), "try_deallocate of null is wrong");
            expect(!b.tested().diagnose(nullptr, bytes, 8), "diagnose of null is wrong");
            expect(!b.tested().try_resize(nullptr, bytes, 8), "try_resize of null says it did");
        }
        expect(b.recorder().take().empty(), "null was reported");
        before.expect_same(b, "calls with null");
        take_threes(l);
    }
    l.give_all();
    b.finish();
}

void a_double_free_is_reported_every_time(subject const& s) {
    bench b{s};
    ledger l{b};
    for (std::size_t bytes : sizes) {
        for (std::size_t alignment : {8u, 64u}) {
            for (int i = 0; i < 3; ++i)
                l.take(bytes, alignment);
            block const middle = l[l.size() - 2];
            l.give(l.size() - 2);
            wrong_call const again{middle.p, bytes, alignment};
            expect_refused(b, again, {double_free});
            picture const before{b};
            for (int i = 0; i < 1000; ++i)
                b.tested().deallocate(middle.p, bytes, alignment);
            auto const heard = b.recorder().take();
            expect_equal(heard.size(), std::size_t{1000}, "reports of 1000 double frees");
            expect(std::all_of(heard.begin(), heard.end(),
                               [](misuse const& what) { return what.kind == double_free; }),
                   "one of 1000 double frees is called something else");
            before.expect_same(b, "1000 double frees");
        }
    }
    expect_sound(b, l);
}

// Where all that was near a block is free as well: coalesced, or gone upstream.
void a_double_free_is_found_when_nothing_else_is_live(subject const& s) {
    bench b{s};
    for (std::size_t bytes : sizes) {
        ledger l{b};
        std::array<void*, 5> old{};
        for (void*& p : old) {
            l.take(bytes);
            p = l[l.size() - 1].p;
        }
        for (std::size_t i : {1u, 2u, 1u, 0u, 0u})
            l.give(i);
        for (void* p : old)
            expect_refused(b, {p, bytes, detail::max_align}, {double_free, foreign_pointer});
        b.tested().trim();
        for (void* p : old)
            expect_refused(b, {p, bytes, detail::max_align}, {double_free, foreign_pointer});
        b.tested().release();
        for (void* p : old)
            expect_refused(b, {p, bytes, detail::max_align}, {double_free, foreign_pointer});
    }
    ledger l{b};
    expect_sound(b, l);
}

void a_pointer_into_a_block_is_refused(subject const& s) {
    bench b{s};
    ledger l{b};
    take_threes(l);
    for (std::size_t i = 0; i < l.size(); ++i) {
        std::size_t const bytes = l[i].bytes;
        for (std::size_t offset : {std::size_t{1}, std::size_t{8}, std::size_t{16}, bytes / 2,
                                   detail::align_down(bytes / 2, 64), bytes - 1}) {
            if (offset == 0 || offset >= bytes)
                continue;
            wrong_call const inside{l[i].p + offset, bytes, detail::max_align};
            if (l.is_served(i)) // only starts are known of these
                expect_refused(b, inside, {foreign_pointer, misaligned_pointer});
            else
                expect_refused(b, inside, {misaligned_pointer});
            expect_refused(b, {inside.p, bytes - offset, 1}, {misaligned_pointer, foreign_pointer});
        }
    }
    expect_sound(b, l);
}

void a_pointer_into_free_memory_is_refused(subject const& s) {
    bench b{s};
    ledger l{b};
    take_threes(l);
    std::vector<std::byte*> freed;
    for (std::size_t i = l.size(); i-- > 0;)
        if (i % 3 == 1 && !l.is_served(i) && l[i].bytes >= 24) {
            freed.push_back(l[i].p);
            l.give(i);
        }
    for (std::byte* p : freed) {
        bool const gone = !b.tested().owns(p); // upstream has it again
        auto const inside = gone ? foreign_pointer : misaligned_pointer;
        expect_refused(b, {p + 1, 1, 1}, {inside, double_free});
        expect_refused(b, {p + 16, 8, 8}, {inside, double_free});
        expect_refused(b, {p, 4000, 8}, {double_free});
        expect_refused(b, {p, 500'000, 8}, {double_free});
    }
    expect_sound(b, l);
}

void a_foreign_pointer_is_refused_unread(subject const& s) {
    alignas(64) static std::array<std::byte, 128> fixed{};
    alignas(64) std::array<std::byte, 128> local{};
    auto const heap = std::make_unique<std::array<std::byte, 128>>();
    bench b{s};
    ledger l{b};
    for (int round = 0; round < 2; ++round) { // fresh, and in use
        for (void* p :
             {static_cast<void*>(fixed.data()), static_cast<void*>(local.data() + 64),
              static_cast<void*>(heap->data()), static_cast<void*>(&b.tested()),
              std::bit_cast<void*>(std::uintptr_t{1}), std::bit_cast<void*>(std::uintptr_t{16}),
              std::bit_cast<void*>(std::uintptr_t{0xdeadb000}),
              std::bit_cast<void*>(~std::uintptr_t{0}),
              std::bit_cast<void*>(~std::uintptr_t{4095})})
            for (std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{64},
                                      std::size_t{70'000}, ~std::size_t{0}})
                for (std::size_t alignment : {1u, 16u, 64u, 8192u})
                    if (bytes != ~std::size_t{0} || alignment == 1)
                        expect_refused(b, {p, bytes, alignment}, {foreign_pointer});
        if (round == 0)
            take_threes(l);
    }
    expect_sound(b, l);
}

void a_pointer_of_another_resource_is_refused(subject const& s) {
    bench b{s};
    ledger l{b};
    auto sibling = s.make(&b.upstream()); // next to it in memory, often
    take_threes(l);
    for (std::size_t bytes : sizes) {
        void* const siblings = sibling->allocate(bytes);
        expect_refused(b, {siblings, bytes, detail::max_align}, {foreign_pointer});
        sibling->deallocate(siblings, bytes);
        void* const upstreams = b.upstream().allocate(bytes);
        expect_refused(b, {upstreams, bytes, detail::max_align}, {foreign_pointer});
        b.upstream().deallocate(upstreams, bytes);
        if (b.below() != nullptr) {
            void* const belows = b.below()->allocate(bytes);
            expect_refused(b, {belows, bytes, detail::max_align}, {foreign_pointer});
            b.below()->deallocate(belows, bytes);
        }
    }
    sibling->release();
    for (std::size_t i = 0; i < l.size(); ++i) {
        auto const kind = sibling->diagnose(l[i].p, l[i].bytes, l[i].alignment);
        expect(kind == foreign_pointer, "a sibling takes another's block");
    }
    sibling.reset();
    expect_sound(b, l);
}

void a_wrong_size_is_found_where_the_geometry_shows_it(subject const& s) {
    bench b{s};
    ledger l{b};
    auto const check = [&](std::size_t i) {
        block const held = l[i];
        std::vector<std::size_t> wrong(sizes.begin(), sizes.end());
        for (std::size_t times : {2u, 3u, 4u, 5u})
            wrong.push_back(held.bytes * times);
        for (std::size_t bytes : {held.bytes / 2, held.bytes - 1, held.bytes + 1, held.bytes + 16,
                                  held.bytes + 32, std::size_t{0}, detail::max_request_bytes})
            wrong.push_back(bytes);
        std::size_t const right = b.tested().good_size(held.bytes, held.alignment);
        for (std::size_t bytes : wrong)
            if (b.tested().good_size(bytes, held.alignment) != right)
                expect_refused(b, {held.p, bytes, held.alignment}, {size_mismatch});
    };
    for (std::size_t bytes : sizes) { // live live free live free free live live
        std::size_t const first = l.size();
        for (int i = 0; i < 8; ++i)
            l.take(bytes);
        for (std::size_t i : {5u, 4u, 2u})
            l.give(first + i);
        for (std::size_t i = first; i < l.size(); ++i)
            check(i);
    }
    expect_sound(b, l);
}

// What nobody can see is freed as if it were right; the figures must bear it.
void a_wrong_size_that_cannot_be_seen_does_no_harm(subject const& s) {
    bench b{s};
    resource& r = b.tested();
    for (std::size_t bytes : sizes) {
        for (std::size_t given : {r.good_size(bytes), bytes - 1, std::size_t{0}, bytes}) {
            void* const p = r.allocate(bytes);
            auto const wrong = r.diagnose(p, given, detail::max_align);
            expect(r.try_deallocate(p, given) == wrong,
                   "diagnose sees what try_deallocate does not");
            if (wrong)
                r.deallocate(p, bytes);
            statistics const now = r.stats();
            expect_equal(now.live_blocks, std::size_t{0}, "live blocks");
            expect(now.requested_bytes <= now.live_bytes, "more bytes requested than live");
            expect(r.check_invariants(), "an invariant is broken");
        }
    }
    b.finish();
}

void a_wrong_alignment_is_found_where_it_is_recorded(subject const& s) {
    bench b{s};
    ledger l{b};
    take_threes(l);
    for (std::size_t i = 0; i < l.size(); ++i)
        if (l.is_served(i) || s.records_alignment)
            for (std::size_t alignment : {1u, 8u, 32u, 4096u})
                expect_refused(b, {l[i].p, l[i].bytes, alignment}, {alignment_mismatch});
    expect_sound(b, l);
}

// Of a block that was freed, of none, of a part of one, of another size.
std::array<wrong_call, 4> wrong_calls(ledger const& l, block const& freed) {
    static int fixed = 0;
    return {wrong_call{freed.p, freed.bytes, freed.alignment}, wrong_call{&fixed, 4, 4},
            wrong_call{l[0].p + 1, 1, 1}, wrong_call{l[3].p, 1u << 20, l[3].alignment}};
}

struct thrown_by_handler {};

[[noreturn]] void throw_misuse(misuse const&) {
    throw thrown_by_handler{};
}

void a_handler_that_throws_leaves_all_as_it_was(subject const& s) {
    bench b{s};
    ledger l{b};
    take_threes(l);
    block const freed = l[4];
    l.give(4);
    {
        handler_scope const throwing{&throw_misuse};
        for (wrong_call const& call : wrong_calls(l, freed)) {
            picture const before{b};
            resource& r = b.tested();
            expect_throw<thrown_by_handler>(
                [&] { r.deallocate(call.p, call.bytes, call.alignment); }, "deallocate");
            expect_throw<thrown_by_handler>(
                [&] { r.reallocate(call.p, call.bytes, 8, call.alignment); }, "reallocate");
            expect_throw<thrown_by_handler>(
                [&] { r.try_resize(call.p, call.bytes, 8, call.alignment); }, "try_resize");
            before.expect_same(b, "a handler that throws");
        }
    }
    expect_sound(b, l);
}

void a_handler_that_throws_stops_no_destructor(subject const& s) {
    counting_upstream floor;
    {
        handler_scope const throwing{&throw_misuse}; // at each leak, of either layer
        auto below = s.make_below ? s.make_below(&floor) : nullptr;
        auto r = s.make(below ? static_cast<std::pmr::memory_resource*>(below.get()) : &floor);
        for (std::size_t bytes : sizes) {
            static_cast<void>(r->allocate(bytes));
            if (below)
                static_cast<void>(below->allocate(bytes));
        }
        r.reset();
        expect_equal(below ? below->stats().live_blocks : sizes.size(), sizes.size(),
                     "live blocks of the layer below, of its own");
    }
    expect(floor.settled(), "not everything came back");
}

// A handler that works with the resource that it hears of, keeps a block and does wrong itself.
class busy_handler {
  public:
    busy_handler() {
        kept() = nullptr;
        calls() = 0;
    }

    static std::byte*& kept() {
        static std::byte* p = nullptr;
        return p;
    }
    static std::size_t& calls() {
        static std::size_t n = 0;
        return n;
    }

  private:
    static void work(misuse const& what) {
        if (++calls() % 2 == 0) // the one that it made itself
            return;
        auto& r = const_cast<resource&>(*what.where);
        std::byte* const p = detail::as_bytes(r.allocate(100));
        kept() = detail::as_bytes(r.allocate(64));
        std::fill_n(kept(), 64, std::byte{0x5a});
        void* const large = r.reallocate(p, 100, 70'000);
        r.deallocate(large, 70'000);
        r.deallocate(large, 70'000);
    }

    handler_scope const installed_{&busy_handler::work};
};

void a_handler_may_use_the_resource_that_it_hears_of(subject const& s) {
    bench b{s};
    resource& r = b.tested();
    ledger l{b};
    take_threes(l);
    block const freed = l[4];
    l.give(4);
    for (wrong_call const& call : wrong_calls(l, freed)) {
        busy_handler const handler;
        std::size_t heard = 0;
        auto const expect_heard = [&](char const* verb) {
            heard += 2;
            expect_equal(handler.calls(), heard, "misuses that the handler heard of at ", verb);
            std::byte* const kept = handler.kept();
            expect(!r.diagnose(kept, 64, detail::max_align),
                   "a block that the handler keeps is "
                   "lost at ",
                   verb);
            expect_equal(std::count(kept, kept + 64, std::byte{0x5a}), std::ptrdiff_t{64},
                         "bytes of the block that the handler keeps");
            expect(!l.covers(kept), "a live block was handed out again at ", verb);
            r.deallocate(kept, 64);
        };
        r.deallocate(call.p, call.bytes, call.alignment);
        expect_heard("deallocate");
        expect(r.reallocate(call.p, call.bytes, 8, call.alignment) == nullptr,
               "reallocate returned a block");
        expect_heard("reallocate");
        expect(!r.try_resize(call.p, call.bytes, 8, call.alignment), "try_resize says that it did");
        expect_heard("try_resize");
        l.expect_contents();
        l.expect_books();
    }
    expect_sound(b, l);
}

constexpr promise list[] = {
    {"null_is_ignored_in_silence", null_is_ignored_in_silence},
    {"a_double_free_is_reported_every_time", a_double_free_is_reported_every_time},
    {"a_double_free_is_found_when_nothing_else_is_live",
     a_double_free_is_found_when_nothing_else_is_live},
    {"a_pointer_into_a_block_is_refused", a_pointer_into_a_block_is_refused},
    {"a_pointer_into_free_memory_is_refused", a_pointer_into_free_memory_is_refused},
    {"a_foreign_pointer_is_refused_unread", a_foreign_pointer_is_refused_unread},
    {"a_pointer_of_another_resource_is_refused", a_pointer_of_another_resource_is_refused},
    {"a_wrong_size_is_found_where_the_geometry_shows_it",
     a_wrong_size_is_found_where_the_geometry_shows_it},
    {"a_wrong_size_that_cannot_be_seen_does_no_harm",
     a_wrong_size_that_cannot_be_seen_does_no_harm},
    {"a_wrong_alignment_is_found_where_it_is_recorded",
     a_wrong_alignment_is_found_where_it_is_recorded},
    {"a_handler_that_throws_leaves_all_as_it_was", a_handler_that_throws_leaves_all_as_it_was},
    {"a_handler_that_throws_stops_no_destructor", a_handler_that_throws_stops_no_destructor},
    {"a_handler_may_use_the_resource_that_it_hears_of",
     a_handler_may_use_the_resource_that_it_hears_of},
};

} // namespace

std::span<promise const> promises_of_misuse() {
    return list;
}

} // namespace strata::test
