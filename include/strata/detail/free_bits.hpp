// SPDX-License-Identifier: BSL-1.0
#pragma once

// A bit for each of n equal blocks, set where the block is free: hands out the lowest free block,
// or the lowest run of adjacent ones, and takes them back. Runs coalesce by themselves.
//
//      bits     word 0  1011…  word 1  0000…  word 2  0110…  …    one bit a block
//                  │              │              │
//      opened      1              0              1        …       one bit a word: it has a free block
//      regions     1 ……………………………………………………………………………   one bit an `opened` word: 4096 blocks
//
//   I1  bits at and above n are clear, and so is a guard word behind the last.
//   I2  opened bit k is set iff word k is not 0; regions bit g iff opened word g is not 0.
//   I3  lowest_ is the lowest word that is not 0; the guard word's index where there is none.
//
// Cost: 1 + 1/64 + 1/4096 bits a block, at least 32 bytes. The lowest free block is found in O(1);
// when its word is used up, the next one through the summaries: one step for each 262144 blocks
// passed. A run costs O(words) in the worst case, full words being skipped.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include <strata/detail/bits.hpp>

namespace strata::detail {

/// Bits of blocks, 64 to a word, the lowest bit first.
using bit_word = std::uint64_t;
inline constexpr std::size_t word_bits = 64;

constexpr std::size_t words_for_bits(std::size_t bits) noexcept {
    return bits / word_bits + (bits % word_bits != 0 ? 1 : 0);
}
constexpr bit_word bit_of(std::size_t i) noexcept {
    return bit_word{1} << (i % word_bits);
}
/// Returns: `length` ones from bit `first` on. Requires: 1 <= length, first + length <= 64.
constexpr bit_word mask_of(std::size_t first, std::size_t length) noexcept {
    return (~bit_word{0} >> (word_bits - length)) << first;
}

/// Returns: the number of ones from bit i on, without a gap. Requires: a 0 follows them.
constexpr std::size_t ones_from(bit_word const* words, std::size_t i) noexcept {
    std::size_t const first = i;
    for (;;) {
        std::size_t const left = word_bits - i % word_bits;
        auto const ones =
            static_cast<std::size_t>(std::countr_one(words[i / word_bits] >> i % word_bits));
        i += ones;
        if (ones < left)
            return i - first;
    }
}

/// Calls f(k, mask) for each word k that holds some of the bits [first, first + length), in
/// ascending order, until f answers false. Returns: whether f never did.
template <class Function>
constexpr bool for_each_word(std::size_t first, std::size_t length, Function f) {
    while (length != 0) {
        std::size_t const at = first % word_bits;
        std::size_t const part = length < word_bits - at ? length : word_bits - at;
        if (!f(first / word_bits, mask_of(at, part)))
            return false;
        first += part;
        length -= part;
    }
    return true;
}

class free_bits {
  public:
    static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

    /// Which blocks a run may start at: those whose index is `phase` modulo `step`.
    struct places {
        std::size_t step = 1; ///< blocks, a power of two
        std::size_t phase = 0;
    };

    /// Returns: words of storage that n blocks need.
    static constexpr std::size_t storage_words(std::size_t n) noexcept {
        std::size_t const words = words_for_bits(n);
        std::size_t const opened = words_for_bits(words);
        return words + 1 + opened + words_for_bits(opened);
    }

    free_bits() noexcept = default;

    /// All n blocks are free. `storage` (held, not owned) has storage_words(n) words, of any value.
    free_bits(bit_word* storage, std::size_t n) noexcept;

    /// Makes every block free.
    void give_all() noexcept;

    [[nodiscard]] bool is_free(std::size_t i) const noexcept {
        return (bits_[i / word_bits] & bit_of(i)) != 0;
    }

    /// Returns: whether block i and every block below it are taken.
    [[nodiscard]] bool none_free_up_to(std::size_t i) const noexcept {
        std::size_t const k = i / word_bits;
        return k <= lowest_ && (bits_[k] & (bit_of(i) | (bit_of(i) - 1))) == 0;
    }

    /// Takes the lowest free block. Returns: its index, or none.
    [[nodiscard]] std::size_t take_lowest() noexcept;

    /// Takes the lowest free block where its word has another. Returns: its index, or none.
    /// The common part of take_lowest, without a call.
    [[nodiscard]] std::size_t take_lowest_of_word() noexcept {
        bit_word const w = bits_[lowest_];
        bit_word const rest = w & (w - 1);
        if (rest == 0)
            return none;
        bits_[lowest_] = rest;
        return lowest_ * word_bits + lowest_bit(w);
    }

    /// Gives block i back where it is taken and its word has a free one. Returns: whether it did.
    /// The common part of give, without a call.
    bool give_second(std::size_t i) noexcept {
        bit_word& w = bits_[i / word_bits];
        if (w == 0 || (w & bit_of(i)) != 0)
            return false;
        w |= bit_of(i);
        return true;
    }

    /// Requires: block i is taken.
    void give(std::size_t i) noexcept {
        std::size_t const k = i / word_bits;
        bit_word const w = bits_[k];
        bits_[k] = w | bit_of(i);
        if (w == 0)
            open(k);
    }

    /// Requires: blocks [first, first + n) are all free. Complexity: O(n / 64).
    void take(std::size_t first, std::size_t n) noexcept;

    /// Requires: blocks [first, first + n) are all taken. Complexity: O(n / 64).
    void give(std::size_t first, std::size_t n) noexcept;

    /// Returns: whether blocks [first, first + n) are all free; those behind the last are not.
    /// Requires: first is at most the number of blocks.
    [[nodiscard]] bool all_free(std::size_t first, std::size_t n) const noexcept;

    /// Returns: the lowest index, among `where`, at which n adjacent blocks are free, or none.
    /// Requires: n >= 1. Complexity: O(words), words without a free block being skipped.
    [[nodiscard]] std::size_t find_run(std::size_t n, places where) const noexcept;

    /// Returns: the number of free blocks from block i on, without a gap. i may be n.
    [[nodiscard]] std::size_t run_length(std::size_t i) const noexcept {
        return ones_from(bits_, i); // ends at the guard word at the latest
    }

    /// Returns: the lowest free block from block i on, or none. Requires: i is at most n.
    [[nodiscard]] std::size_t next_free(std::size_t i) const noexcept;

    [[nodiscard]] std::size_t longest_run() const noexcept; ///< O(words + runs)
    [[nodiscard]] std::size_t count() const noexcept;       ///< free blocks; O(words)

    /// Walks every word. Returns: the invariant that does not hold, in words; null where all do.
    [[nodiscard]] char const* broken_invariant() const noexcept;

  private:
    void open(std::size_t k) noexcept;
    void close(std::size_t k) noexcept;
    [[nodiscard]] std::size_t next_open(std::size_t k) const noexcept;

    bit_word* bits_ = nullptr;    // words_ words and the guard
    std::size_t lowest_ = 0;      // I3
    bit_word* opened_ = nullptr;  // words_for_bits(words_) words
    bit_word* regions_ = nullptr; // words_for_bits(words of opened_) words
    std::size_t words_ = 0;
    std::size_t blocks_ = 0;
};

} // namespace strata::detail
