// SPDX-License-Identifier: BSL-1.0
#pragma once

// Which block size serves which request: the lookup table from size to pool.
//
//   request  ──(bytes + 7) / 8, above 1 KiB (bytes - 1 KiB + 127) / 128──►  class  ──►  block size
//
// Blocks of a class lie at multiples of the block size from an aligned slab start, so a block size
// is aligned to its largest power-of-two factor: 48 bytes to 16, 64 to 64. The table has one row for
// alignments up to 8 and one for 16, which skips classes such as 24; larger alignments search on.
//
//   I1  block sizes ascend; each is a multiple of 8, above 1 KiB of 128.
//   I2  of(bytes, alignment) is the first class that is large and aligned enough.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include <strata/detail/bits.hpp>

namespace strata::detail {

class size_classes {
  public:
    static constexpr std::size_t most_classes = 64;
    static constexpr std::size_t smallest_block_bytes = 8;
    static constexpr std::size_t largest_block_bytes = 32 * 1024;
    static constexpr std::size_t table_alignment = 16; ///< alignments up to this need no search

    /// Takes the sizes of `block_sizes` up to `largest`, rounded up to multiples of 8 (above 1 KiB
    /// of 128), and `largest` itself. An empty list stands for the default sizes.
    /// Throws: invalid_argument for a size of 0 or above 32 KiB, or more than 64 sizes.
    size_classes(std::span<std::size_t const> block_sizes, std::size_t largest);

    [[nodiscard]] std::size_t count() const noexcept { return count_; }
    [[nodiscard]] std::size_t largest() const noexcept { return block_bytes_[count_ - 1]; }
    [[nodiscard]] std::size_t block_bytes(std::size_t size_class) const noexcept {
        return block_bytes_[size_class];
    }
    [[nodiscard]] std::span<std::size_t const> block_sizes() const noexcept {
        return {block_bytes_.data(), count_};
    }

    /// Requires: bytes <= largest(), alignment <= 16.
    /// Returns: the class, count() where none is aligned enough. Complexity: O(1), 1 load.
    [[nodiscard]] std::size_t of(std::size_t bytes, std::size_t alignment) const noexcept {
        return table_[alignment > 8][slot(bytes)];
    }

    /// Returns: the class for any size and alignment, count() where none serves.
    [[nodiscard]] std::size_t find(std::size_t bytes, std::size_t alignment) const noexcept;

  private:
    static constexpr std::size_t fine_bytes = 1024;
    static constexpr std::size_t slots =
        fine_bytes / 8 + 1 + (largest_block_bytes - fine_bytes) / 128;

    static constexpr std::size_t slot(std::size_t bytes) noexcept {
        return bytes <= fine_bytes ? (bytes + 7) / 8
                                   : fine_bytes / 8 + (bytes - fine_bytes + 127) / 128;
    }

    void add(std::size_t block_bytes);

    std::array<std::array<std::uint8_t, slots>, 2> table_{}; // [alignment > 8][slot]
    std::array<std::size_t, most_classes> block_bytes_{};    // the first count_ are in use
    std::size_t count_ = 0;
};

/// Returns: the alignment that every multiple of n has, in bytes.
constexpr std::size_t natural_alignment(std::size_t n) noexcept {
    return n & (~n + 1);
}

} // namespace strata::detail
