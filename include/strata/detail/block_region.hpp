// SPDX-License-Identifier: BSL-1.0
#pragma once

// One region of equal blocks, as fixed_block_resource hands them out: a block, or a run of adjacent
// ones, always at the lowest address that fits.
//
//      base_                                                        base_ + n * block_bytes
//        │ a │ b   b   b │   │ c │   │   │ …                       │ bits │
//      free    0   0   0   0   1   0   1   1                       one bit: nobody has it
//      joined  0   0   1   1   0   0   0   0                       one bit: belongs to the run of
//                                                                  the block before it
//   I1  no block is both free and joined; what is neither starts a live block (a, b, c).
//   I2  joined_ bits at and above n are clear; joined_blocks_ counts those that are set.
//   I3  front_, where it is not null, is a free block below all others, and its free bit is not
//       set: a pair of allocate and deallocate passes it on, and neither reads nor writes bits. No
//       other block below edge_ is free. While front_ is null, last_ is a live block of one with no
//       free block below it, or null.
//   I4  blocks are aligned to alignment_, the largest power of two that divides all their addresses.
//   I5  singles_ is blocks_ while there were no runs, then 0; from then on free_ tracks runs.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include <strata/detail/bits.hpp>
#include <strata/detail/exact_divider.hpp>
#include <strata/detail/free_bits.hpp>
#include <strata/misuse.hpp>
#include <strata/statistics.hpp>

namespace strata::detail {

class block_region {
  public:
    /// Returns: bytes that so many blocks and their bits take; a multiple of 8.
    static std::size_t bytes_for(std::size_t blocks, std::size_t block_bytes) noexcept;
    /// Returns: the most blocks that fit into `bytes` with their bits.
    static std::size_t most_blocks(std::size_t bytes, std::size_t block_bytes) noexcept;

    block_region() noexcept = default;

    /// All blocks are free. Requires: `blocks` and `block_bytes` are not 0, the latter a multiple of
    /// 8, and so is `base` (held, not owned), where bytes_for(blocks, block_bytes) bytes are.
    block_region(void* base, std::size_t blocks, std::size_t block_bytes) noexcept;

    [[nodiscard]] std::byte* base() const noexcept { return base_; }
    [[nodiscard]] std::size_t block_bytes() const noexcept { return block_bytes_; }
    [[nodiscard]] std::size_t blocks() const noexcept { return blocks_; }
    [[nodiscard]] std::size_t capacity_bytes() const noexcept { return blocks_ * block_bytes_; }
    /// From base on, to be hidden: the blocks, and what may lie between them and the bits.
    [[nodiscard]] std::size_t hidden_bytes() const noexcept;

    /// Returns: whether p lies in the blocks.
    [[nodiscard]] bool holds(void const* p) const noexcept {
        return offset_between(base_, p) < capacity_bytes();
    }

    /// Takes a block. Returns: false, and nothing has changed, where it may be the last of its word
    /// of bits, bytes do not fit into one block, or the alignment is above 16 or that of all blocks.
    bool take_one(void*& p, std::size_t bytes, std::size_t alignment) noexcept {
        if (bytes > block_bytes_ || alignment > common_alignment_) [[unlikely]]
            return false;
        p = front_;
        if (p != nullptr) {
            front_ = nullptr;
            last_ = p;
            return true;
        }
        std::size_t i = 0;
        if (!free_.take_lowest_of_word(i)) [[unlikely]]
            return false;
        p = last_ = block_at(i);
        return true;
    }

    /// Gives a block back. Returns: false, and nothing has changed, where p may be no live block of
    /// one (it is not, or there were runs), lies below the front, or would be the only free one of
    /// its word.
    bool give_one(void* p, std::size_t bytes, std::size_t alignment) noexcept {
        if (bytes > block_bytes_ || alignment > alignment_) [[unlikely]]
            return false;
        if (p == last_ && front_ == nullptr) {
            front_ = p;
            return p != nullptr;
        }
        std::size_t const i = index_of(p);
        if (i >= singles_) [[unlikely]]
            return false;
        std::uintptr_t const at = address_of(p);
        if (front_ == nullptr && at < std::max(edge_, address_of(last_))) {
            set_front(p);
            return true;
        }
        if (at <= address_of(front_) || !free_.give_second(i)) [[unlikely]]
            return false;
        if (at < edge_)
            edge_ = at;
        return true;
    }

    // The two above take and give what they can without a call; these are complete.

