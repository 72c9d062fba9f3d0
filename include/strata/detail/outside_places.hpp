// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>

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
    outside_places(std::byte* base, std::size_t granules, std::size_t granule_bytes) noexcept;

    /// As many granules as a buffer has room for, wherever it begins.
    /// Throws: invalid_argument where it does not have room for one.
    outside_places(void* buffer, std::size_t bytes, std::size_t granule_bytes,
                   std::size_t most_granules);

    /// Returns: bytes that so many granules and their bits take.
    static std::size_t bytes_for(std::size_t granules, std::size_t granule_bytes) noexcept;

    [[nodiscard]] std::byte* base() const noexcept { return base_; }
    [[nodiscard]] mark_word* bits() const noexcept { return bits_; }
    [[nodiscard]] std::size_t granules() const noexcept { return granules_; }
    /// From base() on, to be hidden: the granules, and what may lie between them and the bits.
    [[nodiscard]] std::size_t hidden_bytes() const noexcept { return offset_between(base_, bits_); }

  private:
    std::byte* base_ = nullptr; // held, not owned
    mark_word* bits_ = nullptr;
    std::size_t granules_ = 0;
};

} // namespace strata::detail
