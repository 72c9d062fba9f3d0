// SPDX-License-Identifier: BSL-1.0
#include <strata/best_fit_resource.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>

namespace strata {

namespace {

constexpr std::size_t granule_bytes = detail::best_fit_index::words::granule_bytes;
constexpr std::size_t most_granules = (std::size_t{1} << 32) - 128; // 64 GiB, nearly
constexpr std::size_t region_alignment = 64;

constexpr std::size_t bits_bytes(std::size_t granules) noexcept {
    return detail::bit_pairs(granules) * sizeof(detail::granule_bits);
}

// Returns: how many granules, with their bits, `bytes` bytes have room for.
std::size_t granules_with_bits(std::size_t bytes) noexcept {
    std::size_t granules = std::min(bytes / granule_bytes, most_granules);
    while (granules != 0 && granules * granule_bytes + bits_bytes(granules) > bytes)
        granules -= std::max<std::size_t>(1, granules / 128); // the bits are 1/64
    while (granules != 0 && granules < most_granules &&
           (granules + 1) * granule_bytes + bits_bytes(granules + 1) <= bytes)
        ++granules;
    return granules;
}

} // namespace

// --- the region ---

best_fit_resource::places::places(std::byte* base, std::size_t granules) noexcept
    : base_{base}, granules_{granules} {
    void* const behind = base + granules * granule_bytes;
    bits_ = static_cast<detail::granule_bits*>(behind);
    std::uninitialized_value_construct_n(bits_, detail::bit_pairs(granules));
}

best_fit_resource::best_fit_resource(std::size_t bytes, std::pmr::memory_resource* upstream)
    : served_{upstream} {
    if (bytes == 0 || bytes > most_granules * granule_bytes)
        throw std::invalid_argument{"strata: a region has 1 byte to 64 GiB"};
    std::size_t const granules = region_.granules_for(bytes);
    region_bytes_ = granules * granule_bytes + bits_bytes(granules);
    owned_ = served_.upstream()->allocate(region_bytes_, region_alignment);
    region_.places = {detail::as_bytes(owned_), granules};
}

best_fit_resource::best_fit_resource(void* buffer, std::size_t bytes,
                                     std::pmr::memory_resource* upstream)
    : served_{upstream} {
    assign(buffer, bytes);
}

best_fit_resource::~best_fit_resource() {
    served_.release();
    if (owned_ != nullptr)
        served_.upstream()->deallocate(owned_, region_bytes_, region_alignment);
}

void best_fit_resource::assign(void* buffer, std::size_t bytes) {
    if (stats().live_blocks != 0)
        throw std::invalid_argument{"strata: a region can be replaced only while no block is live"};
    std::size_t const skipped = (0 - detail::address_of(buffer)) % granule_bytes;
    std::size_t const granules =
        buffer != nullptr && bytes > skipped ? granules_with_bits(bytes - skipped) : 0;
    if (granules == 0)
        throw std::invalid_argument{"strata: the buffer is too small to hold a block"};
    if (owned_ != nullptr)
        served_.upstream()->deallocate(std::exchange(owned_, nullptr), region_bytes_,
                                       region_alignment);
    region_bytes_ = bytes;
    region_.places = {detail::as_bytes(buffer) + skipped, granules};
    region_.free_all();
}

void best_fit_resource::do_release() {
    region_.free_all();
    served_.release();
}

// --- allocate, deallocate ---

void* best_fit_resource::do_allocate(std::size_t bytes, std::size_t alignment) {
    void* const p = region_.allocate(bytes, alignment);
    return p != nullptr ? p : served_.allocate(bytes, alignment);
}

void best_fit_resource::do_deallocate(void* p, std::size_t bytes, std::size_t alignment) {
    if (p == nullptr)
        return;
    if (auto const wrong = best_fit_resource::do_try_deallocate(p, bytes, alignment)) [[unlikely]]
        report(*wrong, p, bytes, alignment);
}

std::optional<misuse_kind> best_fit_resource::do_try_deallocate(void* p, std::size_t bytes,
                                                                std::size_t alignment) {
    return region_.holds(p) ? region_.deallocate(p, bytes, alignment)
                            : served_.deallocate(p, bytes, alignment);
}

std::optional<misuse_kind> best_fit_resource::do_diagnose(void const* p, std::size_t bytes,
                                                          std::size_t alignment) const {
    return region_.holds(p) ? region_.diagnose(p, bytes, alignment)
                            : served_.diagnose(p, bytes, alignment);
}

bool best_fit_resource::do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                                      std::size_t) {
    return region_.holds(p) ? region_.try_resize(p, old_bytes, new_bytes) : old_bytes == new_bytes;
}

// --- the rest of the interface ---

std::size_t best_fit_resource::do_good_size(std::size_t bytes, std::size_t) const {
    std::size_t const granules = region_.granules_for(bytes);
    return granules <= region_.places.granules() ? granules * granule_bytes : bytes;
}

void best_fit_resource::do_visit_blocks(block_visitor f) const {
    auto const served = served_.in_address_order();
    auto const rest = detail::visit_below(served, region_.places.base(), f);
    region_.visit(f);
    detail::visit_below(rest, nullptr, f);
}

statistics best_fit_resource::do_stats() const {
    statistics s;
    s.footprint_bytes = region_bytes_;
    s.overhead_bytes = region_bytes_ - capacity_bytes();
    region_.add_to(s);
    served_.add_to(s);
    return s;
}

bool best_fit_resource::do_check_invariants() const {
    char const* const broken = region_.broken_invariant();
    if (broken != nullptr)
        std::fprintf(stderr, "strata: best_fit_resource %p: %s\n", static_cast<void const*>(this),
                     broken);
    return broken == nullptr && served_.check_invariants();
}

} // namespace strata
