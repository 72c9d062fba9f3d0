// SPDX-License-Identifier: BSL-1.0

// Replays real programs' traces through every resource and its peers.
//
// Every replay is a process of its own, forked from this one: each candidate starts from the same
// state, in every round, and none inherits another's heap. `first` is the time from the resource's
// construction to the trace's last op, page faults included, as a program would see it; `again` is
// the third replay on the same resource, which knows the work by then. Candidates take turns, round
// after round; medians are compared. Footprints are taken in a replay of their own that fills
// every block, as a program would, and checks what it wrote.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <strata/resource.hpp>

#include "support/arguments.hpp"
#include "support/candidates.hpp"
#include "support/measure.hpp"
#include "support/table.hpp"
#include "trace/footprint.hpp"
#include "trace/trace.hpp"

namespace {

using namespace strata::bench;
namespace trace = strata::trace;

constexpr double none = std::numeric_limits<double>::quiet_NaN();

struct times {
    double first_ns;
    double again_ns;
};

struct result {
    std::vector<double> first;
    std::vector<double> again;
    std::optional<footprint> memory;
};

// Makes every page of the table the child's own before the clock starts.
void settle(trace::block_table& blocks) {
    for (auto& block : blocks.slots())
        block = {};
}

// Reallocates where a block stands, if the candidate can.
class in_place {
  public:
    explicit in_place(std::pmr::memory_resource& memory)
        : memory_{memory},
          strata_{dynamic_cast<strata::resource*>(&memory)},
          peer_{dynamic_cast<reallocating*>(&memory)} {}
    void* allocate(std::size_t bytes, std::size_t alignment) {
        return memory_.allocate(bytes, alignment);
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment) {
        memory_.deallocate(p, bytes, alignment);
    }
    void* reallocate(void* p, std::size_t bytes, std::size_t alignment, std::size_t new_bytes,
                     std::size_t new_alignment) {
        if (strata_ != nullptr && alignment == new_alignment)
            return strata_->reallocate(p, bytes, new_bytes, alignment);
        if (peer_ != nullptr && alignment <= 16 && new_alignment <= 16)
            return peer_->reallocate(p, bytes, new_bytes);
        void* const moved = memory_.allocate(new_bytes, new_alignment);
        std::memcpy(moved, p, std::min(bytes, new_bytes));
        memory_.deallocate(p, bytes, alignment);
        return moved;
    }

  private:
    std::pmr::memory_resource& memory_;
    strata::resource* strata_;
    reallocating* peer_;
};

template <class Memory>
times timed_on(trace::trace const& of, trace::block_table& blocks, Memory memory, bool frees,
               stopwatch const& first) {
    trace::replay(of, memory, blocks);
    double const first_ns = first.ns();
    trace::free_rest(blocks, memory);
    if (!frees)
        return {first_ns, none};
    trace::replay(of, memory, blocks);
    trace::free_rest(blocks, memory);
    stopwatch const again;
    trace::replay(of, memory, blocks);
    double const again_ns = again.ns();
    trace::free_rest(blocks, memory);
    return {first_ns, again_ns};
}

times timed(trace::trace const& of, candidate const& who, needs const& need, bool reallocate) {
    trace::block_table blocks{of};
    settle(blocks);
    stopwatch const first;
    resource_ptr const memory = who.make(need, std::pmr::new_delete_resource());
    return reallocate ? timed_on(of, blocks, in_place{*memory}, who.frees, first)
                      : timed_on<std::pmr::memory_resource&>(of, blocks, *memory, who.frees, first);
}

// Fills every block with a pattern of its address and size, and finds it there when the block
// comes back.
class filling {
  public:
    explicit filling(std::pmr::memory_resource& memory) : memory_{memory} {}
    void* allocate(std::size_t bytes, std::size_t alignment) {
        void* const p = memory_.allocate(bytes, alignment);
        if (!strata::detail::is_aligned(p, alignment))
            throw std::runtime_error{"a block is not aligned as it was asked for"};
        return p;
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment) {
        auto const* const content = static_cast<unsigned char const*>(p);
        unsigned char const expected = mark(p, bytes);
        // The whole block is equal to itself moved by one byte, if all its bytes are equal.
        if (content[0] != expected || std::memcmp(content, content + 1, bytes - 1) != 0)
            throw std::runtime_error{"a live block was written to by somebody else"};
        memory_.deallocate(p, bytes, alignment);
    }
    static void fill(void* p, std::size_t bytes) { std::memset(p, mark(p, bytes), bytes); }

