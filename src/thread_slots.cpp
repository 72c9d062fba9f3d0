// SPDX-License-Identifier: BSL-1.0

// Apart from the code that uses them: no compiler binds that to its own library's, so that in a
// program with several copies of this one whose slots are shared count generations together.

#include <strata/detail/thread_caches.hpp>

namespace strata::detail {

constinit thread_local thread_slots slots_of_thread{};
constinit std::atomic<std::uint64_t> last_generation{};

} // namespace strata::detail
