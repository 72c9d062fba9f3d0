// SPDX-License-Identifier: BSL-1.0
#include "conformance.hpp"

#include <map>
#include <memory_resource>
#include <new>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <strata/tracked_block_resource.hpp>

#include "bench.hpp"
#include "expect.hpp"

// Upstream fails, at every call that it can fail at; nothing is lost and nothing has changed.

namespace strata::test {

namespace {

constexpr std::size_t steps = 130;

// One step of a workload that makes a resource call upstream in every way that it knows.
void work(ledger& l, std::size_t step) {
    std::size_t const oversized = 40'000 + step * 100;
    if (step % 13 == 12)
        l.take(oversized, std::size_t{1} << step % 10);
    else if (step % 17 == 16)
        l.take_zeroed(step, 30);
    else if (step % 7 == 6)
        l.reallocate(l.size() / 2, step % 2 == 0 ? step * 40 : oversized);
    else if (step % 5 == 4)
        l.give(step % l.size());
    else
        l.take(step * 37 % 700, std::size_t{1} << step % 11);
}

// What the layer below knows is what was taken from it.
void expect_below(bench& b) {
    if (b.below() == nullptr)
        return;
    expect(b.below()->check_invariants(), "an invariant of the layer below is broken");
    statistics const s = b.below()->stats();
    expect_equal(s.live_blocks, b.upstream().live_blocks(), "live blocks of the layer below");
    expect_equal(s.requested_bytes, b.upstream().live_bytes(), "live bytes of the layer below");
}

// Each call of b.*failing() fails in turn, and all after it until the failure is seen.
void fail_in_turn(subject const& s, counting_upstream& (bench::*failing)() noexcept) {
    bool failed = true;
    for (std::size_t calls = 0; failed; ++calls) {
        expect(calls < 1000, "it calls upstream without end");
        failed = false;
        bench b{s};
        counting_upstream& upstream = (b.*failing)();
        upstream.fail_after(calls);
        ledger l{b}; // it expects that what throws changes nothing
        for (std::size_t step = 0; step < steps; ++step) {
            try {
                work(l, step);
            } catch (std::bad_alloc const&) {
                expect(!failed, "it fails again when upstream has recovered");
                failed = true;
                l.expect_contents();
                expect_below(b);
                upstream.never_fail();
                l.expect_books();
                work(l, step); // the same again, rightly
            }
        }
        upstream.never_fail();
        l.expect_books();
        expect_below(b);
        l.give_all();
        l.expect_books();
        b.finish();
    }
}

void failure_at_nth_upstream_call_leaves_state_unchanged(subject const& s) {
    fail_in_turn(s, &bench::upstream);
}

void failure_below_a_stack_leaves_both_layers_unchanged(subject const& s) {
    if (s.make_below)
        fail_in_turn(s, &bench::floor);
}

// A program that knows nothing of failures: what it leaves behind when one ends it is sound.
void use_containers(resource& r) {
    std::pmr::map<int, std::pmr::string> names{&r};
    std::pmr::unordered_map<int, std::pmr::vector<int>> rows{&r};
    for (int i = 0; i < 120; ++i) {
        names.try_emplace(i * 7 % 120, std::to_string(i) + " is longer than a small string");
        rows[i % 10].resize(static_cast<std::size_t>(i) * 10);
        if (i % 4 == 3)
            names.erase(names.begin());
    }
    std::pmr::vector<std::byte> large(50'000, &r);
    large.resize(200'000);
    std::pmr::map<int, std::pmr::string> const copied{names, &r};
}

void expect_nothing_lost(subject const& s, std::pmr::memory_resource* upstream) {
    auto const below = s.make_below ? s.make_below(upstream) : nullptr;
    auto const r = s.make(below ? below.get() : upstream);
    statistics const fresh = r->stats();
    try {
        use_containers(*r);
    } catch (std::bad_alloc const&) {
    }
    r->trim();
    statistics now = r->stats();
    now.peak_live_bytes = fresh.peak_live_bytes;
    expect(now == fresh, "not all is as at first");
    expect(r->check_invariants(), "an invariant is broken");
    expect(!below || below->check_invariants(), "an invariant of the layer below is broken");
}

// Not for_each_failure: some of these resources do without what upstream refuses.
void a_failure_that_ends_a_program_s_work_loses_nothing(subject const& s) {
    misuse_recorder recorder;
    tracked_block_resource upstream;
    for (std::size_t calls = 0; calls == 0 || upstream.injected_failures() != 0; ++calls) {
        upstream.fail_after(calls);
        try {
            expect_nothing_lost(s, &upstream);
        } catch (std::bad_alloc const&) { // of a constructor
        }
        expect_equal(upstream.stats().live_blocks, std::size_t{0}, "blocks that upstream misses");
    }
    expect(recorder.take().empty(), "a misuse was reported that was none");
}

void release_and_destructor_need_nothing_of_upstream(subject const& s) {
    bench b{s};
    std::size_t const at_first = b.upstream().live_bytes();
    for (bool released : {true, false}) {
        ledger l{b};
        for (std::size_t step = 0; step < steps; ++step)
            work(l, step);
        b.upstream().fail_after(0);
        b.floor().fail_after(0);
        if (released) {
            b.tested().release();
            l.forget_all();
            expect_equal(b.upstream().live_bytes(), at_first, "bytes of upstream after release");
            l.expect_books();
            expect_below(b);
            b.upstream().never_fail();
            b.floor().never_fail();
        }
    }
    b.finish();
}

void blocks_can_be_freed_while_upstream_has_nothing(subject const& s) {
    for (std::size_t calls = 0; calls < 12; ++calls) {
        bench b{s};
        b.upstream().fail_after(calls);
        ledger l{b};
        for (std::size_t step = 0; step < steps; ++step) {
            try {
                work(l, l.size() == 0 ? 0 : step);
            } catch (std::bad_alloc const&) {
            }
        }
        l.expect_contents();
        l.give_all();
        expect(b.tested().check_invariants(), "an invariant is broken");
        b.tested().trim();
        b.upstream().never_fail();
        l.expect_books();
        b.finish();
    }
}

void a_small_upstream_is_used_as_far_as_it_goes(subject const& s) {
    for (std::size_t spare : {1000u, 5000u, 20'000u, 70'000u, 200'000u, 500'000u}) {
        bench b{s};
        b.upstream().hold_at_most(b.upstream().live_bytes() + spare);
        ledger l{b};
        std::size_t refused = 0;
        for (std::size_t step = 0; step < steps; ++step) {
            try {
                work(l, l.size() == 0 ? 0 : step);
            } catch (std::bad_alloc const&) {
                ++refused;
            }
        }
        expect(refused < steps || spare < 20'000, "an upstream of ", spare,
               " bytes serves nothing");
        b.upstream().never_fail();
        l.expect_books();
        l.expect_contents();
        l.give_all();
        l.expect_books();
        b.finish();
    }
}

void a_constructor_that_upstream_fails_leaves_nothing_behind(subject const& s) {
    for (std::size_t calls = 0; calls < s.constructor_calls; ++calls) {
        counting_upstream upstream;
        upstream.fail_after(calls);
        expect_throw<std::bad_alloc>([&] { s.make(&upstream); }, "constructor");
        expect(upstream.settled(), "upstream's memory is lost");
    }
}

void over_null_memory_resource_its_own_memory_is_the_limit(subject const& s) {
    auto* const null = std::pmr::null_memory_resource();
    if (s.constructor_calls != 0)
        expect_throw<std::bad_alloc>([&] { s.make(null); }, "constructor");
    counting_upstream once; // for the constructor, where it needs one
    auto const r = s.make(s.constructor_calls != 0 ? &once : null);
    once.fail_after(0);
    statistics const fresh = r->stats();
    void* blocks = nullptr; // each points to the one before
    std::size_t count = 0;
    try {
        for (; count < 100'000; ++count) {
            void* const p = r->allocate(100);
            *static_cast<void**>(p) = blocks;
            blocks = p;
        }
    } catch (std::bad_alloc const&) {
    }
    expect(count < 100'000, "it never throws bad_alloc");
    expect(count != 0 || (!s.bounded && s.constructor_calls == 0), "its own memory serves nothing");
    expect_equal(r->stats().live_blocks, count, "live blocks");
    expect_throw<std::bad_alloc>([&] { static_cast<void>(r->allocate(1u << 24)); },
                                 "an oversized request");
    expect(r->check_invariants(), "an invariant is broken");
    while (blocks != nullptr)
        r->deallocate(std::exchange(blocks, *static_cast<void**>(blocks)), 100);
    r->trim();
    statistics now = r->stats();
    now.peak_live_bytes = fresh.peak_live_bytes;
    expect(now == fresh, "not all is free again");
}

// An upstream that throws what nobody knows: instead of serving, or when it has taken a block back,
// as one does whose misuse handler throws.
class strange_upstream final : public std::pmr::memory_resource {
  public:
    struct refusal {};

    explicit strange_upstream(std::pmr::memory_resource* source) : source_{source} {}
    void refuse(bool yes) noexcept { refuses_ = yes; }
    void complain(bool yes) noexcept { complains_ = yes; }

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (refuses_)
            throw refusal{};
        return source_->allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        source_->deallocate(p, bytes, alignment);
        if (complains_)
            throw refusal{};
    }
    bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    std::pmr::memory_resource* source_; // held, not owned
    bool refuses_ = false;
    bool complains_ = false;
};

void what_upstream_throws_arrives_unchanged(subject const& s) {
    counting_upstream counted;
    strange_upstream upstream{&counted};
    {
        auto const r = s.make(&upstream);
        for (int round = 0; round < 2; ++round) { // at the first request, and later
            statistics const before = r->stats();
            std::size_t const held = counted.live_bytes();
            upstream.refuse(true);
            expect_throw<strange_upstream::refusal>(
                [&] { static_cast<void>(r->allocate(1u << 22)); }, "an oversized request");
            upstream.refuse(false);
            expect(r->stats() == before, "the statistics changed");
            expect_equal(counted.live_bytes(), held, "bytes of upstream held");
            expect(r->check_invariants(), "an invariant is broken");
            r->deallocate(r->allocate(1u << 22), 1u << 22);
        }
    }
    expect(counted.settled(), "not everything came back");
}

void upstreams_complaints_stop_nothing_that_gives_back(subject const& s) {
    counting_upstream counted;
    strange_upstream upstream{&counted};
    {
        auto const r = s.make(&upstream);
        std::size_t const at_first = counted.live_bytes();
        std::vector<std::size_t> const requests{8, 100, 500, 5000, 40'000, 1u << 22, 1u << 22};
        for (int round = 0; round < 2; ++round) {
            for (std::size_t bytes : requests)
                static_cast<void>(r->allocate(bytes));
            upstream.complain(true);
            bool heeded = false;
            try {
                r->release();
            } catch (strange_upstream::refusal const&) {
                heeded = true;
            }
            upstream.complain(false);
            expect(!heeded, "release lets upstream's complaint out");
            expect_equal(counted.live_bytes(), at_first, "bytes of upstream held after release");
            expect_equal(r->stats().live_blocks, std::size_t{0}, "live blocks after release");
            expect(r->check_invariants(), "an invariant is broken");
        }
        std::vector<void*> blocks;
        for (std::size_t bytes : requests)
            blocks.push_back(r->allocate(bytes));
        upstream.complain(true);
        for (std::size_t i = 0; i < requests.size(); ++i) {
            void* const moved = r->reallocate(blocks[i], requests[i], requests[i] * 2);
            r->deallocate(moved, requests[i] * 2);
        }
        expect_equal(r->stats().live_blocks, std::size_t{0}, "live blocks after freeing all");
        r->trim();
        upstream.complain(false);
        expect(r->check_invariants(), "an invariant is broken");
        for (std::size_t bytes : requests)
            static_cast<void>(r->allocate(bytes));
        upstream.complain(true);
    }
    expect(counted.settled(), "not everything came back");
}

constexpr promise list[] = {
    {"failure_at_nth_upstream_call_leaves_state_unchanged",
     failure_at_nth_upstream_call_leaves_state_unchanged},
    {"failure_below_a_stack_leaves_both_layers_unchanged",
     failure_below_a_stack_leaves_both_layers_unchanged},
    {"a_failure_that_ends_a_program_s_work_loses_nothing",
     a_failure_that_ends_a_program_s_work_loses_nothing},
    {"release_and_destructor_need_nothing_of_upstream",
     release_and_destructor_need_nothing_of_upstream},
    {"blocks_can_be_freed_while_upstream_has_nothing",
     blocks_can_be_freed_while_upstream_has_nothing},
    {"a_small_upstream_is_used_as_far_as_it_goes", a_small_upstream_is_used_as_far_as_it_goes},
    {"a_constructor_that_upstream_fails_leaves_nothing_behind",
     a_constructor_that_upstream_fails_leaves_nothing_behind},
    {"over_null_memory_resource_its_own_memory_is_the_limit",
     over_null_memory_resource_its_own_memory_is_the_limit},
    {"what_upstream_throws_arrives_unchanged", what_upstream_throws_arrives_unchanged},
    {"upstreams_complaints_stop_nothing_that_gives_back",
     upstreams_complaints_stop_nothing_that_gives_back},
};

} // namespace

std::span<promise const> promises_of_failure() {
    return list;
}

} // namespace strata::test
