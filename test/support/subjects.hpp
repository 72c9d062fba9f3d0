// SPDX-License-Identifier: BSL-1.0
#pragma once

// The resources that the tests for all resources run on: a new resource is added to subjects.cpp,
// once.

#include <vector>

#include "subject.hpp"

namespace strata::test {

/// Returns: a subject for each resource.
std::vector<subject> every_resource();

/// Returns: a subject for each resource behind a lock, and for other options and constructors.
std::vector<subject> every_variant();

} // namespace strata::test
