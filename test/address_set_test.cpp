// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE address_set
#include <boost/test/unit_test.hpp>

#include <bit>
#include <new>
#include <random>
#include <set>

#include <strata/detail/address_set.hpp>

#include "support/counting_upstream.hpp"
#include "support/seed.hpp"

using strata::detail::address_set;
using strata::test::counting_upstream;

namespace {

// The set reads nothing through its addresses: any number will do for one.
void const* address(std::uintptr_t n) {
    return std::bit_cast<void const*>(n);
}

bool contains(address_set const& set, void const* p) {
    return static_cast<bool>(set.find(p));
}

} // namespace

BOOST_AUTO_TEST_SUITE(address_set_promises)

BOOST_AUTO_TEST_CASE(constructor_does_not_touch_upstream) {
    counting_upstream upstream;
    address_set const set{&upstream};
    BOOST_TEST(!contains(set, address(4096)));
    BOOST_TEST(!contains(set, nullptr));
    BOOST_TEST(set.size() == 0u);
    BOOST_TEST(set.check_invariants());
    BOOST_TEST(upstream.allocations() == 0u);
}

BOOST_AUTO_TEST_CASE(neighbours_and_fractions_are_not_in_it) {
    address_set set{std::pmr::new_delete_resource()};
    set.insert(address(0x12340));
    for (std::uintptr_t n = 0x12340 - 64; n < 0x12340 + 64; ++n)
        BOOST_REQUIRE(contains(set, address(n)) == (n == 0x12340));
    BOOST_TEST(!contains(set, address(0x13340)));
    BOOST_TEST(set.erase(address(0x12340)));
    BOOST_TEST(!set.erase(address(0x12340)));
    BOOST_TEST(!contains(set, address(0x12340)));
}

BOOST_AUTO_TEST_CASE(failure_at_nth_upstream_call_leaves_it_unchanged) {
    counting_upstream upstream;
    address_set set{&upstream};
    std::uintptr_t n = 0;
    for (std::size_t calls = 0; calls < 5; ++calls) {
        upstream.fail_after(calls == 0 ? 0 : 1);
        try {
            for (;; ++n)
                set.insert(address((n + 1) * 4096));
        } catch (std::bad_alloc const&) {
        }
        BOOST_TEST(set.size() == n);
        BOOST_TEST(set.held_bytes() == upstream.live_bytes());
        BOOST_TEST(set.check_invariants());
    }
    BOOST_TEST(n > 12u);
    set.clear();
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(pages_that_come_and_go_do_not_pile_up) {
    counting_upstream upstream;
    address_set set{&upstream};
    for (std::uintptr_t n = 1; n < 10000; ++n) {
        set.insert(address(n * 8192));
        BOOST_REQUIRE(set.erase(address(n * 8192)));
    }
    BOOST_TEST(upstream.live_bytes() <= 1024u);
}

BOOST_AUTO_TEST_CASE(random_operations_agree_with_a_std_set) {
    std::mt19937_64 random{strata::test::seed("address_set model")};
    counting_upstream upstream;
    address_set set{&upstream};
    std::set<std::uintptr_t> model;
    for (int step = 0; step < 50000; ++step) {
        // Some pages are crowded, some hold one address, some collide in the table.
        std::uintptr_t const page = 1 + random() % (step % 1000 < 500 ? 20 : 5000) * 64;
        std::uintptr_t const n = page * 4096 + random() % 256 * 16;
        BOOST_REQUIRE(contains(set, address(n)) == (model.count(n) != 0));
        bool const erased = set.erase(address(n));
        BOOST_REQUIRE(erased == (model.erase(n) != 0));
        if (!erased) {
            set.insert(address(n));
            model.insert(n);
        }
        if (step % 500 == 0) {
            BOOST_REQUIRE(set.check_invariants());
            BOOST_REQUIRE(set.size() == model.size());
            BOOST_REQUIRE(set.held_bytes() == upstream.live_bytes());
        }
    }
    for (std::uintptr_t const n : model)
        BOOST_REQUIRE(contains(set, address(n)));
}

BOOST_AUTO_TEST_SUITE_END()
