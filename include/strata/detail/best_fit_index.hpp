// SPDX-License-Identifier: BSL-1.0
#pragma once

// The free blocks of a region, found by size: exactly the smallest that is large enough.
//
// Sizes and places are counted in granules of 16 bytes from 1 on, so that 0 means none. A free block describes itself:
//
//      │ size │ next │ prev │ child 0 │ child 1 │ parent │  …  │ size │     32-bit words
//        one granule holds size, next, prev, size; blocks from 512 granules on lie in tries
//
//   bins 1 … 511     one for each size: a list, last in first out
//   bins 512 …       32 an octave: a bitwise trie over the size bits that the bin leaves open; blocks
//                    of one size hang off their trie node in a list (Lea, "A memory allocator",
//                    dlmalloc 2.8, tree bins; 32 bins an octave where it has 2)
//   bitmap           one bit a bin, and a summary of one bit a word: the first bin that is not empty
//
//   I1  bin b's bit is set iff heads_[b] is not 0; a summary bit iff its bitmap word is not 0.
//   I2  a block in no list's or trie's first place has prev != 0; a trie node has prev = 0.
//   I3  below a trie node's child i lie only blocks whose next open size bit is i.
//
// Cost: insert, remove, find: O(1) below 8 KiB, above O(open size bits) <= 26; 5 KiB a region.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <strata/detail/bits.hpp>

namespace strata::detail {

class best_fit_index {
  public:
    using granule = std::uint32_t; ///< an index of granules, or a number of them
    static constexpr std::size_t granule_bytes = 16;

    constexpr best_fit_index() noexcept = default;

    /// Starts with no free block, in the region whose granule 1 lies at `base` (held, not owned).
    void reset(std::byte* base) noexcept;

    /// Enters the free block of `size` granules at `g`, and writes its description.
    void insert(granule g, granule size) noexcept;
    /// Takes out the block at g. Requires: it is in the index.
    void remove(granule g) noexcept;
    /// Returns: the place of a smallest block of at least `size` granules; 0 where there is none.
    [[nodiscard]] granule find(granule size) const noexcept;

    /// Returns: the size that the block at g, or the one that ends with granule `last`, has.
    [[nodiscard]] granule size_at(granule g) const noexcept { return get(g, field::size); }
    [[nodiscard]] granule size_before(granule last) const noexcept {
        granule size;
        std::memcpy(&size, base_ + std::size_t{last} * granule_bytes - sizeof size, sizeof size);
        return size;
    }

    [[nodiscard]] granule largest() const noexcept; ///< size of the largest block; 0: none

    /// Calls f(g, size) for each block. Returns: whether all invariants hold.
    template <class Visitor>
    bool check(Visitor const& f) const {
        bool sound = true;
        for (std::size_t bin = 0; bin < bins; ++bin) {
            bool const marked = (bitmap_[bin / 64] >> bin % 64 & 1) != 0;
            bool const summed = (summary_ >> bin / 64 & 1) != 0;
            sound = sound && marked == (heads_[bin] != 0) && summed == (bitmap_[bin / 64] != 0);
            if (heads_[bin] != 0)
                sound = check_below(heads_[bin], bin, f) && sound;
        }
        return sound;
    }

  private:
    enum class field : std::size_t { size, next, prev, child_0, child_1, parent };

    static constexpr granule exact_sizes = 512; // 8 KiB
    static constexpr std::size_t octave_bins = 32;
    static constexpr std::size_t bins = exact_sizes + (32 - 9) * octave_bins;

    [[nodiscard]] static std::size_t bin_of(granule size) noexcept;
    [[nodiscard]] static granule open_bits(granule size) noexcept;

    [[nodiscard]] granule get(granule g, field f) const noexcept {
        granule value;
        std::memcpy(&value, at(g, f), sizeof value);
        return value;
    }
    void set(granule g, field f, granule value) noexcept {
        std::memcpy(at(g, f), &value, sizeof value);
    }
    [[nodiscard]] std::byte* at(granule g, field f) const noexcept {
        return base_ + (std::size_t{g} - 1) * granule_bytes +
               static_cast<std::size_t>(f) * sizeof(granule);
    }
    [[nodiscard]] granule child(granule g, granule side) const noexcept {
        return get(g, side == 0 ? field::child_0 : field::child_1);
    }
    void set_child(granule g, granule side, granule to) noexcept {
        set(g, side == 0 ? field::child_0 : field::child_1, to);
    }

