// SPDX-License-Identifier: BSL-1.0

// How long single operations take where blocks of one size come and go, and how long it takes to find
// a run of blocks in a large and fragmented pool.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <strata/fixed_block_resource.hpp>

#include "support/arguments.hpp"
#include "support/candidates.hpp"
#include "support/latency.hpp"
#include "support/measure.hpp"
#include "support/table.hpp"

namespace {

using namespace strata::bench;

constexpr std::size_t block_bytes = 64;
constexpr std::size_t alignment = 8;

// ---- churn -------------------------------------------------------------------------------------

struct churn {
    std::size_t live;
    std::size_t operations; // allocations and frees, besides filling and emptying

    [[nodiscard]] std::size_t all_operations() const { return operations + 2 * live; }
    [[nodiscard]] needs need() const {
        std::size_t const bytes = live * block_bytes;
        return {.peak_requested_bytes = bytes,
                .peak_live_bytes = bytes,
                .peak_in_64_bytes = bytes,
                .block_bytes = block_bytes};
    }
    void run(std::pmr::memory_resource& on) const {
        std::mt19937 random{1};
        std::vector<void*> blocks(live);
        for (void*& p : blocks)
            p = on.allocate(block_bytes, alignment);
        for (std::size_t i = 0; i < operations / 2; ++i) {
            void*& p = blocks[random() % live];
            on.deallocate(p, block_bytes, alignment);
            p = on.allocate(block_bytes, alignment);
        }
        for (void* p : blocks)
            on.deallocate(p, block_bytes, alignment);
    }
};

struct latencies {
    percentiles least;  // of each operation's shortest time
    double one_run = 0; // the longest operation of a run, in the median
    bool failed = false;
};

latencies measure(churn const& what, candidate const& who, std::size_t runs) {
    operation_times times{what.all_operations()};
    std::vector<double> longest;
    for (std::size_t run = 0; run < runs; ++run) {
        auto const got = in_child([&] {
            resource_ptr const memory = who.make(what.need(), std::pmr::new_delete_resource());
            timing_resource timed{memory.get(), times};
            what.run(timed);
            return timed.longest();
        });
        if (!got)
            return {.least = {}, .failed = true};
        longest.push_back(*got);
    }
    return {times.sorted(), median(longest)};
}

bool show_churn(arguments const& chosen, candidates const& who, std::size_t runs) {
    churn const what{chosen.smoke ? 1000u : 100'000u, chosen.smoke ? 10'000u : 10'000'000u};
    std::printf("churn: %zu blocks of %zu bytes, a random one replaced, %zu operations\n\n",
                what.live, block_bytes, what.operations);
    std::vector<latencies> all;
    double of_malloc = std::numeric_limits<double>::quiet_NaN();
    bool complete = true;
    {
        progress shown{who.size()};
        for (candidate const& each : who) {
            shown.step("churn", each.name);
            all.push_back(measure(what, each, runs));
            if (all.back().failed)
                shown.failed("churn", each.name);
            else if (each.name == "new_delete")
                of_malloc = all.back().least.max;
            complete = complete && !all.back().failed;
        }
    }
    table rows{{"ns an operation", "p50", "p99", "p99.9", "max", "max / malloc's", "max of a run"}};
    for (std::size_t i = 0; i < who.size(); ++i)
        if (latencies const& one = all[i]; !one.failed)
            rows.row({who[i].name, number(one.least.p50, 0), number(one.least.p99, 0),
                      number(one.least.p999, 0), number(one.least.max, 0),
                      ratio(one.least.max / of_malloc), number(one.one_run, 0)});
    rows.print(chosen.style);
    std::printf("\nOf each operation the shortest of %zu runs counts, each in a fresh process; in "
                "the last column all count, the machine's interruptions too.\n\n",
                runs);
    return complete;
}

// ---- runs --------------------------------------------------------------------------------------

constexpr std::size_t run_blocks = 8;

// A pool that is full but for random single blocks and some holes for a run.
class fragmented {
  public:
    fragmented(std::size_t blocks, double full, std::size_t holes, bool holes_at_end)
        : pool_{blocks * block_bytes, block_bytes} {
        std::vector<void*> all(blocks);
        for (void*& p : all)
            p = pool_.allocate(block_bytes, alignment);
        std::vector<bool> goes(blocks);
        for (std::size_t i = 0; i < holes; ++i) {
            std::size_t const last = blocks - run_blocks;
            std::size_t const first = holes_at_end ? last - i * run_blocks : random_() % last;
            std::fill_n(goes.begin() + static_cast<std::ptrdiff_t>(first), run_blocks, true);
        }
        auto const free = static_cast<std::uint32_t>((1 - full) * 1e6);
        std::size_t together = 0; // so that there are no runs but those
        for (std::size_t i = 0; i < blocks; ++i) {
            if (goes[i] || (together < run_blocks - 1 && random_() % 1'000'000 < free)) {
                together = goes[i] ? run_blocks : together + 1;
                pool_.deallocate(all[i], block_bytes, alignment);
            } else {
                together = 0;
                live_.push_back(all[i]);
            }
        }
    }

