// SPDX-License-Identifier: BSL-1.0
#pragma once

// What must be seen from outside: what a program writes on stderr, and how it ends.

#include <csignal>
#include <cstddef>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>

namespace strata::test {

/// Runs f in a child process. Returns: what it wrote on stderr; its wait status in `status`.
template <class Function>
std::string stderr_of_child(Function f, int& status) {
    int ends[2];
    BOOST_REQUIRE(::pipe(ends) == 0);
    ::pid_t const child = ::fork();
    if (child == 0) {
        ::dup2(ends[1], STDERR_FILENO);
        ::close(ends[0]);
        std::signal(SIGABRT, SIG_DFL);
        f();
        ::_exit(0);
    }
    ::close(ends[1]);
    std::string text;
    char buffer[512];
    for (::ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
        text.append(buffer, static_cast<std::size_t>(n));
    ::close(ends[0]);
    ::waitpid(child, &status, 0);
    return text;
}

/// Whether a process can live with a limit on its address space: not under the sanitizers, whose
/// shadow memory is larger than any.
inline boost::test_tools::assertion_result
system_memory_can_be_limited(boost::unit_test::test_unit_id) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#else
    return true;
#endif
}

} // namespace strata::test
