// SPDX-License-Identifier: BSL-1.0
#include <strata/dll_arena_resource.hpp>

namespace strata {

template class detail::region_resource<
    detail::region<detail::good_fit_index<std::uint16_t>, detail::inside_places<65536, 8>>>;

} // namespace strata
