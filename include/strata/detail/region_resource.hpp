// SPDX-License-Identifier: BSL-1.0
#pragma once

// What best_fit_resource and dll_arena_resource have in common: a region that serves what it can,
// and upstream, which serves the rest one by one. Who derives says where the region lies.
//
//   I1  an address belongs to the region, or to the served blocks, or to nobody.
//   I2  region_bytes_ = the region's granules, its bits, and what a buffer has too much.

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <memory>
#include <memory_resource>
#include <optional>
#include <stdexcept>

#include <strata/detail/bits.hpp>
#include <strata/detail/region.hpp>
#include <strata/detail/served_blocks.hpp>
#include <strata/resource.hpp>

namespace strata::detail {

/// Memory and bits of a region that lie outside its object, the bits behind the granules.
class outside_places {
  public:
    constexpr outside_places() noexcept = default;

    /// Clears the bits. Requires: room for bytes_for(granules, granule_bytes) bytes at `base`, which
    /// is aligned to granule_bytes.
    outside_places(std::byte* base, std::size_t granules, std::size_t granule_bytes) noexcept
        : base_{base}, granules_{granules} {
        void* const behind = base + align_up(granules * granule_bytes, alignof(granule_bits));
        bits_ = static_cast<granule_bits*>(behind);
        std::uninitialized_value_construct_n(bits_, bit_pairs(granules));
    }

    /// As many granules as a buffer has room for, wherever it begins.
    /// Throws: invalid_argument where it does not have room for one.
    outside_places(void* buffer, std::size_t bytes, std::size_t granule_bytes,
                   std::size_t most_granules) {
        std::size_t const skipped =
            (0 - address_of(buffer)) & (std::max(granule_bytes, alignof(granule_bits)) - 1);
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

    /// Returns: bytes that so many granules and their bits take.
    static constexpr std::size_t bytes_for(std::size_t granules,
                                           std::size_t granule_bytes) noexcept {
        return align_up(granules * granule_bytes, alignof(granule_bits)) +
               bit_pairs(granules) * sizeof(granule_bits);
    }

    [[nodiscard]] std::byte* base() const noexcept { return base_; }
    [[nodiscard]] granule_bits* bits() const noexcept { return bits_; }
    [[nodiscard]] std::size_t granules() const noexcept { return granules_; }

  private:
    std::byte* base_ = nullptr; // held, not owned
    granule_bits* bits_ = nullptr;
    std::size_t granules_ = 0;
};

template <class Region>
class region_resource : public resource {
  public:
    using region_type = Region;
    using places_type = typename Region::places_type;
    static constexpr std::size_t granule_bytes = Region::granule_bytes;

    // std's calls, for holders of the concrete type without a virtual call.
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = max_align) {
        return region_resource::do_allocate(bytes, alignment);
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment = max_align) {
        region_resource::do_deallocate(p, bytes, alignment);
    }

    /// Returns: the bytes that blocks can have, live and free: the region without its bits.
    [[nodiscard]] std::size_t capacity_bytes() const noexcept { return region_.capacity_bytes(); }

  protected:
    constexpr region_resource(std::pmr::memory_resource* upstream, std::size_t held_bytes) noexcept
        : region_bytes_{held_bytes}, served_{upstream} {}

    region_type region_;
    std::size_t region_bytes_; // I2
    served_blocks served_;

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) final {
        void* const p = region_.allocate(bytes, alignment);
        return p != nullptr ? p : served_.allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) final {
        if (!region_.deallocate(p, bytes, alignment)) [[unlikely]]
            deallocate_elsewhere(p, bytes, alignment);
    }
    std::optional<misuse_kind> do_try_deallocate(void* p, std::size_t bytes,
                                                 std::size_t alignment) final {
        if (region_.deallocate(p, bytes, alignment))
            return std::nullopt;
        return region_.holds(p) ? region_.diagnose(p, bytes, alignment)
                                : served_.deallocate(p, bytes, alignment);
    }
    [[nodiscard]] std::optional<misuse_kind> do_diagnose(void const* p, std::size_t bytes,
                                                         std::size_t alignment) const final {
        return region_.holds(p) ? region_.diagnose(p, bytes, alignment)
                                : served_.diagnose(p, bytes, alignment);
    }
    bool do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes, std::size_t) final {
        return region_.holds(p) ? region_.try_resize(p, old_bytes, new_bytes)
                                : old_bytes == new_bytes;
    }
    [[nodiscard]] bool do_owns(void const* p) const final { return region_.holds(p); }
    [[nodiscard]] std::size_t do_good_size(std::size_t bytes, std::size_t) const final {
        std::size_t const granules = region_.granules_for(bytes);
        return granules <= region_.places.granules() ? granules * granule_bytes : bytes;
    }
    void do_release() final {
        region_.free_all();
        served_.release();
    }
    std::size_t do_trim() final {
        region_.merge();
        return served_.trim();
    }
    [[nodiscard]] statistics do_stats() const final {
        statistics s;
        s.footprint_bytes = region_bytes_;
        s.overhead_bytes = region_bytes_ - capacity_bytes();
        region_.add_to(s);
        served_.add_to(s);
        return s;
    }
    void do_visit_blocks(block_visitor f) const final {
        auto const served = served_.in_address_order();
        std::span<block_info const> rest = served;
        if (capacity_bytes() != 0)
            rest = visit_below(rest, region_.places.base(), f);
        region_.visit(f);
        visit_below(rest, nullptr, f);
    }
    [[nodiscard]] bool do_check_invariants() const final {
        char const* const broken = region_.broken_invariant();
        if (broken != nullptr)
            std::fprintf(stderr, "strata: %s %p: %s\n", name(), static_cast<void const*>(this),
                         broken);
        return broken == nullptr && served_.check_invariants();
    }
    // What is no live block of the region: upstream's, null, or wrong. Kept apart, so that deallocate
    // saves no registers for it.
    [[gnu::noinline]] void deallocate_elsewhere(void* p, std::size_t bytes, std::size_t alignment) {
        if (auto const wrong = try_deallocate(p, bytes, alignment))
            report(*wrong, p, bytes, alignment);
    }
    [[nodiscard]] std::pmr::memory_resource* do_upstream_resource() const final {
        return served_.upstream();
    }
};

} // namespace strata::detail
