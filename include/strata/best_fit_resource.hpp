// SPDX-License-Identifier: BSL-1.0
#pragma once

// best_fit_resource: one region; every request gets the smallest free block that fits; neighbours
// are merged at every free.
//
//   region   │ a a a │ free │ b │ c c c │ free │ top …                    │ bits: 2 a granule │
//                                                                           of 16 bytes
//   index    free blocks by size: exactly the smallest that is large enough
//   served   what did not fit, passed upstream one by one
//
// How blocks are carved, checked and merged stands in detail/region.hpp, how the smallest is found
// in detail/best_fit_index.hpp. Live blocks have no header.
//
//   I1  region_bytes_ = the region's granules, its bits, and what a buffer has too much.
//   I2  an address belongs to the region, or to the served blocks, or to nobody.
//
// Cost: allocate O(1) for blocks below 8 KiB, O(26) above; deallocate the same, and 1/64 step for
// each granule freed, which finds a size that reaches over a neighbour. 1.6 % of the region for
// bits, 5 KiB in the object. No upstream call after the constructor unless a request does not fit.
// Not for a proved bound on memory: the worst case of best fit is M(n - 2) for blocks of 1 to n
// granules with M live; fixed_block_resource has a bound. Regions up to 64 GiB.
//
// Source: Knuth, TAOCP vol. 1, 2.5 (best fit, boundary tags); Lea, "A memory allocator" (bins and
// tries); Robson, "Worst case fragmentation of first fit and best fit", 1977.

#include <cstddef>
#include <memory_resource>
#include <optional>

#include <strata/detail/best_fit_index.hpp>
#include <strata/detail/bits.hpp>
#include <strata/detail/region.hpp>
#include <strata/detail/served_blocks.hpp>
#include <strata/resource.hpp>

namespace strata {

class best_fit_resource final : public resource {
  public:
    /// No region yet: requests go upstream until assign(). Constant-initialised.
    /// Null upstream stands for new_delete_resource().
    constexpr explicit best_fit_resource(std::pmr::memory_resource* upstream = nullptr) noexcept
        : served_{upstream} {}

    /// A region of `bytes` bytes from upstream, so that it can hold one block of that size; the bits
    /// come on top.
    /// Throws: invalid_argument where bytes is 0 or above 64 GiB, what upstream throws.
    /// Complexity: 1 upstream call; O(bytes / 64) to clear the bits.
    explicit best_fit_resource(std::size_t bytes, std::pmr::memory_resource* upstream = nullptr);

    /// A region in `buffer`, which may have any alignment, holds the bits too, and must outlive the
    /// resource. Of a buffer above 64 GiB the rest is not used.
    /// Throws: invalid_argument where the buffer is too small to hold a block.
    best_fit_resource(void* buffer, std::size_t bytes,
                      std::pmr::memory_resource* upstream = nullptr);

    /// Returns the region and all blocks, live ones included.
    ~best_fit_resource() override;

    /// Replaces the region by one in `buffer`, as the constructor does.
    /// Throws: invalid_argument where a block is live or the buffer too small; nothing has changed.
    void assign(void* buffer, std::size_t bytes);

    // std's calls, for holders of the concrete type without a virtual call.
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = detail::max_align) {
        return do_allocate(bytes, alignment);
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment = detail::max_align) {
        do_deallocate(p, bytes, alignment);
    }

    /// Returns: the bytes that blocks can have, live and free: the region without its bits.
    [[nodiscard]] std::size_t capacity_bytes() const noexcept { return region_.capacity_bytes(); }

  private:
    class places {
      public:
        constexpr places() noexcept = default;
        places(std::byte* base, std::size_t granules) noexcept;

        [[nodiscard]] std::byte* base() const noexcept { return base_; }
        [[nodiscard]] detail::granule_bits* bits() const noexcept { return bits_; }
        [[nodiscard]] std::size_t granules() const noexcept { return granules_; }

      private:
        std::byte* base_ = nullptr;            // held, not owned
        detail::granule_bits* bits_ = nullptr; // behind the granules
        std::size_t granules_ = 0;
    };

    void* do_allocate(std::size_t bytes, std::size_t alignment) override;
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override;
    std::optional<misuse_kind> do_try_deallocate(void* p, std::size_t bytes,
                                                 std::size_t alignment) override;
    bool do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                       std::size_t alignment) override;
    [[nodiscard]] std::optional<misuse_kind> do_diagnose(void const* p, std::size_t bytes,
                                                         std::size_t alignment) const override;
    [[nodiscard]] bool do_owns(void const* p) const override { return region_.holds(p); }
    [[nodiscard]] std::size_t do_good_size(std::size_t bytes, std::size_t alignment) const override;
    void do_release() override;
    std::size_t do_trim() override { return served_.trim(); }
    [[nodiscard]] statistics do_stats() const override;
    void do_visit_blocks(block_visitor f) const override;
    [[nodiscard]] bool do_check_invariants() const override;
    [[nodiscard]] std::pmr::memory_resource* do_upstream_resource() const override {
        return served_.upstream();
    }
    [[nodiscard]] char const* do_name() const noexcept override { return "best_fit_resource"; }

    detail::region<detail::best_fit_index, places> region_;
    std::size_t region_bytes_ = 0; // I1
    void* owned_ = nullptr;        // the region, where it is upstream's
    detail::served_blocks served_;
};

} // namespace strata
