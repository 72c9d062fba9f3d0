// SPDX-License-Identifier: BSL-1.0
#pragma once

// The regions of a fixed_block_resource that grows, behind its first: each from upstream, with as
// many blocks of the same size.
//
//   first_ ─► │ blocks … │ bits │ further │ ─► │ blocks … │ bits │ further │ ─► …
//                  one piece of upstream memory, its description behind
//
//   I1  recent_ is one of the list; null where there is none.
//
// A request is answered by the region that answered the last one, else by the others in turn: O(1)
// for a single block as long as that one has any, O(regions) when it is full. An address is looked
// for in the same order. So there should be few: a capacity near what is needed.

#include <cstddef>
#include <memory_resource>

#include <strata/detail/block_region.hpp>

namespace strata::detail {

class further_block_regions {
  public:
    struct geometry {
        std::size_t blocks;
        std::size_t block_bytes;
        std::size_t alignment; ///< upstream is asked for
        bool prefault;
    };

    further_block_regions() noexcept = default;
    further_block_regions(further_block_regions const&) = delete;
    further_block_regions& operator=(further_block_regions const&) = delete;

    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }

    /// Returns: a block or run of a region that is there, or null.
    void* take(std::size_t bytes, std::size_t alignment) noexcept;
    /// The same from one more region. Returns: null where upstream has no memory for it, or where
    /// it has no place that is so aligned, and goes back.
    void* take_from_new(geometry const& like, std::size_t bytes, std::size_t alignment,
                        std::pmr::memory_resource* upstream);
    /// Returns: what such a request gets of the first region where it fits; 0: it fits in none.
    [[nodiscard]] std::size_t fitting_bytes(std::size_t bytes,
                                            std::size_t alignment) const noexcept;
    /// Returns: the region that holds p, or null.
    [[nodiscard]] block_region* region_of(void const* p) const noexcept;
    /// Returns: the region with the lowest address above p (null: the lowest of all), or null.
    [[nodiscard]] block_region const* next_above(void const* p) const noexcept;

    void release(std::pmr::memory_resource* upstream) noexcept;
    /// Regions without a live block go back. Returns: their bytes.
    std::size_t trim(std::pmr::memory_resource* upstream) noexcept;
    void add_to(statistics& s) const noexcept;
    [[nodiscard]] char const* broken_invariant() const noexcept;

  private:
    struct further {
        block_region region;
        std::size_t alignment; ///< upstream was asked for
        further* next;         ///< owned
        [[nodiscard]] std::size_t bytes() const noexcept;
    };

    static void give_back(further* list, std::pmr::memory_resource* upstream) noexcept;

    further* first_ = nullptr;  // owned
    further* recent_ = nullptr; // I1
};

/// Writes a byte of each page, so that the system has to find memory for it now: the byte that was
/// there before.
void touch_pages(void* memory, std::size_t bytes) noexcept;

} // namespace strata::detail
