// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/best_fit_index.hpp>

#include <algorithm>
#include <bit>

namespace strata::detail {

using granule = best_fit_index::granule;

// The size bits that its bin leaves open, highest first.
granule best_fit_index::open_bits(granule size) noexcept {
    return size << (std::countl_zero(size) + 6);
}

// From 512 granules on, the five bits below the highest choose among an octave's 32 bins.
std::size_t best_fit_index::bin_of(granule size) noexcept {
    if (size < exact_sizes)
        return size;
    auto const width = static_cast<std::size_t>(std::bit_width(size));
    return exact_sizes + (width - 10) * octave_bins + (size >> (width - 6)) % octave_bins;
}

granule best_fit_index::largest(memory m) const noexcept {
    std::size_t const bin = lists_.last();
    if (bin < exact_sizes || bin == bins)
        return static_cast<granule>(bin % bins);
    granule most = 0;
    for (granule g = lists_.head(bin); g != 0;) {
        most = std::max(most, m.size_at(g));
        g = child(m, g, 1) != 0 ? child(m, g, 1) : child(m, g, 0);
    }
    return most;
}

// --- tries ---

// The root of a trie may have any size of its bin, so it may change without moving in the trie.
void best_fit_index::replace(memory m, granule g, granule size, granule instead,
                             granule new_size) noexcept {
    std::size_t const bin = bin_of(size);
    if (size < exact_sizes || bin_of(new_size) != bin || lists_.head(bin) != g ||
        m.get(g, word_next) != 0) {
        remove(m, g, size);
        return insert(m, instead, new_size);
    }
    granule const children[] = {child(m, g, 0), child(m, g, 1)};
    m.set_size(instead, new_size);
    if (instead == g)
        return;
    describe_root(m, instead, children[0], children[1]);
    lists_.set_head(bin, instead);
}

void best_fit_index::describe_root(memory m, granule g, granule child_0, granule child_1) noexcept {
    m.set(g, word_next, 0);
    m.set(g, word_prev, 0);
    m.set(g, word_child + 0, child_0);
    m.set(g, word_child + 1, child_1);
    m.set(g, word_parent, 0);
    if (child_0 != 0)
        m.set(child_0, word_parent, g);
    if (child_1 != 0)
        m.set(child_1, word_parent, g);
}

void best_fit_index::insert_in_trie(memory m, granule g, granule size) noexcept {
    std::size_t const bin = bin_of(size);
    m.set_size(g, size);
    describe_root(m, g, 0, 0);
    granule node = lists_.head(bin);
    if (node == 0)
        return lists_.set_head(bin, g);
    for (granule bits = open_bits(size);; bits <<= 1) {
        if (m.size_at(node) == size) { // behind its trie node, first in the list
            granule const second = m.get(node, word_next);
            m.set(g, word_next, second);
            m.set(g, word_prev, node);
            m.set(node, word_next, g);
            if (second != 0)
                m.set(second, word_prev, g);
            return;
        }
        granule const side = bits >> 31;
        granule const below = child(m, node, side);
        if (below == 0) {
            m.set(node, word_child + side, g);
            m.set(g, word_parent, node);
            return;
        }
        node = below;
    }
}

// A block behind a trie node leaves its list. A trie node's place is taken by the next block of its
// size, else by any leaf below it.
void best_fit_index::remove_large(memory m, granule g) noexcept {
    granule const next = m.get(g, word_next);
    granule const prev = m.get(g, word_prev);
    if (next != 0)
        m.set(next, word_prev, prev);
    if (prev != 0)
        m.set(prev, word_next, next);
    else
        take_place(m, g, next != 0 ? next : unhook_leaf_below(m, g));
}

granule best_fit_index::unhook_leaf_below(memory m, granule g) noexcept {
    granule above = 0;
    granule side = 0;
    granule leaf = g;
    for (;;) {
        granule const s = child(m, leaf, 1) != 0 ? 1 : 0;
        granule const below = child(m, leaf, s);
        if (below == 0)
            break;
        above = leaf;
        side = s;
        leaf = below;
    }
    if (leaf == g)
        return 0;
    m.set(above, word_child + side, 0);
    return leaf;
}

// Puts `instead` (0: nothing) where trie node g stands.
void best_fit_index::take_place(memory m, granule g, granule instead) noexcept {
    granule const above = m.get(g, word_parent);
    if (instead != 0) {
        m.set(instead, word_parent, above);
        for (granule side = 0; side < 2; ++side) {
            granule const below = child(m, g, side);
            m.set(instead, word_child + side, below);
            if (below != 0)
                m.set(below, word_parent, instead);
        }
    }
    if (above != 0)
        m.set(above, word_child + (child(m, above, 0) == g ? 0 : 1), instead);
    else
        lists_.set_head(bin_of(m.size_at(g)), instead);
}

// Returns: a smallest block of at least `size` >= 512 granules; 0: none.
granule best_fit_index::find_in_tries(memory m, granule size) const noexcept {
    std::size_t const own = bin_of(size);
    if (lists_.head(own) != 0)
        if (granule const g = find_in_trie(m, lists_.head(own), size); g != 0)
            return g;
    std::size_t const bin = lists_.first_from(own + 1);
    return bin == bins ? 0 : smallest_in_trie(m, lists_.head(bin));
}

// Returns: a smallest block below `root`, one that hangs off its node where there is one.
granule best_fit_index::smallest_in_trie(memory m, granule root) noexcept {
    granule const node = smallest_below(m, root, 0, 0);
    granule const chained = m.get(node, word_next);
    return chained != 0 ? chained : node;
}

// Follows the size's own bits; the smallest larger block lies on that way, or leftmost below the
// last branch to the right of it.
granule best_fit_index::find_in_trie(memory m, granule root, granule size) noexcept {
    granule best = 0;
    granule right = 0;
    granule bits = open_bits(size);
    for (granule node = root; node != 0; bits <<= 1) {
        granule const have = m.size_at(node);
        if (have >= size && (best == 0 || have < m.size_at(best)))
            best = node;
        if (have == size)
            break;
        granule const larger = child(m, node, 1);
        granule const side = bits >> 31;
        if (side == 0 && larger != 0)
            right = larger;
        node = side == 0 ? child(m, node, 0) : larger;
    }
    if (best == 0 || m.size_at(best) != size)
        best = smallest_below(m, right, size, best);
    if (best == 0)
        return 0;
    granule const chained = m.get(best, word_next);
    return chained != 0 ? chained : best;
}

// Returns: the smallest block of at least `size` granules at or leftmost below g, or `best` (0: none)
// where that is smaller.
granule best_fit_index::smallest_below(memory m, granule g, granule size, granule best) noexcept {
    while (g != 0) {
        if (m.size_at(g) >= size && (best == 0 || m.size_at(g) < m.size_at(best)))
            best = g;
        granule const left = child(m, g, 0);
        g = left != 0 ? left : child(m, g, 1);
    }
    return best;
}

} // namespace strata::detail
