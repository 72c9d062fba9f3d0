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
//      base_                                                        base_ + n * block_bytes
//        │ a │ b   b   b │   │ c │   │   │ …                       │ bits │
//      free    0   0   0   0   1   0   1   1                       one bit: nobody has it
//      joined  0   0   1   1   0   0   0   0                       one bit: belongs to the run of
//                                                                  the block before it
//   I1  no block is both free and joined; what is neither starts a live block (a, b, c).
//   I2  joined_ bits at and above n are clear; joined_blocks_ counts those that are set.
//   I3  front_, where it is not null, is a free block below all others, and its free bit is not
//       set: a pair of allocate and deallocate passes it on and writes no bits.
//   I4  blocks are aligned to alignment_, the largest power of two that divides all their addresses.
//   I5  the region holds the blocks, their bits, and nothing else; a caller's buffer also what is
//       left over at both ends. What did not fit is in served_.
//
// Cost: allocate and deallocate O(1) for one block, O(n / 64) at worst for a run: 64 blocks are
// looked at in one step, and 64 full words skipped. 2 + 1/64 bits a block and less than 100 bytes;
// no upstream call unless a request does not fit. Not for blocks of many sizes: runs are searched.

#include <cstddef>
#include <memory_resource>
#include <optional>
#include <utility>

#include <strata/detail/bits.hpp>
#include <strata/detail/exact_divider.hpp>
#include <strata/detail/free_bits.hpp>
#include <strata/detail/served_blocks.hpp>
#include <strata/resource.hpp>

namespace strata {

class synchronized_fixed_block_resource;

class fixed_block_resource final : public resource {
  public:
    /// A pool of at least `capacity_bytes`, in blocks of `block_bytes`.
    /// There are capacity_bytes / block_bytes blocks, rounded up; then block_bytes is rounded up to
    /// a multiple of 8. Blocks are aligned as an object of their size may need: those of 48 bytes to
    /// 16, those of 24 to 8, up to 4096. A request for more alignment gets the lowest block that
    /// happens to have it. Mind that allocate(24) asks for 16, as its default: of 24-byte blocks
    /// every second one has that. Containers ask for what their nodes need.
    /// Throws: invalid_argument where either size is 0, bad_alloc where the region cannot be had.
    /// Complexity: 1 upstream call; O(capacity / 64 blocks) to set the bits.
    fixed_block_resource(std::size_t capacity_bytes, std::size_t block_bytes,
                         std::pmr::memory_resource* upstream = nullptr);

    /// A pool in `buffer`, which may have any alignment and must outlive the resource. The bits lie
    /// in it too. Blocks are aligned as above, but to 64 at most.
    /// Throws: invalid_argument where block_bytes is 0 or the buffer does not hold one block.
    fixed_block_resource(void* buffer, std::size_t bytes, std::size_t block_bytes,
                         std::pmr::memory_resource* upstream = nullptr);

    /// Returns the region and all blocks, live ones included.
    ~fixed_block_resource() override;

    /// As std::pmr::memory_resource's, without the virtual call.
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = detail::max_align) {
        return fixed_block_resource::do_allocate(bytes, alignment);
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment = detail::max_align) {
        fixed_block_resource::do_deallocate(p, bytes, alignment);
    }

    /// Returns: bytes from one block to the next: what was asked for, rounded up to 8.
    [[nodiscard]] std::size_t block_bytes() const noexcept { return block_bytes_; }
    /// Returns: the number of blocks, live and free.
    [[nodiscard]] std::size_t capacity_blocks() const noexcept { return blocks_; }

  private:
    friend class synchronized_fixed_block_resource; // takes and gives many blocks in one lock

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (bytes <= block_bytes_ && alignment <= common_alignment_) [[likely]] {
            if (front_ != nullptr) {
                requested_bytes_ += bytes;
                return std::exchange(front_, nullptr);
            }
            if (std::size_t const i = free_.take_lowest_of_word(); i != detail::free_bits::none)
                [[likely]] {
                requested_bytes_ += bytes;
                return block_at(i);
            }
        }
        return allocate_slow(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        if (!give_block(p, bytes, alignment)) [[unlikely]]
            deallocate_slow(p, bytes, alignment);
    }
    std::optional<misuse_kind> do_try_deallocate(void* p, std::size_t bytes,
                                                 std::size_t alignment) override {
        if (give_block(p, bytes, alignment)) [[likely]]
            return std::nullopt;
        return try_deallocate_slow(p, bytes, alignment);
    }
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

