// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/reserve_region.hpp>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <memory>
#include <new>

#include <strata/detail/annotate.hpp>
#include <strata/detail/return_upstream.hpp>

namespace strata::detail {

namespace {

constexpr std::size_t granules_in(std::size_t bytes) noexcept {
    return (bytes + reserve_region::granule - 1) / reserve_region::granule;
}

} // namespace

reserve_region::reserve_region(std::size_t bytes, std::pmr::memory_resource* upstream)
    : upstream_{upstream} {
    if (bytes > max_request_bytes / 2)
        throw std::bad_alloc{};
    bytes_ = granules_in(bytes) * granule;
    if (bytes_ == 0)
        return;
    memory_ = as_bytes(upstream_->allocate(held_bytes(), granule));
    marks_ = static_cast<bit_word*>(static_cast<void*>(memory_ + bytes_ + redzone_bytes));
    std::uninitialized_value_construct_n(marks_, words_for_bits(granules()));
    free_ = free_bits{marks_ + words_for_bits(granules()), granules()};
    carve(memory_, memory_, bytes_ + redzone_bytes);
}

reserve_region::~reserve_region() {
    if (bytes_ != 0)
        return_carved(upstream_, memory_, held_bytes(), granule);
}

std::size_t reserve_region::held_bytes() const noexcept {
    if (bytes_ == 0)
        return 0;
    std::size_t const words = words_for_bits(granules()) + free_bits::storage_words(granules());
    return bytes_ + redzone_bytes + words * sizeof(bit_word);
}

void* reserve_region::take_low(std::size_t bytes, std::size_t alignment,
                               std::size_t offset) noexcept {
    if (bytes_ == 0)
        return nullptr;
    std::size_t const step = std::max(alignment, granule) / granule;
    std::size_t const at = (address_of(memory_) + offset) / granule;
    std::size_t const first = free_.find_run(granules_in(bytes), {step, (0 - at) & (step - 1)});
    if (first == free_bits::none)
        return nullptr;
    free_.take(first, granules_in(bytes));
    open(memory_ + first * granule, bytes);
    return memory_ + first * granule;
}

void* reserve_region::take_high(std::size_t bytes) noexcept {
    std::size_t const wanted = granules_in(bytes);
    std::size_t end = 0;
    for_each_run([&](std::size_t first, std::size_t length) {
        if (wanted <= length)
            end = first + length;
    });
    if (end == 0)
        return nullptr;
    free_.take(end - wanted, wanted);
    open(memory_ + (end - wanted) * granule, bytes);
    return memory_ + (end - wanted) * granule;
}

void reserve_region::put(void* p, std::size_t bytes) noexcept {
    free_.give(granule_of(p), granules_in(bytes));
    hide(p, granules_in(bytes) * granule);
}

std::size_t reserve_region::marks() const noexcept {
    std::size_t count = 0;
    for (std::size_t i = 0; i < words_for_bits(granules()); ++i)
        count += static_cast<std::size_t>(std::popcount(marks_[i]));
    return count;
}

bool reserve_region::check_invariants() const {
    char const* const broken = bytes_ != 0 ? free_.broken_invariant() : nullptr;
    if (broken != nullptr)
        std::fprintf(stderr, "strata: reserve_region: %s\n", broken);
    return broken == nullptr;
}

} // namespace strata::detail
