// SPDX-License-Identifier: BSL-1.0
#include "conformance.hpp"

#include <array>
#include <cstdint>
#include <new>
#include <random>

#include "bench.hpp"
#include "expect.hpp"
#include "seed.hpp"

// Whatever a program may do, right and wrong, in any order, against the ledger.

namespace strata::test {

namespace {

class random_program {
  public:
    random_program(bench& b, std::uint64_t from) : bench_{b}, ledger_{b}, engine_{from} {}

    // One step, and what must hold after it.
    void step() {
        struct choice {
            unsigned weight;
            void (random_program::*act)();
        };
        static constexpr choice choices[] = {
            {30, &random_program::take},       {24, &random_program::give},
            {10, &random_program::reallocate}, {10, &random_program::try_resize},
            {3, &random_program::take_zeroed}, {8, &random_program::free_again},
            {5, &random_program::free_inside}, {3, &random_program::free_foreign},
            {4, &random_program::fail},        {2, &random_program::trim},
            {1, &random_program::drain},
        };
        unsigned total = 0;
        for (choice const& c : choices)
            total += c.weight;
        unsigned drawn = below(total);
        for (choice const& c : choices) {
            if (drawn < c.weight) {
                (this->*c.act)();
                break;
            }
            drawn -= c.weight;
        }
        ledger_.expect_books();
    }

    void finish() {
        ledger_.expect_contents();
        ledger_.give_all();
        ledger_.expect_books();
        bench_.finish();
    }

  private:
    unsigned below(std::size_t n) { return static_cast<unsigned>(engine_() % n); }
    bool one_in(unsigned n) { return below(n) == 0; }

    std::size_t bytes() {
        switch (below(16)) {
        case 0:
            return 0;
        case 1:
        case 2:
            return below(5000);
        case 3:
            return one_in(3) ? below(200'000) : below(20'000);
        default:
            return below(300);
        }
    }
    std::size_t alignment() { return std::size_t{1} << (one_in(6) ? below(13) : below(5)); }
    // Requires: some are live.
    std::size_t any() { return below(ledger_.size()); }

    void take() {
        if (ledger_.size() < 150)
            ledger_.take(bytes(), alignment());
    }
    void take_zeroed() {
        if (ledger_.size() < 150)
            ledger_.take_zeroed(below(50), below(50), alignment());
    }
    void give() {
        if (ledger_.size() == 0)
            return;
        std::size_t const i = any();
        remember(ledger_[i]);
        ledger_.give(i);
    }
    void reallocate() {
        if (ledger_.size() == 0)
            return;
        std::size_t const i = any();
        block const before = ledger_[i];
        ledger_.reallocate(i, bytes());
        if (ledger_[i].p != before.p)
            remember(before);
    }
    void try_resize() {
        if (ledger_.size() != 0)
            ledger_.try_resize(any(), bytes());
    }

    void free_again() {
        block const& old = freed_[below(freed_.size())];
        if (old.p != nullptr && !ledger_.covers(old.p))
            expect_refused(old.p, old.bytes, old.alignment);
    }
    void free_inside() {
        if (ledger_.size() == 0)
            return;
        block const& b = ledger_[any()];
        if (b.bytes > 1)
            expect_refused(b.p + 1 + below(b.bytes - 1), one_in(2) ? b.bytes : bytes(),
                           b.alignment);
    }
    void free_foreign() {
        static std::array<std::byte, 4096> fixed{};
        expect_refused(fixed.data() + below(fixed.size()), bytes(), alignment());
    }
    void expect_refused(void* p, std::size_t n, std::size_t aligned_to) {
        picture const before{bench_};
        bench_.tested().deallocate(p, n, aligned_to);
        expect_equal(bench_.recorder().take().size(), std::size_t{1}, "reports of one misuse");
        before.expect_same(bench_, "misuse");
    }

    // The next few calls find upstream short of memory.
    void fail() {
        if (one_in(2))
            bench_.upstream().fail_after(below(3));
        else
            bench_.upstream().hold_at_most(bench_.upstream().live_bytes() + below(20'000));
        for (int i = 0; i < 4; ++i) {
            try {
                one_in(3) ? reallocate() : take();
            } catch (std::bad_alloc const&) {
            }
        }
        bench_.upstream().never_fail();
    }

    void trim() {
        std::size_t const held = bench_.upstream().live_bytes();
        std::size_t const went = bench_.tested().trim();
        expect_equal(went, held - bench_.upstream().live_bytes(), "bytes that trim says went");
    }
    void drain() {
        if (one_in(2)) {
            ledger_.expect_contents();
            bench_.tested().release();
            ledger_.forget_all();
        } else {
            while (ledger_.size() > 5)
                give();
        }
    }

    void remember(block const& b) { freed_[below(freed_.size())] = b; }

    bench& bench_;
    ledger ledger_;
    std::mt19937_64 engine_;
    std::array<block, 16> freed_{};
};

void any_program_finds_the_model_s_answers(subject const& s) {
    static std::uint64_t const drawn = seed("conformance"); // one for the whole program
    bench b{s};
    random_program program{b, drawn};
    for (int step = 0; step < 1500; ++step) {
        try {
            program.step();
        } catch (broken_promise const& broken) {
            expect(false, "STRATA_SEED=", drawn, ", step ", step, ": ", broken.what());
        }
    }
    program.finish();
}

constexpr promise list[] = {
    {"any_program_finds_the_model_s_answers", any_program_finds_the_model_s_answers},
};

} // namespace

std::span<promise const> promises_of_random_use() {
    return list;
}

} // namespace strata::test