    // The hot path calls nothing but, at its end, a slow function, which starts anew.

    /// Returns: false, and nothing has changed, where p may be no live block of one (it is not, or
    /// is near a run), lies below the front, or would be the only free one of its word.
    bool give_block(void* p, std::size_t bytes, std::size_t alignment) noexcept {
        std::size_t const i = index_of(p);
        if (i >= blocks_ || bytes > block_bytes_ || alignment > alignment_ || is_near_run(i))
            return false;
        if (front_ == nullptr && free_.none_free_up_to(i))
            front_ = p;
        else if (detail::address_of(p) <= detail::address_of(front_) || !free_.give_second(i))
            return false;
        requested_bytes_ -= bytes;
        return true;
    }

    /// Returns: the index of the block that starts at p; where none does, blocks_ or more.
    [[nodiscard]] std::size_t index_of(void const* p) const noexcept {
        return divide_(detail::offset_between(base_, p));
    }
    [[nodiscard]] void* block_at(std::size_t i) const noexcept { return base_ + i * block_bytes_; }
    /// Returns: true where block i or the one behind it is joined; and for the last of a word, so as
    /// to look at one word only, wherever there are runs at all.
    [[nodiscard]] bool is_near_run(std::size_t i) const noexcept {
        if (joined_blocks_ == 0)
            return false;
        detail::bit_word const two = detail::bit_of(i) | detail::bit_of(i) << 1;
        return i % detail::word_bits == detail::word_bits - 1 ||
               (joined_[i / detail::word_bits] & two) != 0;
    }
    [[nodiscard]] bool is_joined(std::size_t i) const noexcept {
        return (joined_[i / detail::word_bits] & detail::bit_of(i)) != 0;
    }

    // Runs, and all that is rare.

    void lay_out(void* base, std::size_t blocks);
    [[gnu::noinline]] void* allocate_slow(std::size_t bytes, std::size_t alignment);
    void* allocate_run(std::size_t bytes, std::size_t alignment);
    [[gnu::noinline]] void deallocate_slow(void* p, std::size_t bytes, std::size_t alignment);
    [[gnu::noinline]] std::optional<misuse_kind> try_deallocate_slow(void* p, std::size_t bytes,
                                                                     std::size_t alignment);
    bool give_any_block(void* p, std::size_t bytes, std::size_t alignment) noexcept;
    std::optional<misuse_kind> deallocate_run(void* p, std::size_t bytes, std::size_t alignment);
    void drop_front() noexcept;
    void join(std::size_t first, std::size_t blocks) noexcept;
    void unjoin(std::size_t first, std::size_t blocks) noexcept;
    [[nodiscard]] std::size_t blocks_for(std::size_t bytes) const noexcept;
    [[nodiscard]] std::size_t blocks_at(std::size_t i) const noexcept;
    [[nodiscard]] bool is_free(std::size_t i) const noexcept;
    [[nodiscard]] std::optional<detail::free_bits::places>
    places_for(std::size_t alignment) const noexcept;
    [[nodiscard]] char const* broken_invariant() const noexcept;

    std::byte* base_ = nullptr;          // block 0
    detail::exact_divider divide_;       // by block_bytes_
    std::size_t block_bytes_ = 0;        // a multiple of 8
    std::size_t blocks_ = 0;             // how many
    std::size_t alignment_ = 0;          // I4
    std::size_t common_alignment_ = 0;   // the same, at most max_align: needs no check
    void* front_ = nullptr;              // I3
    std::size_t requested_bytes_ = 0;    // of the live blocks here; drifts with wrong sizes
    std::size_t joined_blocks_ = 0;      // I2
    detail::free_bits free_;             // its words lie behind the blocks
    detail::bit_word* joined_ = nullptr; // behind them; blocks_ + 1 bits
    void* region_ = nullptr;             // owned, from upstream; null: the caller's buffer
    std::size_t region_alignment_ = 0;   // as upstream was asked for
    std::size_t region_bytes_ = 0;       // I5
    detail::served_blocks served_;
};

} // namespace strata
