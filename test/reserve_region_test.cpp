// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE reserve_region
#include <boost/test/unit_test.hpp>

#include <limits>
#include <new>
#include <random>
#include <vector>

#include <strata/detail/reserve_region.hpp>

#include "support/counting_upstream.hpp"
#include "support/seed.hpp"

using strata::detail::reserve_region;
using strata::test::counting_upstream;

namespace {

// The free runs, in granules.
std::vector<std::size_t> free_runs(reserve_region const& region) {
    std::vector<std::size_t> runs;
    region.visit_free([&](void const*, std::size_t bytes) { runs.push_back(bytes / 16); });
    return runs;
}

void expect_runs(reserve_region const& region, std::vector<std::size_t> const& expected) {
    BOOST_TEST(free_runs(region) == expected, boost::test_tools::per_element());
}

} // namespace

BOOST_AUTO_TEST_SUITE(reserve_region_promises)

BOOST_AUTO_TEST_CASE(constructor_calls_upstream_once_or_not_at_all) {
    counting_upstream upstream;
    reserve_region const none{0, &upstream};
    BOOST_TEST(upstream.allocations() == 0u);
    BOOST_TEST(!none.contains(&upstream));
    BOOST_TEST(!none.contains(nullptr));
    expect_runs(none, {});
    reserve_region const some{1001, &upstream};
    BOOST_TEST(upstream.allocations() == 1u);
    BOOST_TEST(some.bytes() == 1008u);
    BOOST_TEST(some.held_bytes() == upstream.live_bytes());
    for (std::size_t bytes :
         {std::numeric_limits<std::size_t>::max(), std::numeric_limits<std::size_t>::max() - 15})
        BOOST_CHECK_THROW((reserve_region{bytes, &upstream}), std::bad_alloc);
    BOOST_TEST(upstream.allocations() == 1u);
}

BOOST_AUTO_TEST_CASE(low_and_high_meet_and_coalesce) {
    reserve_region region{160, std::pmr::new_delete_resource()};
    void* const a = region.take_low(17, 16, 0); // 2
    void* const b = region.take_low(16, 1, 0);  // 1
    void* const c = region.take_high(48);       // 3
    expect_runs(region, {4});
    BOOST_TEST(!region.take_low(65, 16, 0));
    BOOST_TEST(!region.take_high(65));
    region.put(a, 17);
    expect_runs(region, {2, 4});
    BOOST_TEST(region.is_free(a));
    BOOST_TEST(!region.is_free(b));
    BOOST_TEST(region.take_high(32) != a); // the highest run that fits
    expect_runs(region, {2, 2});
    BOOST_TEST(region.take_low(32, 16, 0) == a); // the lowest
    expect_runs(region, {2});
    region.put(b, 16);
    region.put(c, 48);
    expect_runs(region, {3, 3});
}

BOOST_AUTO_TEST_CASE(alignment_is_of_the_address_behind_the_offset) {
    reserve_region region{4096, std::pmr::new_delete_resource()};
    for (std::size_t alignment = 1; alignment <= 1024; alignment *= 2) {
        void* const p = region.take_low(100, alignment, 16);
        BOOST_REQUIRE(p != nullptr);
        BOOST_TEST(strata::detail::is_aligned(strata::detail::as_bytes(p) + 16, alignment));
        region.put(p, 100);
    }
    BOOST_TEST(!region.take_low(16, ~std::size_t{0} / 4 + 1, 16));
    expect_runs(region, {256});
}

BOOST_AUTO_TEST_CASE(random_operations_agree_with_a_model) {
    struct piece {
        void* p;
        std::size_t bytes;
    };
    std::mt19937_64 random{strata::test::seed("reserve_region model")};
    constexpr std::size_t granules = 300; // no whole number of words
    reserve_region region{granules * 16, std::pmr::new_delete_resource()};
    std::vector<piece> taken;
    for (int step = 0; step < 20000; ++step) {
        if (random() % 2 == 0) {
            std::size_t const bytes = 1 + random() % 400;
            void* const p = random() % 2 == 0 ? region.take_high(bytes)
                                              : region.take_low(bytes, 1u << random() % 8, 16);
            if (p != nullptr)
                taken.push_back({p, bytes});
        } else if (!taken.empty()) {
            std::swap(taken[random() % taken.size()], taken.back());
            region.put(taken.back().p, taken.back().bytes);
            taken.pop_back();
        }
        std::size_t sum = 0;
        for (piece const& t : taken) {
            BOOST_REQUIRE(region.contains(t.p));
            BOOST_REQUIRE(!region.is_free(t.p));
            BOOST_REQUIRE(!region.is_free(strata::detail::as_bytes(t.p) + t.bytes - 1));
            sum += (t.bytes + 15) / 16;
        }
        for (std::size_t const run : free_runs(region))
            sum += run;
        BOOST_REQUIRE(sum == granules);
    }
}

BOOST_AUTO_TEST_SUITE_END()
