// SPDX-License-Identifier: BSL-1.0
#pragma once

// The free blocks of a region, found by size: exactly the smallest that is large enough.
//
//      │ size │ next │ prev │ child 0 │ child 1 │ parent │  …  │ size │    a free block
//
//   bins 1 … 511     one for each size in granules of 16 bytes: a list, last in first out
//   bins 512 …       32 an octave: a bitwise trie over the size bits that the bin leaves open; blocks
//                    of one size hang off their trie node in a list
//
//   I1  the blocks in an exact bin's list have its size.
//   I2  a trie node has prev = 0, the blocks behind it in its list have not.
//   I3  below a trie node's child i lie only blocks whose next open size bit is i; a root may have
//       any size of its bin, that of a node below it, too.
//
// Cost: insert, remove, find: O(1) below 8 KiB, above O(open size bits) <= 26; 5 KiB a region.
// Source: Lea, "A memory allocator" (dlmalloc 2.8, tree bins; 32 bins an octave where it has 2).

#include <bit>
#include <cstddef>
#include <cstdint>

#include <strata/detail/binned_lists.hpp>

namespace strata::detail {

class best_fit_index {
  public:
    using words = granule_words<std::uint32_t>;
    using granule = words::granule;
    using memory = words;
    using lists = binned_lists<granule, 512 + (32 - 9) * 32>;

    static constexpr granule exact_sizes = 512; ///< sizes below it have a bin each: 8 KiB

    /// Enters the free block of `size` granules at `g`, and writes its description.
    void insert(memory m, granule g, granule size) noexcept {
        if (size < exact_sizes)
            lists_.insert(m, g, size);
        else
            insert_in_trie(m, g, size);
    }

    /// Takes out the block of `size` granules at g. Requires: it is in the index.
    void remove(memory m, granule g, granule size) noexcept {
        if (size < exact_sizes)
            lists_.remove(m, g, size);
        else
            remove_large(m, g);
    }

    /// The block of `size` granules at g becomes the one of `new_size` at `instead`. O(1) where it is
    /// the root of its bin's trie and the bin stays: a large block carved, or grown, bit by bit.
    void replace(memory m, granule g, granule size, granule instead, granule new_size) noexcept;

    /// The bins of exact_sizes.
    [[nodiscard]] lists const& exact() const noexcept { return lists_; }
    /// For blocks of such a size: the same calls, inline.
    [[nodiscard]] static constexpr bool is_quick(std::size_t size) noexcept {
        return size < exact_sizes;
    }
    [[nodiscard]] lists& quick() noexcept { return lists_; }

    /// Returns: the place of a smallest block of at least `size` granules; 0 where there is none.
    [[nodiscard]] granule find(memory m, granule size) const noexcept {
        if (size >= exact_sizes) [[unlikely]]
            return find_in_tries(m, size);
        std::size_t const bin = lists_.first_from(size);
        if (bin < exact_sizes) [[likely]]
            return lists_.head(bin);
        return bin == bins ? 0 : smallest_in_trie(m, lists_.head(bin));
    }

    /// What find() misses: nothing.
    template <class Fits>
    [[nodiscard]] static granule find_elsewhere(memory, granule, Fits const&) noexcept {
        return 0;
    }

    [[nodiscard]] granule largest(memory m) const noexcept; ///< size of the largest block; 0: none

    /// As visit() does. Returns: whether all invariants hold.
    template <class Visitor>
    bool check(memory m, granule limit, Visitor const& f) const {
        return lists_.are_marked_rightly() && visit(m, limit, f);
    }

    /// Calls f(g, size) for each block, all of which should lie below `limit`: what is damaged is not
    /// followed beyond. Returns: whether all are linked rightly.
    template <class Visitor>
    bool visit(memory m, granule limit, Visitor const& f) const {
        bool sound = true;
        granule left = limit; // more blocks than granules are a circle
        for (std::size_t bin = lists_.first_from(0); bin < bins; bin = lists_.first_after(bin)) {
            sound = visit_below(m, lists_.head(bin), bin, 0, 0, limit, left, f) && sound;
        }
        return sound;
    }

  private:
    static constexpr std::size_t octave_bins = 32;
    static constexpr std::size_t bins = lists::bins;
    static_assert(bins == exact_sizes + (32 - 9) * octave_bins);
    static constexpr std::size_t word_next = lists::word_next;
    static constexpr std::size_t word_prev = lists::word_prev;
    static constexpr std::size_t word_child = 3; // and 4
    static constexpr std::size_t word_parent = 5;

    [[nodiscard]] static std::size_t bin_of(granule size) noexcept;
    [[nodiscard]] static granule open_bits(granule size) noexcept;
    [[nodiscard]] static granule child(memory m, granule g, granule side) noexcept {
        return m.get(g, word_child + side);
    }

    static void describe_root(memory m, granule g, granule child_0, granule child_1) noexcept;
    void insert_in_trie(memory m, granule g, granule size) noexcept;
    void remove_large(memory m, granule g) noexcept;
    void take_place(memory m, granule g, granule instead) noexcept;
    static granule unhook_leaf_below(memory m, granule g) noexcept;
    [[nodiscard]] granule find_in_tries(memory m, granule size) const noexcept;
    [[nodiscard]] static granule find_in_trie(memory m, granule root, granule size) noexcept;
    [[nodiscard]] static granule smallest_in_trie(memory m, granule root) noexcept;
    [[nodiscard]] static granule smallest_below(memory m, granule g, granule size,
                                                granule best) noexcept;

    // `way`: the open size bits, `depth` of them, that lead to g.
    template <class Visitor>
    bool visit_below(memory m, granule g, std::size_t bin, granule way, int depth, granule limit,
                     granule& left, Visitor const& f) const {
        if (g == 0 || g >= limit || depth > 32)
            return false;
        bool sound = m.get(g, word_prev) == 0;
        if (bin >= exact_sizes) {
            std::uint64_t const astray = open_bits(m.size_at(g)) ^ way;
            sound = astray >> (32 - depth) == 0 && sound;
        }
        for (granule b = g, before = 0; b != 0; before = b, b = m.get(b, word_next)) {
            if (b >= limit || left-- == 0)
                return false;
            sound = sound && bin_of(m.size_at(b)) == bin && m.size_at(b) == m.size_at(g) &&
                    m.get(b, word_prev) == before;
            f(b, m.size_at(b));
        }
        for (granule side = 0; bin >= exact_sizes && side < 2; ++side)
            if (granule const c = child(m, g, side); c != 0)
                sound =
                    c < limit && m.get(c, word_parent) == g &&
                    visit_below(m, c, bin, way | side << (31 - depth), depth + 1, limit, left, f) &&
                    sound;
        return sound;
    }

    lists lists_;
};

} // namespace strata::detail