    // ns that it takes to allocate a run; some random blocks are replaced before, the lowest free
    // ones being taken, and the run is freed after it.
    double search(std::size_t replaced) {
        for (std::size_t i = 0; i < replaced; ++i) {
            void*& p = live_[random_() % live_.size()];
            pool_.deallocate(p, block_bytes, alignment);
            p = pool_.allocate(block_bytes, alignment);
        }
        double const before = now();
        void* const run = pool_.allocate(run_blocks * block_bytes, alignment);
        double const ns = now() - before - reading_;
        if (!pool_.owns(run))
            std::fprintf(stderr, "there was no run left\n");
        pool_.deallocate(run, run_blocks * block_bytes, alignment);
        return ns;
    }

  private:
    strata::fixed_block_resource pool_;
    std::vector<void*> live_;
    std::mt19937 random_{1};
    double reading_ = cost_of_now();
};

void show_runs(arguments const& chosen) {
    std::size_t const blocks = chosen.smoke ? 10'000 : 1'000'000;
    std::size_t const searches = chosen.smoke ? 100 : 20'000;
    std::printf("runs: %zu adjacent blocks asked of fixed_block, %zu blocks, 90 %% live at random; "
                "10 random blocks replaced between two searches\n\n",
                run_blocks, blocks);
    struct pattern {
        char const* name;
        std::size_t holes;
        bool at_end;
    };
    table rows{{"ns a run", "first", "p50", "p99", "p99.9", "max"}};
    for (pattern const& one : {pattern{"64 holes that it fits in, anywhere", 64, false},
                               pattern{"one such hole, at the end", 1, true}}) {
        fragmented pool{blocks, 0.9, one.holes, one.at_end};
        double const first = pool.search(0);
        std::vector<double> all(searches);
        for (double& ns : all)
            ns = pool.search(10);
        std::ranges::sort(all);
        auto const at = [&](double part) {
            return number(all[static_cast<std::size_t>(part * static_cast<double>(searches - 1))],
                          0);
        };
        rows.row({one.name, number(first, 0), at(0.5), at(0.99), at(0.999), at(1.0)});
    }
    rows.print(chosen.style);
    std::printf("\nOne run, the machine's interruptions included.\n");
}

bool run(arguments const& chosen) {
    candidates who = select(chosen.candidate);
    std::erase_if(who, [](candidate const& one) { return one.is_locked || !one.frees; });
    add_prefaulted(who);
    if (chosen.list) {
        list(who);
        return true;
    }
    bool const complete =
        show_churn(chosen, who, chosen.smoke ? 1 : std::max<std::size_t>(chosen.rounds, 3));
    show_runs(chosen);
    return complete;
}

} // namespace

int main(int argc, char** argv) {
    return run_program(argc, argv,
                       "latency_bench [OPTION...]\n"
                       "Times single operations on blocks of one size, and searches for runs",
                       run);
}
