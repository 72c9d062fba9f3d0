// SPDX-License-Identifier: BSL-1.0
#include <strata/tracked_block_tools.hpp>

#include <new>
#include <stdexcept>

namespace strata {

std::size_t for_each_failure(tracked_block_resource& tracked, detail::function_ref<void()> f) {
    struct switch_off {
        tracked_block_resource& tracked;
        ~switch_off() { tracked.never_fail(); }
    } const at_the_end{tracked};
    for (std::size_t n = 0;; ++n) {
        tracked.fail_after(n);
        try {
            f();
        } catch (std::bad_alloc const&) {
            if (tracked.injected_failures() == 0)
                throw; // not of our making
            continue;
        }
        if (tracked.injected_failures() == 0)
            return n;
        throw std::logic_error{"strata::for_each_failure: the function returned normally although "
                               "an allocation had failed: it swallowed std::bad_alloc"};
    }
}

} // namespace strata
