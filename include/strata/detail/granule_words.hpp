// SPDX-License-Identifier: BSL-1.0
#pragma once

// A region's memory as granules, and the words in which a free block describes itself.
//
//      │ size │ next │ prev │ more words …  │ size │      a word is as wide as a Granule;
//        one granule holds size, next, prev, size          four words make a granule
//
// Granules count from 1, so that 0 means none. Only the base address is stored, by whoever owns the
// memory; all else is indices, which stay right when an image of the memory is copied elsewhere.

#include <concepts>
#include <cstddef>

#include <strata/detail/annotate.hpp>

namespace strata::detail {

template <std::unsigned_integral Granule>
struct granule_words {
    using granule = Granule; ///< an index of granules, or a number of them
    static constexpr std::size_t granule_bytes = 4 * sizeof(Granule);

    std::byte* base; ///< of granule 1; held, not owned

    [[nodiscard]] std::byte* address(granule g) const noexcept {
        return base + std::size_t{g} * granule_bytes - granule_bytes; // one instruction's operand
    }
    // The words are read and written bytewise: what else lay there was the user's.
    [[nodiscard]] granule get(granule g, std::size_t word) const noexcept {
        return peek<granule>(address(g) + word * sizeof(granule));
    }
    void set(granule g, std::size_t word, granule value) const noexcept {
        poke(address(g) + word * sizeof value, value);
    }

    /// Returns: the size of the free block at g; of the one that ends with granule `last`.
    [[nodiscard]] granule size_at(granule g) const noexcept { return get(g, 0); }
    [[nodiscard]] granule size_before(granule last) const noexcept {
        return peek<granule>(base + std::size_t{last} * granule_bytes - sizeof(granule));
    }
    /// Writes a free block's size at both its ends.
    void set_size(granule g, granule size) const noexcept {
        set(g, 0, size);
        poke(address(g) + size * granule_bytes - sizeof size, size);
    }
};

} // namespace strata::detail
