// SPDX-License-Identifier: BSL-1.0
#include "conformance.hpp"

#include <cstdint>

#include "bench.hpp"
#include "choices.hpp"
#include "expect.hpp"
#include "program.hpp"
#include "seed.hpp"

// Whatever a program may do, drawn at random.

namespace strata::test {

namespace {

void any_program_finds_the_model_s_answers(subject const& s) {
    static std::uint64_t const drawn = seed("conformance"); // one for the whole program
    bench b{s};
    random_choices engine{drawn};
    program any{b, engine};
    for (int step = 0; step < 1500; ++step) {
        try {
            any.step();
        } catch (broken_promise const& broken) {
            expect(false, "STRATA_SEED=", drawn, ", step ", step, ": ", broken.what());
        }
    }
    any.finish();
}

constexpr promise list[] = {
    {"any_program_finds_the_model_s_answers", any_program_finds_the_model_s_answers},
};

} // namespace

std::span<promise const> promises_of_random_use() {
    return list;
}

} // namespace strata::test
