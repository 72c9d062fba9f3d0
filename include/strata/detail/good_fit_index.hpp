// SPDX-License-Identifier: BSL-1.0
#pragma once

// The free blocks of a small region, found by size in constant time: a block that is large enough,
// and the smallest such block where the request is below 64 granules and one below 64 serves it.
//
//      │ size │ next │ prev │ … │ size │           a free block; one granule holds all
//
//   bins 1 … 63      one for each size in granules
//   bins 64 …        8 an octave, each for a range of sizes
//
//   I1  the blocks in a bin's list have a size of its range.
//
// A block of the request's own bin may be too small, all those of later bins are large enough. So
// some of its own bin are tried, then the first later bin that is not empty; only when nothing else
// is left (find_elsewhere), more of its own bin, or of all for one that lies right. Cost: O(1).
// Source: Masmano et al., "TLSF: a new dynamic memory allocator for real-time systems", 2004.

#include <algorithm>
#include <bit>
#include <cstddef>

#include <strata/detail/binned_lists.hpp>

namespace strata::detail {

template <std::unsigned_integral Granule>
class good_fit_index {
    static constexpr std::size_t octave_bins = 8;
    static constexpr std::size_t octaves = sizeof(Granule) == 1 ? 2 : 8 * sizeof(Granule) - 6;
    static constexpr std::size_t bins = 64 + octaves * octave_bins;

  public:
    using words = granule_words<Granule>;
    using granule = Granule;
    using memory = words;
    using lists = binned_lists<granule, bins>;

    static constexpr granule exact_sizes = 64; ///< sizes below it have a bin each

    void insert(memory m, granule g, granule size) noexcept {
        m.set_size(g, size);
        lists_.push(m, bin_of(size), g);
    }
    void remove(memory m, granule g, granule size) noexcept { lists_.unlink(m, bin_of(size), g); }
    void replace(memory m, granule g, granule size, granule instead, granule new_size) noexcept {
        std::size_t const bin = bin_of(size);
        if (bin_of(new_size) != bin) {
            remove(m, g, size);
            return insert(m, instead, new_size);
        }
        lists_.move(m, bin, g, instead);
        m.set_size(instead, new_size);
    }

    /// The bins of exact_sizes.
    [[nodiscard]] lists const& exact() const noexcept { return lists_; }
    /// For blocks of such a size: the same calls, inline. All are.
    [[nodiscard]] static constexpr bool is_quick(std::size_t) noexcept { return true; }
    [[nodiscard]] good_fit_index& quick() noexcept { return *this; }

    /// Returns: the place of a block of at least `size` granules; 0: none found.
    [[nodiscard]] granule find(memory m, granule size) const noexcept {
        std::size_t const own = bin_of(size);
        if (own < exact_sizes) [[likely]] {
            std::size_t const bin = lists_.first_from(own);
            return bin == bins ? granule{0} : lists_.head(bin);
        }
        granule g = lists_.head(own);
        for (int tries = few; g != 0 && tries != 0; --tries, g = m.get(g, lists::word_next))
            if (m.size_at(g) >= size)
                return g;
        std::size_t const bin = lists_.first_after(own);
        return bin == bins ? granule{0} : lists_.head(bin);
    }

    /// The last resort. Returns: a block that `fits`, from the bin of `size` on; 0: none found.
    template <class Fits>
    [[nodiscard, gnu::noinline]] granule find_elsewhere(memory m, granule size,
                                                        Fits const& fits) const noexcept {
        int tries = many;
        for (std::size_t bin = bin_of(size); bin < bins; ++bin) {
            bin = lists_.first_from(bin);
            for (granule g = bin == bins ? granule{0} : lists_.head(bin); g != 0;
                 g = m.get(g, lists::word_next)) {
                if (fits(g))
                    return g;
                if (--tries == 0)
                    return 0;
            }
        }
        return 0;
    }

    /// Returns: the most granules that can be asked for in one block; 0: none.
    [[nodiscard]] granule largest(memory m) const noexcept {
        std::size_t const bin = lists_.last();
        granule most = 0;
        int tries = many; // as many as find_elsewhere makes
        for (granule g = bin == bins ? granule{0} : lists_.head(bin); g != 0 && tries-- != 0;
             g = m.get(g, lists::word_next))
            most = std::max(most, m.size_at(g));
        return most;
    }

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
            granule before = 0;
            for (granule g = lists_.head(bin); g != 0; before = g, g = m.get(g, lists::word_next)) {
                if (g >= limit || left-- == 0)
                    return false;
                f(g, m.size_at(g));
                sound =
                    sound && bin_of(m.size_at(g)) == bin && m.get(g, lists::word_prev) == before;
            }
        }
        return sound;
    }

  private:
    static constexpr int few = 8; // an arena that is not full finds one among them, or in top
    // Bounds an operation of an arena that is nearly full. 8192 granules cannot hold more blocks of
    // 64 and more with a live one between each two (126): there the last resort misses nothing.
    static constexpr int many = 128;

    // Above 63 granules, the three bits below the highest choose among an octave's 8 bins.
    [[nodiscard]] static std::size_t bin_of(granule size) noexcept {
        if (size < exact_sizes) [[likely]]
            return size;
        auto const width = static_cast<std::size_t>(std::bit_width(size));
        return exact_sizes + (width - 7) * octave_bins +
               (static_cast<std::size_t>(size) >> (width - 4)) % octave_bins;
    }

    lists lists_{};
};

} // namespace strata::detail
