// SPDX-License-Identifier: BSL-1.0
#pragma once

// A call that cannot be right, and what must come of it.

#include <cstddef>
#include <initializer_list>
#include <ostream>

#include <strata/misuse.hpp>

#include "bench.hpp"

namespace strata::test {

struct wrong_call {
    void* p;
    std::size_t bytes;
    std::size_t alignment;
};
std::ostream& operator<<(std::ostream& out, wrong_call const& call);

/// Expects that every way to pass such a block in is refused, each with the same one of the kinds,
/// is reported once where it is to be, and changes nothing.
void expect_refused(bench& b, wrong_call const& call, std::initializer_list<misuse_kind> allowed);

} // namespace strata::test
