// SPDX-License-Identifier: BSL-1.0
#pragma once

// A bit for each of n equal blocks, set where the block is free: hands out the lowest free block,
// or the lowest run of adjacent ones, and takes them back. Runs coalesce by themselves.
//
//      bits     word 0  1011…  word 1  0000…  word 2  0110…  …   one bit a block
//                  └───────┬──────┘              │
//      opened             1                      1           …   one bit a group of words: it has a
//                                                                free block; 4096 groups at most
//      longest            3                      2           …   one byte a span of words: no longer
//                                                                run starts there; 256 at most
//
//   I1  bits at and above n are clear, and so is a guard word behind the last.
//   I2  opened bit g is set iff a word of group g is not 0; root_ bit r iff opened word r is not 0.
//   I3  lowest_ is the lowest word that is not 0; the guard word's index where there is none.
//   I4  while runs are tracked: no run that starts in span s is longer than longest[s] says: 1 to 64
//       blocks, then steps of 16 up to 1024, which stands for any length. A run starts at a free
//       block behind one that is not.
//
// Groups and spans are of 1, 2, 4, … words, as large as it takes: a word each up to 262144 and 16384
// blocks. Runs are tracked from the first search on, so that those who take single blocks alone do
// not pay for it.
//
// Cost: one bit a block, at most 800 bytes more. The lowest free block is found in O(1): when its
// word is used up, the next one through the summaries and one group. A run costs O(words) at worst:
// a search looks at spans that may have one, and notes where there was none. So it looks again at
// a span only after longer runs were freed there, or taken.

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
        return words + 1 + words_for_bits(groups_of(words, most_groups)) +
               words_for_spans(groups_of(words, most_spans));
    }

    free_bits() noexcept = default;

    /// All n blocks are free. `storage` (held, not owned) has storage_words(n) words, of any value.
    free_bits(bit_word* storage, std::size_t n) noexcept;

    /// Makes every block free; runs are not tracked any more.
    void give_all() noexcept;

    /// From the first call on, and from the first search for a run, runs are tracked.
    void track_runs() noexcept;
    [[nodiscard]] bool tracks_runs() const noexcept { return tracks_runs_; }

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

    /// Takes the free blocks of the lowest word that has any, the lowest `most` of them at most.
    /// Returns: their bits in that word, of which `first` is the first block; 0 where none is free.
    [[nodiscard]] bit_word take_lowest_word(std::size_t& first, std::size_t most) noexcept;

    /// Takes the lowest free block where its word has another. Returns: whether it did; `i` is then
    /// its index. The common part of take_lowest, without a call.
    [[nodiscard]] bool take_lowest_of_word(std::size_t& i) noexcept {
        std::size_t const k = lowest_;
        bit_word const w = bits_[k];
        bit_word const rest = w & (w - 1);
        if (rest == 0)
            return false;
        bits_[k] = rest;
        i = k * word_bits + lowest_bit(w);
        return true;
    }

    /// Gives block i back where it is taken and its word has a free one. Returns: whether it did.
    /// The common part of give, without a call. Requires: runs are not tracked.
    bool give_second(std::size_t i) noexcept {
        bit_word const w = bits_[i / word_bits];
        if (w == 0 || (w >> i % word_bits & 1) != 0) // as one instruction, as `|` below
            return false;
        bits_[i / word_bits] = w | bit_of(i);
        return true;
    }

    /// Requires: block i is taken.
    void give(std::size_t i) noexcept {
        std::size_t const k = i / word_bits;
        bit_word const w = bits_[k];
        bits_[k] = w | bit_of(i);
        if (w == 0)
            open(k);
        if (tracks_runs_)
            note_run_around(i);
    }

    /// Requires: blocks [first, first + n) are all free. Complexity: O(n / 64).
    void take(std::size_t first, std::size_t n) noexcept;

    /// Requires: blocks [first, first + n) are all taken. Complexity: O(n / 64).
    void give(std::size_t first, std::size_t n) noexcept;

    /// Returns: whether blocks [first, first + n) are all free; those behind the last are not.
    /// Requires: first is at most the number of blocks.
    [[nodiscard]] bool all_free(std::size_t first, std::size_t n) const noexcept;

    /// Returns: the lowest index, among `where`, at which n adjacent blocks are free, or none.
    /// Requires: n >= 1. Complexity: O(words) at worst; spans that cannot have one are skipped, so
    /// that it is O(spans / 8 + words in a span) where the same length was looked for before.
    [[nodiscard]] std::size_t find_run(std::size_t n, places where) noexcept;

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
    static constexpr std::size_t most_groups = 4096; // 64 words, so that root_ is one
    static constexpr std::size_t most_spans = 256;
    static constexpr std::size_t any_length = 1024; // as far as runs are told apart
    static constexpr std::size_t spans_in_word = 8;

    // Words are put together by twos, until there are no more than `most` groups.
    static constexpr unsigned group_log2(std::size_t words, std::size_t most) noexcept {
        unsigned log2 = 0;
        while ((words >> log2) + ((words & ((std::size_t{1} << log2) - 1)) != 0 ? 1 : 0) > most)
            ++log2;
        return log2;
    }
    static constexpr std::size_t groups_of(std::size_t words, std::size_t most) noexcept {
        unsigned const log2 = group_log2(words, most);
        return (words + (std::size_t{1} << log2) - 1) >> log2;
    }
    static constexpr std::size_t words_for_spans(std::size_t spans) noexcept {
        return (spans + spans_in_word - 1) / spans_in_word;
    }

    // Of a run's length, rounded up.
    static constexpr std::size_t code_of(std::size_t length) noexcept {
        constexpr std::size_t step = 16;
        std::size_t const most = length < any_length ? length : any_length;
        return most <= word_bits ? most : word_bits + (most - word_bits + step - 1) / step;
    }

    void open(std::size_t k) noexcept;
    void close(std::size_t k) noexcept;
    [[nodiscard]] std::size_t next_open(std::size_t k) const noexcept;
    [[nodiscard]] std::size_t first_open_of(std::size_t first, std::size_t last) const noexcept;

    void note_run_around(std::size_t i) noexcept;
    void note_run_at(std::size_t i) noexcept;
    void note_run(std::size_t first, std::size_t length) noexcept;
    void set_longest(std::size_t span, std::size_t code) noexcept;
    [[nodiscard]] std::size_t longest(std::size_t span) const noexcept;
    [[nodiscard]] std::size_t next_span(std::size_t span, std::size_t code) const noexcept;
    [[nodiscard]] std::size_t find_run_in(std::size_t span, std::size_t n, places where) noexcept;
    [[nodiscard]] std::size_t some_before(std::size_t i) const noexcept;
    [[nodiscard]] std::size_t some_from(std::size_t i) const noexcept;
    [[nodiscard]] bool longest_holds() const noexcept;

    bit_word* bits_ = nullptr;    // words_ words and the guard
    std::size_t lowest_ = 0;      // I3
    bool tracks_runs_ = false;    // I4
    bit_word* opened_ = nullptr;  // 64 words at most
    bit_word* longest_ = nullptr; // 8 spans a word
    bit_word root_ = 0;           // I2
    unsigned group_log2_ = 0;     // log2(words) in a group
    unsigned span_log2_ = 0;      // log2(words) in a span
    std::size_t spans_ = 0;
    std::size_t words_ = 0;
    std::size_t blocks_ = 0;
};

} // namespace strata::detail
