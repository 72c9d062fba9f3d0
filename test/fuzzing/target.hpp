// SPDX-License-Identifier: BSL-1.0
#pragma once

// What each fuzz target says of its resource; target.cpp does the rest.
//
//   bytes ──► byte_choices ──► drawn_subject: options, constructor, what lies below
//                          └─► program: operations, each checked against the ledger

#include <array>
#include <cstddef>
#include <new>

#include "support/bench.hpp"
#include "support/choices.hpp"
#include "support/other_thread.hpp"
#include "support/subject.hpp"
#include "support/threads.hpp"

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
    std::size_t const bytes = drawn_bytes(drawn, 4096);
    std::size_t const alignment = std::size_t{1} << drawn.below(8);
    r.deallocate(r.allocate(bytes, alignment), bytes, alignment);
}

/// In a child process the resource goes on, without what other threads had.
inline void use_in_a_child(bench& b) {
    expect(is_sound_in_a_child([&] {
               bool const is_sound = b.tested().check_invariants();
               try {
                   b.tested().deallocate(b.tested().allocate(8, 8), 8, 8);
               } catch (std::bad_alloc const&) {
               }
               return is_sound && b.tested().check_invariants() && b.recorder().take().empty();
           }),
           "a child process cannot go on");
}

/// Takes and gives many on one of two other threads, or on one that begins and ends here, and may run
/// out of memory there. No two run at once.
inline void use_elsewhere(bench& b, ledger& l, choices& drawn) {
    static std::array<other_thread, 2> others;
    std::size_t const which = drawn.below(others.size() + 1);
    other_thread ends_here;
    if (drawn.one_in(4))
        b.upstream().fail_after(drawn.below(4));
    try {
        (which < others.size() ? others[which] : ends_here).run([&] {
            for (std::size_t rounds = 1 + drawn.below(4); rounds != 0; --rounds) {
                std::size_t const bytes = drawn.below(2048);
                for (std::size_t count = drawn.below(128); count != 0 && l.size() < 300; --count)
                    l.take(bytes, 8);
                std::size_t const from = l.size() == 0 ? 0 : drawn.below(l.size());
                for (std::size_t count = drawn.below(128); count != 0 && from < l.size(); --count)
                    l.give(from);
            }
        });
    } catch (std::bad_alloc const&) {
    }
    b.upstream().never_fail();
    expect(b.tested().check_invariants(), "an invariant is broken");
    if (drawn.below(256) == 99) // not where the input is over; it takes long
        use_in_a_child(b);
}

} // namespace strata::test
