// SPDX-License-Identifier: BSL-1.0

// A* on some 15-puzzles, its nodes from every resource: time, memory, and the longest single
// allocation or free. Every run is a process of its own that makes the resource, solves one puzzle,
// and gives every node back: memory is new to it.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "support/arguments.hpp"
#include "support/astar.hpp"
#include "support/candidates.hpp"
#include "support/latency.hpp"
#include "support/measure.hpp"
#include "support/table.hpp"

namespace {

using namespace strata::bench;

constexpr double none = std::numeric_limits<double>::quiet_NaN();

struct size_of_search {
    std::size_t generated;
    std::size_t kept;
    [[nodiscard]] std::size_t operations() const { return 2 * generated; }
    [[nodiscard]] needs need() const {
        std::size_t const nodes = kept + 1; // one is made before it is known not to be new
        return {.peak_requested_bytes = nodes * sizeof(astar::node),
                .peak_live_bytes = nodes * whole(sizeof(astar::node), 16),
                .peak_in_64_bytes = nodes * whole(sizeof(astar::node), 64),
                .block_bytes = sizeof(astar::node)};
    }
};

size_of_search measure_search(puzzle const& one) {
    astar search{std::pmr::new_delete_resource()};
    astar::node const* const last = search.solve(board{one.tiles});
    if (last == nullptr || last->moves != one.shortest)
        throw std::runtime_error{std::string{one.name} + ": that is not the shortest solution"};
    return {search.generated(), search.kept()};
}

// What the solver is made over before there is a resource, so that its own tables are not measured.
class later final : public std::pmr::memory_resource {
  public:
    std::pmr::memory_resource* target = nullptr;

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        return target->allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        target->deallocate(p, bytes, alignment);
    }
    bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }
};

double timed(puzzle const& one, candidate const& who, needs const& need) {
    stopwatch const watch;
    resource_ptr const memory = who.make(need, std::pmr::new_delete_resource());
    astar search{memory.get()};
    keep(search.solve(board{one.tiles}));
    search.clear();
    return watch.ns();
}

std::size_t metered(puzzle const& one, candidate const& who, needs const& need) {
    later nodes;
    astar search{&nodes};
    prepare_to_meter();
    resident_peak resident;
    resource_ptr const memory = who.make(need, std::pmr::new_delete_resource());
    nodes.target = memory.get();
    keep(search.solve(board{one.tiles}));
    resident.sample();
    search.clear();
    return resident.growth_bytes();
}

double longest(puzzle const& one, candidate const& who, needs const& need, operation_times& times) {
    resource_ptr const memory = who.make(need, std::pmr::new_delete_resource());
    timing_resource operations{memory.get(), times};
    astar search{&operations};
    keep(search.solve(board{one.tiles}));
    search.clear();
    return operations.longest();
}

struct result {
    double ns = none;
    double resident_bytes = none;
    percentiles operations{none, none, none, none};
    bool failed = false;
};

std::vector<result> measure(puzzle const& one, size_of_search const& size, candidates const& who,
                            arguments const& chosen) {
    std::vector<result> all(who.size());
    std::vector<std::vector<double>> times(who.size());
    progress shown{who.size() * (chosen.rounds + 2)};
    needs const need = size.need();
    for (std::size_t round = 0; round < chosen.rounds; ++round) // in turn
        for (std::size_t i = 0; i < who.size(); ++i) {
            shown.step(one.name, who[i].name);
            auto const ns = in_child([&] { return timed(one, who[i], need); });
            all[i].failed = all[i].failed || !ns;
            times[i].push_back(ns.value_or(none));
        }
    std::size_t const runs = chosen.smoke ? 1 : std::max<std::size_t>(chosen.rounds, 3);
    for (std::size_t i = 0; i < who.size(); ++i) {
        shown.step(one.name, who[i].name);
        all[i].ns = median(times[i]);
        auto const bytes = in_child([&] { return metered(one, who[i], need); });
        operation_times shortest{size.operations()};
        bool complete = bytes.has_value();
        for (std::size_t run = 0; run < runs && complete; ++run)
            complete = in_child([&] { return longest(one, who[i], need, shortest); }).has_value();
        all[i].failed = all[i].failed || !complete;
        if (all[i].failed) {
            shown.failed(one.name, who[i].name);
            continue;
        }
        all[i].resident_bytes = static_cast<double>(*bytes);
        all[i].operations = shortest.sorted();
    }
    return all;
}

bool run(arguments const& chosen) {
    candidates who = select(chosen.candidate);
    std::erase_if(who, [](candidate const& one) { return one.is_locked || !one.frees; });
    add_prefaulted(who);
    if (chosen.list) {
        list(who);
        return true;
    }
    std::vector<puzzle> all(std::begin(puzzles), std::end(puzzles));
    if (chosen.smoke)
        all = {{"smoke", {1, 2, 3, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14, 0}, 6}};
    bool complete = true;
    for (puzzle const& one : all) {
        size_of_search const size = measure_search(one);
        std::vector<result> const results = measure(one, size, who, chosen);
        double best = none;
        for (std::size_t i = 0; i < who.size(); ++i)
            if (who[i].side == side::peer)
                best = std::fmin(best, results[i].ns);
        std::printf("%s: %d moves, %zu nodes made, %zu kept, %zu bytes each\n\n", one.name,
                    one.shortest, size.generated, size.kept, sizeof(astar::node));
        table rows{{one.name, "ms", "/best peer", "B/node", "p50 ns", "p99.9 ns", "max ns"}};
        for (std::size_t i = 0; i < who.size(); ++i) {
            result const& r = results[i];
            complete = complete && !r.failed;
            rows.row({who[i].name, number(r.ns / 1e6, 1), ratio(r.ns / best),
                      number(r.resident_bytes / static_cast<double>(size.kept), 1),
                      number(r.operations.p50, 0), number(r.operations.p999, 0),
                      number(r.operations.max, 0)});
        }
        rows.print(chosen.style);
        std::printf("\n");
    }
    std::printf(
        "ms: median of %zu runs, from before the resource is made to the last node's return. "
        "B/node: resident memory. ns: single operations, of each the shortest of all runs.\n",
        chosen.rounds);
    return complete;
}

} // namespace

int main(int argc, char** argv) {
    return run_program(argc, argv,
                       "astar_bench [OPTION...]\n"
                       "Solves 15-puzzles by A*, the nodes from every resource in turn",
                       run);
}
