// SPDX-License-Identifier: BSL-1.0
#pragma once

// All of strata.

#include <strata/misuse.hpp>
#include <strata/resource.hpp>
#include <strata/segregated_pool_resource.hpp>
#include <strata/statistics.hpp>
