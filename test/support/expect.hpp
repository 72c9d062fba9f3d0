// SPDX-License-Identifier: BSL-1.0
#pragma once

// How the conformance suite says that a promise is broken: by an exception, so that a test of the
// suite itself can catch it.

#include <sstream>
#include <stdexcept>

namespace strata::test {

class broken_promise : public std::runtime_error {
  public:
    using runtime_error::runtime_error;
};

/// Throws broken_promise with the words, printed one after the other, unless `holds`.
template <class... Words>
void expect(bool holds, Words const&... words) {
    if (holds)
        return;
    std::ostringstream text;
    (text << ... << words);
    throw broken_promise{text.str()};
}

template <class T, class... Words>
void expect_equal(T const& seen, T const& wanted, Words const&... words) {
    expect(seen == wanted, words..., ": ", seen, ", expected ", wanted);
}

/// Expects that f() throws Exception.
template <class Exception, class Function, class... Words>
void expect_throw(Function f, Words const&... words) {
    try {
        f();
    } catch (Exception const&) {
        return;
    }
    expect(false, words..., ": nothing was thrown");
}

} // namespace strata::test
