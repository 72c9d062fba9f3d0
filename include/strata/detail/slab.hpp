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
// Of a pool for threads a slab has one owner, who alone writes its bits. Others who free a block set
// its remote bit, in words of their own; the owner collects these when it needs blocks. A block is
// free if either bit is set, so that whoever frees it sees whether another has.
//
//   I1  exactly the bits of free blocks are set, but for those whose remote bit is; those behind the
//       last block are not.
//   I2  count is what must come back until something is to be done: all live blocks of a slab that
//       can serve (then it is empty), one block of a full slab (then it can serve again). Of a class's
//       current slab it is one more: nothing is to be done. A block whose remote bit is set has not
//       come back yet.
//   I3  where a remote bit is set, is_pending is too, or is about to be, by the thread that set it.
//   I4  what says that a block is free is set in its new place before it is cleared in the old one.

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>

#include <strata/detail/annotate.hpp>
#include <strata/detail/bits.hpp>
#include <strata/detail/exact_divider.hpp>

namespace strata::detail {

enum class slab_state : std::uint8_t {
    empty,   ///< belongs to no size class
    serving, ///< its class's current one, or in its list of others that can serve
    full,    ///< in no list
};

class class_pool;

struct alignas(std::atomic_ref<std::uint64_t>::required_alignment) slab {
    std::byte* begin;
    std::atomic<class_pool*> owner; ///< null: the slab is empty and belongs to no class
    exact_divider block_of;         ///< from offset to block
    std::uint64_t* word = const_cast<std::uint64_t*>(&no_block_free_); ///< the current word of bits
    std::byte* word_begin; ///< the block of its first bit
    std::uint32_t count;   ///< I2
    std::uint32_t blocks;
    std::uint32_t moves; ///< how often bits have left it, or come back: see pool_shard.hpp; wraps
    std::atomic<std::uint32_t> is_pending; ///< 1 while it is in a list of those with remote bits
    std::uint32_t bytes;                   ///< of slab memory
    std::uint32_t record_offset;           ///< bytes from the chunk's description to this
    std::uint32_t block_bytes;
    slab_state state;
    std::uint8_t size_class;
    std::uint64_t* remote; ///< a bit for each block; null: there is one user only; never changes
    slab* next_pending;    ///< not owned
    slab* next;            ///< in the list that it is in; not owned
    slab* previous;

    /// Returns: a block of the current word, now live; null when it has none. Complexity: O(1).
    std::byte* pop() noexcept {
        std::uint64_t const free = *word;
        if (free == 0)
            return nullptr;
        store_relaxed(*word, free & (free - 1)); // clears the lowest 1
        ++count;
        return word_begin + static_cast<unsigned>(std::countr_zero(free)) * block_bytes;
    }

    /// Takes a block back; any address may be passed.
    /// Returns: whether p was a live block of this slab; it is free then, and count one less.
    /// Complexity: O(1).
    bool push(void const* p) noexcept {
        std::size_t const i = block_of(offset_between(begin, p));
        if (i >= blocks)
            return false;
        std::uint64_t const mark = std::uint64_t{1} << i % 64;
        std::uint64_t& word_of_it = bits()[i / 64];
        std::uint64_t const free = word_of_it;
        if ((free & mark) != 0)
            return false;
        take_back(p, block_bytes);
        store_relaxed(word_of_it, free | mark);
        --count;
        return true;
    }

    /// Sets the remote bit of a block. Requires: the slab is one of many users, and not empty.
    /// Returns: whether it was not set.
    bool push_remote(std::size_t i) noexcept {
        std::uint64_t const mark = std::uint64_t{1} << i % 64;
        take_back(begin + i * block_bytes, block_bytes);
        return (std::atomic_ref{remote[i / 64]}.fetch_or(mark) & mark) == 0;
    }
    /// Moves remote bits to the owner's; count stays. Of a block that was freed twice, by its owner
    /// and another at the same instant, the address is put in `twice`.
    /// Returns: how many blocks came back. Complexity: O(blocks / 64).
    std::uint32_t collect(std::byte*& twice) noexcept;

    /// Makes a word that has a free block the current one: this one, or the next that has.
    /// Returns: whether there is one. Complexity: O(blocks / 64), amortised by the blocks it has.
    bool turn() noexcept;

    /// Makes an empty slab one of blocks of `bytes_each`.
    void assign(class_pool& to, std::size_t to_class, std::size_t bytes_each) noexcept;

    /// Returns: a slab that holds no address and has no block; always the same. Never written.
    static slab* none() noexcept { return const_cast<slab*>(&none_); }
    [[nodiscard]] std::uint32_t words() const noexcept { return (blocks + 63) / 64; }

    /// Returns: the bits of a word that are a block's. A late second free, of a block that the slab had
    /// in another class, may set a remote bit behind the last one.
    [[nodiscard]] std::uint64_t blocks_of_word(std::size_t i) const noexcept {
        return i + 1 == words() && blocks % 64 != 0 ? (std::uint64_t{1} << blocks % 64) - 1
                                                    : ~std::uint64_t{0};
    }
    /// Requires: it is not empty. Returns: whether others have freed blocks that are not collected.
    [[nodiscard]] bool has_remote() const noexcept {
        return remote != nullptr &&
               std::any_of(remote, remote + words(), [](std::uint64_t of) { return of != 0; });
    }

    /// Requires: a block begins at p.
    [[nodiscard]] std::size_t index_of(void const* p) const noexcept {
        return block_of(offset_between(begin, p));
    }
    [[nodiscard]] std::size_t extent() const noexcept { return std::size_t{blocks} * block_bytes; }
    /// Requires: it is not empty. Returns: blocks that are live, to its owner.
    [[nodiscard]] std::uint32_t live() const noexcept;
    [[nodiscard]] bool is_live(void const* p) const noexcept {
        std::size_t const i = block_of(offset_between(begin, p));
        return i < blocks && (free_bits(i / 64) >> i % 64 & 1) == 0;
    }
    /// Returns: the bits of 64 blocks, whoever freed them. May be asked beside other threads' frees.
    [[nodiscard]] std::uint64_t free_bits(std::size_t i) const noexcept {
        std::uint64_t const of_others = remote != nullptr ? load_acquire(remote[i]) : 0;
        return of_others | load_acquire(bits()[i]); // in this order: see collect()
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

    [[nodiscard]] bool check_invariants() const;

  private:
    static constexpr std::uint64_t no_block_free_ = 0;
    static slab const none_;
};
static_assert(alignof(slab) % alignof(std::uint64_t) == 0, "its bits follow it");

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
