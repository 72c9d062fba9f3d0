// SPDX-License-Identifier: BSL-1.0
#pragma once

// What tools that watch memory are told, where a block changes hands.
//
//   upstream ─ carve ─►  hidden  ─ hand_out ─►  the user's  ─ take_back ─►  hidden  ─ mend ─► upstream
//
// Hidden is what nobody may touch: never handed out, freed, or between what was asked for and the
// block's end. A resource hides only what it carves itself, and opens it before it goes back, so
// that resources stack; what it keeps in free blocks it reads and writes by peek and poke alone.
//
//   AddressSanitizer  hidden memory is poisoned. In all that is compiled for it, where the library is.
//   Valgrind          hidden memory has no access, what is handed out is undefined.
//   heaptrack         a block is an allocation, a piece of memory that was carved is none any more.
//                     Both where STRATA_ANNOTATE is defined, for the library and for its users.
//
// Elsewhere all calls are nothing. With STRATA_ANNOTATE a pair of allocate and deallocate takes 2 to
// 4 ns more while no tool watches. Valgrind's own pools (VALGRIND_MEMPOOL_ALLOC) are not used: where
// one lies in a block of another, memcheck 3.19 aborts at the end of the program.

#include <cstddef>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#    define STRATA_POISON 1
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer)
#        define STRATA_POISON 1
#    endif
#endif

#if defined(STRATA_POISON)
#    include <sanitizer/asan_interface.h>
#    define STRATA_NOT_CHECKED [[gnu::no_sanitize_address]]
#else
#    define STRATA_NOT_CHECKED
#endif

#if defined(STRATA_ANNOTATE) && defined(__has_include)
#    if __has_include(<valgrind/memcheck.h>)
#        include <valgrind/memcheck.h>
#        define STRATA_VALGRIND(request) request
#    endif
#endif
#if !defined(STRATA_VALGRIND)
#    define STRATA_VALGRIND(request) static_cast<void>(0)
#endif

#if defined(STRATA_ANNOTATE)
extern "C" {
[[gnu::weak]] void heaptrack_malloc(void* p, std::size_t bytes);
[[gnu::weak]] void heaptrack_realloc(void* p, std::size_t bytes, void* moved);
[[gnu::weak]] void heaptrack_free(void* p);
}
#endif

namespace strata::detail {

#if defined(STRATA_POISON)
/// Defined in a library that is compiled for AddressSanitizer. A program that is, over one that is
/// not, must not hide what the library will not open.
extern char const library_poisons [[gnu::weak]];
#endif

/// Whether any of these does anything.
#if defined(STRATA_POISON) || defined(STRATA_ANNOTATE)
inline constexpr bool annotates = true;
#else
inline constexpr bool annotates = false;
#endif

/// Bytes between blocks and a resource's books behind them, which are hidden: an overrun of the last
/// block is seen, and spares the books. For sources only: a program may be compiled otherwise.
inline constexpr std::size_t redzone_bytes = annotates ? 16 : 0;

/// Nobody may touch it from now on.
inline void hide([[maybe_unused]] void const* p, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(STRATA_POISON)
    if (&library_poisons != nullptr)
        __asan_poison_memory_region(p, bytes);
#endif
    STRATA_VALGRIND(VALGRIND_MAKE_MEM_NOACCESS(p, bytes));
}

/// All may touch it, whatever is in it.
inline void open([[maybe_unused]] void const* p, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(STRATA_POISON)
    if (&library_poisons != nullptr)
        __asan_unpoison_memory_region(p, bytes);
#endif
    STRATA_VALGRIND(VALGRIND_MAKE_MEM_DEFINED(p, bytes));
}

/// A piece of memory from upstream, null: the caller's, is carved into blocks: those at `first`.
inline void carve([[maybe_unused]] void* piece, void const* first, std::size_t bytes) noexcept {
#if defined(STRATA_ANNOTATE)
    if (heaptrack_free != nullptr && piece != nullptr)
        heaptrack_free(piece);
#endif
    hide(first, bytes);
}

/// The whole piece is about to go back upstream.
inline void mend(void* piece, std::size_t bytes) noexcept {
    open(piece, bytes);
#if defined(STRATA_ANNOTATE)
    if (heaptrack_malloc != nullptr)
        heaptrack_malloc(piece, bytes);
#endif
}

/// The user gets a block, and may touch what was asked for. Returns: p.
template <class T>
T* hand_out(T* p, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(STRATA_POISON)
    if (&library_poisons != nullptr)
        __asan_unpoison_memory_region(p, bytes);
#endif
    STRATA_VALGRIND(VALGRIND_MAKE_MEM_UNDEFINED(p, bytes));
#if defined(STRATA_ANNOTATE)
    if (heaptrack_malloc != nullptr)
        heaptrack_malloc(p, bytes);
#endif
    return p;
}

/// A block of `block_bytes` comes back. To be called before anyone else may get it.
inline void take_back([[maybe_unused]] void const* p, std::size_t block_bytes) noexcept {
#if defined(STRATA_ANNOTATE)
    if (heaptrack_free != nullptr)
        heaptrack_free(const_cast<void*>(p));
#endif
    hide(p, block_bytes);
}

/// A block was resized where it is.
inline void refit(void const* p, std::size_t old_bytes, std::size_t new_bytes) noexcept {
    auto const* const begin = static_cast<std::byte const*>(p);
    if (new_bytes < old_bytes) {
        hide(begin + new_bytes, old_bytes - new_bytes);
    } else {
#if defined(STRATA_POISON)
        if (&library_poisons != nullptr)
            __asan_unpoison_memory_region(begin, new_bytes);
#endif
        STRATA_VALGRIND(VALGRIND_MAKE_MEM_UNDEFINED(begin + old_bytes, new_bytes - old_bytes));
    }
#if defined(STRATA_ANNOTATE)
    if (heaptrack_realloc != nullptr)
        heaptrack_realloc(const_cast<void*>(p), new_bytes, const_cast<void*>(p));
#endif
}

/// Returns: what lies at `from`, which may be hidden and lie anyhow.
template <class T>
STRATA_NOT_CHECKED T peek(void const* from) noexcept {
    T value;
    STRATA_VALGRIND(VALGRIND_DISABLE_ERROR_REPORTING);
    std::memcpy(&value, from, sizeof value);
    STRATA_VALGRIND(VALGRIND_ENABLE_ERROR_REPORTING);
    STRATA_VALGRIND(VALGRIND_MAKE_MEM_DEFINED(&value, sizeof value)); // a look, to be checked
    return value;
}
/// Writes there.
template <class T>
STRATA_NOT_CHECKED void poke(void* to, T const& value) noexcept {
    STRATA_VALGRIND(VALGRIND_DISABLE_ERROR_REPORTING);
    std::memcpy(to, &value, sizeof value);
    STRATA_VALGRIND(VALGRIND_ENABLE_ERROR_REPORTING);
}

} // namespace strata::detail
