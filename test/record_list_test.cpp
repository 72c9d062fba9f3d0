// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE record_list
#include <boost/test/unit_test.hpp>

#include <array>
#include <cstddef>
#include <new>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include <strata/detail/record_list.hpp>

#include "support/counting_upstream.hpp"
#include "support/seed.hpp"

using strata::detail::record_list;
using strata::test::counting_upstream;

namespace {

using record = record_list::index;
constexpr std::size_t record_bytes = sizeof(void*) == 8 ? 48 : 32;

// Any address does: none is read.
std::array<std::byte, 5000> anywhere;

record push(record_list& list, std::uint64_t sequence) {
    if (!list.has_room())
        list.grow([] {});
    record const i = list.take();
    list.push_back(i, anywhere.data() + sequence);
    list.facts_of(i) = {0, 0, sequence, nullptr};
    return i;
}

std::vector<std::uint64_t> sequences(record_list const& list) {
    std::vector<std::uint64_t> all;
    for (record i = list.first(); i != record_list::none; i = list.next(i))
        all.push_back(list.facts_of(i).sequence);
    return all;
}

} // namespace

BOOST_AUTO_TEST_SUITE(record_list_promises)

BOOST_AUTO_TEST_CASE(constructor_does_not_touch_upstream) {
    counting_upstream upstream;
    record_list const list{0, {}, &upstream};
    BOOST_TEST(upstream.allocations() == 0u);
    BOOST_TEST(list.held_bytes() == 0u);
    BOOST_TEST(list.check_invariants());
}

BOOST_AUTO_TEST_CASE(random_operations_agree_with_a_model) {
    std::mt19937_64 random{strata::test::seed("record_list model")};
    counting_upstream upstream;
    {
        record_list list{0, {}, &upstream};
        std::vector<std::pair<std::uint64_t, record>> live;
        for (std::uint64_t sequence = 1; sequence != 4000; ++sequence) {
            if (live.empty() || random() % 100 < (sequence < 2500 ? 70u : 20u)) {
                live.emplace_back(sequence, push(list, sequence));
            } else {
                auto const chosen =
                    live.begin() + static_cast<std::ptrdiff_t>(random() % live.size());
                list.erase(chosen->second);
                list.put(chosen->second);
                live.erase(chosen);
            }
            if (sequence % 16 != 0)
                continue;
            BOOST_REQUIRE(list.check_invariants());
            BOOST_REQUIRE(upstream.live_bytes() == list.held_bytes());
            std::vector<std::uint64_t> expected;
            for (auto const& [number, i] : live) {
                expected.push_back(number);
                BOOST_REQUIRE(list.holds(i, anywhere.data() + number));
            }
            BOOST_REQUIRE((sequences(list) == expected));
        }
    }
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(a_stale_index_finds_nothing) {
    counting_upstream upstream;
    record_list list{0, {}, &upstream};
    BOOST_TEST(!list.holds(0, anywhere.data()));
    record const i = push(list, 1);
    void const* const p = anywhere.data() + 1;
    BOOST_TEST(list.holds(i, p));
    BOOST_TEST(!list.holds(i, anywhere.data()));
    BOOST_TEST(!list.holds(i + 1, p)); // there is room for it, but it was never taken
    for (std::uint64_t any : {std::uint64_t{1} << 31, std::uint64_t{1} << 32, ~std::uint64_t{0}}) {
        BOOST_TEST(!list.holds(any, p));
        BOOST_TEST(!list.holds_reserved(any, p));
    }
    list.erase(i);
    list.put(i);
    BOOST_TEST(!list.holds(i, p));
    BOOST_TEST(list.check_invariants());
}

BOOST_AUTO_TEST_CASE(reserved_records_take_part_in_the_list) {
    counting_upstream upstream;
    alignas(16) std::array<std::byte, 160> reserve;
    record_list list{0, reserve, &upstream};
    record const low = list.make_reserved(reserve.data() + 16);
    BOOST_TEST(record_list::is_reserved(low));
    BOOST_TEST(list.room_of(low) == reserve.data() + 16);
    push(list, 1);
    list.push_back(low, reserve.data());
    list.facts_of(low) = {0, 0, 2, nullptr};
    record const last = push(list, 3);
    BOOST_TEST((sequences(list) == std::vector<std::uint64_t>{1, 2, 3}));
    BOOST_TEST(list.holds_reserved(low, reserve.data()));
    BOOST_TEST(list.check_invariants());
    list.erase(last);
    list.put(last);
    list.erase(low);
    BOOST_TEST((sequences(list) == std::vector<std::uint64_t>{1}));
    BOOST_TEST(list.check_invariants());
}

BOOST_AUTO_TEST_CASE(growing_is_undone_when_what_goes_with_it_fails) {
    counting_upstream upstream;
    record_list list{4, {}, &upstream};
    BOOST_CHECK_THROW(list.grow([] { throw std::runtime_error{"mine"}; }), std::runtime_error);
    BOOST_TEST(!list.has_room());
    BOOST_TEST(upstream.live_blocks() == 0u);
    upstream.fail_after(0);
    BOOST_CHECK_THROW(list.grow([] {}), std::bad_alloc);
    BOOST_TEST(list.held_bytes() == 0u);
}

BOOST_AUTO_TEST_CASE(it_grows_by_an_eighth_where_there_is_no_more) {
    counting_upstream upstream;
    record_list list{0, {}, &upstream};
    for (std::uint64_t n = 1; n <= 64; ++n)
        push(list, n);
    upstream.hold_at_most(upstream.live_bytes() * 2 + upstream.live_bytes() / 4);
    push(list, 65); // the old table and the new one, not of double size
    BOOST_TEST(upstream.live_bytes() == (64 + 8) * record_bytes);
    BOOST_TEST(sequences(list).size() == 65u);
}

BOOST_AUTO_TEST_CASE(call_stacks_keep_their_place_when_it_grows) {
    counting_upstream upstream;
    record_list list{2, {}, &upstream};
    std::vector<record> all;
    for (std::uint64_t n = 1; n <= 100; ++n) {
        all.push_back(push(list, n));
        auto const stack = list.stack_of(all.back());
        BOOST_REQUIRE(stack.size() == 3u);
        stack[0] = anywhere.data() + n;
        stack[1] = nullptr;
    }
    for (std::uint64_t n = 1; n <= 100; ++n)
        BOOST_REQUIRE(list.stack_of(all[n - 1])[0] == anywhere.data() + n);
    BOOST_TEST(list.held_bytes() == 128 * (record_bytes + 3 * sizeof(void*)));
}

BOOST_AUTO_TEST_SUITE_END()
