// SPDX-License-Identifier: BSL-1.0
#include "subjects.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <strata/best_fit_resource.hpp>
#include <strata/dll_arena_resource.hpp>
#include <strata/fixed_block_resource.hpp>
#include <strata/segregated_pool_resource.hpp>
#include <strata/synchronized.hpp>
#include <strata/synchronized_fixed_block_resource.hpp>
#include <strata/synchronized_segregated_pool_resource.hpp>
#include <strata/tracked_block_resource.hpp>

#include "make_subject.hpp"

namespace strata::test {

namespace {

// Of a bounded resource: enough for most of what a test asks for, too little for all of it.
constexpr std::size_t region_bytes = 128 * 1024;

subject deferring(std::string name, std::size_t bytes) {
    subject s = bounded<best_fit_resource>(std::move(name), region_bytes,
                                           best_fit_options{.deferred_bytes = bytes});
    s.merges_late = true;
    return s;
}

subject segregated_pool(std::string name, segregated_pool_options const& options) {
    return growing<segregated_pool_resource>(std::move(name), options);
}

subject fixed_block_of_regions(std::string name, std::size_t bytes) {
    fixed_block_options const options{.growth = fixed_block_options::by_regions};
    subject s = growing<fixed_block_resource>(std::move(name), bytes, std::size_t{64}, options);
    s.constructor_calls = 1;
    return s;
}

subject fixed_block_for_threads(std::string name) {
    subject s =
        bounded<synchronized_fixed_block_resource>(std::move(name), region_bytes, std::size_t{64});
    s.constructor_calls = 2;
    s.gathers_late = true;
    return s;
}

subject fixed_block_for_threads_in_a_buffer() {
    subject s = in_a_buffer<synchronized_fixed_block_resource>(
        "fixed_block_resource for threads in a buffer", region_bytes, std::size_t{48});
    s.gathers_late = true;
    return s;
}

subject for_threads(std::string name, segregated_pool_options const& options) {
    subject s = growing<synchronized_segregated_pool_resource>(std::move(name), options);
    s.gathers_late = true;
    return s;
}

} // namespace

std::vector<subject> every_resource() {
    return {
        bounded<best_fit_resource>("best_fit_resource", region_bytes),
        arena<dll_arena_resource>("dll_arena_resource"),
        bounded<fixed_block_resource>("fixed_block_resource", region_bytes, std::size_t{64}),
        growing<segregated_pool_resource>("segregated_pool_resource"),
        tracked<tracked_block_resource>("tracked_block_resource"),
    };
}

std::vector<subject> every_variant() {
    return {
        bounded<synchronized_best_fit_resource>("best_fit_resource behind a lock", region_bytes),
        in_a_buffer<best_fit_resource>("best_fit_resource in a buffer", region_bytes),
        growing<best_fit_resource>("best_fit_resource without a region"),
        growing<best_fit_resource>("best_fit_resource of further regions",
                                   best_fit_options{.growth_bytes = 8000}),
        growing<best_fit_resource>("best_fit_resource of tiny further regions",
                                   best_fit_options{.growth_bytes = 100}),
        deferring("best_fit_resource deferring", 16384),
        deferring("best_fit_resource deferring a little", 100),
        arena<synchronized_dll_arena_resource>("dll_arena_resource behind a lock"),
        in_a_buffer<basic_dll_arena_resource<0, std::uint32_t>>("dll_arena_resource in a buffer",
                                                                region_bytes),
        bounded<synchronized<fixed_block_resource>>("fixed_block_resource behind a lock",
                                                    region_bytes, std::size_t{64}),
        fixed_block_for_threads("fixed_block_resource for threads"),
        fixed_block_for_threads_in_a_buffer(),
        in_a_buffer<fixed_block_resource>("fixed_block_resource in a buffer", region_bytes,
                                          std::size_t{48}),
        bounded<fixed_block_resource>("fixed_block_resource of 8 bytes", region_bytes / 4,
                                      std::size_t{8}),
        bounded<fixed_block_resource>("fixed_block_resource of 1000 bytes", region_bytes,
                                      std::size_t{1000}),
        fixed_block_of_regions("fixed_block_resource of further regions", 8000),
        fixed_block_of_regions("fixed_block_resource of tiny further regions", 100),
        growing<synchronized<segregated_pool_resource>>("segregated_pool_resource behind a lock"),
        for_threads("segregated_pool_resource for threads", {}),
        for_threads("segregated_pool_resource for threads of small slabs",
                    {.largest_block_bytes = 2048, .slab_bytes = 4096, .largest_chunk_bytes = 8192}),
        segregated_pool("segregated_pool_resource passing through", {.pass_through = true}),
        segregated_pool("segregated_pool_resource of powers of two",
                        {.block_sizes = power_of_two_sizes}),
        segregated_pool("segregated_pool_resource to 32 KiB",
                        {.largest_block_bytes = 32768, .slab_bytes = 1u << 17}),
        segregated_pool(
            "segregated_pool_resource of small slabs",
            {.largest_block_bytes = 2048, .slab_bytes = 4096, .largest_chunk_bytes = 8192}),
        tracked<synchronized_tracked_block_resource>("tracked_block_resource behind a lock"),
        tracked<tracked_block_resource>("tracked_block_resource with a reserve",
                                        {.reserve_bytes = 30'000}),
        tracked<tracked_block_resource>("tracked_block_resource of few words",
                                        {.report_leaks = false, .call_stacks = 4}),
    };
}

} // namespace strata::test
