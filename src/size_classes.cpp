// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/size_classes.hpp>

#include <algorithm>
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
    fill(table_.size() / 8, 8, [&](std::size_t slot, std::uint8_t c, std::uint8_t aligned) {
        // All sizes that end in this slot; below the first, only 0 does.
        std::fill_n(&table_[slot == 0 ? 0 : slot * 8 - 7], slot == 0 ? 1 : 8, std::array<std::uint8_t,2>{c, aligned});
    });
    fill(large_table_.size(), large_step,
         [&](std::size_t slot, std::uint8_t, std::uint8_t aligned) {
             large_table_[slot] = aligned;
         });
}

// Calls set(slot, class, class of blocks aligned to 16) for slots of `step` bytes each. One pass, not
// a search for each slot: pools are made for a moment, too.
template <class Set>
void size_classes::fill(std::size_t slots, std::size_t step, Set const& set) const {
    std::size_t c = 0;
    std::size_t aligned = 0;
    for (std::size_t slot = 0; slot < slots; ++slot) {
        while (c < count_ && block_bytes_[c] < slot * step)
            ++c;
        for (aligned = std::max(aligned, c);
             aligned < count_ && natural_alignment(block_bytes_[aligned]) < 16;)
            ++aligned;
        set(slot, static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(aligned));
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
