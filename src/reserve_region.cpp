// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/reserve_region.hpp>

#include <algorithm>
#include <memory>
#include <new>

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
    bits_ = static_cast<std::uint64_t*>(static_cast<void*>(memory_ + bytes_));
    std::uninitialized_value_construct_n(bits_, 2 * words());
}

reserve_region::~reserve_region() {
    if (bytes_ != 0)
        upstream_->deallocate(memory_, held_bytes(), granule);
}

// Returns: the first granule from `from` on that is taken, or is free; one past the last where
// there is none.
std::size_t reserve_region::next(bool is_taken, std::size_t from) const noexcept {
    std::size_t const end = bytes_ / granule;
    std::uint64_t mask = ~std::uint64_t{0} << from % 64;
    for (std::size_t i = from / 64; i < words(); ++i, mask = ~std::uint64_t{0}) {
        std::uint64_t const found = (is_taken ? taken()[i] : ~taken()[i]) & mask;
        if (found != 0)
            return std::min(end, i * 64 + static_cast<std::size_t>(std::countr_zero(found)));
    }
    return end;
}

// Returns: the first free run from `from` on; an empty one where there is none.
reserve_region::run reserve_region::next_run(std::size_t from) const noexcept {
    std::size_t const begin = next(false, from);
    return {begin, next(true, begin)};
}

void reserve_region::set_taken(std::size_t begin, std::size_t end, bool is_taken) noexcept {
    for (std::size_t g = begin; g != end; ++g) {
        std::uint64_t const bit = std::uint64_t{1} << g % 64;
        taken()[g / 64] = is_taken ? taken()[g / 64] | bit : taken()[g / 64] & ~bit;
    }
}

void* reserve_region::take_low(std::size_t bytes, std::size_t alignment,
                               std::size_t offset) noexcept {
    std::size_t const wanted = granules_in(bytes);
    for (run r = next_run(0); r.begin != r.end; r = next_run(r.end)) {
        std::size_t const at = address_of(memory_ + r.begin * granule) + offset;
        std::size_t const begin =
            r.begin + (align_up(at, std::max(alignment, granule)) - at) / granule;
        if (begin < r.end && wanted <= r.end - begin) {
            set_taken(begin, begin + wanted, true);
            return memory_ + begin * granule;
        }
    }
    return nullptr;
}

void* reserve_region::take_high(std::size_t bytes) noexcept {
    std::size_t const wanted = granules_in(bytes);
    std::size_t end = 0;
    for (run r = next_run(0); r.begin != r.end; r = next_run(r.end))
        if (wanted <= r.end - r.begin)
            end = r.end;
    if (end == 0)
        return nullptr;
    set_taken(end - wanted, end, true);
    return memory_ + (end - wanted) * granule;
}

void reserve_region::put(void* p, std::size_t bytes) noexcept {
    set_taken(granule_of(p), granule_of(p) + granules_in(bytes), false);
}

std::size_t reserve_region::marks() const noexcept {
    std::size_t count = 0;
    for (std::size_t i = 0; i < words(); ++i)
        count += static_cast<std::size_t>(std::popcount(starts()[i]));
    return count;
}

} // namespace strata::detail
