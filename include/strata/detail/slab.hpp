// SPDX-License-Identifier: BSL-1.0
#pragma once

// A slab: a piece of memory cut into equal blocks. What is known of it lies out of band; the blocks
// themselves are never read or written.
//
//   slab memory  │ block 0 │ block 1 │ block 2 │ … │ last block │ tail │
//   free bits         0         1         0     …         1    0 0 0 0 0    a bit for each block
//                └──── one word: the blocks that pop() hands out next ────┘
//
// An address becomes a bit by one exact division, which also tells whether a block begins there.
// Words are gone through in a circle, so that blocks come in address order, and those that were freed
// behind when their turn comes: a list through freed blocks costs a cache miss for each of them.
//
//   I1  exactly the bits of free blocks are set; those behind the last block are not.
//   I2  count is what must come back until something is to be done: all live blocks of a slab that
//       can serve (then it is empty), one block of a full slab (then it can serve again).

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>

#include <strata/detail/bits.hpp>
#include <strata/detail/exact_divider.hpp>

namespace strata::detail {

enum class slab_state : std::uint8_t {
    empty,   ///< belongs to no size class
    serving, ///< its class's current one, or in its list of others that can serve
    full,    ///< in no list
};

class class_pool;

struct slab {
    std::byte* begin;
    class_pool* owner;      ///< null: the slab is empty and belongs to no class
    exact_divider block_of; ///< from offset to block
    std::uint64_t* word;    ///< the current word of bits
    std::byte* word_begin;  ///< the block of its first bit
    std::uint32_t count;    ///< I2
    std::uint32_t blocks;
    std::uint32_t block_bytes;
    std::uint32_t bytes;         ///< of slab memory
    std::uint32_t record_offset; ///< bytes from the chunk's description to this
    slab_state state;
    std::uint8_t size_class;
    std::uint8_t* marks; ///< a byte for each block; null: none are kept
    slab* next;          ///< in the list that it is in; not owned
    slab* previous;

    /// Returns: a block of the current word, now live; null when it has none. Complexity: O(1).
    std::byte* pop() noexcept {
        std::uint64_t const free = *word;
        if (free == 0)
            return nullptr;
        *word = free & (free - 1); // clears the lowest 1
        ++count;
        return word_begin + static_cast<unsigned>(std::countr_zero(free)) * block_bytes;
    }

    /// Takes up to `most` blocks of the current word, in address order: f(block, its index).
    /// Returns: how many.
    template <class Function>
    std::size_t pop_many(std::size_t most, Function const& f) noexcept {
        std::uint64_t free = *word;
        auto const first = static_cast<std::size_t>(word - bits()) * 64;
        std::size_t taken = 0;
        for (; free != 0 && taken != most; free &= free - 1, ++taken) {
            std::size_t const i = lowest_bit(free);
            f(word_begin + i * block_bytes, first + i);
        }
        *word = free;
        count += static_cast<std::uint32_t>(taken);
        return taken;
    }

    /// Takes a block back; any address may be passed.
    /// Returns: whether p was a live block of this slab; it is free then, and count one less.
    /// Complexity: O(1).
    bool push(void const* p) noexcept { return push_at(block_of(offset_between(begin, p))); }
    /// The same of the block of that index; any index may be passed.
    bool push_at(std::uint64_t i) noexcept {
        if (i >= blocks)
            return false;
        std::uint64_t const mark = std::uint64_t{1} << i % 64;
        std::uint64_t& free = bits()[i / 64];
        if ((free & mark) != 0)
            return false;
        free |= mark;
        --count;
        return true;
    }

    /// Makes a word that has a free block the current one: this one, or the next that has.
    /// Returns: whether there is one. Complexity: O(blocks / 64), amortised by the blocks it has.
    bool turn() noexcept;

    enum class marks_kept : bool { none, behind_blocks };

    /// Makes an empty slab one of blocks of `bytes_each`; marks are 0.
    void assign(class_pool& to, std::size_t to_class, std::size_t bytes_each,
                marks_kept with) noexcept;

    /// Returns: a slab that holds no address and has no block; always the same. Never written.
    static slab* none() noexcept { return const_cast<slab*>(&none_); }
    [[nodiscard]] std::uint32_t words() const noexcept { return (blocks + 63) / 64; }

    /// Requires: a block begins at p.
    [[nodiscard]] std::size_t index_of(void const* p) const noexcept {
        return static_cast<std::size_t>(block_of(offset_between(begin, p)));
    }
    [[nodiscard]] std::size_t extent() const noexcept { return std::size_t{blocks} * block_bytes; }
    [[nodiscard]] std::uint32_t live() const noexcept {
        return state == slab_state::full ? blocks : count;
    }
    [[nodiscard]] bool is_live(void const* p) const noexcept {
        std::uint64_t const i = block_of(offset_between(begin, p));
        return i < blocks && (bits()[i / 64] >> i % 64 & 1) == 0;
    }
    [[nodiscard]] bool contains(void const* p) const noexcept {
        return offset_between(begin, p) < bytes;
    }

    /// The bits follow the slab; there is room for bits_bytes(bytes), whatever its class.
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
    static slab const none_;
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