    /// Returns: the lowest block or run that fits, or null. Complexity: O(1) for a single block, but
    /// O(blocks / 64) at worst for a run or an alignment that not all blocks have.
    void* take(std::size_t bytes, std::size_t alignment) noexcept;

    /// give_one of every live block that is no run. Returns: false, and nothing has changed, where p
    /// is none.
    bool give_any_one(void* p, std::size_t bytes, std::size_t alignment) noexcept;

    /// Requires: holds(p). Returns: what is wrong, and nothing has changed; or nothing.
    std::optional<misuse_kind> give(void* p, std::size_t bytes, std::size_t alignment) noexcept;

    /// Requires: holds(p), and p starts a live block of old_bytes.
    bool resize(void const* p, std::size_t old_bytes, std::size_t new_bytes) noexcept;

    /// Requires: holds(p).
    [[nodiscard]] std::optional<misuse_kind> judge(void const* p, std::size_t bytes,
                                                   std::size_t alignment) const noexcept;

    /// Returns: what such a request gets where all blocks are free; 0: it does not fit.
    [[nodiscard]] std::size_t fitting_bytes(std::size_t bytes,
                                            std::size_t alignment) const noexcept;

    /// Makes every block free.
    void give_all() noexcept;
    [[nodiscard]] bool is_all_free() const noexcept;
    /// Adds blocks, live and free, and what is free at most; neither footprint nor overhead.
    void add_to(statistics& s) const noexcept;

    /// Calls f(block_info) for every block in address order.
    template <class Function>
    void visit(Function const& f) const {
        for (std::size_t i = 0; i < blocks_;) {
            bool const live = !is_free(i);
            std::size_t const n = live ? blocks_at(i) : 1;
            f(block_info{block_at(i), n * block_bytes_, live});
            i += n;
        }
    }

    /// Walks everything. Returns: the invariant that does not hold, in words; null where all do.
    [[nodiscard]] char const* broken_invariant() const noexcept;

  protected:
    // For fixed_block_resource's friend, which keeps marks by index and takes many blocks at once.

    /// Returns: the index of the block that starts at p; where none does, blocks_ or more.
    [[nodiscard]] std::size_t index_of(void const* p) const noexcept {
        return divide_(offset_between(base_, p));
    }
    [[nodiscard]] void* block_at(std::size_t i) const noexcept { return base_ + i * block_bytes_; }
    [[nodiscard]] bool is_joined(std::size_t i) const noexcept {
        return (joined_[i / word_bits] & bit_of(i)) != 0;
    }
    [[nodiscard]] bool is_free(std::size_t i) const noexcept {
        return free_.is_free(i) || (front_ != nullptr && index_of(front_) == i);
    }
    /// The front becomes an ordinary free block. To be called before free_ is given any.
    void drop_front() noexcept;
    /// Requires: front_ is null, and no block below p, edge_ and last_ is free.
    void set_front(void* p) noexcept {
        edge_ = std::max(edge_, address_of(last_));
        front_ = p;
    }

    std::byte* base_ = nullptr;        // block 0; held, not owned
    exact_divider divide_;             // by block_bytes_
    std::size_t block_bytes_ = 0;      // a multiple of 8
    std::size_t blocks_ = 0;           // how many
    std::size_t alignment_ = 0;        // I4
    std::size_t common_alignment_ = 0; // the same, at most max_align: needs no check
    // What is above never changes, and lies in another line: threads read it without a lock.
    std::size_t singles_ = 0; // I5
    void* front_ = nullptr;   // I3
    void* last_ = nullptr;    // I3
    std::uintptr_t edge_ = 0; // I3; 0: nothing is known
    free_bits free_;          // its words lie behind the blocks

  private:
    void track_runs() noexcept;
    void put(void const* p) noexcept;
    [[nodiscard]] bool is_near_run(std::size_t i) const noexcept;
    void* take_run(std::size_t bytes, std::size_t alignment) noexcept;
    void join(std::size_t first, std::size_t blocks) noexcept;
    void unjoin(std::size_t first, std::size_t blocks) noexcept;
    [[nodiscard]] std::size_t blocks_for(std::size_t bytes) const noexcept;
    [[nodiscard]] std::size_t blocks_at(std::size_t i) const noexcept;
    [[nodiscard]] std::optional<free_bits::places> places_for(std::size_t alignment) const noexcept;

    bit_word* joined_ = nullptr;    // behind the free bits; blocks_ + 1 bits
    std::size_t joined_blocks_ = 0; // I2
};

} // namespace strata::detail
