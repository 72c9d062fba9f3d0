// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a caller did wrong, and who is told.
//
// Every resource checks every block that comes back, in every build type. A call that cannot be
// right goes to the misuse handler and changes nothing: the documented default reports one line on
// stderr and ignores the call. The handler is global, like std::set_terminate's.

#include <cstddef>

namespace strata {

class resource;

enum class misuse_kind : unsigned char {
    double_free,        ///< the block is free: it was freed already, or never handed out
    foreign_pointer,    ///< the resource never handed this address out, or gave it back since
    misaligned_pointer, ///< the address lies in this resource's memory, but no block starts there
    size_mismatch,      ///< a block starts there, but of another size
    alignment_mismatch, ///< a block starts there, but was asked for with another alignment
    overrun,            ///< bytes behind the block were written
    underrun,           ///< bytes before the block were written
    leak,               ///< the block was live when its resource was destroyed
};

/// Returns: the kind in words, "double free" for double_free.
char const* to_string(misuse_kind kind) noexcept;

/// One misuse, as the handler gets it.
struct misuse {
    misuse_kind kind;
    resource const* where; ///< the resource that was called; held, not owned
    void const* address;   ///< as the caller passed it, never dereferenced
    std::size_t bytes;     ///< as the caller passed it
    std::size_t alignment; ///< as the caller passed it
    /// What more is known, in words: the bytes of an overrun, the label of a leak. Null: nothing.
    /// Valid until the handler returns.
    char const* detail = nullptr;
};

/// A handler may return (the bad call is then ignored), end the program, or throw: the exception
/// leaves the call that was wrong. It goes no further than a destructor, or than a resource that
/// gave memory back to the upstream that complains.
/// It runs outside the lock of the resource that it is called for, but for what release finds (see
/// synchronized). Resources above that one in a stack are in the middle of a call, under their
/// locks: a handler must not call them.
using misuse_handler = void (*)(misuse const&);

/// Installs `handler` for all resources of the program; null stands for report_misuse.
/// Returns: the handler before.
/// Thread safety: any thread, at any time.
misuse_handler set_misuse_handler(misuse_handler handler) noexcept;

/// Returns: the handler that is installed; report_misuse at the start.
misuse_handler get_misuse_handler() noexcept;

/// Writes one line on stderr: what, which block, which resource. The call is ignored.
void report_misuse(misuse const& what);

/// Writes the same line and calls std::abort: for hardened production builds.
[[noreturn]] void abort_on_misuse(misuse const& what);

/// Does nothing: the call is ignored in silence.
void ignore_misuse(misuse const& what);

} // namespace strata
