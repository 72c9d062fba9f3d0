// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <memory_resource>

#include <strata/detail/annotate.hpp>

namespace strata::detail {

/// Returns a resource's own memory to upstream. What upstream finds wrong with it, an overrun for
/// one, it has told the misuse handler by then; what the handler throws goes no further, so that
/// everything else goes back, too.
inline void return_upstream(std::pmr::memory_resource* upstream, void* p, std::size_t bytes,
                            std::size_t alignment) noexcept {
    try {
        upstream->deallocate(p, bytes, alignment);
    } catch (...) {
    }
}

/// The same of memory that blocks were carved from.
inline void return_carved(std::pmr::memory_resource* upstream, void* p, std::size_t bytes,
                          std::size_t alignment) noexcept {
    mend(p, bytes);
    return_upstream(upstream, p, bytes, alignment);
}

} // namespace strata::detail
