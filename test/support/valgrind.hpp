// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <boost/test/tools/assertion_result.hpp>
#include <boost/test/tree/test_unit.hpp>

#if defined(STRATA_ANNOTATE) && __has_include(<valgrind/valgrind.h>)
#    include <valgrind/valgrind.h>
#else
#    define RUNNING_ON_VALGRIND 0
#endif

namespace strata::test {

/// Asked before tests of what Valgrind cannot do: it ends a program whose operator new fails, has no
/// place for 64 GiB, and runs threads one at a time, so that they meet never, or after minutes.
inline boost::test_tools::assertion_result is_without_valgrind(boost::unit_test::test_unit_id) {
    return RUNNING_ON_VALGRIND == 0;
}

} // namespace strata::test
