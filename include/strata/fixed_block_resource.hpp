// SPDX-License-Identifier: BSL-1.0
#pragma once

// A pool of equal blocks, sized once: for solvers and graphs that make and drop hundreds of
// thousands of nodes of one size, and whose memory must have a bound.
//
// One region, taken from upstream in the constructor or given by the caller. Nothing about a block
// is kept in it: the memory of a free block is never written, a live one has no header. Two bits a
// block lie behind the last block. A request larger than a block takes adjacent blocks, a run.
// Every request gets the lowest address that fits, so batches come out in address order.
//
//      the region        │ a │ b   b   b │   │ c │   │   │ …           │ bits │   block_region.hpp
//      as an option      │ d │ d │ e   e │ …                           │ bits │   more of them, when
//                                                       it is full: further_block_regions.hpp
//      served            what did not fit, passed upstream one by one          served_blocks.hpp
//
//   I1  the region holds the blocks, their bits, and nothing else; a caller's buffer also what is
//       left over at both ends.
//   I2  an address belongs to one region, or to the served blocks, or to nobody.
//
// Cost: allocate and deallocate O(1) for one block, O(n / 64) at worst for a run: 64 blocks are
// looked at in one step, and what is known to have no such run is not looked at. Of a million
// blocks, 90 % of them live at random, a run of 8 is found in 0.2 us, and in 0.1 ms by the first
// search, which looks at all: that is the worst case (benchmarks/run --latency). From the first run
// on a free takes up to 7 ns more. 2 bits a block and less than 1 KiB; no upstream call unless a
// request does not fit. Not for blocks of many sizes.

#include <cstddef>
#include <memory_resource>
#include <optional>

#include <strata/detail/annotate.hpp>
#include <strata/detail/bits.hpp>
#include <strata/detail/block_region.hpp>
#include <strata/detail/further_block_regions.hpp>
#include <strata/detail/served_blocks.hpp>
#include <strata/resource.hpp>

namespace strata {

class synchronized_fixed_block_resource;

struct fixed_block_options {
    enum growth_kind { fixed, by_regions };
    /// by_regions: when no region has room, a further one of as many blocks is taken from upstream;
    /// trim() returns those that hold no live block. Regions are asked in turn: let them be few.
    /// What is larger than a region goes upstream, and all that does not fit where upstream has no
    /// memory for a region. Default: requests that do not fit go upstream one by one.
    growth_kind growth = fixed;
    /// Every page of a region is touched when it is made, in the constructor for the first one, so
    /// that no allocation and no first use of a block waits for the system to find memory; a
    /// caller's buffer keeps its contents. 1.5 us a page. Default: pages come as they are used.
    bool prefault = false;
};

class fixed_block_resource final : public resource, private detail::block_region {
  public:
    /// A pool of at least `capacity_bytes`, in blocks of `block_bytes`.
    /// There are capacity_bytes / block_bytes blocks, rounded up; then block_bytes is rounded up to
    /// a multiple of 8. Blocks are aligned as an object of their size may need: those of 48 bytes to
    /// 16, those of 24 to 8, up to 1 MiB. A request for more alignment gets the lowest block that
    /// happens to have it. Mind that allocate(24) asks for 16, as its default: of 24-byte blocks
    /// every second one has that. Containers ask for what their nodes need.
    /// Throws: invalid_argument where either size is 0, bad_alloc where the region cannot be had.
    /// Complexity: 1 upstream call; O(capacity / 64 blocks) to set the bits.
    fixed_block_resource(std::size_t capacity_bytes, std::size_t block_bytes,
                         std::pmr::memory_resource* upstream = nullptr)
        : fixed_block_resource{capacity_bytes, block_bytes, fixed_block_options{}, upstream} {}
    fixed_block_resource(std::size_t capacity_bytes, std::size_t block_bytes,
                         fixed_block_options const& options,
                         std::pmr::memory_resource* upstream = nullptr);

