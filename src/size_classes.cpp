// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/size_classes.hpp>

#include <algorithm>
#include <span>
#include <stdexcept>

namespace strata::detail {

namespace {

// Steps of 8 bytes to 64, four sizes an octave to 4 KiB (at most 20 % of a block unused), and from
// there the sizes that divide a slab of 64 KiB into 14, 12, 10, 8 … 2 blocks, rounded to 128 bytes.
constexpr std::size_t default_sizes[] = {
    8,    16,   24,   32,   40,   48,   56,   64,   80,   96,    112,   128,   160,   192,
    224,  256,  320,  384,  448,  512,  640,  768,  896,  1024,  1280,  1536,  1792,  2048,
    2560, 3072, 3584, 4096, 4608, 5376, 6528, 8192, 9344, 10880, 13056, 16384, 21760, 32768,
};

constexpr std::size_t rounded(std::size_t bytes) noexcept {
    return align_up(bytes, bytes <= 1024 ? 8 : 128);
}

} // namespace

size_classes::size_classes(std::span<std::size_t const> block_sizes, std::size_t largest) {
    if (largest == 0 || largest > largest_block_bytes)
        throw std::invalid_argument{"strata: the largest block must have 1 to 32768 bytes"};
    std::array<std::size_t, most_classes + 1> sorted{};
    std::size_t used = 0;
    for (std::size_t const bytes : block_sizes.empty() ? std::span{default_sizes} : block_sizes) {
        if (bytes == 0 || bytes > largest_block_bytes)
            throw std::invalid_argument{"strata: a block size must be 1 to 32768 bytes"};
        if (used == most_classes)
            throw std::invalid_argument{"strata: a pool has at most 64 block sizes"};
        if (bytes < largest)
            sorted[used++] = rounded(bytes);
    }
    sorted[used++] = rounded(largest);
    if (used > most_classes)
        throw std::invalid_argument{"strata: a pool has at most 64 block sizes"};
    std::sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(used));
    auto const end =
        std::unique(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(used));
    std::copy(sorted.begin(), end, block_bytes_.begin());
    count_ = static_cast<std::size_t>(end - sorted.begin());

    table_end_ = std::min(block_bytes_[count_ - 1], most_table_bytes) + 1;
    // Each class serves what the one before is too small for.
    std::size_t aligned = count_;
    for (std::size_t c = count_; c-- > 0;) {
        std::size_t const bytes = block_bytes_[c];
        std::size_t const below = c != 0 ? block_bytes_[c - 1] : 0;
        if (natural_alignment(bytes) >= 16)
            aligned = c;
        auto const rows = std::span{table_}.first(std::min(bytes, most_table_bytes) + 1);
        if (below < rows.size())
            std::ranges::fill(
                rows.subspan(c != 0 ? below + 1 : 0),
                std::array{static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(aligned)});
        auto const large_rows = std::span{large_table_}.first(bytes / large_step + 1);
        std::ranges::fill(large_rows.subspan(std::min(below / large_step + 1, large_rows.size())),
                          static_cast<std::uint8_t>(c));
    }
}

std::size_t size_classes::search(std::size_t bytes, std::size_t alignment) const noexcept {
    auto const sizes = block_sizes();
    auto const first = std::lower_bound(sizes.begin(), sizes.end(), bytes);
    auto const fitting = std::find_if(first, sizes.end(), [=](std::size_t block) {
        return natural_alignment(block) >= alignment;
    });
    return static_cast<std::size_t>(fitting - sizes.begin());
}

} // namespace strata::detail
