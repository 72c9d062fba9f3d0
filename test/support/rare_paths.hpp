// SPDX-License-Identifier: BSL-1.0
#pragma once

// Counts the library's rare paths, and makes threads pause on them and around locks, so that they
// meet where they seldom would.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace strata::test {

/// How often that path was taken since counting began; names are the library's.
[[nodiscard]] std::size_t times_taken(std::string_view rare_path);
void count_rare_paths_anew();

/// The next thread on `path` waits there until another has got to `other_path`. Both are literals.
void let_meet(char const* path, char const* other_path);

/// The next thread on `path`, a literal, stands there for a while: 50 ms.
void let_stand(char const* path);
/// Returns: whether it came there within 10 s.
[[nodiscard]] bool has_come();
[[nodiscard]] bool has_gone_on();

/// How often a thread found that it must wait for a lock.
[[nodiscard]] std::size_t times_waited();

/// While it lives, threads pause at random, drawn from the seed: mostly they let others go first,
/// sometimes they sleep for some microseconds.
class pauses {
  public:
    explicit pauses(std::uint64_t seed);
    pauses(pauses const&) = delete;
    pauses& operator=(pauses const&) = delete;
    ~pauses();
};

} // namespace strata::test
