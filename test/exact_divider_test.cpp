// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE exact_divider
#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <random>

#include <strata/detail/exact_divider.hpp>

using strata::detail::exact_divider;

namespace {

// Whether the one compare tells multiples in the region, and their quotients, from all else.
bool tells(exact_divider const& divide, std::size_t x, std::size_t divisor, std::size_t count) {
    bool const is_block = x % divisor == 0 && x / divisor < count;
    return is_block ? divide(x) == x / divisor : divide(x) >= count;
}

} // namespace

BOOST_AUTO_TEST_SUITE(exact_divider_promises)

BOOST_AUTO_TEST_CASE(every_divisor_and_offset_of_a_small_region) {
    constexpr std::size_t count = 130;
    std::size_t wrong = 0;
    for (std::size_t divisor = 1; divisor <= 300; ++divisor) {
        exact_divider const divide{divisor};
        for (std::size_t x = 0; x < (count + 3) * divisor; ++x)
            wrong += tells(divide, x, divisor, count) ? 0u : 1u;
        for (std::size_t below = 1; below < 3 * divisor; ++below)
            wrong += tells(divide, 0 - below, divisor, count) ? 0u : 1u;
    }
    BOOST_TEST(wrong == 0u);
}

BOOST_AUTO_TEST_CASE(large_divisors_and_far_offsets) {
    std::mt19937_64 random{7};
    std::size_t wrong = 0;
    for (int round = 0; round < 2000; ++round) {
        auto const divisor = static_cast<std::size_t>(random() >> random() % 60 | 1u);
        std::size_t const even = divisor << random() % 4;
        std::size_t const count = ~std::size_t{0} / even / 2 + 1;
        exact_divider const divide{even};
        for (int probe = 0; probe < 100; ++probe) {
            auto const x = static_cast<std::size_t>(random() >> random() % 64);
            std::size_t const multiple = static_cast<std::size_t>(random()) % count * even;
            for (std::size_t at : {x, multiple, multiple + 1, multiple - 1})
                wrong += tells(divide, at, even, count) ? 0u : 1u;
        }
    }
    BOOST_TEST(wrong == 0u);
}

BOOST_AUTO_TEST_CASE(inverse_times_the_odd_part_is_one) {
    for (std::size_t divisor = 1; divisor < 100000; divisor += 3) {
        exact_divider const divide{divisor};
        BOOST_REQUIRE(divide.inverse() * (divisor >> divide.shift()) == 1u);
    }
}

BOOST_AUTO_TEST_SUITE_END()
