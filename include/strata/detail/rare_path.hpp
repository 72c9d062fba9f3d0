// SPDX-License-Identifier: BSL-1.0
#pragma once

// Where the library takes a path that is seldom taken, and that threads meet on. A test that defines
// on_rare_path() counts these, so that it can demand that it reached them, and may delay the thread.
// Elsewhere it is null: a load and a branch where a lock was taken besides.

namespace strata::detail {

[[gnu::weak]] void on_rare_path(char const* name) noexcept;

/// `name`: file and path, a literal. May be called under any lock.
inline void rare_path(char const* name) noexcept {
    if (on_rare_path != nullptr)
        on_rare_path(name);
}

} // namespace strata::detail
