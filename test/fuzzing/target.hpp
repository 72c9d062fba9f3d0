// SPDX-License-Identifier: BSL-1.0
#pragma once

// What each fuzz target says of its resource; target.cpp does the rest.
//
//   bytes ──► byte_choices ──► drawn_subject: options, constructor, what lies below
//                          └─► program: operations, each checked against the ledger

#include <cstddef>
#include <thread>

#include "support/bench.hpp"
#include "support/choices.hpp"
#include "support/subject.hpp"

namespace strata::test {

/// Returns: the resource that the choices make; its constructor may throw.
subject drawn_subject(choices& drawn);

/// Returns: a number of bytes below `most`, half of them below 1/16 of it.
inline std::size_t drawn_bytes(choices& drawn, std::size_t most) {
    return drawn.below(drawn.one_in(2) ? most / 16 : most);
}

/// Calls T's own allocate and deallocate, which are not virtual.
template <class T>
void call_directly(bench& b, choices& drawn) {
    T& r = dynamic_cast<T&>(b.tested());
    std::size_t const bytes = drawn.below(256);
    r.deallocate(r.allocate(bytes, 8), bytes, 8);
}

/// Takes and gives many on a thread that begins and ends here: no two run at once.
inline void use_elsewhere(ledger& l, choices& drawn) {
    std::thread{[&] {
        for (std::size_t rounds = 1 + drawn.below(4); rounds != 0; --rounds) {
            std::size_t const bytes = drawn.below(2048);
            for (std::size_t count = drawn.below(128); count != 0 && l.size() < 300; --count)
                l.take(bytes, 8);
            std::size_t const from = l.size() == 0 ? 0 : drawn.below(l.size());
            for (std::size_t count = drawn.below(128); count != 0 && from < l.size(); --count)
                l.give(from);
        }
    }}.join();
}

} // namespace strata::test
