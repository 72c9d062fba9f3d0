// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/outside_places.hpp>

#include <algorithm>
#include <memory>
#include <stdexcept>

#include <strata/detail/annotate.hpp>

namespace strata::detail {

namespace {

std::size_t bits_offset(std::size_t granules, std::size_t granule_bytes) noexcept {
    return align_up(granules * granule_bytes + redzone_bytes, alignof(mark_word));
}

} // namespace

std::size_t outside_places::bytes_for(std::size_t granules, std::size_t granule_bytes) noexcept {
    return bits_offset(granules, granule_bytes) + mark_words(granules) * sizeof(mark_word);
}

outside_places::outside_places(std::byte* base, std::size_t granules,
                               std::size_t granule_bytes) noexcept
    : base_{base}, granules_{granules} {
    void* const behind = base + bits_offset(granules, granule_bytes);
    bits_ = static_cast<mark_word*>(behind);
    std::uninitialized_value_construct_n(bits_, mark_words(granules));
}

outside_places::outside_places(void* buffer, std::size_t bytes, std::size_t granule_bytes,
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

} // namespace strata::detail
