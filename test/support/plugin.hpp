// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <strata/resource.hpp>

namespace strata::test {

/// What a plugin has: static objects of its own.
struct plugin_resources {
    resource* pool;
    resource* blocks;
};

} // namespace strata::test

extern "C" strata::test::plugin_resources strata_plugin_resources();
