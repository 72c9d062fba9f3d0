// SPDX-License-Identifier: BSL-1.0
#pragma once

// Whatever a user may do, right and wrong, in any order, against the ledger. What is done is drawn:
// at random in the conformance suite, by a fuzzer in fuzzing/.

#include <array>
#include <cstddef>

#include "bench.hpp"
#include "choices.hpp"

namespace strata::test {

class program {
  public:
    program(bench& b, choices& drawn);

    /// One operation, and what must hold after it.
    void step();

    /// Gives back what is live, or leaves it to the destructor, and expects every byte upstream.
    void finish();

  private:
    struct operation {
        unsigned weight;
        void (program::*act)();
    };
    template <std::size_t N>
    void act(operation const (&list)[N]);

    [[nodiscard]] std::size_t bytes();
    [[nodiscard]] std::size_t alignment();
    [[nodiscard]] bool has_room(std::size_t bytes) const noexcept;
    void take(std::size_t bytes, std::size_t alignment);
    void give(std::size_t i);

    void take_one();
    void take_zeroed();
    void take_many();
    void give_one();
    void give_many();
    void reallocate();
    void try_resize();
    void trim();
    void release();
    void do_special();

    void pass_null();
    void ask_the_impossible();
    void free_again();
    void free_inside();
    void free_near();
    void free_foreign();
    void free_with_other_size();
    void free_with_other_alignment();

    void fail();

    bench& bench_;
    ledger ledger_;
    choices& drawn_;
    std::size_t ending_;
    std::array<block, 16> freed_{};
};

} // namespace strata::test
