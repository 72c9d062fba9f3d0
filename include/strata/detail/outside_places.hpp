// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <stdexcept>

#include <strata/detail/bits.hpp>
#include <strata/detail/region.hpp>

namespace strata::detail {

/// Memory and bits of a region that lie outside its object, the bits behind the granules.
class outside_places {
  public:
    static constexpr bool is_inside = false;     ///< its object
    static constexpr std::size_t alignment = 64; ///< of memory that upstream is asked for

    constexpr outside_places() noexcept = default;

    /// Clears the bits. Requires: room for bytes_for(granules, granule_bytes) bytes at `base`, which
    /// is aligned to granule_bytes.
    outside_places(std::byte* base, std::size_t granules, std::size_t granule_bytes) noexcept
        : base_{base}, granules_{granules} {
        void* const behind = base + align_up(granules * granule_bytes, alignof(mark_word));
        bits_ = static_cast<mark_word*>(behind);
        std::uninitialized_value_construct_n(bits_, mark_words(granules));
    }

    /// As many granules as a buffer has room for, wherever it begins.
    /// Throws: invalid_argument where it does not have room for one.
    outside_places(void* buffer, std::size_t bytes, std::size_t granule_bytes,
                   std::size_t most_granules) {
        std::size_t const skipped =
            (0 - address_of(buffer)) & (std::max(granule_bytes, alignof(mark_word)) - 1);
        std::size_t const usable = buffer != nullptr && bytes > skipped ? bytes - skipped : 0;
        std::size_t granules = std::min(usable / granule_bytes, most_granules);
        while (granules != 0 && bytes_for(granules, granule_bytes) > usable)
            granules -= std::max<std::size_t>(1, granules / 128); // 1/64 are bits, or 1/32
        if (granules == 0)
            throw std::invalid_argument{"strata: the buffer is too small to hold a block"};
        while (granules < most_granules && bytes_for(granules + 1, granule_bytes) <= usable)
            ++granules;
        *this = outside_places{as_bytes(buffer) + skipped, granules, granule_bytes};
    }

    /// Returns: bytes that so many granules and their bits take.
    static constexpr std::size_t bytes_for(std::size_t granules,
                                           std::size_t granule_bytes) noexcept {
        return align_up(granules * granule_bytes, alignof(mark_word)) +
               mark_words(granules) * sizeof(mark_word);
    }

    [[nodiscard]] std::byte* base() const noexcept { return base_; }
    [[nodiscard]] mark_word* bits() const noexcept { return bits_; }
    [[nodiscard]] std::size_t granules() const noexcept { return granules_; }

  private:
    std::byte* base_ = nullptr; // held, not owned
    mark_word* bits_ = nullptr;
    std::size_t granules_ = 0;
};

} // namespace strata::detail