    /// A pool in `buffer`, which may have any alignment and must outlive the resource. The bits lie
    /// in it too. Blocks are aligned as above, but to 64 at most.
    /// Throws: invalid_argument where block_bytes is 0 or the buffer does not hold one block.
    fixed_block_resource(void* buffer, std::size_t bytes, std::size_t block_bytes,
                         std::pmr::memory_resource* upstream = nullptr)
        : fixed_block_resource{buffer, bytes, block_bytes, fixed_block_options{}, upstream} {}
    fixed_block_resource(void* buffer, std::size_t bytes, std::size_t block_bytes,
                         fixed_block_options const& options,
                         std::pmr::memory_resource* upstream = nullptr);

    /// Returns the regions and all blocks, live ones included.
    ~fixed_block_resource() override;

    /// As std::pmr::memory_resource's, without the virtual call.
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = detail::max_align) {
        return fixed_block_resource::do_allocate(bytes, alignment);
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment = detail::max_align) {
        fixed_block_resource::do_deallocate(p, bytes, alignment);
    }

    /// Returns: bytes from one block to the next: what was asked for, rounded up to 8.
    [[nodiscard]] std::size_t block_bytes() const noexcept { return block_region::block_bytes(); }
    /// Returns: the number of blocks of a region, live and free.
    [[nodiscard]] std::size_t capacity_blocks() const noexcept { return blocks(); }
    [[nodiscard]] fixed_block_options const& options() const noexcept { return options_; }

  private:
    friend class synchronized_fixed_block_resource; // takes and gives many blocks in one lock

    // Two sums, since one would be a chain of loads and stores through all calls.
    class running_sum {
      public:
        void operator+=(std::size_t bytes) noexcept { in_ += bytes; }
        void operator-=(std::size_t bytes) noexcept { out_ += bytes; }
        operator std::size_t() const noexcept { return in_ - out_; }

      private:
        std::size_t in_ = 0;
        std::size_t out_ = 0;
    };

    // The hot path calls nothing but, at its end, a slow function, which starts anew.

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        void* p = nullptr;
        if (!take_one(p, bytes, alignment)) [[unlikely]]
            return allocate_slow(bytes, alignment);
        requested_bytes_ += bytes;
        return detail::hand_out(p, bytes);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        if (!give_one(p, bytes, alignment)) [[unlikely]]
            return deallocate_slow(p, bytes, alignment);
        requested_bytes_ -= bytes;
        detail::take_back(p, block_bytes());
    }
    std::optional<misuse_kind> do_try_deallocate(void* p, std::size_t bytes,
                                                 std::size_t alignment) override;
    bool do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                       std::size_t alignment) override;
    [[nodiscard]] std::optional<misuse_kind> do_diagnose(void const* p, std::size_t bytes,
                                                         std::size_t alignment) const override;
    [[nodiscard]] bool do_owns(void const* p) const override;
    [[nodiscard]] std::size_t do_good_size(std::size_t bytes, std::size_t alignment) const override;
    void do_release() override;
    std::size_t do_trim() override;
    [[nodiscard]] statistics do_stats() const override;
    void do_visit_blocks(block_visitor f) const override;
    [[nodiscard]] bool do_check_invariants() const override;
    [[nodiscard]] std::pmr::memory_resource* do_upstream_resource() const override;
    [[nodiscard]] char const* do_name() const noexcept override;

    [[gnu::noinline]] void* allocate_slow(std::size_t bytes, std::size_t alignment);
    void* allocate_further(std::size_t bytes, std::size_t alignment);
    [[gnu::noinline]] void deallocate_slow(void* p, std::size_t bytes, std::size_t alignment);
    [[nodiscard]] detail::block_region* region_of(void const* p) noexcept;
    [[nodiscard]] detail::block_region const* region_of(void const* p) const noexcept;
    [[nodiscard]] detail::block_region const* next_region(void const* above) const noexcept;

    running_sum requested_bytes_;      // of the live blocks here; drifts with wrong sizes
    void* region_ = nullptr;           // owned, from upstream; null: the caller's buffer
    std::size_t region_alignment_ = 0; // as upstream was, or would be, asked for
    std::size_t region_bytes_ = 0;     // I1
    fixed_block_options options_;
    detail::further_block_regions further_;
    detail::served_blocks served_;
};

} // namespace strata
