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

    void set_head(std::size_t bin, granule g) noexcept {
        heads_[bin] = g;
        std::uint64_t& marks = bitmap_[bin / 64];
        if (g != 0) {
            marks |= std::uint64_t{1} << bin % 64;
            summary_ |= std::uint64_t{1} << bin / 64;
        } else if ((marks &= ~(std::uint64_t{1} << bin % 64)) == 0) {
            summary_ &= ~(std::uint64_t{1} << bin / 64);
        }
    }

    /// Returns: the first bin from `from` < Bins on that is not empty; Bins where there is none.
    [[nodiscard]] std::size_t first_from(std::size_t from) const noexcept {
        std::size_t i = from / 64;
        if (std::uint64_t const marks = bitmap_[i] >> from % 64; marks != 0)
            return from + static_cast<std::size_t>(std::countr_zero(marks));
        std::uint64_t const later = summary_ & (~std::uint64_t{1} << i);
        if (later == 0)
            return Bins;
        i = static_cast<std::size_t>(std::countr_zero(later));
        return i * 64 + static_cast<std::size_t>(std::countr_zero(bitmap_[i]));
    }

    /// Returns: the last bin that is not empty; Bins where there is none.
    [[nodiscard]] std::size_t last() const noexcept {
        if (summary_ == 0)
            return Bins;
        auto const i = static_cast<std::size_t>(std::bit_width(summary_) - 1);
        return i * 64 + static_cast<std::size_t>(std::bit_width(bitmap_[i]) - 1);
    }

    /// Puts g first in its bin.
    void push(words const& m, std::size_t bin, granule g) noexcept {
        granule const second = heads_[bin];
        m.set(g, word_next, second);
        m.set(g, word_prev, 0);
        if (second != 0) {
            m.set(second, word_prev, g);
            heads_[bin] = g;
        } else {
            set_head(bin, g);
        }
    }

    /// Takes g out of the list that it is in, its bin being bin_of(size of g).
    template <class BinOf>
    void remove(words const& m, granule g, BinOf bin_of) noexcept {
        granule const next = m.get(g, word_next);
        granule const prev = m.get(g, word_prev);
        if (next != 0)
            m.set(next, word_prev, prev);
        if (prev != 0)
            m.set(prev, word_next, next);
        else if (std::size_t const bin = bin_of(m.size_at(g)); next != 0)
            heads_[bin] = next;
        else
            set_head(bin, 0);
    }

    /// Returns: whether I1 holds for the bin.
    [[nodiscard]] bool is_marked_rightly(std::size_t bin) const noexcept {
        bool const marked = (bitmap_[bin / 64] >> bin % 64 & 1) != 0;
        bool const summed = (summary_ >> bin / 64 & 1) != 0;
        return marked == (heads_[bin] != 0) && summed == (bitmap_[bin / 64] != 0);
    }

  private:
    static_assert(Bins <= 64 * 64, "one summary word");

    std::uint64_t summary_ = 0;
    std::array<std::uint64_t, Bins / 64 + 1> bitmap_{};
    std::array<granule, Bins> heads_{};
};

} // namespace strata::detail
