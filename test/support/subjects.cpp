// SPDX-License-Identifier: BSL-1.0
#include "subjects.hpp"

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include <strata/fixed_block_resource.hpp>
#include <strata/segregated_pool_resource.hpp>
#include <strata/synchronized.hpp>

namespace strata::test {

namespace {

// Of a bounded resource: enough for most of what a test asks for, too little for all of it.
constexpr std::size_t region_bytes = 128 * 1024;

/// A subject for T, constructed from the arguments and, last, its upstream.
template <class T, class... Arguments>
subject growing(std::string name, Arguments... arguments) {
    subject s;
    s.name = std::move(name);
    s.make = [=](std::pmr::memory_resource* upstream) {
        return std::make_shared<T>(arguments..., upstream);
    };
    return s;
}

template <class T, class... Arguments>
subject bounded(std::string name, Arguments... arguments) {
    subject s = growing<T>(std::move(name), arguments...);
    s.constructor_calls = 1;
    s.bounded = true;
    return s;
}

} // namespace

std::vector<subject> every_resource() {
    return {
        bounded<fixed_block_resource>("fixed_block_resource", region_bytes, std::size_t{64}),
        growing<segregated_pool_resource>("segregated_pool_resource"),
    };
}

std::vector<subject> every_synchronized_resource() {
    return {
        bounded<synchronized_fixed_block_resource>("fixed_block_resource behind a lock",
                                                   region_bytes, std::size_t{64}),
        growing<synchronized_segregated_pool_resource>("segregated_pool_resource behind a lock"),
    };
}

} // namespace strata::test
