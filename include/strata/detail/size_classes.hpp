// SPDX-License-Identifier: BSL-1.0
#pragma once

// Which block size serves which request: the lookup table from size to pool.
//
//   request of up to 1 KiB  ──bytes──►  table  ──►  class  ──►  block size
//
// Blocks of a class lie at multiples of the block size from an aligned slab start, so a block size
// is aligned to its largest power-of-two factor: 48 bytes to 16, 64 to 64. The table has a column for
// alignments up to 8 and one for 16, which skips classes such as 24. Larger requests have a table in
// steps of 128 bytes; only over-aligned ones are searched for.
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
    static constexpr std::size_t largest_block_bytes = 32 * 1024;
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

    /// Returns: whether of() knows the answer: small sizes of ordinary alignment.
    [[nodiscard]] bool tabulates(std::size_t bytes, std::size_t alignment) const noexcept {
        return bytes < table_end_ && alignment <= 16;
    }

    /// Requires: tabulates(bytes, alignment).
    /// Returns: the class, count() where none is aligned enough. Complexity: O(1), 1 load.
    [[nodiscard]] std::size_t of(std::size_t bytes, std::size_t alignment) const noexcept {
        return table_[bytes][alignment / 16];
    }

    /// Makes tabulates() false for all.
    void switch_table_off() noexcept { table_end_ = 0; }

    /// Returns: the class for any size and alignment, count() where none serves.
    /// Complexity: O(1), O(classes) for alignments above 16.
    [[nodiscard]] std::size_t find(std::size_t bytes, std::size_t alignment) const noexcept {
        if (bytes > largest())
            return count_;
        if (bytes > most_table_bytes && alignment <= 16)
            return large_table_[(bytes + large_step - 1) / large_step];
        return search(bytes, alignment);
    }

  private:
    static constexpr std::size_t most_table_bytes = 1024;
    static constexpr std::size_t large_step = 128;

    [[nodiscard]] std::size_t search(std::size_t bytes, std::size_t alignment) const noexcept;

    std::size_t table_end_ = 0; // bytes below it are in the table
    std::array<std::array<std::uint8_t, 2>, most_table_bytes + 1> table_; // [bytes][alignment / 16]
    std::array<std::uint8_t, largest_block_bytes / large_step + 1> large_table_{};
    std::array<std::size_t, most_classes> block_bytes_{}; // the first count_ are in use
    std::size_t count_ = 0;
};

} // namespace strata::detail
