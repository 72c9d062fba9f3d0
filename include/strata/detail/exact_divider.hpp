// SPDX-License-Identifier: BSL-1.0
#pragma once

// Division of an offset by a block size that is only known at run time: one multiplication, which
// also tells whether the offset is a multiple, and whether it lies inside the region.
//
// With block = odd * 2^k, let quotient(x) = rotate_right(x * odd^-1 mod 2^64, k). Multiplying by an
// odd number and rotating are both bijections on the 2^64 integers, and quotient(m * block) = m for
// every m * block < 2^64. (Where std::size_t has 32 bits, 2^32: a wider quotient, cut off to index
// blocks, could be any block's.) So no x but m * block itself is mapped to m, and for any count of blocks
//
//      quotient(x) < count   <=>   x is one of 0, block, 2 * block, …, (count - 1) * block.
//
// Source: Granlund and Montgomery, "Division by Invariant Integers using Multiplication", 1994,
// section 9 (exact division, test for a remainder of zero).

#include <bit>
#include <cstddef>

namespace strata::detail {

class exact_divider {
  public:
    constexpr exact_divider() noexcept = default;

    /// Requires: `divisor` is not 0.
    constexpr explicit exact_divider(std::size_t divisor) noexcept
        : inverse_{inverse_of(divisor >> std::countr_zero(divisor))},
          shift_{std::countr_zero(divisor)} {}

    /// Returns: x / divisor where x is a multiple; else a value beyond every quotient of a multiple.
    [[nodiscard]] constexpr std::size_t operator()(std::size_t x) const noexcept {
        return std::rotr(x * inverse_, shift_);
    }

    /// Returns: the inverse, mod 2^64, of the divisor's odd part.
    [[nodiscard]] constexpr std::size_t inverse() const noexcept { return inverse_; }

    /// Returns: log2 of the largest power of two that divides the divisor.
    [[nodiscard]] constexpr int shift() const noexcept { return shift_; }

  private:
    // Newton's iteration: each step doubles the number of low bits that are right. An odd number
    // is its own inverse in the lowest 3 bits, so five steps reach 96.
    static constexpr std::size_t inverse_of(std::size_t odd) noexcept {
        std::size_t inverse = odd;
        for (int step = 0; step < 5; ++step)
            inverse *= 2 - odd * inverse;
        return inverse;
    }

    std::size_t inverse_ = 1;
    int shift_ = 0;
};

} // namespace strata::detail
