// SPDX-License-Identifier: BSL-1.0
#pragma once

// What best_fit_resource and dll_arena_resource have in common: a region that serves what it can,
// and what serves the rest: upstream, one by one. Who derives says where the region lies.
//
//   I1  an address belongs to the region, or to what lies beyond, or to nobody.
//   I2  region_bytes_ = the region's granules, its bits, and what a buffer has too much.

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <memory_resource>
#include <optional>
#include <span>

#include <strata/detail/annotate.hpp>
#include <strata/detail/bits.hpp>
#include <strata/detail/region.hpp>
#include <strata/detail/served_blocks.hpp>
#include <strata/resource.hpp>

namespace strata::detail {

/// Beyond serves what the region cannot: served_blocks, or what has its interface.
template <class Region, class Beyond = served_blocks>
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

    /// Returns: the bytes that blocks can have, live and free: the regions without their bits.
    [[nodiscard]] std::size_t capacity_bytes() const noexcept {
        return region_.capacity_bytes() + beyond_.capacity_bytes();
    }

  protected:
    template <class... Args>
    constexpr explicit region_resource(std::size_t held_bytes, Args... of_beyond) noexcept
        : region_bytes_{held_bytes}, beyond_{of_beyond...} {}

    region_type region_;
    std::size_t region_bytes_; // I2
    Beyond beyond_;

  private:
    // A region inside its object may have been made by the compiler, and be hidden by nobody.
    void hide_unused() noexcept {
        if constexpr (places_type::is_inside)
            if (region_.is_one_free_block())
                hide(region_.places.base(), region_.capacity_bytes());
    }
    [[gnu::always_inline]] static void taken_back(void const* p, std::size_t bytes) noexcept {
        if constexpr (annotates)
            take_back(p, granule_bytes * Region::granules_for(bytes));
    }
    void* do_allocate(std::size_t bytes, std::size_t alignment) final {
        hide_unused();
        void* const p = region_.quick_allocate(bytes, alignment);
        return p != nullptr ? hand_out(p, bytes) : allocate_slow(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) final {
        switch (region_.quick_deallocate(p, bytes, alignment)) {
        case Region::freeing::done:
            return taken_back(p, bytes);
        case Region::freeing::merge:
            return deallocate_merging(p, bytes, alignment);
        case Region::freeing::ask:
            return deallocate_slow(p, bytes, alignment);
        }
    }
    [[gnu::noinline]] void deallocate_merging(void* p, std::size_t bytes, std::size_t alignment) {
        if (!region_.deallocate_merging(p, bytes)) [[unlikely]]
            return deallocate_slow(p, bytes, alignment);
        taken_back(p, bytes);
    }
    [[gnu::noinline]] void* allocate_slow(std::size_t bytes, std::size_t alignment) {
        void* const p = region_.allocate(bytes, alignment);
        return p != nullptr ? hand_out(p, bytes) : beyond_.allocate(bytes, alignment);
    }
    [[gnu::noinline]] void deallocate_slow(void* p, std::size_t bytes, std::size_t alignment) {
        if (auto const wrong = try_deallocate(p, bytes, alignment))
            report(*wrong, p, bytes, alignment);
    }
    std::optional<misuse_kind> do_try_deallocate(void* p, std::size_t bytes,
                                                 std::size_t alignment) final {
        if (region_.deallocate(p, bytes, alignment)) {
            taken_back(p, bytes);
            return std::nullopt;
        }
        return region_.holds(p) ? region_.diagnose(p, bytes, alignment)
                                : beyond_.deallocate(p, bytes, alignment);
    }
    [[nodiscard]] std::optional<misuse_kind> do_diagnose(void const* p, std::size_t bytes,
                                                         std::size_t alignment) const final {
        return region_.holds(p) ? region_.diagnose(p, bytes, alignment)
                                : beyond_.diagnose(p, bytes, alignment);
    }
    bool do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes, std::size_t) final {
        bool const is_done = region_.holds(p) ? region_.try_resize(p, old_bytes, new_bytes)
                                              : beyond_.try_resize(p, old_bytes, new_bytes);
        if (is_done)
            refit(p, old_bytes, new_bytes);
        return is_done;
    }
    [[nodiscard]] bool do_owns(void const* p) const final {
        return region_.holds(p) || beyond_.owns(p);
    }
    [[nodiscard]] std::size_t do_good_size(std::size_t bytes, std::size_t) const final {
        if (bytes > std::max(region_.capacity_bytes(), beyond_.most_bytes()))
            return bytes;
        return region_.granules_for(bytes) * granule_bytes;
    }
    void do_release() final {
        region_.free_all();
        hide(region_.places.base(), region_.capacity_bytes());
        beyond_.release();
    }
    std::size_t do_trim() final {
        region_.merge_all();
        return beyond_.trim();
    }
    [[nodiscard]] statistics do_stats() const final {
        statistics s;
        s.footprint_bytes = region_bytes_;
        s.overhead_bytes = region_bytes_ - region_.capacity_bytes();
        region_.add_to(s);
        beyond_.add_to(s);
        return s;
    }
    void do_visit_blocks(block_visitor f) const final {
        auto const others = beyond_.in_address_order();
        std::span<block_info const> rest = others;
        if (region_.capacity_bytes() != 0)
            rest = visit_below(rest, region_.places.base(), f);
        region_.visit(f);
        visit_below(rest, nullptr, f);
    }
    [[nodiscard]] bool do_check_invariants() const final {
        char const* const broken = region_.broken_invariant();
        if (broken != nullptr)
            std::fprintf(stderr, "strata: %s %p: %s\n", name(), static_cast<void const*>(this),
                         broken);
        return broken == nullptr && beyond_.check_invariants();
    }
    [[nodiscard]] std::pmr::memory_resource* do_upstream_resource() const final {
        return beyond_.upstream();
    }
};

} // namespace strata::detail
