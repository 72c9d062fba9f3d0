// SPDX-License-Identifier: BSL-1.0
#pragma once

// Call stacks by Boost.Stacktrace, kept out of the headers that users include.

#include <cstddef>
#include <span>
#include <string>

namespace strata::detail {

/// Writes the return addresses of the calls that led here, innermost first and this one left out,
/// then null, then nothing. Requires: frames.size() >= 2.
/// Complexity: microseconds; no memory but on the stack.
void capture_call_stack(std::span<void const*> frames) noexcept;

/// Returns: the function that an address lies in, demangled, where the program's symbols name it (a
/// program exports its own when linked with -rdynamic); the file it comes from; and in brackets the
/// place there, for addr2line.
std::string describe_frame(void const* address);

} // namespace strata::detail
