// SPDX-License-Identifier: BSL-1.0

// A library to be loaded late that has all of strata inside, and two resources for threads.

#include "plugin.hpp"

#include <strata/synchronized_fixed_block_resource.hpp>
#include <strata/synchronized_segregated_pool_resource.hpp>

namespace {

strata::synchronized_segregated_pool_resource pool{
    strata::segregated_pool_options{.slab_bytes = 4096, .largest_chunk_bytes = 16384}};
strata::synchronized_fixed_block_resource blocks{100'000, 64};

} // namespace

extern "C" strata::test::plugin_resources strata_plugin_resources() {
    return {&pool, &blocks};
}
