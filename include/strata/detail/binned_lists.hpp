// SPDX-License-Identifier: BSL-1.0
#pragma once

// Doubly linked lists of free blocks, one a bin, and a bitmap that finds the first one that is not
// empty. The links are indices in the blocks' own words; the heads are indices too.
//
//   heads    bin 0: 0   bin 1: 17 ──► block 17 ⇄ block 4    bin 2: 0    …
//   bitmap         0          1                                  0     …    a bit a bin
//   summary                   1                                             a bit a bitmap word
//
//   I1  bin b's bit is set iff its head is not 0; a summary bit iff its bitmap word is not 0.
//   I2  a block that is first in its list has prev = 0, the last has next = 0.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <strata/detail/bits.hpp>
#include <strata/detail/granule_words.hpp>

namespace strata::detail {

template <std::unsigned_integral Granule, std::size_t Bins>
class binned_lists {
  public:
    using words = granule_words<Granule>;
    using granule = Granule;
    static constexpr std::size_t bins = Bins;
    // Where a block's links stand, behind its size.
    static constexpr std::size_t word_next = 1;
    static constexpr std::size_t word_prev = 2;

    [[nodiscard]] granule head(std::size_t bin) const noexcept { return heads_[bin]; }

    /// Makes g, of which 0 is none, the bin's first.
    void set_head(std::size_t bin, granule g) noexcept {
        heads_[bin] = g;
        if (g != 0)
            mark(bin);
        else
            unmark(bin);
    }

    /// Returns: the first bin from `from` < Bins on that is not empty; Bins where there is none.
    [[nodiscard]] std::size_t first_from(std::size_t from) const noexcept {
        std::size_t i = from / 64;
        if (std::uint64_t const marks = bitmap_[i] >> from % 64; marks != 0)
            return from + lowest_bit(marks);
        std::uint64_t const later = summary_ & (~std::uint64_t{1} << i);
        if (later == 0)
            return Bins;
        i = lowest_bit(later);
        return i * 64 + lowest_bit(bitmap_[i]);
    }

    /// Returns: the first bin behind `bin` that is not empty; Bins where there is none.
    [[nodiscard]] std::size_t first_after(std::size_t bin) const noexcept {
        return bin + 1 < Bins ? first_from(bin + 1) : Bins;
    }

    /// Returns: the last bin that is not empty; Bins where there is none.
    [[nodiscard]] std::size_t last() const noexcept {
        if (summary_ == 0)
            return Bins;
        auto const i = static_cast<std::size_t>(std::bit_width(summary_) - 1);
        return i * 64 + static_cast<std::size_t>(std::bit_width(bitmap_[i]) - 1);
    }

    /// Puts g first in the bin.
    [[gnu::always_inline]] void push(words m, std::size_t bin, granule g) noexcept {
        granule const second = std::exchange(heads_[bin], g);
        m.set(g, word_next, second);
        m.set(g, word_prev, 0);
        if (second != 0)
            m.set(second, word_prev, g);
        else
            mark(bin);
    }

    /// Takes g out of the bin's list.
    [[gnu::always_inline]] void unlink(words m, std::size_t bin, granule g) noexcept {
        granule const next = m.get(g, word_next);
        granule const prev = m.get(g, word_prev);
        if (next != 0)
            m.set(next, word_prev, prev);
        if (prev != 0)
            m.set(prev, word_next, next);
        else if (heads_[bin] = next; next == 0)
            unmark(bin);
    }

    /// In the bin's list, `instead` takes the place of g, whose words it may overlap.
    void move(words m, std::size_t bin, granule g, granule instead) noexcept {
        if (instead == g)
            return;
        granule const next = m.get(g, word_next);
        granule const prev = m.get(g, word_prev);
        m.set(instead, word_next, next);
        m.set(instead, word_prev, prev);
        if (next != 0)
            m.set(next, word_prev, instead);
        if (prev != 0)
            m.set(prev, word_next, instead);
        else
            heads_[bin] = instead;
    }

    // As an index does, for bins that are a size each.
    [[gnu::always_inline]] void insert(words m, granule g, granule size) noexcept {
        m.set_size(g, size);
        push(m, size, g);
    }
    [[gnu::always_inline]] void remove(words m, granule g, granule size) noexcept {
        unlink(m, size, g);
    }
    [[gnu::always_inline]] void replace(words m, granule g, granule size, granule instead,
                                        granule new_size) noexcept {
        remove(m, g, size);
        insert(m, instead, new_size);
    }

    /// Returns: whether I1 holds.
    [[nodiscard]] bool are_marked_rightly() const noexcept {
        bool sound = true;
        for (std::size_t i = 0; i < bitmap_.size(); ++i) {
            std::uint64_t marks = 0;
            for (std::size_t bin = i * 64; bin < Bins && bin / 64 == i; ++bin)
                marks |= std::uint64_t{heads_[bin] != 0} << bin % 64;
            sound = marks == bitmap_[i] && (summary_ >> i & 1) == (marks != 0) && sound;
        }
        return sound;
    }

  private:
    static_assert(Bins <= 64 * 64, "one summary word");

    void mark(std::size_t bin) noexcept {
        bitmap_[bin / 64] |= std::uint64_t{1} << bin % 64;
        summary_ |= std::uint64_t{1} << bin / 64;
    }
    void unmark(std::size_t bin) noexcept {
        if ((bitmap_[bin / 64] &= ~(std::uint64_t{1} << bin % 64)) == 0)
            summary_ &= ~(std::uint64_t{1} << bin / 64);
    }

    std::array<std::uint64_t, Bins / 64 + 1> bitmap_{};
    std::array<granule, Bins> heads_{};
    std::uint64_t summary_ = 0; // apart from the bitmap: else both are changed as one, and wait
};

} // namespace strata::detail