  private:
    static unsigned char mark(void const* p, std::size_t bytes) {
        return static_cast<unsigned char>((strata::detail::address_of(p) >> 4) + bytes);
    }
    std::pmr::memory_resource& memory_;
};

footprint metered(trace::trace const& of, candidate const& who, needs const& need) {
    constexpr std::size_t samples = 256;
    std::size_t const stride = of.ops.size() / samples + 1;
    trace::block_table blocks{of};
    settle(blocks);
    prepare_to_meter();
    resident_peak resident;
    trace::footprint_meter upstream;
    resource_ptr const memory = who.make(need, &upstream);
    filling checked{*memory};
    trace::replay(of, checked, blocks, filling::fill, [&](std::size_t op) {
        if (op == of.peak_op || op % stride == 0)
            resident.sample();
    });
    resident.sample();
    trace::free_rest(blocks, checked);
    return {upstream.peak_bytes(), resident.growth_bytes()};
}

needs needs_of(trace::trace const& of) {
    return {.peak_requested_bytes = of.peak_live_bytes,
            .peak_live_bytes = trace::peak_live_bytes(of, 16),
            .peak_in_64_bytes = trace::peak_live_bytes(of, 64)};
}

std::vector<result> measure(trace::trace const& of, candidates const& who, arguments const& chosen,
                            progress& shown) {
    needs const need = needs_of(of);
    std::vector<result> results(who.size());
    for (std::size_t i = 0; i < who.size(); ++i) {
        shown.step(of.name, who[i].name + ", footprint");
        results[i].memory = in_child([&] { return metered(of, who[i], need); });
        if (!results[i].memory)
            shown.failed(of.name, who[i].name);
    }
    for (std::size_t round = 0; round < chosen.rounds; ++round)
        for (std::size_t i = 0; i < who.size(); ++i) {
            shown.step(of.name, who[i].name + ", round " + std::to_string(round + 1));
            if (!results[i].memory)
                continue;
            if (auto const took =
                    in_child([&] { return timed(of, who[i], need, chosen.reallocate); })) {
                results[i].first.push_back(took->first_ns);
                if (!std::isnan(took->again_ns))
                    results[i].again.push_back(took->again_ns);
            }
        }
    return results;
}

// Bytes that the smallest region takes from upstream, bits and all, in which a replay needs no more,
// to 1/1000 of what is live; none where twice that is too small.
double smallest_region(trace::trace const& of, candidate const& who) {
    auto const held_if_it_fits = [&](std::size_t bytes) {
        trace::block_table blocks{of};
        trace::footprint_meter upstream;
        resource_ptr const memory = who.make({.set_region_bytes = bytes}, &upstream);
        std::size_t const region_alone = upstream.bytes();
        trace::replay(
            of, *memory, blocks, [](void*, std::size_t) {}, [](std::size_t) {});
        trace::free_rest(blocks, *memory);
        return upstream.peak_bytes() == region_alone ? static_cast<double>(region_alone) : none;
    };
    std::size_t too_small = of.peak_live_bytes;
    std::size_t enough = 2 * of.peak_live_bytes;
    double held = held_if_it_fits(enough);
    while (!std::isnan(held) && enough - too_small > of.peak_live_bytes / 1000) {
        std::size_t const middle = (too_small + enough) / 2;
        double const held_here = held_if_it_fits(middle);
        (std::isnan(held_here) ? too_small : enough) = middle;
        held = std::isnan(held_here) ? held : held_here;
    }
    return held;
}

// One row a trace, and the geometric means.
bool print_regions(std::vector<trace::trace> const& traces, candidates who, table::style style) {
    std::erase_if(who, [](candidate const& one) { return !one.packs_a_region; });
    std::vector<std::string> header{"smallest region / peak live bytes"};
    for (candidate const& one : who)
        header.push_back(one.name);
    table rows{header};
    std::vector<double> logs(who.size());
    progress shown{traces.size() * who.size()};
    bool complete = true;
    for (trace::trace const& of : traces) {
        std::vector<std::string> cells{of.name};
        for (std::size_t i = 0; i < who.size(); ++i) {
            shown.step(of.name, who[i].name);
            double const bytes =
                in_child([&] { return smallest_region(of, who[i]); }).value_or(none);
            complete = complete && !std::isnan(bytes);
            double const over_live = bytes / static_cast<double>(of.peak_live_bytes);
            cells.push_back(number(over_live, 3));
            logs[i] += std::log(over_live);
        }
        rows.row(std::move(cells));
    }
    std::vector<std::string> means{"geometric mean"};
    for (double sum : logs)
        means.push_back(number(std::exp(sum / static_cast<double>(traces.size())), 3));
    rows.rule();
    rows.row(std::move(means));
    rows.print(style);
    std::printf("\nA region with all that it keeps to itself: bits, headers, tags.\n");
    return complete;
}

// The least median among the peers.
double best_peer(candidates const& who, std::vector<result> const& results,
                 std::vector<double> result::*of) {
    double best = none;
    for (std::size_t i = 0; i < who.size(); ++i)
        if (who[i].side == side::peer)
            best = std::fmin(best, median(results[i].*of));
    return best;
}

void add_rows(table& rows, trace::trace const& of, candidates const& who,
              std::vector<result> const& results) {
    auto const ops = static_cast<double>(of.ops.size());
    auto const live = static_cast<double>(of.peak_live_bytes);
    double const best_first = best_peer(who, results, &result::first);
    double const best_again = best_peer(who, results, &result::again);
    rows.rule();
    for (std::size_t i = 0; i < who.size(); ++i) {
        double const first = median(results[i].first);
        double const again = median(results[i].again);
        footprint const memory = results[i].memory.value_or(footprint{});
        bool const measured = results[i].memory.has_value();
        auto const held =
            measured && who[i].upstream_tells ? static_cast<double>(memory.held) : none;
        double const resident =
            measured && memory.resident != 0 ? static_cast<double>(memory.resident) : none;
        rows.row({of.name + "  " + who[i].name, number(first / ops, 1), ratio(first / best_first),
                  number(again / ops, 1), ratio(again / best_again), number(held / 1048576, 2),
                  ratio(held / live), number(resident / 1048576, 2), ratio(resident / live),
                  std::isnan(resident) ? "-" : number(100 * live / resident, 0) + "%"});
    }
}

void describe(trace::trace const& of) {
    std::printf("%s: %zu ops, at most %zu blocks and %s live\n", of.name.c_str(), of.ops.size(),
                of.peak_live_blocks, mebibytes(static_cast<double>(of.peak_live_bytes)).c_str());
}

// Returns: whether every candidate got through every trace.
bool run(arguments const& chosen) {
    candidates who = select(chosen.candidate);
    if (chosen.list) {
        list(who);
        return true;
    }
    if (chosen.operands.empty())
        throw std::runtime_error{"no trace was given; --help says more"};
    std::erase_if(who, [](candidate const& one) { return !one.suits(needs{}); });
    std::vector<trace::trace> traces;
    for (std::string const& path : chosen.operands)
        describe(traces.emplace_back(trace::read(std::filesystem::path{path})));

    if (chosen.regions) {
        std::printf("\n");
        return print_regions(traces, who, chosen.style);
    }
    bool complete = true;
    table rows{{"trace, candidate", "first ns/op", "/best peer", "again ns/op", "/best peer",
                "held MiB", "held/live", "resident MiB", "resident/live", "utilization"}};
    {
        progress shown{traces.size() * who.size() * (chosen.rounds + 1)};
        for (trace::trace const& of : traces) {
            auto const results = measure(of, who, chosen, shown);
            add_rows(rows, of, who, results);
            complete = complete && std::ranges::all_of(results, [&](result const& one) {
                           return one.memory && one.first.size() == chosen.rounds;
                       });
        }
    }
    std::printf("\n");
    rows.print(chosen.style);
    std::printf(
        "\nMedian of %zu rounds, each replay in a fresh process. first: from construction on, "
        "page\n"
        "faults included; again: the third replay on the same resource. held: peak of the bytes\n"
        "taken from upstream; resident: peak growth of the process's memory, every block filled.\n"
        "utilization: peak live bytes / resident.\n",
        chosen.rounds);
    return complete;
}

} // namespace

int main(int argc, char** argv) {
    return run_program(argc, argv,
                       "replay_bench [OPTION...] TRACE...\n"
                       "Replays traces (.rep, .rep.xz) through every resource",
                       run);
}
