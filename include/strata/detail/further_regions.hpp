// SPDX-License-Identifier: BSL-1.0
#pragma once

// What serves a best_fit_resource beyond its first region: further regions of one size from
// upstream, if it may grow, and upstream itself for what fits in none.
//
//   further ─► │ region │ granules … │ bits │ ─► │ region │ granules … │ bits │ ─► …
//                one piece of upstream memory, its description in front
//
//   I1  an address belongs to one region, or to the served blocks, or to nobody.
//   I2  each region holds one block of growth_bytes_; what has no room there is served by upstream.
//
// Regions are asked in turn, so there should be few: growth_bytes well above the usual request.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <vector>

#include <strata/detail/best_fit_index.hpp>
#include <strata/detail/bits.hpp>
#include <strata/detail/deferring_region.hpp>
#include <strata/detail/outside_places.hpp>
#include <strata/detail/served_blocks.hpp>
#include <strata/misuse.hpp>
#include <strata/statistics.hpp>

namespace strata::detail {

using best_fit_region = deferring_region<region<best_fit_index, outside_places>>;

/// 32-bit indices reach 64 GiB, nearly; where addresses have 32 bits, a region is a request's size.
inline constexpr std::size_t most_best_fit_granules = std::min<std::uint64_t>(
    (std::uint64_t{1} << 32) - 128, max_request_bytes / best_fit_region::granule_bytes);
inline constexpr std::size_t most_best_fit_bytes =
    most_best_fit_granules * best_fit_region::granule_bytes;

class further_regions {
  public:
    /// Regions that hold one block of `growth_bytes`, 0: none. Null upstream stands for
    /// new_delete_resource(). Does not touch upstream.
    constexpr further_regions(std::pmr::memory_resource* upstream, std::size_t growth_bytes,
                              std::size_t deferred_bytes) noexcept
        : growth_bytes_{align_up(std::min(growth_bytes, most_best_fit_bytes),
                                 best_fit_region::granule_bytes)},
          deferred_bytes_{deferred_bytes},
          served_{upstream} {}
    further_regions(further_regions const&) = delete;
    further_regions& operator=(further_regions const&) = delete;
    ~further_regions() { release(); }

    [[nodiscard]] std::pmr::memory_resource* upstream() const noexcept {
        return served_.upstream();
    }

    // As served_blocks, whose words stand for these, too.
    void* allocate(std::size_t bytes, std::size_t alignment);
    std::optional<misuse_kind> deallocate(void* p, std::size_t bytes, std::size_t alignment);
    [[nodiscard]] std::optional<misuse_kind> diagnose(void const* p, std::size_t bytes,
                                                      std::size_t alignment) const;
    bool try_resize(void const* p, std::size_t old_bytes, std::size_t new_bytes) noexcept;
    [[nodiscard]] bool owns(void const* p) const noexcept { return region_of(p) != nullptr; }
    void release() noexcept;
    std::size_t trim() noexcept; ///< regions that hold no live block go
    void add_to(statistics& s) const noexcept;
    [[nodiscard]] std::pmr::vector<block_info> in_address_order() const;
    [[nodiscard]] bool check_invariants() const;

    [[nodiscard]] std::size_t most_bytes() const noexcept { return growth_bytes_; }
    [[nodiscard]] std::size_t capacity_bytes() const noexcept;

  private:
    struct further {
        best_fit_region region;
        std::size_t bytes; ///< as upstream served them
        further* next;     ///< owned
    };

    [[nodiscard]] bool grow();
    [[nodiscard]] further* region_of(void const* p) const noexcept;
    void give_back(further* list) const noexcept;

    std::size_t growth_bytes_;
    std::size_t deferred_bytes_;
    further* first_ = nullptr; // owned
    served_blocks served_;
};

} // namespace strata::detail
