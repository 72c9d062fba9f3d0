// SPDX-License-Identifier: BSL-1.0
#pragma once

// A thread's stack of free blocks of one size. Pop and push touch neither the block nor its slab,
// but for its mark: 1 while the user has the block.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <strata/detail/bits.hpp>

namespace strata::detail {

inline void set_mark(std::uint8_t* mark, std::uint8_t value) noexcept {
    std::atomic_ref{*mark}.store(value, std::memory_order_relaxed);
}
inline std::uint8_t get_mark(std::uint8_t* mark) noexcept {
    return std::atomic_ref{*mark}.load(std::memory_order_relaxed);
}

struct cached_block {
    std::byte* block;
    std::uint8_t* mark;
};

struct magazine {
    cached_block* top;
    cached_block* begin; ///< room for blocks, not owned
    cached_block* end;

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
        cached_block const* const last = --top;
        std::byte* const block = last->block; // before a byte is written, which might be anything
        set_mark(last->mark, 1);
        return block;
    }
    /// Requires: it is not full.
    void push(void* p, std::uint8_t* mark) noexcept {
        cached_block* const next = top++;
        *next = {as_bytes(p), mark};
        set_mark(mark, 0);
    }
};

} // namespace strata::detail
