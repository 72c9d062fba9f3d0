// SPDX-License-Identifier: BSL-1.0
#include <strata/synchronized_segregated_pool_resource.hpp>

#include "drawn_options.hpp"

namespace strata::test {

// One thread at a time, so that an input does the same each time it runs: what threads do to each
// other is for synchronized_segregated_pool_test.
subject drawn_subject(choices& drawn) {
    subject s = pool_of_drawn_options<synchronized_segregated_pool_resource>(drawn);
    s.gathers_late = true;
    s.special = [of_any_pool = s.special](bench& b, ledger& l, choices& c) {
        of_any_pool(b, l, c);
        use_elsewhere(b, l, c);
    };
    return s;
}

} // namespace strata::test
