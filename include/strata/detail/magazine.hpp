// SPDX-License-Identifier: BSL-1.0
#pragma once

// A thread's stack of free blocks of one size. Pop and push touch neither the block nor its slab,
// but for its mark: 1 while the user has the block.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <strata/detail/bits.hpp>
#include <strata/detail/slab.hpp>

namespace strata::detail {

inline void set_mark(std::uint8_t* mark, bool live) noexcept {
    std::atomic_ref{*mark}.store(live ? std::uint8_t{1} : std::uint8_t{0},
                                 std::memory_order_relaxed);
}
inline bool is_marked(std::uint8_t* mark) noexcept {
    return std::atomic_ref{*mark}.load(std::memory_order_relaxed) != 0;
}

/// Returns: the mark of the block of that class that begins at p in the slab, if it is live; else
/// null. Any slab and address may be passed: what is read of a slab that p is not in never changes.
inline std::uint8_t* live_mark(slab const& s, std::size_t size_class, void const* p) noexcept {
    std::size_t const offset = offset_between(s.begin, p);
    if (offset >= s.bytes || s.size_class != size_class)
        return nullptr;
    std::uint64_t const i = s.block_of(offset);
    return i < s.blocks && is_marked(s.marks + i) ? s.marks + i : nullptr;
}

struct cached_block {
    std::byte* block;
    std::uint8_t* mark;
};

struct magazine {
    cached_block* top = nullptr;
    cached_block* begin = nullptr; ///< held, not owned
    cached_block* end = nullptr;
    std::size_t drawn = 0; ///< blocks that it was filled with last

    [[nodiscard]] bool is_empty() const noexcept { return top == begin; }
    [[nodiscard]] bool is_full() const noexcept { return top == end; }
    [[nodiscard]] std::size_t capacity() const noexcept {
        return static_cast<std::size_t>(end - begin);
    }
    [[nodiscard]] std::size_t size() const noexcept {
        return static_cast<std::size_t>(top - begin);
    }

    /// Requires: it is not empty. Returns: a block, now live.
    std::byte* pop() noexcept {
        cached_block const last = *--top;
        set_mark(last.mark, true);
        return last.block;
    }
    /// Requires: it is not full.
    void push(void* p, std::uint8_t* mark) noexcept {
        set_mark(mark, false);
        *top++ = {as_bytes(p), mark};
    }
};

} // namespace strata::detail
