// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE free_bits
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <strata/detail/free_bits.hpp>

#include "support/seed.hpp"

using strata::detail::bit_word;
using strata::detail::free_bits;

namespace {

// free_bits and the simplest thing that does the same.
class pair_of_both {
  public:
    explicit pair_of_both(std::size_t n)
        : storage_(free_bits::storage_words(n), 0xAAAA'AAAA'AAAA'AAAA),
          bits{storage_.data(), n},
          model(n, true) {}

    [[nodiscard]] std::size_t find(std::size_t n, free_bits::places where) const {
        for (std::size_t i = where.phase; i < model.size() && n <= model.size() - i;
             i += where.step)
            if (run_at(i) >= n)
                return i;
        return free_bits::none;
    }
    [[nodiscard]] std::size_t run_at(std::size_t i) const {
        std::size_t n = 0;
        while (i + n < model.size() && model[i + n])
            ++n;
        return n;
    }
    void mark(std::size_t first, std::size_t n, bool free) {
        if (free)
            bits.give(first, n);
        else
            bits.take(first, n);
        std::fill_n(model.begin() + static_cast<std::ptrdiff_t>(first), n, free);
    }

  private:
    std::vector<bit_word> storage_;

  public:
    free_bits bits;
    std::vector<bool> model;
};

bool holds(free_bits const& bits) {
    char const* const broken = bits.broken_invariant();
    if (broken != nullptr)
        BOOST_TEST_MESSAGE(broken);
    return broken == nullptr;
}

} // namespace

BOOST_AUTO_TEST_SUITE(free_bits_promises)

BOOST_AUTO_TEST_CASE(a_run_of_every_length_at_every_place_is_found_and_no_longer_one) {
    for (std::size_t const n : {1u, 12u, 63u, 64u, 65u, 130u, 200u})
        for (std::size_t first = 0; first < n; ++first)
            for (std::size_t length = 1; length <= n - first; ++length) {
                pair_of_both both{n};
                both.bits.take(0, n);
                both.bits.give(first, length);
                BOOST_REQUIRE(both.bits.find_run(length, {}) == first);
                BOOST_REQUIRE(both.bits.find_run(length + 1, {}) == free_bits::none);
                BOOST_REQUIRE(both.bits.run_length(first) == length);
                BOOST_REQUIRE(both.bits.longest_run() == length);
                BOOST_REQUIRE(both.bits.next_free(0) == first);
                BOOST_REQUIRE(both.bits.next_free(first + length - 1) == first + length - 1);
                BOOST_REQUIRE(both.bits.next_free(first + length) == free_bits::none);
                BOOST_REQUIRE(both.bits.all_free(first, length));
                BOOST_REQUIRE(length == 1 || both.bits.none_free_up_to(first) == false);
                BOOST_REQUIRE(both.bits.count() == length);
            }
}

BOOST_AUTO_TEST_CASE(every_pattern_of_twelve_blocks_is_searched_rightly) {
    for (unsigned pattern = 0; pattern < 4096; ++pattern) {
        pair_of_both both{12};
        for (std::size_t i = 0; i < 12; ++i)
            if ((pattern >> i & 1u) == 0)
                both.mark(i, 1, false);
        BOOST_REQUIRE(holds(both.bits));
        for (std::size_t n = 1; n <= 12; ++n)
            for (std::size_t step = 1; step <= 8; step *= 2)
                for (std::size_t phase = 0; phase < step; ++phase)
                    BOOST_REQUIRE(both.bits.find_run(n, {step, phase}) ==
                                  both.find(n, {step, phase}));
    }
}

BOOST_AUTO_TEST_CASE(runs_are_found_first_fit_like_in_the_model) {
    std::mt19937_64 random{strata::test::seed("free_bits model")};
    // From 16384 and 262144 blocks on, a span and a group are more than one word.
    for (std::size_t const n : {64u, 129u, 1000u, 4096u, 9001u, 33000u, 300001u}) {
        pair_of_both both{n};
        int const steps = n < 10000 ? 1500 : n < 100000 ? 400 : 100;
        // So that there is something to look for at all heights.
        for (std::size_t i = 0; n > 10000 && i < n; i += 1 + random() % 130)
            both.mark(i, 1, false);
        for (int step = 0; step < steps; ++step) {
            std::size_t const length = std::min<std::size_t>(n, 1 + random() % 200 % (n / 3));
            std::size_t const kind = random() % 9;
            if (kind == 8) { // the lowest of a word, perhaps not all of them
                std::size_t const lowest = both.find(1, {});
                std::size_t most = 1 + random() % 70;
                std::size_t first = 0;
                strata::detail::bit_word const taken = both.bits.take_lowest_word(first, most);
                BOOST_REQUIRE((taken == 0) == (lowest == free_bits::none));
                for (std::size_t i = lowest; taken != 0 && i < n && i / 64 == lowest / 64; ++i)
                    if (both.model[i] && most != 0) {
                        BOOST_REQUIRE((first == lowest / 64 * 64 && (taken >> i % 64 & 1) != 0));
                        both.model[i] = false;
                        --most;
                    } else {
                        BOOST_REQUIRE((taken >> i % 64 & 1) == 0);
                    }
            } else if (kind == 0) {
                std::size_t const at = both.bits.take_lowest();
                BOOST_REQUIRE(at == both.find(1, {}));
                if (at != free_bits::none)
                    both.model[at] = false;
            } else if (std::size_t const i = random() % n; kind == 1 && !both.model[i]) {
                both.bits.give(i);
                both.model[i] = true;
            } else if (kind <= 4) {
                free_bits::places where{std::size_t{1} << random() % 9, 0};
                where.phase = random() & (where.step - 1);
                std::size_t const at = both.bits.find_run(length, where);
                BOOST_REQUIRE(at == both.find(length, where));
                if (at != free_bits::none)
                    both.mark(at, length, false);
            } else if (!both.model[i]) {
                std::size_t taken = 0;
                while (i + taken < n && taken < length && !both.model[i + taken])
                    ++taken;
                both.mark(i, taken, true);
            }
            BOOST_REQUIRE(holds(both.bits));
            std::size_t const free =
                static_cast<std::size_t>(std::count(both.model.begin(), both.model.end(), true));
            BOOST_REQUIRE(both.bits.count() == free);
        }
    }
}

BOOST_AUTO_TEST_CASE(singles_come_lowest_first_across_every_summary_border) {
    // More than two words of the topmost level: 262144 blocks each.
    constexpr std::size_t n = 2 * 262144 + 4096 + 65;
    pair_of_both both{n};
    for (std::size_t i = 0; i < n; ++i)
        BOOST_REQUIRE(both.bits.take_lowest() == i);
    BOOST_TEST(both.bits.take_lowest() == free_bits::none);
    BOOST_TEST(holds(both.bits));

    std::vector<std::size_t> const holes{0,      63,     64,     4095,   4096,        262143,
                                         262144, 262145, 524287, 524288, 524288 + 64, n - 1};
    for (std::size_t const i : holes)
        both.bits.give(i);
    BOOST_TEST(holds(both.bits));
    for (std::size_t const i : holes) {
        BOOST_TEST(both.bits.find_run(1, {}) == i);
        BOOST_TEST(both.bits.take_lowest() == i);
    }
    both.bits.give(500000, 1000);
    BOOST_TEST(both.bits.find_run(1000, {}) == 500000u);
    BOOST_TEST(both.bits.find_run(900, {65536, 65536 - 100}) == free_bits::none);
    BOOST_TEST(both.bits.find_run(900, {65536, 500050 % 65536}) == 500050u);
    both.bits.give_all();
    BOOST_TEST(holds(both.bits));
    BOOST_TEST(both.bits.longest_run() == n);
}

BOOST_AUTO_TEST_CASE(a_search_that_failed_is_forgotten_when_its_run_comes_to_be) {
    constexpr std::size_t n = 300'000; // spans of 32 words: 2048 blocks
    pair_of_both both{n};
    both.mark(0, n, false);
    BOOST_TEST(both.bits.find_run(2, {}) == free_bits::none);
    for (std::size_t const border : {64u, 2048u, 4096u, 262144u}) {
        for (std::size_t i = border - 4; i < border + 4; ++i) {
            both.bits.give(i); // one by one, across the border
            std::size_t const length = i - (border - 4) + 1;
            BOOST_TEST(both.bits.find_run(length, {}) == border - 4);
            BOOST_TEST(both.bits.find_run(length + 1, {}) == free_bits::none);
        }
        both.bits.take(border - 4, 4); // what is left begins in the next span
        BOOST_TEST(both.bits.find_run(4, {}) == border);
        BOOST_TEST(both.bits.find_run(5, {}) == free_bits::none);
        both.bits.take(border, 4);
    }
    for (std::size_t grown : {600u, 1000u, 1700u}) // at last more than is told apart
        for (std::size_t i = 2048 - 300; i < 2048 - 300 + grown; ++i) {
            if (both.bits.is_free(i))
                continue;
            BOOST_REQUIRE(both.bits.find_run(i - (2048 - 300) + 1, {}) == free_bits::none);
            both.bits.give(i);
            BOOST_REQUIRE(both.bits.find_run(i - (2048 - 300) + 1, {}) == 2048u - 300);
        }
    for (int i = 0; i < 301; ++i) // the first of the lower words, one after the other
        BOOST_TEST(both.bits.take_lowest() != free_bits::none);
    BOOST_TEST(both.bits.find_run(1399, {}) == 2049u);
    BOOST_TEST(holds(both.bits));
}

BOOST_AUTO_TEST_CASE(the_summaries_never_take_more_than_800_bytes) {
    constexpr std::uint64_t end = std::uint64_t{1} << (sizeof(std::size_t) == 8 ? 40 : 31);
    for (std::size_t n = 1; n < end; n += n / 8 + 1)
        for (std::size_t blocks : {n, n / 64 * 64, n / 64 * 64 + 1})
            BOOST_TEST((free_bits::storage_words(blocks) - (blocks + 63) / 64) * 8 <= 800u);
}

BOOST_AUTO_TEST_CASE(a_broken_invariant_is_named) {
    for (std::size_t word = 0; word < free_bits::storage_words(70); ++word) {
        std::vector<bit_word> storage(free_bits::storage_words(70));
        free_bits bits{storage.data(), 70};
        bits.track_runs();
        storage[word] ^= word == 0 ? ~bit_word{0} : bit_word{1} << 63;
        BOOST_TEST(bits.broken_invariant() != nullptr);
    }
    std::vector<bit_word> storage(free_bits::storage_words(70));
    free_bits bits{storage.data(), 70};
    bits.track_runs();
    storage.back() = 0x3F; // the first span has a run of 70
    BOOST_TEST(bits.broken_invariant() != nullptr);
}

BOOST_AUTO_TEST_SUITE_END()
