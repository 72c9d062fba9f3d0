// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/slab.hpp>

namespace strata::detail {

void slab::assign(std::size_t to_class, std::size_t bytes_each) noexcept {
    block_bytes = static_cast<std::uint32_t>(bytes_each);
    size_class = static_cast<std::uint8_t>(to_class);
    shift = static_cast<std::uint8_t>(std::countr_zero(block_bytes));
    extent = bytes / block_bytes * block_bytes;
    bit_count = extent >> shift;
    k = block_bytes >> shift;
    every_kth = 0;
    for (std::uint32_t bit = 0; bit < 64; bit += k)
        every_kth |= std::uint64_t{1} << bit;
    state = slab_state::serving;
    set_word(0);
}

void slab::set_word(std::size_t i) noexcept {
    word = bits() + i;
    word_begin = begin + (i * 64 << shift);
    // The first bit of this word that a block has is the next multiple of k.
    std::size_t const first = (k - i * 64 % k) % k;
    starts = first < 64 ? every_kth << first : 0;
    if (std::size_t const left = bit_count - i * 64; left < 64)
        starts &= (std::uint64_t{1} << left) - 1;
}

bool slab::turn() noexcept {
    std::size_t const words = (std::size_t{bit_count} + 63) / 64;
    auto i = static_cast<std::size_t>(word - bits());
    for (std::size_t tried = 0; tried < words; ++tried) {
        i = i + 1 < words ? i + 1 : 0;
        if (bits()[i] == ~std::uint64_t{0})
            continue;
        set_word(i);
        if ((~*word & starts) != 0)
            return true;
    }
    return false;
}

} // namespace strata::detail
