// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE tracked_block
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstring>
#include <limits>
#include <list>
#include <memory_resource>
#include <new>
#include <numeric>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <sys/resource.h>

#include <strata/detail/annotate.hpp>
#include <strata/segregated_pool_resource.hpp>
#include <strata/synchronized.hpp>
#include <strata/tracked_block_tools.hpp>

#include "support/child.hpp"
#include "support/counting_upstream.hpp"
#include "support/misuse_recorder.hpp"
#include "support/seed.hpp"
#include "support/valgrind.hpp"

using strata::for_each_failure;
using strata::label_scope;
using strata::misuse_kind;
using strata::tracked_block;
using strata::tracked_block_monitor;
using strata::tracked_block_options;
using strata::tracked_block_resource;
using strata::test::counting_upstream;
using strata::test::handler_scope;
using strata::test::misuse_recorder;

namespace {

constexpr std::size_t kib = 1024;
constexpr std::size_t most = std::numeric_limits<std::size_t>::max();

std::byte* at(void* p, std::ptrdiff_t offset) {
    return static_cast<std::byte*>(p) + offset;
}

// The same where nobody may look or write: tools are told that this test does.
std::byte* hidden_at(void* p, std::ptrdiff_t offset, std::size_t bytes = 1) {
    strata::detail::open(at(p, offset), bytes);
    return at(p, offset);
}

tracked_block_options with_budget(std::size_t bytes) {
    tracked_block_options options;
    options.budget_bytes = bytes;
    return options;
}

tracked_block_options with_reserve(std::size_t bytes) {
    tracked_block_options options;
    options.reserve_bytes = bytes;
    return options;
}

// The live blocks' sizes in the order of the walk.
std::vector<std::size_t> sizes_of(tracked_block_resource const& tracked) {
    std::vector<std::size_t> sizes;
    tracked.visit_records([&](tracked_block const& b) { sizes.push_back(b.bytes); });
    return sizes;
}

// Expects one report, of this kind, with what the caller passed.
void expect_heard(misuse_recorder& recorder, misuse_kind kind, void const* p, std::size_t bytes,
                  std::size_t alignment) {
    auto const heard = recorder.take();
    BOOST_REQUIRE(heard.size() == 1u);
    BOOST_TEST((heard[0].kind == kind), strata::to_string(heard[0].kind));
    BOOST_TEST(heard[0].address == p);
    BOOST_TEST(heard[0].bytes == bytes);
    BOOST_TEST(heard[0].alignment == alignment);
}

void throw_misuse(strata::misuse const& what) {
    throw std::runtime_error{strata::to_string(what.kind)};
}

} // namespace

BOOST_AUTO_TEST_SUITE(tracked_block_promises)

// --- construction and options ---

