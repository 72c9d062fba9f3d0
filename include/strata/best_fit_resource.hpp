// SPDX-License-Identifier: BSL-1.0
#pragma once

// best_fit_resource: one region; every request gets the smallest free block that fits; neighbours
// are merged at every free.
//
//   region   │ a a a │ free   5 │ b │ c c c │ free 5 │ top: never used since the last merge │ bits │
//   live       1 0 0   0 0 0 0 0  1   1 0 0   0 …                                  a granule of
//   end        0 0 0   0 0 0 0 1  0   0 0 0   … 1                                  16 bytes each
//
// Live blocks have no header: the caller says how large they are. Two bits a granule lie out of
// band behind the region, 64 granules' worth in one pair of words, so that one cache line of bits
// covers 4 KiB. A free block describes itself in its own memory and is found by size in the index
// (best_fit_index.hpp). The free tail of the region, `top`, is in no index: a bump pointer.
//
//   I1  live(g): a live block starts at granule g. end(g): a free block, not top, ends with g.
//   I2  where a block ends, the next granule starts a live block (live), top, or a free block
//       (neither), whose size stands in its first word; end and last word lead back to it.
//   I3  no two free blocks are neighbours: after everything was freed, in any order, top is all.
//   I4  granules count from 1; the bits of granule 0 and of granules_ + 1, where top ends, are
//       clear, so that nothing is merged beyond the region.
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
#include <cstdint>
#include <memory_resource>
#include <optional>

#include <strata/detail/best_fit_index.hpp>
#include <strata/detail/bits.hpp>
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
    [[nodiscard]] std::size_t capacity_bytes() const noexcept { return granules_ * granule_bytes; }

  private:
    using granule = detail::best_fit_index::granule; // an index of granules, or a number of them
    static constexpr std::size_t granule_bytes = detail::best_fit_index::granule_bytes;
    static constexpr std::size_t most_granules = (std::size_t{1} << 32) - 128;

    struct bit_words { // of 64 granules
        std::uint64_t live;
        std::uint64_t end;
    };
    struct extent { // of a block
        granule first;
        granule size;
    };

    void* do_allocate(std::size_t bytes, std::size_t alignment) override;
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override;
    std::optional<misuse_kind> do_try_deallocate(void* p, std::size_t bytes,
                                                 std::size_t alignment) override;
    bool do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                       std::size_t alignment) override;
    [[nodiscard]] std::optional<misuse_kind> do_diagnose(void const* p, std::size_t bytes,
                                                         std::size_t alignment) const override;
    [[nodiscard]] bool do_owns(void const* p) const override {
        return offset_of(p) < capacity_bytes();
    }
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

    void lay_out(std::byte* base, std::size_t granules) noexcept;
    void free_all() noexcept;

    [[nodiscard]] granule smallest(granule size) const noexcept;
    [[nodiscard]] granule smallest_aligned(granule fitting, std::size_t size,
                                           std::size_t alignment) const noexcept;
    [[nodiscard]] granule gap_before(granule g, std::size_t alignment) const noexcept;
    void cut(granule g, granule place, granule size) noexcept;
    void add_free(extent e) noexcept;
    void take_free(extent e) noexcept;
    [[nodiscard]] extent merged(extent e) noexcept;

    [[nodiscard]] bool is_whole_block(granule first, std::size_t size) const noexcept;
    [[nodiscard]] bool starts_block(granule g) const noexcept;
    [[nodiscard]] std::optional<misuse_kind> classify(void const* p) const noexcept;
    [[nodiscard]] granule block_end(granule first) const noexcept;
    [[nodiscard]] char const* broken_invariant() const;

    [[nodiscard]] static std::size_t granules_for(std::size_t bytes) noexcept;
    [[nodiscard]] std::size_t offset_of(void const* p) const noexcept {
        return detail::offset_between(base_, p);
    }
    [[nodiscard]] granule granule_of(void const* p) const noexcept {
        return static_cast<granule>(offset_of(p) / granule_bytes + 1);
    }
    [[nodiscard]] std::byte* address(granule g) const noexcept {
        return base_ + (std::size_t{g} - 1) * granule_bytes;
    }
    [[nodiscard]] granule end() const noexcept { return static_cast<granule>(granules_ + 1); }
    [[nodiscard]] granule top_size() const noexcept { return end() - top_; }

    [[nodiscard]] bool live(granule g) const noexcept {
        return (bits_[g / 64].live >> g % 64 & 1) != 0;
    }
    [[nodiscard]] bool ends_free(granule g) const noexcept {
        return (bits_[g / 64].end >> g % 64 & 1) != 0;
    }
    void flip_live(granule g) noexcept { bits_[g / 64].live ^= std::uint64_t{1} << g % 64; }
    void flip_end(granule g) noexcept { bits_[g / 64].end ^= std::uint64_t{1} << g % 64; }

    std::byte* base_ = nullptr;       // of granule 1
    bit_words* bits_ = nullptr;       // behind the last
    granule top_ = 1;                 // blocks from here to end() are top: I2
    std::size_t granules_ = 0;        // that blocks can have; 0: no region
    std::size_t requested_bytes_ = 0; // of live blocks in the region
    std::size_t region_bytes_ = 0;    // as taken from upstream, or the buffer's
    void* owned_ = nullptr;           // the region, where it is upstream's
    detail::best_fit_index index_;
    detail::served_blocks served_;
};

} // namespace strata
