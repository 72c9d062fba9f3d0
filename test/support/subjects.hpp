// SPDX-License-Identifier: BSL-1.0
#pragma once

// The resources that the tests for all resources run on: a new resource is added here, once.

#include <vector>

#include <strata/segregated_pool_resource.hpp>

#include "reference_resource.hpp"
#include "subject.hpp"

namespace strata::test {

/// Returns: one subject for each resource, each over a wide range of sizes.
inline std::vector<subject> every_resource() {
    return {
        subject_for<segregated_pool_resource>("segregated_pool_resource"),
    };
}

} // namespace strata::test
