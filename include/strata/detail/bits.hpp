// SPDX-License-Identifier: BSL-1.0
#pragma once

// Arithmetic on sizes, alignments and addresses. Casts between pointers and integers live here and
// nowhere else.

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace strata::detail {

/// What operator new aligns to: 16 bytes on the machines of today.
inline constexpr std::size_t max_align = alignof(std::max_align_t);

/// No request above this can be met; below it, sizes may be rounded up without overflow.
inline constexpr std::size_t max_request_bytes = std::numeric_limits<std::size_t>::max() / 2 - 4096;

constexpr bool is_power_of_two(std::size_t n) noexcept {
    return n != 0 && (n & (n - 1)) == 0;
}

/// Returns: the place of the lowest bit that is set. Requires: there is one; the standard's
/// countr_zero also answers where there is none, which costs two instructions.
constexpr std::size_t lowest_bit(std::uint64_t bits) noexcept {
    return static_cast<std::size_t>(__builtin_ctzll(bits));
}

/// Requires: `alignment` is a power of two, and n + alignment does not overflow.
constexpr std::size_t align_up(std::size_t n, std::size_t alignment) noexcept {
    return (n + alignment - 1) & ~(alignment - 1);
}
constexpr std::size_t align_down(std::size_t n, std::size_t alignment) noexcept {
    return n & ~(alignment - 1);
}

/// Returns: the alignment that every multiple of n has, in bytes. Requires: n is not 0.
constexpr std::size_t natural_alignment(std::size_t n) noexcept {
    return n & (~n + 1);
}

inline std::uintptr_t address_of(void const* p) noexcept {
    return reinterpret_cast<std::uintptr_t>(p);
}
inline bool is_aligned(void const* p, std::size_t alignment) noexcept {
    return (address_of(p) & (alignment - 1)) == 0;
}

/// Returns: what lies at an address that address_of() gave.
template <class T>
T* pointer_to(std::uintptr_t address) noexcept {
    return reinterpret_cast<T*>(address);
}

/// Returns: bytes from `from` to `to`; wraps to a huge value when `to` lies below `from`, so that
/// one unsigned compare tests for a range.
inline std::size_t offset_between(void const* from, void const* to) noexcept {
    return address_of(to) - address_of(from);
}

inline std::byte* as_bytes(void* p) noexcept {
    return static_cast<std::byte*>(p);
}
inline std::byte const* as_bytes(void const* p) noexcept {
    return static_cast<std::byte const*>(p);
}

// What one thread writes and others read; where nobody else is there, plain loads and stores.
template <class Integer>
Integer load_relaxed(Integer const& from) noexcept {
    return std::atomic_ref{const_cast<Integer&>(from)}.load(std::memory_order_relaxed);
}
template <class Integer>
Integer load_acquire(Integer const& from) noexcept {
    return std::atomic_ref{const_cast<Integer&>(from)}.load(std::memory_order_acquire);
}
template <class Integer>
void store_relaxed(Integer& to, Integer value) noexcept {
    std::atomic_ref{to}.store(value, std::memory_order_relaxed);
}
template <class Integer>
void store_release(Integer& to, Integer value) noexcept {
    std::atomic_ref{to}.store(value, std::memory_order_release);
}
template <class Integer>
void add_relaxed(Integer& sum, Integer n) noexcept {
    store_relaxed(sum, load_relaxed(sum) + n);
}

} // namespace strata::detail