BOOST_AUTO_TEST_CASE(constructor_calls_upstream_for_a_reserve_only) {
    counting_upstream upstream;
    tracked_block_resource const plain{&upstream};
    BOOST_TEST(upstream.allocations() == 0u);
    BOOST_TEST((plain.stats() == strata::statistics{}));
    {
        tracked_block_resource const rich{with_reserve(1000), &upstream};
        BOOST_TEST(upstream.allocations() == 1u);
        BOOST_TEST(rich.stats().footprint_bytes == upstream.live_bytes());
        BOOST_TEST(rich.stats().free_bytes == 1008u);
        BOOST_TEST(rich.check_invariants());
    }
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(options_report_what_is_in_effect) {
    tracked_block_resource const plain;
    BOOST_TEST(plain.options().budget_bytes == tracked_block_resource::unlimited);
    BOOST_TEST(plain.options().reserve_bytes == 0u);
    BOOST_TEST(plain.options().report_leaks);
    BOOST_TEST(plain.options().call_stacks == 0u);
    BOOST_TEST(plain.upstream_resource() == std::pmr::new_delete_resource());

    tracked_block_resource const mine{{5000, 100, false, 1000}};
    BOOST_TEST(mine.options().budget_bytes == 5000u);
    BOOST_TEST(mine.options().reserve_bytes == 112u);
    BOOST_TEST(!mine.options().report_leaks);
    BOOST_TEST(mine.options().call_stacks == 64u);
}

// --- allocate ---

BOOST_AUTO_TEST_CASE(every_size_and_alignment_is_served_and_freed) {
    misuse_recorder recorder;
    counting_upstream upstream;
    tracked_block_resource tracked{&upstream};
    for (std::size_t alignment = 1; alignment <= 8 * kib; alignment *= 2) {
        for (std::size_t bytes = 0; bytes <= 5 * kib; bytes += bytes < 70 ? 1 : 97) {
            void* const p = tracked.allocate(bytes, alignment);
            BOOST_REQUIRE(strata::detail::is_aligned(p, alignment));
            BOOST_REQUIRE(tracked.good_size(bytes, alignment) == bytes);
            std::memset(p, 0x5a, bytes);
            BOOST_REQUIRE(!tracked.diagnose(p, bytes, alignment));
            tracked.deallocate(p, bytes, alignment);
        }
    }
    BOOST_TEST(recorder.take().empty());
    BOOST_TEST(tracked.stats().live_blocks == 0u);
    BOOST_TEST(tracked.check_invariants());
}

BOOST_AUTO_TEST_CASE(impossible_requests_change_nothing) {
    counting_upstream upstream;
    tracked_block_resource tracked{with_reserve(4 * kib), &upstream};
    auto const before = tracked.stats();
    for (std::size_t alignment : {std::size_t{1}, std::size_t{16}, 4 * kib, most / 2 + 1})
        for (std::size_t bytes : {most, most - 1, most - 15, most / 2 + 1})
            BOOST_CHECK_THROW(static_cast<void>(tracked.allocate(bytes, alignment)),
                              std::bad_alloc);
    for (std::size_t alignment : {0u, 3u, 24u, 100u})
        BOOST_CHECK_THROW(static_cast<void>(tracked.allocate(8, alignment)), std::invalid_argument);
    BOOST_TEST(upstream.allocations() == 1u);
    BOOST_TEST((tracked.stats() == before));
    BOOST_TEST(tracked.totals().allocations == 0u);
}

BOOST_AUTO_TEST_CASE(budget_bounds_live_bytes) {
    counting_upstream upstream;
    tracked_block_resource tracked{with_budget(100), &upstream};
    void* const p = tracked.allocate(60);
    void* const q = tracked.allocate(40);
    void* const empty = tracked.allocate(0);
    auto const before = tracked.stats();
    BOOST_CHECK_THROW(static_cast<void>(tracked.allocate(1)), std::bad_alloc);
    BOOST_TEST((tracked.stats() == before));
    tracked.deallocate(p, 60);
    BOOST_CHECK_THROW(static_cast<void>(tracked.allocate(61)), std::bad_alloc);
    void* const r = tracked.allocate(60);
    BOOST_TEST(tracked.stats().live_bytes == 100u);
    tracked.deallocate(q, 40);
    tracked.deallocate(r, 60);
    tracked.deallocate(empty, 0);
    BOOST_TEST(tracked.check_invariants());
}

BOOST_AUTO_TEST_CASE(failure_at_nth_upstream_call_leaves_state_unchanged) {
    for (std::size_t calls = 0; calls < 40; ++calls) {
        counting_upstream upstream;
        tracked_block_options options;
        options.report_leaks = false;
        tracked_block_resource tracked{options, &upstream};
        upstream.fail_after(calls);
        strata::statistics before;
        std::size_t held = 0;
        try {
            for (int i = 0; i < 60; ++i) {
                before = tracked.stats();
                held = upstream.live_bytes();
                static_cast<void>(tracked.allocate(5000)); // a page each: the address set grows
            }
        } catch (std::bad_alloc const&) {
        }
        BOOST_TEST((tracked.stats() == before));
        BOOST_TEST(upstream.live_bytes() == held);
        BOOST_TEST(tracked.stats().footprint_bytes == held);
        BOOST_TEST(tracked.check_invariants());
        tracked.release();
        BOOST_TEST(upstream.settled());
    }
}

// --- the list ---

BOOST_AUTO_TEST_CASE(live_blocks_are_visited_in_the_order_of_allocation) {
    tracked_block_resource tracked;
    std::vector<void*> blocks;
    for (std::size_t bytes : {10u, 20u, 30u, 40u, 50u})
        blocks.push_back(tracked.allocate(bytes));
    auto const expect = [&](std::vector<std::size_t> const& sizes) {
        BOOST_TEST(sizes_of(tracked) == sizes, boost::test_tools::per_element());
        BOOST_TEST(tracked.check_invariants());
    };
    expect({10, 20, 30, 40, 50});
    tracked.deallocate(blocks[2], 30); // the middle
    expect({10, 20, 40, 50});
    tracked.deallocate(blocks[0], 10); // the head
    expect({20, 40, 50});
    tracked.deallocate(blocks[4], 50); // the tail
    expect({20, 40});
    void* const p = tracked.allocate(60);
    expect({20, 40, 60});
    tracked.deallocate(blocks[1], 20);
    tracked.deallocate(blocks[3], 40);
    tracked.deallocate(p, 60);
    expect({});
}

BOOST_AUTO_TEST_CASE(records_tell_all_that_is_known) {
    tracked_block_resource tracked;
    void* p = nullptr;
    void* q = nullptr;
    {
        label_scope const outer{tracked, "outer"};
        tracked.deallocate(tracked.allocate(1), 1);
        p = tracked.allocate(100, 64);
        label_scope const inner{tracked, "inner"};
        q = tracked.allocate(0);
    }
    void* const r = tracked.allocate(7, 1);
    std::vector<tracked_block> seen;
    tracked.visit_records([&](tracked_block const& b) { seen.push_back(b); });
    BOOST_REQUIRE(seen.size() == 3u);
    BOOST_TEST(seen[0].address == p);
    BOOST_TEST(seen[0].bytes == 100u);
    BOOST_TEST(seen[0].alignment == 64u);
    BOOST_TEST(seen[0].sequence == 2u);
    BOOST_TEST(std::string{seen[0].label} == "outer");
    BOOST_TEST(!seen[0].from_reserve);
    BOOST_TEST(seen[0].call_stack.empty());
    BOOST_TEST(std::string{seen[1].label} == "inner");
    BOOST_TEST(seen[1].sequence == 3u);
    BOOST_TEST(seen[2].alignment == 1u);
    BOOST_TEST((seen[2].label == nullptr));
    tracked.deallocate(p, 100, 64);
    tracked.deallocate(q, 0);
    tracked.deallocate(r, 7, 1);
}

BOOST_AUTO_TEST_CASE(totals_count_what_was_freed_as_well) {
    tracked_block_resource tracked;
    for (std::size_t bytes : {0u, 1u, 2u, 3u, 4u, 5u, 8u, 9u, 1024u, 1025u})
        tracked.deallocate(tracked.allocate(bytes), bytes);
    void* const p = tracked.allocate(64);
    auto const totals = tracked.totals();
    BOOST_TEST(totals.allocations == 11u);
    BOOST_TEST(totals.deallocations == 10u);
    BOOST_TEST(totals.bytes == 2145u);
    BOOST_TEST(totals.peak_live_blocks == 1u);
    BOOST_TEST(totals.all_misuses() == 0u);
    std::vector<std::uint64_t> const expected{2, 1, 2, 2, 1, 0, 1, 0, 0, 0, 1, 1};
    BOOST_TEST(std::vector<std::uint64_t>(totals.by_size_log2.begin(),
                                          totals.by_size_log2.begin() + 12) == expected,
               boost::test_tools::per_element());
    BOOST_TEST(std::accumulate(totals.by_size_log2.begin(), totals.by_size_log2.end(),
                               std::uint64_t{0}) == 11u);
    BOOST_TEST(tracked.stats().peak_live_bytes == 1025u);
    tracked.deallocate(p, 64);
    tracked.release();
    BOOST_TEST((tracked.totals() == strata::tracked_block_totals{}));
    BOOST_TEST((tracked.stats() == strata::statistics{}));
}

// --- misuse ---

BOOST_AUTO_TEST_CASE(misuse_is_named_and_changes_nothing) {
    misuse_recorder recorder;
    tracked_block_resource tracked;
    tracked_block_resource sibling;
    void* const p = tracked.allocate(48);
    void* const aligned = tracked.allocate(100, 512);
    void* const q = tracked.allocate(3000);
    void* const theirs = sibling.allocate(48);
    tracked.deallocate(q, 3000);
    auto const before = tracked.stats();
    auto const expect = [&](void* address, std::size_t bytes, std::size_t alignment,
                            misuse_kind kind) {
        BOOST_TEST((tracked.diagnose(address, bytes, alignment) == kind));
        tracked.deallocate(address, bytes, alignment);
        expect_heard(recorder, kind, address, bytes, alignment);
        BOOST_REQUIRE((tracked.stats() == before));
    };
    for (int i = 0; i < 1000; ++i)
        expect(q, 3000, 16, misuse_kind::double_free);
    for (std::ptrdiff_t offset : {1, 8, 16, 32, 47})
        expect(at(p, offset), 48, 16, misuse_kind::misaligned_pointer);
    for (std::ptrdiff_t offset : {-16, -1, 48, 63})
        expect(at(p, offset), 48, 16, misuse_kind::foreign_pointer);
    expect(at(aligned, -512), 100, 512, misuse_kind::foreign_pointer);
    expect(p, 49, 16, misuse_kind::size_mismatch);
    expect(p, 47, 8, misuse_kind::size_mismatch);
    expect(p, 0, 16, misuse_kind::size_mismatch);
    expect(p, 48, 8, misuse_kind::alignment_mismatch);
    expect(aligned, 100, 256, misuse_kind::alignment_mismatch);
    expect(theirs, 48, 16, misuse_kind::foreign_pointer);
    static int a_static = 0;
    int a_local = 0;
    expect(&a_static, 48, 16, misuse_kind::foreign_pointer);
    expect(&a_local, 48, 16, misuse_kind::foreign_pointer);
    for (std::uintptr_t n : {std::uintptr_t{64}, ~std::uintptr_t{4095}}) // no memory is there
        expect(std::bit_cast<void*>(n), 48, 16, misuse_kind::foreign_pointer);
    void* volatile nothing = nullptr;
    tracked.deallocate(nothing, 48);
    BOOST_TEST(recorder.take().empty());
    BOOST_TEST(tracked.check_invariants());
    tracked.deallocate(p, 48);
    tracked.deallocate(aligned, 100, 512);
    sibling.deallocate(theirs, 48);
    BOOST_TEST(recorder.take().empty());
}

// The first blocks of many sizes, at many addresses: what a free says is compared by a word of 40
// bits, in which no other alignment and no other bit of a size may be lost.
BOOST_AUTO_TEST_CASE(any_other_alignment_and_any_other_bit_of_the_size_is_found) {
    tracked_block_resource tracked;
    for (std::size_t bytes = 0; bytes < 200; ++bytes) {
        for (std::size_t alignment = 1; alignment <= 4096; alignment *= 2) {
            void* const p = tracked.allocate(bytes, alignment);
            for (std::size_t wrong = 1; wrong <= 1u << 20; wrong *= 2)
                if (wrong != alignment)
                    BOOST_REQUIRE((tracked.try_deallocate(p, bytes, wrong) ==
                                   misuse_kind::alignment_mismatch));
            for (std::size_t bit = 1; bit != 0; bit *= 2)
                BOOST_REQUIRE((tracked.try_deallocate(p, bytes ^ bit, alignment) ==
                               misuse_kind::size_mismatch));
        }
    }
}

BOOST_AUTO_TEST_CASE(misuses_are_counted_by_kind) {
    misuse_recorder recorder;
    tracked_block_resource tracked;
    void* const p = tracked.allocate(48);
    for (int i = 0; i < 3; ++i)
        tracked.deallocate(p, 40);
    BOOST_TEST((tracked.try_deallocate(p, 48, 8) == misuse_kind::alignment_mismatch));
    *hidden_at(p, 48) = std::byte{0};
    tracked.deallocate(p, 48);
    tracked.deallocate(p, 48);
    *hidden_at(tracked.allocate(8), -1) = std::byte{0};
    BOOST_TEST(tracked.totals().all_misuses() == 6u);
    BOOST_TEST(tracked.totals().misuses_of(misuse_kind::size_mismatch) == 3u);
    BOOST_TEST(tracked.totals().misuses_of(misuse_kind::alignment_mismatch) == 1u);
    BOOST_TEST(tracked.totals().misuses_of(misuse_kind::overrun) == 1u);
    BOOST_TEST(tracked.totals().misuses_of(misuse_kind::double_free) == 1u);
    std::ostringstream out;
    out << tracked;
    BOOST_TEST(out.str().find("found wrong: size mismatch, 3\n") != std::string::npos, out.str());
    tracked.release();
    BOOST_TEST(tracked.totals().all_misuses() == 0u);
}

// Blocks with a page each, which no program can read once they are freed, nor those that it seals.
class sealing_upstream final : public std::pmr::memory_resource {
  public:
    ~sealing_upstream() override {
        for (void* p : pages_)
            ::munmap(p, 2 * page);
    }
    static void seal(void* p) {
        ::mprotect(strata::detail::as_bytes(p) - offset_in_page(p), 2 * page, PROT_NONE);
    }
    static void unseal(void* p) {
        ::mprotect(strata::detail::as_bytes(p) - offset_in_page(p), 2 * page,
                   PROT_READ | PROT_WRITE);
    }

  private:
    static constexpr std::size_t page = 4096;
    static std::size_t offset_in_page(void* p) { return strata::detail::address_of(p) % page; }

    void* do_allocate(std::size_t bytes, std::size_t) override {
        BOOST_REQUIRE(bytes <= 2 * page);
        pages_.push_back(
            ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        return pages_.back();
    }
    void do_deallocate(void* p, std::size_t, std::size_t) override { seal(p); }
    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }
    std::vector<void*> pages_;
};

BOOST_AUTO_TEST_CASE(unknown_pointers_are_told_without_reading_near_them) {
    misuse_recorder recorder;
    sealing_upstream pages;
    tracked_block_resource tracked{&pages};
    tracked_block_resource sibling{&pages};
    void* const freed = tracked.allocate(48);
    void* const theirs = sibling.allocate(48);
    void* const mine = tracked.allocate(3000);
    tracked.deallocate(freed, 48); // from here on nobody can read it
    sealing_upstream::seal(theirs);
    sealing_upstream::seal(mine);
    BOOST_TEST((tracked.try_deallocate(freed, 48) == misuse_kind::double_free));
    BOOST_TEST((tracked.try_deallocate(at(freed, 16), 48) == misuse_kind::foreign_pointer));
    BOOST_TEST((tracked.try_deallocate(theirs, 48) == misuse_kind::foreign_pointer));
    for (std::ptrdiff_t offset : {1, 16, 2000}) // into a block
        BOOST_TEST(
            (tracked.try_deallocate(at(mine, offset), 48) == misuse_kind::misaligned_pointer));
    sealing_upstream::unseal(theirs);
    sealing_upstream::unseal(mine);
    tracked.deallocate(mine, 3000);
    sibling.deallocate(theirs, 48);
    BOOST_TEST(recorder.take().empty());
}

// What the handler hears in words.
std::vector<std::string> details;
void keep_detail(strata::misuse const& what) {
    details.emplace_back(what.detail != nullptr ? what.detail : "");
}
std::string last_detail() {
    BOOST_REQUIRE(!details.empty());
    std::string const last = details.back();
    details.clear();
    return last;
}

BOOST_AUTO_TEST_CASE(damage_is_shown_byte_by_byte) {
    handler_scope const handler{keep_detail};
    tracked_block_resource tracked;
    label_scope const label{tracked, "names"};
    void* const p = tracked.allocate(10);
    std::memcpy(hidden_at(p, 10, 3), "Hi\x01", 3);
    tracked.deallocate(p, 10);
    BOOST_TEST(last_detail() ==
               "up to 3 bytes past its end: 48 69 01 \"Hi.\"; allocation 1, label \"names\"");
    void* const q = tracked.allocate(10);
    *hidden_at(q, 14) = std::byte{'!'}; // the bytes between are as they were
    BOOST_TEST((tracked.reallocate(q, 10, 20) == nullptr));
    BOOST_TEST(last_detail() ==
               "up to 5 bytes past its end: 21 \"!\"; allocation 2, label \"names\"");
    tracked.deallocate(q, 10);
    details.clear();
    void* const r = tracked.allocate(10);
    std::memset(hidden_at(r, -1), 0, 1);
    tracked.release();
    BOOST_TEST(last_detail().find("up to 1 byte before its start: 00 \".\"") == 0u);
    void* const s = tracked.allocate(10);
    std::memset(hidden_at(s, 10, 16), 'x', 16);
    tracked.deallocate(s, 10);
    BOOST_TEST(last_detail().find("up to at least 16 bytes past its end: 78 78") == 0u);
}

BOOST_AUTO_TEST_CASE(damage_that_reaches_upstreams_guard_is_shown_by_both) {
    handler_scope const handler{keep_detail};
    tracked_block_resource below;
    tracked_block_resource above{&below};
    auto const overrun_both = [&] {
        void* const p = above.allocate(16);
        std::memset(hidden_at(p, 16, 20), 'x', 20);
        return p;
    };
    auto const both_are_shown = [&] {
        BOOST_REQUIRE(details.size() == 2u);
        BOOST_TEST(details[0].find("up to 4 bytes past its end: 78 78 78 78 \"xxxx\"") == 0u);
        BOOST_TEST(details[1].find("up to at least 16 bytes past its end: 78 78") == 0u);
        details.clear();
    };
    above.deallocate(overrun_both(), 16);
    both_are_shown();
    overrun_both();
    above.release();
    both_are_shown();
}

// Finds something else wrong while it has the words in hand.
void misuse_again(strata::misuse const& what) {
    static thread_local bool is_again = false;
    if (std::exchange(is_again, true))
        return;
    tracked_block_resource other;
    void* const p = other.allocate(5);
    other.deallocate(p, 6);
    other.deallocate(p, 5);
    keep_detail(what);
    is_again = false;
}

BOOST_AUTO_TEST_CASE(words_stay_until_the_handler_returns) {
    handler_scope const handler{misuse_again};
    tracked_block_resource tracked;
    void* const p = tracked.allocate(100);
    tracked.deallocate(p, 99);
    BOOST_TEST(last_detail() == "it was 100 bytes, alignment 16; allocation 1");
    tracked.deallocate(p, 100);
}

BOOST_AUTO_TEST_CASE(wrong_calls_are_told_what_would_be_right) {
    handler_scope const handler{keep_detail};
    tracked_block_resource tracked;
    void* const p = tracked.allocate(100, 64);
    tracked.deallocate(p, 99, 64);
    BOOST_TEST(last_detail() == "it was 100 bytes, alignment 64; allocation 1");
    tracked.deallocate(at(p, 16), 100, 64);
    BOOST_TEST(last_detail().find("it is in the block of 100 bytes at 0x") == 0u);
    tracked.deallocate(at(p, 100), 100, 64);
    BOOST_TEST(last_detail().find("it is in a guard of the block of 100 bytes at 0x") == 0u);
    tracked.deallocate(p, 100, 64);
    tracked.deallocate(p, 100, 64);
    BOOST_TEST(last_detail().empty());
}

BOOST_AUTO_TEST_CASE(words_are_told_once_and_of_their_own_block) {
    handler_scope const handler{keep_detail};
    tracked_block_resource tracked;
    strata::segregated_pool_resource pool; // has no words
    void* const p = tracked.allocate(100);
    void* const q = pool.allocate(100);
    BOOST_TEST((tracked.diagnose(p, 99, 16) == misuse_kind::size_mismatch)); // nobody is told
    pool.deallocate(q, 300);
    BOOST_TEST(last_detail().empty());
    void* const in_a_guard = at(p, -8);
    tracked.deallocate(in_a_guard, 8);
    BOOST_TEST(last_detail().find("it is in a guard of the block of 100 bytes") == 0u);
    pool.deallocate(in_a_guard, 8);
    BOOST_TEST(last_detail().empty());
    tracked.deallocate(p, 100);
    pool.deallocate(q, 100);
}

BOOST_AUTO_TEST_CASE(words_reach_the_report_of_a_lock_around_it) {
    handler_scope const handler{keep_detail};
    strata::synchronized_tracked_block_resource tracked;
    void* const p = tracked.allocate(3);
    *hidden_at(p, 3) = std::byte{'A'};
    tracked.deallocate(p, 3);
    BOOST_TEST(last_detail() == "up to 1 byte past its end: 41 \"A\"; allocation 1");
}

BOOST_AUTO_TEST_CASE(the_last_1024_freed_addresses_are_remembered) {
    misuse_recorder recorder;
    tracked_block_resource tracked;
    std::vector<void*> blocks(1025);
    for (void*& p : blocks)
        p = tracked.allocate(32);
    for (void* p : blocks)
        tracked.deallocate(p, 32);
    BOOST_TEST((tracked.try_deallocate(blocks[0], 32) == misuse_kind::foreign_pointer));
    for (std::size_t i = 1; i < blocks.size(); ++i)
        BOOST_REQUIRE((tracked.try_deallocate(blocks[i], 32) == misuse_kind::double_free));
}

BOOST_AUTO_TEST_CASE(every_byte_of_both_guards_is_watched) {
    misuse_recorder recorder;
    counting_upstream upstream;
    tracked_block_resource tracked{with_reserve(2 * kib), &upstream};
    for (bool from_reserve : {false, true}) {
        if (from_reserve)
            upstream.fail_after(0);
        for (std::size_t bytes : {0u, 1u, 13u, 48u}) {
            for (std::size_t alignment : {1u, 16u, 64u}) {
                for (std::ptrdiff_t offset = -16; offset < 16; ++offset) {
                    void* const p = tracked.allocate(bytes, alignment);
                    void* const next = tracked.allocate(8);
                    std::byte* const hit = hidden_at(
                        p, offset < 0 ? offset : static_cast<std::ptrdiff_t>(bytes) + offset);
                    *hit ^= std::byte{0x10};
                    misuse_kind const kind =
                        offset < 0 ? misuse_kind::underrun : misuse_kind::overrun;
                    BOOST_REQUIRE((tracked.diagnose(p, bytes, alignment) == kind));
                    BOOST_REQUIRE(
                        (tracked.diagnose(p, bytes + 1, alignment) == misuse_kind::size_mismatch));
                    tracked.deallocate(p, bytes, alignment); // reported, and freed all the same
                    expect_heard(recorder, kind, p, bytes, alignment);
                    BOOST_REQUIRE(tracked.stats().live_blocks == 1u);
                    BOOST_REQUIRE(tracked.check_invariants());
                    tracked.deallocate(next, 8);
                    BOOST_REQUIRE(recorder.take().empty());
                }
            }
        }
    }
}

BOOST_AUTO_TEST_CASE(usual_stray_writes_differ_from_every_guard) {
    misuse_recorder recorder;
    tracked_block_resource tracked;
    for (int round = 0; round < 200; ++round) {
        std::size_t const bytes = static_cast<std::size_t>(round);
        for (int stray : {0x00, 0x20, 0x41, 0x7a, 0xaa, 0xcc, 0xcd, 0xdd, 0xff}) {
            void* const p = tracked.allocate(bytes);
            *hidden_at(p, round) = static_cast<std::byte>(stray);
            BOOST_REQUIRE((tracked.try_deallocate(p, bytes) == misuse_kind::overrun));
        }
        // A copy that takes the guard of its source along.
        void* const from = tracked.allocate(bytes);
        void* const to = tracked.allocate(bytes);
        std::memcpy(hidden_at(to, 0, bytes + 16), hidden_at(from, 0, bytes + 16), bytes + 16);
        BOOST_REQUIRE((tracked.try_deallocate(to, bytes) == misuse_kind::overrun));
        BOOST_REQUIRE(!tracked.try_deallocate(from, bytes));
    }
}

BOOST_AUTO_TEST_CASE(guards_differ_where_blocks_lie_at_the_distance_of_records) {
    alignas(4096) std::array<std::byte, 16 * kib> buffer;
    std::pmr::monotonic_buffer_resource upstream{buffer.data(), buffer.size()};
    tracked_block_resource tracked{&upstream};
    std::vector<std::byte*> blocks(60);
    for (std::byte*& p : blocks)
        p = static_cast<std::byte*>(tracked.allocate(32)); // 64 with its guards
    for (std::size_t i = 0; i < blocks.size(); ++i)
        for (std::size_t j = 0; j < i; ++j)
            BOOST_REQUIRE(
                std::memcmp(hidden_at(blocks[i], 32, 16), hidden_at(blocks[j], 32, 16), 16) != 0);
    tracked.release();
}

BOOST_AUTO_TEST_CASE(a_stale_header_is_not_believed) {
    misuse_recorder recorder;
    std::pmr::unsynchronized_pool_resource upstream; // its lowest free block serves next
    tracked_block_resource tracked{&upstream};
    void* const p = tracked.allocate(100);
    void* const q = tracked.allocate(3000);
    std::array<std::byte, 16> header;
    std::memcpy(header.data(), hidden_at(p, -16, header.size()), header.size());
    tracked.deallocate(p, 100);
    tracked.deallocate(q, 3000);
    void* const again = tracked.allocate(100);  // with q's record
    void* const other = tracked.allocate(3000); // with p's record
    BOOST_REQUIRE(again == p);
    std::memcpy(hidden_at(p, -16, header.size()), header.data(), header.size());
    BOOST_TEST((tracked.try_deallocate(again, 100) == misuse_kind::underrun));
    BOOST_TEST(!tracked.try_deallocate(other, 3000));
    BOOST_TEST(tracked.check_invariants());
}

BOOST_AUTO_TEST_CASE(damaged_headers_lose_nothing) {
    misuse_recorder recorder;
    counting_upstream upstream;
    {
        tracked_block_resource tracked{&upstream};
        std::vector<void*> blocks(100);
        for (void*& p : blocks)
            p = tracked.allocate(24, 64);
        for (void* p : blocks)
            std::memset(hidden_at(p, -64, 64), 0xa5, 64);
        std::vector<std::size_t> const all(100, 24);
        BOOST_TEST(sizes_of(tracked) == all, boost::test_tools::per_element());
        for (std::size_t i = 0; i < 50; ++i)
            BOOST_REQUIRE((tracked.try_deallocate(blocks[i], 24, 64) == misuse_kind::underrun));
        BOOST_TEST(tracked.stats().live_blocks == 50u);
        tracked.release();
        BOOST_TEST(recorder.take().size() == 50u);
        BOOST_TEST(tracked.check_invariants());
    }
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(invariants_are_broken_by_a_damaged_block) {
    misuse_recorder recorder;
    tracked_block_resource tracked;
    void* const p = tracked.allocate(10);
    *hidden_at(p, 10) = std::byte{0};
    BOOST_TEST(!tracked.check_invariants()); // says so on stderr
    tracked.deallocate(p, 10);
    BOOST_TEST(tracked.check_invariants());
}

BOOST_AUTO_TEST_CASE(a_damaged_block_is_not_moved) {
    misuse_recorder recorder;
    tracked_block_resource tracked;
    void* const p = tracked.allocate(10);
    *hidden_at(p, 10) = std::byte{0};
    BOOST_TEST((tracked.reallocate(p, 10, 20) == nullptr));
    expect_heard(recorder, misuse_kind::overrun, p, 10, 16);
    BOOST_TEST(!tracked.try_resize(p, 10, 5));
    expect_heard(recorder, misuse_kind::overrun, p, 10, 16);
    BOOST_TEST(tracked.stats().live_blocks == 1u);
    tracked.deallocate(p, 10);
    BOOST_TEST(recorder.take().size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_handler_may_throw) {
    handler_scope const handler{throw_misuse};
    counting_upstream upstream;
    {
        tracked_block_resource tracked{&upstream};
        std::vector<void*> blocks(5);
        for (void*& p : blocks)
            p = tracked.allocate(8);
        BOOST_CHECK_THROW(tracked.deallocate(blocks[0], 9), std::runtime_error);
        *hidden_at(blocks[1], 8) = std::byte{0};
        BOOST_CHECK_THROW(tracked.deallocate(blocks[1], 8), std::runtime_error);
        BOOST_TEST(tracked.stats().live_blocks == 4u); // the overrun one was freed
        *hidden_at(blocks[3], 8) = std::byte{0};
        BOOST_CHECK_THROW(tracked.release(), std::runtime_error);
        BOOST_TEST(tracked.check_invariants());
        *hidden_at(blocks[4], -1) = std::byte{0}; // the destructor swallows
    }
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(a_throwing_handler_stops_a_release_and_no_destructor) {
    handler_scope const handler{throw_misuse};
    counting_upstream upstream;
    {
        tracked_block_options options;
        options.report_leaks = false; // which would release them
        tracked_block_resource tracked{options, &upstream};
        for (int i = 0; i < 5; ++i)
            *hidden_at(tracked.allocate(8), 8) = std::byte{0};
        BOOST_CHECK_THROW(tracked.release(), std::runtime_error);
        BOOST_TEST(tracked.stats().live_blocks == 4u);
        BOOST_TEST(tracked.totals().misuses_of(misuse_kind::overrun) == 1u);
    }
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(owns_tells_its_memory_from_all_other) {
    tracked_block_resource tracked{with_reserve(kib)};
    tracked_block_resource sibling;
    void* const p = tracked.allocate(100);
    void* const theirs = sibling.allocate(100);
    BOOST_TEST(tracked.owns(p));
    for (std::ptrdiff_t offset : {-16, -1, 99, 100, 115}) // its guards are this resource's, too
        BOOST_TEST(tracked.owns(at(p, offset)));
    BOOST_TEST(!tracked.owns(at(p, -17)));
    BOOST_TEST(!tracked.owns(at(p, 116)));
    void* const aligned = tracked.allocate(8, 256); // a frame begins that far before its block
    for (std::ptrdiff_t offset : {-256, -100, 23})
        BOOST_TEST(tracked.owns(at(aligned, offset)));
    BOOST_TEST(!tracked.owns(at(aligned, -257)));
    tracked.deallocate(aligned, 8, 256);
    BOOST_TEST(!tracked.owns(theirs));
    BOOST_TEST(!tracked.owns(&tracked));
    BOOST_TEST(!tracked.owns(nullptr));
    tracked.deallocate(p, 100);
    BOOST_TEST(!tracked.owns(p));
    sibling.deallocate(theirs, 100);
}

// --- leaks ---

tracked_block_resource* leaking = nullptr;
int leaks_heard = 0;

BOOST_AUTO_TEST_CASE(a_handler_may_free_the_leak_that_it_hears_of) {
    handler_scope const handler{[](strata::misuse const& what) {
        ++leaks_heard;
        leaking->deallocate(const_cast<void*>(what.address), what.bytes, what.alignment);
    }};
    counting_upstream upstream;
    {
        tracked_block_resource tracked{&upstream};
        leaking = &tracked;
        for (std::size_t i = 0; i < 3; ++i)
            static_cast<void>(tracked.allocate(10 + i));
    }
    BOOST_TEST(leaks_heard == 3);
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(destructor_reports_every_leak_and_reclaims) {
    misuse_recorder recorder;
    counting_upstream upstream;
    void* p = nullptr;
    void* q = nullptr;
    {
        tracked_block_resource tracked{with_reserve(kib), &upstream};
        p = tracked.allocate(10, 8);
        tracked.deallocate(tracked.allocate(5), 5);
        upstream.fail_after(0);
        q = tracked.allocate(20, 32);
    }
    auto const heard = recorder.take();
    BOOST_REQUIRE(heard.size() == 2u);
    BOOST_TEST((heard[0].kind == misuse_kind::leak && heard[1].kind == misuse_kind::leak));
    BOOST_TEST(heard[0].address == p);
    BOOST_TEST(heard[0].bytes == 10u);
    BOOST_TEST(heard[0].alignment == 8u);
    BOOST_TEST(heard[1].address == q);
    BOOST_TEST(heard[1].alignment == 32u);
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(many_leaks_end_in_a_sum) {
    misuse_recorder recorder;
    {
        tracked_block_resource tracked;
        for (std::size_t i = 0; i < 1010; ++i)
            static_cast<void>(tracked.allocate(i));
    }
    auto const heard = recorder.take();
    BOOST_REQUIRE(heard.size() == 1001u);
    BOOST_TEST(heard[999].bytes == 999u);
    BOOST_TEST((heard[1000].kind == misuse_kind::leak));
    BOOST_TEST(heard[1000].address == nullptr);
    BOOST_TEST(heard[1000].bytes == 10045u); // 1000 + … + 1009
}

BOOST_AUTO_TEST_CASE(leaks_are_reported_in_groups_where_people_read) {
    int status = -1;
    std::string const text = strata::test::stderr_of_child(
        [] {
            tracked_block_resource tracked;
            label_scope const label{tracked, "parser"};
            for (int i = 0; i < 3; ++i)
                static_cast<void>(tracked.allocate(100));
            static_cast<void>(tracked.allocate(10));
        },
        status);
    BOOST_TEST(status == 0);
    BOOST_TEST(text.find("strata: leak: 0x") == 0u, text);
    auto const large = text.find("\n  300 bytes in 3 x 100, label \"parser\", first: allocation 1");
    auto const small = text.find("\n  10 bytes in 1 x 10, label \"parser\", first: allocation 4");
    BOOST_TEST(large != text.npos, text);
    BOOST_TEST(small != text.npos, text);
    BOOST_TEST(large < small);
    BOOST_TEST(text.find("\nhint: ") != text.npos, text);
}

BOOST_AUTO_TEST_CASE(all_leaks_are_told_before_the_program_aborts) {
    int status = 0;
    std::string const text = strata::test::stderr_of_child(
        [] {
            strata::set_misuse_handler(strata::abort_on_misuse);
            tracked_block_resource tracked;
            static_cast<void>(tracked.allocate(100));
            static_cast<void>(tracked.allocate(10));
        },
        status);
    BOOST_TEST(WIFSIGNALED(status));
    BOOST_TEST(WTERMSIG(status) == SIGABRT);
    BOOST_TEST(text.find("live: 2 blocks, 110 bytes") != text.npos, text);
}

BOOST_AUTO_TEST_CASE(release_and_a_quiet_destructor_report_no_leaks) {
    misuse_recorder recorder;
    counting_upstream upstream;
    {
        tracked_block_options options;
        options.report_leaks = false;
        tracked_block_resource quiet{options, &upstream};
        static_cast<void>(quiet.allocate(8));
        tracked_block_resource tracked{with_reserve(kib), &upstream};
        auto const fresh = tracked.stats();
        static_cast<void>(tracked.allocate(8));
        upstream.fail_after(0);
        static_cast<void>(tracked.allocate(8));
        upstream.never_fail();
        tracked.release();
        BOOST_TEST((tracked.stats() == fresh));
        BOOST_TEST(tracked.stats().free_blocks == 1u);
        BOOST_TEST(tracked.check_invariants());
        tracked.deallocate(tracked.allocate(100), 100);
    }
    BOOST_TEST(recorder.take().empty());
    BOOST_TEST(upstream.settled());
}

// --- the reserve ---

BOOST_AUTO_TEST_CASE(reserve_serves_when_upstream_has_nothing_left) {
    misuse_recorder recorder;
    counting_upstream upstream;
    tracked_block_resource tracked{with_reserve(4 * kib), &upstream};
    void* const before = tracked.allocate(10);
    upstream.fail_after(0);
    auto const fill = [&] {
        std::vector<void*> blocks;
        try {
            for (;;)
                blocks.push_back(tracked.allocate(64));
        } catch (std::bad_alloc const&) {
        }
        return blocks;
    };
    std::vector<void*> blocks = fill();
    BOOST_TEST(blocks.size() == 4 * kib / (64 + 80));
    BOOST_TEST(tracked.check_invariants());
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937_64{3});
    for (void* p : blocks) {
        BOOST_TEST(tracked.owns(p));
        tracked.deallocate(p, 64);
        BOOST_REQUIRE((tracked.try_deallocate(p, 64) == misuse_kind::double_free));
    }
    auto const s = tracked.stats(); // one free block again
    BOOST_TEST(s.free_blocks == 1u);
    BOOST_TEST(s.free_bytes == 4 * kib);
    BOOST_TEST(s.largest_free_bytes == 4 * kib - 80);
    BOOST_TEST(fill().size() == blocks.size());
    tracked.deallocate(before, 10); // came from upstream, goes there
    BOOST_TEST(upstream.mismatches() == 0u);
    BOOST_TEST(recorder.take().empty());
    tracked.release();
}

BOOST_AUTO_TEST_CASE(largest_free_bytes_can_be_had) {
    counting_upstream upstream;
    tracked_block_resource tracked{with_reserve(4 * kib), &upstream};
    upstream.fail_after(0);
    void* const small = tracked.allocate(100);
    std::size_t const largest = tracked.stats().largest_free_bytes;
    BOOST_CHECK_THROW(static_cast<void>(tracked.allocate(largest + 1)), std::bad_alloc);
    void* const p = tracked.allocate(largest);
    BOOST_TEST(tracked.stats().free_bytes == 0u);
    BOOST_TEST(tracked.stats().largest_free_bytes == 0u);
    BOOST_TEST(tracked.check_invariants());
    tracked.deallocate(p, largest);
    tracked.deallocate(small, 100);
}

BOOST_AUTO_TEST_CASE(misuse_of_the_reserve_is_named) {
    misuse_recorder recorder;
    counting_upstream upstream;
    tracked_block_resource tracked{with_reserve(4 * kib), &upstream};
    upstream.fail_after(0);
    void* const p = tracked.allocate(100, 256);
    auto const diagnose = [&](std::ptrdiff_t offset, std::size_t bytes, std::size_t alignment) {
        return tracked.diagnose(at(p, offset), bytes, alignment);
    };
    BOOST_TEST(!diagnose(0, 100, 256));
    BOOST_TEST((diagnose(0, 101, 256) == misuse_kind::size_mismatch));
    BOOST_TEST((diagnose(0, 100, 16) == misuse_kind::alignment_mismatch));
    BOOST_TEST((diagnose(16, 100, 256) == misuse_kind::misaligned_pointer));
    BOOST_TEST((diagnose(-8, 100, 256) == misuse_kind::foreign_pointer));
    BOOST_TEST((diagnose(160, 100, 256) == misuse_kind::double_free)); // free
    BOOST_TEST((diagnose(161, 100, 256) == misuse_kind::misaligned_pointer));
    tracked.deallocate(p, 100, 256);
    BOOST_TEST(recorder.take().empty());
    BOOST_TEST((diagnose(0, 100, 256) == misuse_kind::double_free));
}

BOOST_AUTO_TEST_CASE(the_budget_holds_for_the_reserve) {
    counting_upstream upstream;
    tracked_block_resource tracked{{100, 4 * kib, true, 0}, &upstream};
    upstream.fail_after(0);
    void* const p = tracked.allocate(100);
    BOOST_CHECK_THROW(static_cast<void>(tracked.allocate(1)), std::bad_alloc);
    tracked.deallocate(p, 100);
}

// Memory that the system itself refuses: a limit on the child's address space.
BOOST_AUTO_TEST_CASE(reserve_serves_when_the_system_has_no_memory,
                     *boost::unit_test::precondition(strata::test::system_memory_can_be_limited) *
                         boost::unit_test::precondition(strata::test::is_without_valgrind)) {
    int status = -1;
    std::string const text = strata::test::stderr_of_child(
        [] {
            tracked_block_options options = with_reserve(64 * kib);
            options.report_leaks = false;
            tracked_block_resource tracked{options};
            ::rlimit const limit{256 * kib * kib, 256 * kib * kib};
            ::setrlimit(RLIMIT_AS, &limit);
            try {
                for (;;)
                    static_cast<void>(tracked.allocate(16 * kib));
            } catch (std::bad_alloc const&) {
                bool const sound = tracked.check_invariants();
                std::size_t from_reserve = 0;
                tracked.visit_records(
                    [&](tracked_block const& b) { from_reserve += b.from_reserve ? 1u : 0u; });
                tracked.release();
                std::fprintf(stderr, "sound: %d, from the reserve: %zu, free again: %zu\n",
                             sound ? 1 : 0, from_reserve, tracked.stats().free_bytes);
            }
        },
        status);
    BOOST_TEST(status == 0);
    BOOST_TEST(text == "sound: 1, from the reserve: 3, free again: 65536\n");
}

// --- failures on demand ---

BOOST_AUTO_TEST_CASE(fail_after_lets_n_more_succeed) {
    counting_upstream upstream;
    tracked_block_resource tracked{with_reserve(kib), &upstream};
    tracked.fail_after(2);
    void* const p = tracked.allocate(8);
    void* const q = tracked.allocate(8);
    auto const before = tracked.stats();
    std::size_t const calls = upstream.allocations();
    for (int i = 0; i < 3; ++i)
        BOOST_CHECK_THROW(static_cast<void>(tracked.allocate(8)), std::bad_alloc);
    BOOST_TEST(tracked.injected_failures() == 3u);
    BOOST_TEST(upstream.allocations() == calls);
    BOOST_TEST((tracked.stats() == before));
    tracked.deallocate(q, 8); // freeing gives no new chance
    BOOST_CHECK_THROW(static_cast<void>(tracked.allocate(8)), std::bad_alloc);
    tracked.never_fail();
    tracked.deallocate(tracked.allocate(8), 8);
    tracked.deallocate(p, 8);
}

BOOST_AUTO_TEST_CASE(for_each_failure_fails_each_allocation_once) {
    tracked_block_resource tracked;
    int runs = 0;
    std::size_t const failures = for_each_failure(tracked, [&] {
        ++runs;
        std::pmr::list<int> numbers{&tracked};
        for (int i = 0; i < 7; ++i)
            numbers.push_back(i);
    });
    BOOST_TEST(failures == 7u);
    BOOST_TEST(runs == 8);
    BOOST_TEST(tracked.stats().live_blocks == 0u);
    BOOST_TEST(for_each_failure(tracked, [] { return "what it returns is not asked for"; }) == 0u);
    tracked.deallocate(tracked.allocate(1), 1); // it is switched off again
}

BOOST_AUTO_TEST_CASE(for_each_failure_finds_a_swallowed_failure) {
    tracked_block_resource tracked;
    auto const swallow = [&] {
        tracked.deallocate(tracked.allocate(8), 8);
        try {
            tracked.deallocate(tracked.allocate(8), 8);
        } catch (std::bad_alloc const&) {
        }
    };
    BOOST_CHECK_EXCEPTION(for_each_failure(tracked, swallow), std::logic_error,
                          [](std::logic_error const& e) {
                              return std::string{e.what()}.find("swallowed") != std::string::npos;
                          });
    tracked.deallocate(tracked.allocate(1), 1);
}

BOOST_AUTO_TEST_CASE(requests_that_cannot_be_met_are_no_injected_failures) {
    tracked_block_resource tracked{with_budget(10)};
    auto const careful = [&] {
        for (std::size_t bytes : {std::size_t{11}, most}) {
            try {
                static_cast<void>(tracked.allocate(bytes));
            } catch (std::bad_alloc const&) { // and does without
            }
        }
    };
    BOOST_TEST(for_each_failure(tracked, careful) == 0u);
}

BOOST_AUTO_TEST_CASE(for_each_failure_passes_other_exceptions_on) {
    tracked_block_resource tracked{with_budget(10)};
    BOOST_CHECK_THROW(for_each_failure(tracked, [] { throw std::runtime_error{"mine"}; }),
                      std::runtime_error);
    auto const too_much = [&] { tracked.deallocate(tracked.allocate(11), 11); };
    BOOST_CHECK_THROW(for_each_failure(tracked, too_much), std::bad_alloc);
    tracked.deallocate(tracked.allocate(1), 1);
}

// --- what has changed ---

BOOST_AUTO_TEST_CASE(a_monitor_tells_what_has_changed) {
    misuse_recorder recorder;
    tracked_block_resource tracked;
    void* const old = tracked.allocate(100);
    tracked_block_monitor monitor{tracked};
    void* const p = tracked.allocate(50);
    void* const q = tracked.allocate(30);
    tracked.deallocate(q, 30);
    tracked.deallocate(q, 30);
    BOOST_TEST(monitor.live_blocks() == 1);
    BOOST_TEST(monitor.live_bytes() == 50);
    BOOST_TEST(monitor.peak_live_blocks() == 2);
    BOOST_TEST(monitor.peak_live_bytes() == 80);
    BOOST_TEST(monitor.footprint_bytes() == 50 + 32);
    BOOST_TEST(monitor.allocations() == 2);
    BOOST_TEST(monitor.deallocations() == 1);
    BOOST_TEST(monitor.bytes() == 80);
    BOOST_TEST(monitor.misuses() == 1);
    monitor.reset();
    tracked.deallocate(old, 100);
    tracked.deallocate(p, 50);
    BOOST_TEST(monitor.live_blocks() == -2);
    BOOST_TEST(monitor.live_bytes() == -150);
    BOOST_TEST(monitor.peak_live_bytes() == 0);
    BOOST_TEST(monitor.allocations() == 0);
    BOOST_TEST(monitor.misuses() == 0);
}

BOOST_AUTO_TEST_CASE(a_default_resource_scope_ends) {
    tracked_block_resource tracked;
    {
        strata::default_resource_scope const scope{&tracked};
        std::pmr::vector<int> const numbers(10);
        BOOST_TEST(tracked.stats().live_blocks == 1u);
    }
    BOOST_TEST((std::pmr::get_default_resource() != &tracked));
}

BOOST_AUTO_TEST_CASE(scribble_fills_new_and_freed_memory) {
    std::array<std::byte, 4096> buffer;
    std::pmr::monotonic_buffer_resource upstream{buffer.data(), buffer.size()};
    tracked_block_options options = with_reserve(kib);
    options.scribble = true;
    tracked_block_resource tracked{options, &upstream};
    auto* const p = static_cast<unsigned char*>(tracked.allocate(100));
    BOOST_TEST(std::count(p, p + 100, 0xaa) == 100);
    tracked.deallocate(p, 100);
    BOOST_TEST(std::count(p, p + 100, 0xdd) == 100); // the buffer is not reused
    BOOST_TEST(tracked.options().scribble);
}

BOOST_AUTO_TEST_CASE(each_call_is_logged) {
    misuse_recorder recorder;
    std::FILE* const file = std::tmpfile();
    BOOST_REQUIRE(file != nullptr);
    tracked_block_options options = with_budget(100);
    options.log = file;
    {
        tracked_block_resource tracked{options};
        label_scope const label{tracked, "mine"};
        void* const p = tracked.allocate(64, 8);
        BOOST_CHECK_THROW(static_cast<void>(tracked.allocate(65)), std::bad_alloc);
        BOOST_CHECK_THROW(static_cast<void>(tracked.allocate(1, most / 2 + 1)), std::bad_alloc);
        tracked.deallocate(p, 60, 8);
        tracked.deallocate(p, 64, 8);
        tracked.fail_after(0);
        BOOST_CHECK_THROW(static_cast<void>(tracked.allocate(1)), std::bad_alloc);
        char address[32];
        std::snprintf(address, sizeof address, "%p", p);
        std::string const at_p{address};
        std::string const expected =
            "allocate 64 bytes, alignment 8: " + at_p + ", allocation 1, label mine\n" +
            "allocate 65 bytes, alignment 16: bad_alloc, over the budget\n" +
            "allocate 1 bytes, alignment " + std::to_string(most / 2 + 1) +
            ": bad_alloc, too large\n" + "deallocate " + at_p +
            ", 60 bytes, alignment 8: size mismatch\n" + "deallocate " + at_p +
            ", 64 bytes, alignment 8\n" +
            "allocate 1 bytes, alignment 16: bad_alloc, by fail_after\n";
        std::string text(1000, '\0');
        std::rewind(file);
        text.resize(std::fread(text.data(), 1, text.size(), file));
        BOOST_TEST(text == expected);
    }
    std::fclose(file);
}

// --- reports ---

BOOST_AUTO_TEST_CASE(report_groups_by_label_and_size) {
    misuse_recorder recorder;
    tracked_block_resource tracked;
    static_cast<void>(tracked.allocate(100));
    {
        label_scope const label{tracked, "parser"};
        for (int i = 0; i < 3; ++i)
            static_cast<void>(tracked.allocate(1000));
        std::string const same_text = "parser";
        label_scope const other{tracked, same_text.c_str()};
        void* const p = tracked.allocate(1000);
        std::ostringstream during;
        during << tracked;
        BOOST_TEST(during.str().find("4000 bytes in 4 x 1000, label \"parser\"") !=
                   std::string::npos);
        tracked.deallocate(p, 1000);
    }
    std::ostringstream out;
    out << tracked;
    std::string const text = out.str();
    BOOST_TEST(text.find("live: 4 blocks, 3100 bytes; peak: 5 blocks, 4100 bytes") !=
                   std::string::npos,
               text);
    BOOST_TEST(text.find("so far: 5 allocations, 4100 bytes; by size: <=128: 1 <=1024: 4") !=
                   std::string::npos,
               text);
    auto const large = text.find("3000 bytes in 3 x 1000, label \"parser\", first: allocation 2");
    auto const small = text.find("100 bytes in 1 x 100, first: allocation 1");
    BOOST_TEST(large != std::string::npos, text);
    BOOST_TEST(small != std::string::npos, text);
    BOOST_TEST(large < small);
    BOOST_TEST(text.find("fail_after(1)") != std::string::npos, text);
    tracked.release();
    for (std::size_t i = 1; i <= 25; ++i)
        static_cast<void>(tracked.allocate(i));
    out.str("");
    out << tracked;
    BOOST_TEST(out.str().find("and 5 smaller groups") != std::string::npos, out.str());
    tracked.release();
    out.str("");
    out << tracked;
    BOOST_TEST(out.str().find("hint") == std::string::npos, out.str());
}

BOOST_AUTO_TEST_CASE(of_groups_with_equal_bytes_the_oldest_comes_first) {
    tracked_block_resource tracked;
    for (std::size_t bytes : {100u, 50u, 50u})
        static_cast<void>(tracked.allocate(bytes));
    std::ostringstream out;
    out << tracked;
    std::string const text = out.str();
    auto const older = text.find("100 bytes in 1 x 100, first: allocation 1");
    auto const younger = text.find("100 bytes in 2 x 50, first: allocation 2");
    BOOST_TEST(younger != std::string::npos, text);
    BOOST_TEST(older < younger, text);
    BOOST_TEST(text.find("fail_after(0)") != std::string::npos, text);
    tracked.release();
}

// Two places to allocate from, which the compiler must not make one.
[[gnu::noinline]] void* from_here(tracked_block_resource& tracked) {
    void* volatile p = tracked.allocate(64);
    return p;
}
[[gnu::noinline]] void* from_there(tracked_block_resource& tracked) {
    void* volatile p = tracked.allocate(64);
    static_cast<void>(p);
    return p;
}

BOOST_AUTO_TEST_CASE(report_groups_by_call_stack) {
    tracked_block_options options;
    options.call_stacks = 8;
    tracked_block_resource tracked{options};
    int const volatile six = 6; // unknown to the compiler, which would unroll the loop
    for (int i = 0, end = six; i < end; ++i)
        static_cast<void>(i % 3 == 0 ? from_here(tracked) : from_there(tracked));
    std::ostringstream out;
    out << tracked;
    BOOST_TEST(out.str().find("256 bytes in 4 x 64, first: allocation 2") != std::string::npos,
               out.str());
    BOOST_TEST(out.str().find("128 bytes in 2 x 64, first: allocation 1") != std::string::npos,
               out.str());
    tracked.release();
}

BOOST_AUTO_TEST_CASE(call_stacks_are_kept_on_demand) {
    tracked_block_options options;
    options.call_stacks = 6;
    counting_upstream upstream;
    tracked_block_resource tracked{options, &upstream};
    std::vector<void*> blocks(50);
    for (void*& p : blocks)
        p = tracked.allocate(8);
    std::vector<void const*> first;
    tracked.visit_records([&](tracked_block const& b) {
        BOOST_REQUIRE(!b.call_stack.empty());
        BOOST_REQUIRE(b.call_stack.size() <= 6u);
        if (first.empty())
            first.assign(b.call_stack.begin(), b.call_stack.end());
        BOOST_TEST(b.call_stack.back() == first.back()); // all come from the same loop
    });
    std::ostringstream out;
    out << tracked;
    std::string const text = out.str();
    BOOST_TEST(std::count(text.begin(), text.end(), '\n') >= 4, text);
    BOOST_TEST(text.find("tracked_block_test (0x") != std::string::npos, text); // for addr2line
    BOOST_TEST(tracked.stats().footprint_bytes == upstream.live_bytes());
    for (void* p : blocks)
        tracked.deallocate(p, 8);
    tracked.release();
    BOOST_TEST(upstream.settled());
}

// --- everything together ---

BOOST_AUTO_TEST_CASE(trim_returns_the_books_when_nothing_is_live) {
    counting_upstream upstream;
    tracked_block_resource tracked{with_reserve(kib), &upstream};
    std::size_t const reserve = upstream.live_bytes();
    void* const p = tracked.allocate(100);
    BOOST_TEST(tracked.trim() == 0u);
    tracked.deallocate(p, 100);
    std::size_t const held = upstream.live_bytes();
    BOOST_TEST(tracked.trim() == held - reserve);
    BOOST_TEST(upstream.live_bytes() == reserve);
    BOOST_TEST((tracked.try_deallocate(p, 100) == misuse_kind::double_free));
    BOOST_TEST(tracked.check_invariants());
}

BOOST_AUTO_TEST_CASE(random_operations_agree_with_a_model) {
    struct block {
        unsigned char* p;
        std::size_t bytes;
        std::size_t alignment;
        unsigned char fill;
    };
    std::mt19937_64 random{strata::test::seed("tracked_block model")};
    auto const below = [&](std::size_t n) { return random() % n; };
    misuse_recorder recorder;
    counting_upstream upstream;
    tracked_block_resource tracked{{200000, 8 * kib, false, 0}, &upstream};
    std::vector<block> live; // by age
    auto const sound = [](block const& b) {
        return std::all_of(b.p, b.p + b.bytes, [&](unsigned char c) { return c == b.fill; });
    };
    auto const live_bytes = [&] {
        return std::accumulate(live.begin(), live.end(), std::size_t{0},
                               [](std::size_t sum, block const& b) { return sum + b.bytes; });
    };
    auto const take = [&] {
        std::size_t const bytes = below(std::size_t{2} << below(12));
        std::size_t const alignment = std::size_t{1} << below(9);
        void* p = nullptr;
        try {
            p = tracked.allocate(bytes, alignment);
        } catch (std::bad_alloc const&) {
            auto const s = tracked.stats();
            bool const for_a_reason = live_bytes() + bytes > 200000 || s.free_bytes < 8 * kib ||
                                      bytes + alignment + 96 > s.largest_free_bytes;
            BOOST_REQUIRE(for_a_reason);
            return;
        }
        BOOST_REQUIRE(strata::detail::is_aligned(p, alignment));
        live.push_back({static_cast<unsigned char*>(p), bytes, alignment,
                        static_cast<unsigned char>(below(256))});
        std::fill_n(live.back().p, bytes, live.back().fill);
    };
    auto const give = [&] {
        auto const chosen = live.begin() + static_cast<std::ptrdiff_t>(below(live.size()));
        block const b = *chosen;
        live.erase(chosen);
        BOOST_REQUIRE(sound(b));
        bool const overrun = below(20) == 0;
        if (overrun)
            *hidden_at(b.p, static_cast<std::ptrdiff_t>(b.bytes + below(16))) ^= std::byte{0x55};
        auto const answer = tracked.try_deallocate(b.p, b.bytes, b.alignment);
        BOOST_REQUIRE((answer == (overrun ? std::optional{misuse_kind::overrun} : std::nullopt)));
        BOOST_REQUIRE(tracked.try_deallocate(b.p, b.bytes, b.alignment));
    };
    for (int step = 0; step < 8000; ++step) {
        if (below(200) == 0)
            upstream.fail_after(below(30));
        if (below(100) == 0)
            upstream.never_fail();
        bool const grow = below(1000) < (step / 1000 % 2 == 0 ? 650u : 350u);
        if (grow || live.empty())
            take();
        else
            give();
        if (step % 500 == 0)
            static_cast<void>(tracked.trim());
        if (step % 8 != 0)
            continue;
        auto const s = tracked.stats();
        BOOST_REQUIRE(tracked.check_invariants());
        BOOST_REQUIRE(s.live_blocks == live.size());
        BOOST_REQUIRE(s.live_bytes == live_bytes());
        BOOST_REQUIRE(s.footprint_bytes == upstream.live_bytes());
        BOOST_REQUIRE(s.footprint_bytes == s.live_bytes + s.free_bytes + s.overhead_bytes);
        std::size_t i = 0;
        tracked.visit_records(
            [&](tracked_block const& b) { BOOST_REQUIRE(b.address == live[i++].p); });
    }
    for (block const& b : live)
        BOOST_REQUIRE(sound(b));
    BOOST_TEST(recorder.take().empty());
    tracked.release();
    BOOST_TEST(upstream.live_blocks() == 1u); // the reserve
}

BOOST_AUTO_TEST_CASE(stacks_on_itself) {
    misuse_recorder recorder;
    counting_upstream upstream;
    {
        tracked_block_resource below{&upstream};
        tracked_block_resource above{&below};
        std::pmr::vector<std::pmr::string> texts{&above};
        for (int i = 0; i < 100; ++i)
            texts.emplace_back(static_cast<std::size_t>(i), 'x');
        BOOST_TEST(above.check_invariants());
        BOOST_TEST(below.check_invariants());
        BOOST_TEST(above.stats().footprint_bytes == below.stats().live_bytes);
    }
    BOOST_TEST(recorder.take().empty());
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_SUITE_END()
