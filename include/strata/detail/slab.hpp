// SPDX-License-Identifier: BSL-1.0
#pragma once

// A slab: a piece of memory cut into equal blocks. What is known of it lies out of band; the blocks
// themselves are never read or written.
//
//   slab memory  │ block 0 │ block 1 │ block 2 │ … │ last block │ tail │
//   live bits        1         0         1             0                 a bit for each 2^shift bytes
//                └── one word of bits: the blocks that pop() hands out next ──┘
//
// A block's bit stands at (address - begin) >> shift, where 2^shift is the largest power of two
// that divides the block size: no multiplication, and a pointer into a block never hits a set bit.
// Of a block size of k * 2^shift every k-th bit belongs to a block: `starts` masks those of the
// current word. Words are gone through in a circle, so that blocks come in address order and those
// that were freed behind are found when their turn comes: a list through freed blocks costs a cache
// miss for each of them, 36 ns a block of 100,000 that are freed in random order.
//
//   I1  exactly the live blocks have their bit set.
//   I2  count is what must come back until something is to be done: all live blocks of a slab that
//       can serve (then it is empty), one block of a full slab (then it can serve again).
//   I3  word, word_begin and starts are those of one word of bits.

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
    std::byte* begin;
    std::uint64_t* word;   ///< the current word of bits
    std::byte* word_begin; ///< the address that its bit 0 stands for
    std::uint64_t starts;  ///< its bits that belong to blocks
    std::uint32_t count;   ///< I2
    std::uint32_t bit_count;
    std::uint8_t shift; ///< log2(bytes) of memory for each bit
    std::uint8_t size_class;
    slab_state state;
    std::uint32_t block_bytes;
    // Not needed to hand out a block of the current word:
    std::uint64_t every_kth;     ///< bits 0, k, 2k, … of a word
    std::uint32_t k;             ///< block_bytes >> shift, an odd number
    std::uint32_t extent;        ///< bytes from begin to the end of the last whole block
    std::uint32_t bytes;         ///< of slab memory
    std::uint32_t record_offset; ///< bytes from the chunk's description to this
    slab* next;                  ///< in the list that it is in; not owned
    slab* previous;

    /// Returns: a block of the current word, now live; null when it has none. Complexity: O(1).
    void* pop() noexcept {
        std::uint64_t const free = ~*word & starts;
        if (free == 0)
            return nullptr;
        *word |= free & (~free + 1);
        ++count;
        return word_begin + (static_cast<std::size_t>(std::countr_zero(free)) << shift);
    }

    /// Takes a block back; any address may be passed.
    /// Returns: whether p was a live block of this slab; it is free then, and count one less.
    /// Complexity: O(1).
    bool push(void const* p) noexcept {
        std::size_t const i = bit_of(p);
        if (i >= bit_count)
            return false;
        std::uint64_t& marks = bits()[i / 64];
        std::uint64_t const mark = std::uint64_t{1} << i % 64;
        if ((marks & mark) == 0)
            return false;
        marks &= ~mark;
        --count;
        return true;
    }

    /// Makes the next word that has a free block the current one.
    /// Returns: whether there is one. Complexity: O(bits / 64), amortised by the blocks it has.
    bool turn() noexcept;

    /// Makes an empty slab one of blocks of `bytes_each`.
    void assign(std::size_t to_class, std::size_t bytes_each) noexcept;

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
    void set_word(std::size_t i) noexcept;

    /// The bit of the block that starts at p; rotated, so that an offset that is no multiple of
    /// 2^shift becomes an index beyond all bits, as any address outside the slab does.
    [[nodiscard]] std::size_t bit_of(void const* p) const noexcept {
        return std::rotr(offset_between(begin, p), shift);
    }
};
static_assert(sizeof(slab) % alignof(std::uint64_t) == 0, "its bits follow it");

/// A doubly linked list of slabs through their own links: O(1) to leave from the middle.
class slab_list {
  public:
    [[nodiscard]] slab* front() const noexcept { return front_; }

    void push(slab* s) noexcept {
        s->previous = nullptr;
        s->next = front_;
        if (front_ != nullptr)
            front_->previous = s;
        else
            back_ = s;
        front_ = s;
    }

    void push_back(slab* s) noexcept {
        if (front_ == nullptr)
            return push(s);
        s->next = nullptr;
        s->previous = back_;
        back_->next = s;
        back_ = s;
    }

    void remove(slab* s) noexcept {
        if (slab* const before = s->previous; before != nullptr)
            before->next = s->next;
        else
            front_ = s->next;
        if (slab* const after = s->next; after != nullptr)
            after->previous = s->previous;
        else
            back_ = s->previous;
    }

    slab* pop() noexcept {
        slab* const s = front_;
        if (s != nullptr)
            remove(s);
        return s;
    }

  private:
    slab* front_ = nullptr;
    slab* back_ = nullptr; // valid while front_ is not null
};

} // namespace strata::detail
