// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/best_fit_index.hpp>

#include <bit>

namespace strata::detail {

using granule = best_fit_index::granule;

void best_fit_index::reset(std::byte* base) noexcept {
    base_ = base;
    summary_ = 0;
    bitmap_.fill(0);
    heads_.fill(0);
}

// The size bits that its bin leaves open, highest first.
granule best_fit_index::open_bits(granule size) noexcept {
    return size << (std::countl_zero(size) + 6);
}

granule best_fit_index::largest() const noexcept {
    for (std::size_t word = bitmap_.size(); word-- > 0;) {
        if (bitmap_[word] == 0)
            continue;
        std::size_t const bin =
            word * 64 + 63 - static_cast<std::size_t>(std::countl_zero(bitmap_[word]));
        granule most = 0;
        for (granule g = heads_[bin]; g != 0;) {
            most = size_at(g) > most ? size_at(g) : most;
            if (bin < exact_sizes)
                break;
            g = child(g, 1) != 0 ? child(g, 1) : child(g, 0);
        }
        return most;
    }
    return 0;
}

// --- tries ---

void best_fit_index::insert_in_trie(std::size_t bin, granule g, granule size) noexcept {
    set(g, field::next, 0);
    set(g, field::prev, 0);
    set_child(g, 0, 0);
    set_child(g, 1, 0);
    set(g, field::parent, 0);
    granule node = heads_[bin];
    if (node == 0)
        return set_head(bin, g);
    for (granule bits = open_bits(size);; bits <<= 1) {
        if (size_at(node) == size) { // behind its trie node, first in the list
            granule const second = get(node, field::next);
            set(g, field::next, second);
            set(g, field::prev, node);
            set(node, field::next, g);
            if (second != 0)
                set(second, field::prev, g);
            return;
        }
        granule const side = bits >> 31;
        granule const below = child(node, side);
        if (below == 0) {
            set_child(node, side, g);
            set(g, field::parent, node);
            return;
        }
        node = below;
    }
}

// Takes out a trie node: the next block of its size takes its place, else any leaf below it.
void best_fit_index::remove_from_trie(std::size_t bin, granule g, granule instead) noexcept {
    take_place(bin, g, instead != 0 ? instead : unhook_leaf_below(g));
}

granule best_fit_index::unhook_leaf_below(granule g) noexcept {
    granule above = 0;
    granule side = 0;
    granule leaf = g;
    for (;;) {
        granule const s = child(leaf, 1) != 0 ? 1 : 0;
        granule const below = child(leaf, s);
        if (below == 0)
            break;
        above = leaf;
        side = s;
        leaf = below;
    }
    if (leaf == g)
        return 0;
    set_child(above, side, 0);
    return leaf;
}

// Puts `instead` (0: nothing) where trie node g stands.
void best_fit_index::take_place(std::size_t bin, granule g, granule instead) noexcept {
    granule const above = get(g, field::parent);
    if (instead != 0) {
        set(instead, field::parent, above);
        for (granule side = 0; side < 2; ++side) {
            granule const below = child(g, side);
            set_child(instead, side, below);
            if (below != 0)
                set(below, field::parent, instead);
        }
    }
    if (above != 0)
        set_child(above, child(above, 0) == g ? 0 : 1, instead);
    else
        set_head(bin, instead);
}

// Returns: a smallest block of at least `size` >= 512 granules; 0: none.
granule best_fit_index::find_in_tries(granule size) const noexcept {
    std::size_t const own = bin_of(size);
    if (heads_[own] != 0)
        if (granule const g = find_in_trie(heads_[own], size); g != 0)
            return g;
    std::size_t const bin = first_bin(own + 1);
    return bin == bins ? 0 : smallest_in_trie(heads_[bin]);
}

// Returns: a smallest block below `root`, one that hangs off its node where there is one.
granule best_fit_index::smallest_in_trie(granule root) const noexcept {
    granule const node = smallest_below(root, 0, 0);
    granule const chained = get(node, field::next);
    return chained != 0 ? chained : node;
}

// Follows the size's own bits; the smallest larger block lies on that way, or leftmost below the
// last branch to the right of it.
granule best_fit_index::find_in_trie(granule root, granule size) const noexcept {
    granule best = 0;
    granule right = 0;
    granule bits = open_bits(size);
    for (granule node = root; node != 0; bits <<= 1) {
        granule const have = size_at(node);
        if (have >= size && (best == 0 || have < size_at(best)))
            best = node;
        if (have == size)
            break;
        granule const larger = child(node, 1);
        granule const side = bits >> 31;
        if (side == 0 && larger != 0)
            right = larger;
        node = side == 0 ? child(node, 0) : larger;
    }
    if (best == 0 || size_at(best) != size)
        best = smallest_below(right, size, best);
    if (best == 0)
        return 0;
    granule const chained = get(best, field::next);
    return chained != 0 ? chained : best;
}

// Returns: the smallest block of at least `size` granules at or leftmost below g, or `best` (0: none)
// where that is smaller.
granule best_fit_index::smallest_below(granule g, granule size, granule best) const noexcept {
    while (g != 0) {
        if (size_at(g) >= size && (best == 0 || size_at(g) < size_at(best)))
            best = g;
        granule const left = child(g, 0);
        g = left != 0 ? left : child(g, 1);
    }
    return best;
}

} // namespace strata::detail
