// SPDX-License-Identifier: BSL-1.0
#include <strata/best_fit_resource.hpp>

#include <stdexcept>
#include <utility>

#include <strata/detail/annotate.hpp>
#include <strata/detail/return_upstream.hpp>

namespace strata {

template class detail::region_resource<detail::best_fit_region, detail::further_regions>;

best_fit_resource::best_fit_resource(std::size_t bytes, best_fit_options const& options,
                                     std::pmr::memory_resource* upstream)
    : best_fit_resource{options, upstream} {
    if (bytes == 0 || bytes > detail::most_best_fit_bytes)
        throw std::invalid_argument{"strata: a region has 1 byte to 64 GiB"};
    std::size_t const granules = region_.granules_for(bytes);
    region_bytes_ = detail::outside_places::bytes_for(granules, granule_bytes);
    owned_ = beyond_.upstream()->allocate(region_bytes_, detail::outside_places::alignment);
    region_.places = {detail::as_bytes(owned_), granules, granule_bytes};
    detail::carve(owned_, region_.places.base(), region_.places.hidden_bytes());
}

best_fit_resource::best_fit_resource(void* buffer, std::size_t bytes,
                                     best_fit_options const& options,
                                     std::pmr::memory_resource* upstream)
    : best_fit_resource{options, upstream} {
    assign(buffer, bytes);
}

best_fit_resource::~best_fit_resource() {
    if (owned_ != nullptr)
        detail::return_carved(beyond_.upstream(), owned_, region_bytes_,
                              detail::outside_places::alignment);
    else
        detail::open(region_.places.base(), region_.places.hidden_bytes());
}

void best_fit_resource::assign(void* buffer, std::size_t bytes) {
    if (stats().live_blocks != 0)
        throw std::invalid_argument{"strata: a region can be replaced only while no block is live"};
    detail::outside_places const old = region_.places;
    detail::open(old.base(), old.hidden_bytes()); // the buffer may overlap it
    try {
        region_.places = {buffer, bytes, granule_bytes, detail::most_best_fit_granules};
    } catch (...) {
        detail::hide(old.base(), old.hidden_bytes());
        throw;
    }
    void* const before = std::exchange(owned_, nullptr);
    std::size_t const bytes_before = std::exchange(region_bytes_, bytes);
    region_.free_all();
    detail::carve(nullptr, region_.places.base(), region_.places.hidden_bytes());
    if (before != nullptr)
        detail::return_carved(beyond_.upstream(), before, bytes_before,
                              detail::outside_places::alignment);
}

} // namespace strata
