// SPDX-License-Identifier: BSL-1.0
#pragma once

// A slab: a piece of memory cut into equal blocks. What is known of it lies out of band.
//
//   slab memory  │ block 0 │ block 1 │ block 2 │ … │ last block │ tail │
//                            ▲ free ──► links through the free blocks   ▲
//                                      fresh ───► never handed out   extent
//   slab         │ begin, free, fresh, extent, count … │ live bits: 1 for each 2^shift bytes │
//
// A block's bit stands at (address - begin) >> shift, where 2^shift is the largest power of two
// that divides the block size: no multiplication, and a pointer into a block never hits a set bit.
//
//   I1  capacity = live + free-listed + fresh blocks; exactly the live ones have their bit set.
//   I2  count is what must come back until something is to be done: all live blocks of a slab that
//       can serve (then it is empty), one block of a full slab (then it can serve again).
//   I3  an empty slab has no free list: blocks are handed out in address order again. Forgetting
//       the list is what makes a large batch that is freed in random order cheap the next time.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>

#include <strata/detail/bits.hpp>

namespace strata::detail {

enum class slab_state : std::uint8_t {
    empty,   ///< belongs to no size class
    serving, ///< its class's current slab, or in its class's list of slabs that can serve
    full,    ///< in no list
};

struct slab {
    struct free_block {
        free_block* next;
    };

    std::byte* begin;
    free_block* free;     ///< freed blocks, last in first out
    std::uint32_t fresh;  ///< offset in bytes: blocks from here to extent were never handed out
    std::uint32_t extent; ///< offset in bytes: end of the last whole block
    std::uint32_t bit_count;
    std::uint32_t count; ///< I2
    std::uint32_t block_bytes;
    std::uint32_t bytes; ///< of slab memory
    std::uint8_t shift;  ///< log2(bytes) of memory for each bit
    std::uint8_t size_class;
    slab_state state;
    std::uint32_t record_offset; ///< bytes from the chunk's description to this
    slab* next;                  ///< in the list that it is in; not owned
    slab* previous;

    /// Returns: a block, now live; null when there is none. Complexity: O(1).
    void* pop() noexcept {
        std::byte* p = nullptr;
        if (free != nullptr) {
            p = reinterpret_cast<std::byte*>(free);
            free = free->next;
        } else if (fresh != extent) {
            p = begin + fresh;
            fresh += block_bytes;
        } else {
            return nullptr;
        }
        std::size_t const i = offset_between(begin, p) >> shift;
        bits()[i / 64] |= std::uint64_t{1} << i % 64;
        ++count;
        return p;
    }

    /// Takes a block back; any address may be passed.
    /// Returns: whether p was a live block of this slab; it is free then, and count one less.
    /// Complexity: O(1).
    bool push(void* p) noexcept {
        std::size_t const i = bit_of(p);
        if (i >= bit_count)
            return false;
        std::uint64_t& word = bits()[i / 64];
        std::uint64_t const mask = std::uint64_t{1} << i % 64;
        if ((word & mask) == 0)
            return false;
        word &= ~mask;
        free = ::new (p) free_block{free};
        --count;
        return true;
    }

    /// Requires: no block is live.
    void forget_free_list() noexcept {
        free = nullptr;
        fresh = 0;
    }

    /// Makes an empty slab one of blocks of `bytes_each`.
    void assign(std::size_t to_class, std::size_t bytes_each) noexcept {
        block_bytes = static_cast<std::uint32_t>(bytes_each);
        size_class = static_cast<std::uint8_t>(to_class);
        shift = static_cast<std::uint8_t>(std::countr_zero(block_bytes));
        extent = bytes / block_bytes * block_bytes;
        bit_count = extent >> shift;
        state = slab_state::serving;
        forget_free_list();
    }

    [[nodiscard]] std::uint32_t capacity() const noexcept { return extent / block_bytes; }
    [[nodiscard]] std::uint32_t live() const noexcept {
        return state == slab_state::full ? capacity() : count;
    }
    [[nodiscard]] bool is_live(void const* p) const noexcept {
        std::size_t const i = bit_of(p);
        return i < bit_count && (bits()[i / 64] >> i % 64 & 1) != 0;
    }

    /// The bits follow the slab; there are bits_bytes(bytes) bytes of them, whatever its class.
    [[nodiscard]] std::uint64_t* bits() noexcept {
        return std::launder(reinterpret_cast<std::uint64_t*>(this + 1));
    }
    [[nodiscard]] std::uint64_t const* bits() const noexcept {
        return std::launder(reinterpret_cast<std::uint64_t const*>(this + 1));
    }
    static constexpr std::size_t bits_bytes(std::size_t slab_bytes) noexcept {
        return align_up(slab_bytes / 8, 64) / 8;
    }

  private:
    /// The bit of the block that starts at p; rotated, so that an offset that is no multiple of
    /// 2^shift becomes an index beyond all bits, as any address outside the slab does.
    [[nodiscard]] std::size_t bit_of(void const* p) const noexcept {
        return std::rotr(offset_between(begin, p), shift);
    }
};
static_assert(sizeof(slab) == 64, "a slab's record is one cache line");

/// A doubly linked list of slabs through their own links: O(1) to leave from the middle.
class slab_list {
  public:
    [[nodiscard]] slab* front() const noexcept { return front_; }

    void push(slab* s) noexcept {
        s->previous = nullptr;
        s->next = front_;
        if (front_ != nullptr)
            front_->previous = s;
        front_ = s;
    }

    void remove(slab* s) noexcept {
        if (slab* const before = s->previous; before != nullptr)
            before->next = s->next;
        else
            front_ = s->next;
        if (slab* const after = s->next; after != nullptr)
            after->previous = s->previous;
    }

    slab* pop() noexcept {
        slab* const s = front_;
        if (s != nullptr)
            remove(s);
        return s;
    }

  private:
    slab* front_ = nullptr;
};

} // namespace strata::detail
