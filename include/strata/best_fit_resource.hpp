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
// For an alignment above 16 the smallest free block is taken if it happens to lie right, else the
// smallest that has room wherever it lies.
//
// How blocks are carved, checked and merged stands in detail/region.hpp, how the smallest is found
// in detail/best_fit_index.hpp. Live blocks have no header. As options, small blocks wait to be
// merged (detail/deferring_region.hpp), and full regions are followed by further ones
// (detail/further_regions.hpp).
//
// Cost: allocate O(1) where a free block below 8 KiB, or top, serves it, else O(26); deallocate
// O(1) for what becomes a free block below 8 KiB, else O(26), and 1/32 step for each granule of
// blocks above 480 bytes, which finds a size that reaches over a neighbour. 1.6 % of the region for
// bits, 10 KiB in the object. No upstream call after the constructor unless a request does not fit.
// Not for a proved bound on memory: the worst case of best fit is M(n - 2) for blocks of 1 to n
// granules with M live; fixed_block_resource has a bound. Regions up to 64 GiB.
//
// Source: Knuth, TAOCP vol. 1, 2.5 (best fit, boundary tags); Lea, "A memory allocator" (bins and
// tries); Robson, "Worst case fragmentation of first fit and best fit", 1977.

#include <cstddef>
#include <memory_resource>

#include <strata/detail/further_regions.hpp>
#include <strata/detail/region_resource.hpp>

namespace strata {

struct best_fit_options {
    /// Freed blocks of up to 1 KiB wait, these bytes of them at most in each region, for the next
    /// request of their size, before they are merged with their neighbours. Faster where sizes come
    /// again, slower where many blocks are freed in a row, and no longer exactly best fit;
    /// largest_free_bytes is then what is to be had without merging. A call that finds no room, in
    /// the region or among what waits, merges all that waits: O(deferred_bytes), 35 us for 256 KiB.
    /// So does trim(), after which one free block is left when everything was freed. Default 0: all
    /// are merged at once.
    std::size_t deferred_bytes = 0;
    /// When no region has room, a further one that holds a block of this size (64 GiB - 2 KiB at
    /// most) is taken from upstream, and 10 KiB for its index; trim() returns those that hold no
    /// live block. Regions are asked in turn: let them be few. Larger requests go upstream one by
    /// one. Default 0: all do.
    std::size_t growth_bytes = 0;
};

namespace detail {
extern template class region_resource<best_fit_region, further_regions>; // best_fit_resource.cpp
}

class best_fit_resource final
    : public detail::region_resource<detail::best_fit_region, detail::further_regions> {
  public:
    /// No region yet: requests go upstream until assign(). Constant-initialised.
    /// Null upstream stands for new_delete_resource().
    constexpr explicit best_fit_resource(std::pmr::memory_resource* upstream = nullptr) noexcept
        : best_fit_resource{best_fit_options{}, upstream} {}
    constexpr explicit best_fit_resource(best_fit_options const& options,
                                         std::pmr::memory_resource* upstream = nullptr) noexcept
        : region_resource{0, upstream, options.growth_bytes, options.deferred_bytes} {
        region_.defer(options.deferred_bytes);
    }

    /// A region of `bytes` bytes from upstream, so that it can hold one block of that size; the bits
    /// come on top.
    /// Throws: invalid_argument where bytes is 0 or above 64 GiB - 2 KiB, what upstream throws.
    /// Complexity: 1 upstream call; O(bytes / 64) to clear the bits.
    explicit best_fit_resource(std::size_t bytes, std::pmr::memory_resource* upstream = nullptr)
        : best_fit_resource{bytes, best_fit_options{}, upstream} {}
    best_fit_resource(std::size_t bytes, best_fit_options const& options,
                      std::pmr::memory_resource* upstream = nullptr);

    /// A region in `buffer`, which may have any alignment, holds the bits too, and must outlive the
    /// resource. What a buffer has above 64 GiB of blocks is not used.
    /// Throws: invalid_argument where the buffer is too small to hold a block.
    best_fit_resource(void* buffer, std::size_t bytes,
                      std::pmr::memory_resource* upstream = nullptr)
        : best_fit_resource{buffer, bytes, best_fit_options{}, upstream} {}
    best_fit_resource(void* buffer, std::size_t bytes, best_fit_options const& options,
                      std::pmr::memory_resource* upstream = nullptr);

    /// Returns the region and all blocks, live ones included.
    ~best_fit_resource() override;

    /// Replaces the region by one in `buffer`, as the constructor does.
    /// Throws: invalid_argument where a block is live or the buffer too small; nothing has changed.
    void assign(void* buffer, std::size_t bytes);

  private:
    [[nodiscard]] char const* do_name() const noexcept override { return "best_fit_resource"; }

    void* owned_ = nullptr; // the region, where it is upstream's
};

} // namespace strata
