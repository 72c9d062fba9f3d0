// SPDX-License-Identifier: BSL-1.0
#pragma once

// All of strata.

#include <strata/best_fit_resource.hpp>
#include <strata/dll_arena_resource.hpp>
#include <strata/fixed_block_resource.hpp>
#include <strata/misuse.hpp>
#include <strata/resource.hpp>
#include <strata/segregated_pool_resource.hpp>
#include <strata/statistics.hpp>
#include <strata/synchronized.hpp>
#include <strata/synchronized_fixed_block_resource.hpp>
#include <strata/synchronized_segregated_pool_resource.hpp>
#include <strata/tracked_block_resource.hpp>
#include <strata/tracked_block_tools.hpp>