    void set_head(std::size_t bin, granule g) noexcept;
    [[nodiscard]] std::size_t first_bin(std::size_t from) const noexcept;
    void insert_in_trie(std::size_t bin, granule g, granule size) noexcept;
    void remove_from_trie(std::size_t bin, granule g, granule instead) noexcept;
    void take_place(std::size_t bin, granule g, granule instead) noexcept;
    granule unhook_leaf_below(granule g) noexcept;
    [[nodiscard]] granule find_in_tries(granule size) const noexcept;
    [[nodiscard]] granule find_in_trie(granule root, granule size) const noexcept;
    [[nodiscard]] granule smallest_in_trie(granule root) const noexcept;
    [[nodiscard]] granule smallest_below(granule g, granule size, granule best) const noexcept;

    template <class Visitor>
    bool check_below(granule g, std::size_t bin, Visitor const& f) const {
        bool sound = get(g, field::prev) == 0;
        for (granule b = g, before = 0; b != 0; before = b, b = get(b, field::next)) {
            sound = sound && bin_of(size_at(b)) == bin && size_at(b) == size_at(g) &&
                    get(b, field::prev) == before;
            f(b, size_at(b));
        }
        for (granule side = 0; bin >= exact_sizes && side < 2; ++side)
            if (granule const c = child(g, side); c != 0)
                sound = get(c, field::parent) == g && check_below(c, bin, f) && sound;
        return sound;
    }

    std::byte* base_ = nullptr; // of granule 1; held, not owned
    std::uint64_t summary_ = 0;
    std::array<std::uint64_t, bins / 64 + 1> bitmap_{};
    std::array<granule, bins> heads_{};
};

// --- insert, remove, find: inline, as a region's hot path is made of them ---

// From 512 granules on, the five bits below the highest choose among an octave's 32 bins.
inline std::size_t best_fit_index::bin_of(granule size) noexcept {
    if (size < exact_sizes) [[likely]]
        return size;
    auto const width = static_cast<std::size_t>(std::bit_width(size));
    return exact_sizes + (width - 10) * octave_bins + (size >> (width - 6)) % octave_bins;
}

inline void best_fit_index::set_head(std::size_t bin, granule g) noexcept {
    heads_[bin] = g;
    std::uint64_t& marks = bitmap_[bin / 64];
    if (g != 0) {
        marks |= std::uint64_t{1} << bin % 64;
        summary_ |= std::uint64_t{1} << bin / 64;
    } else if ((marks &= ~(std::uint64_t{1} << bin % 64)) == 0) {
        summary_ &= ~(std::uint64_t{1} << bin / 64);
    }
}

// Returns: the first bin from `from` on that is not empty; `bins` where there is none.
inline std::size_t best_fit_index::first_bin(std::size_t from) const noexcept {
    std::size_t i = from / 64;
    std::uint64_t marks = bitmap_[i] >> from % 64;
    if (marks != 0)
        return from + static_cast<std::size_t>(std::countr_zero(marks));
    std::uint64_t const words = summary_ & (~std::uint64_t{1} << i);
    if (words == 0)
        return bins;
    i = static_cast<std::size_t>(std::countr_zero(words));
    return i * 64 + static_cast<std::size_t>(std::countr_zero(bitmap_[i]));
}

inline void best_fit_index::insert(granule g, granule size) noexcept {
    set(g, field::size, size);
    std::memcpy(base_ + (std::size_t{g} - 1 + size) * granule_bytes - sizeof size, &size,
                sizeof size);
    std::size_t const bin = bin_of(size);
    if (bin >= exact_sizes) [[unlikely]]
        return insert_in_trie(bin, g, size);
    granule const second = heads_[bin];
    set(g, field::next, second);
    set(g, field::prev, 0);
    if (second != 0) {
        set(second, field::prev, g);
        heads_[bin] = g;
    } else {
        set_head(bin, g);
    }
}

inline void best_fit_index::remove(granule g) noexcept {
    granule const next = get(g, field::next);
    granule const prev = get(g, field::prev);
    if (next != 0)
        set(next, field::prev, prev);
    if (prev != 0)
        return set(prev, field::next, next);
    std::size_t const bin = bin_of(size_at(g));
    if (bin >= exact_sizes) [[unlikely]]
        remove_from_trie(bin, g, next);
    else if (next != 0)
        heads_[bin] = next;
    else
        set_head(bin, 0);
}

inline best_fit_index::granule best_fit_index::find(granule size) const noexcept {
    if (size >= exact_sizes) [[unlikely]]
        return find_in_tries(size);
    std::size_t const bin = first_bin(size);
    if (bin < exact_sizes) [[likely]]
        return heads_[bin];
    return bin == bins ? 0 : smallest_in_trie(heads_[bin]);
}

} // namespace strata::detail
