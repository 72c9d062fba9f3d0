// SPDX-License-Identifier: BSL-1.0
#include <strata/segregated_pool_resource.hpp>

#include "drawn_options.hpp"

namespace strata::test {

subject drawn_subject(choices& drawn) {
    return pool_of_drawn_options<segregated_pool_resource>(drawn);
}

} // namespace strata::test
