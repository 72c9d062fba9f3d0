// SPDX-License-Identifier: BSL-1.0

// Runs small workloads on every resource and its peers.
//
// Every run is a process of its own, forked from this one, and warms up before the clock starts.
// Candidates take turns, round after round; medians are compared. Footprints are taken in a run of
// their own.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/arguments.hpp"
#include "support/candidates.hpp"
#include "support/litter.hpp"
#include "support/measure.hpp"
#include "support/structures.hpp"
#include "support/table.hpp"
#include "support/workloads.hpp"
#include "trace/footprint.hpp"

namespace {

using namespace strata::bench;

constexpr double none = std::numeric_limits<double>::quiet_NaN();

// Less than this live says nothing of a footprint.
constexpr std::size_t few_bytes = 32768;

// A run that takes longer than this is measured in this many rounds at most: its median is steady.
constexpr double long_run_ns = 150e6;
constexpr std::size_t long_run_rounds = 3;

// What one candidate did with one workload; NaN: it does not suit.
struct cell {
    std::vector<double> rounds; // ns an op
    double ns = none;           // their median
    double longest_ns = 0;      // the longest run, with what is not timed in it
    double resident = none;     // peak resident bytes over bytes live
    bool failed = false;
};

// One workload, all candidates.
struct column {
    workload what;
    needs need;
    std::vector<cell> cells;
};

// Makes a candidate's resource when the workload is ready for it, and looks at memory before that
// and when most is live.
class candidate_stage final : public stage {
  public:
    candidate_stage(candidate const& who, needs const& need, std::size_t litter_blocks)
        : who_{who}, need_{need} {
        if (litter_blocks != 0)
            litter_.emplace(who, need, litter_blocks);
    }
    [[nodiscard]] std::size_t growth_bytes() const { return resident_->growth_bytes(); }

    void look_at_memory() { looking_ = true; }

  private:
    std::pmr::memory_resource& open() override {
        if (looking_) {
            prepare_to_meter();
            resident_.emplace();
        }
        close();
        return open_another();
    }
    std::pmr::memory_resource& open_another() override {
        memory_.push_back(who_.make(need_, std::pmr::new_delete_resource()));
        return *memory_.back();
    }
    void close() override { memory_.clear(); }
    void full() override {
        if (looking_)
            resident_->sample();
    }

    candidate const& who_;
    needs const& need_;
    bool looking_ = false;
    std::optional<resident_peak> resident_;
    std::optional<litter> litter_;
    std::vector<resource_ptr> memory_;
};

// Nanoseconds an op.
double timed(workload const& what, candidate const& who, needs const& need,
             std::size_t litter_blocks) {
    candidate_stage on{who, need, litter_blocks};
    sample const took = what.run(on);
    return took.ns / took.ops;
}

// Bytes that the process grew by.
std::size_t metered(workload const& what, candidate const& who, needs const& need) {
    candidate_stage on{who, need, 0};
    on.look_at_memory();
    static_cast<void>(what.run(on));
    return on.growth_bytes();
}

// One run of one candidate: round 0 looks at memory, the others at the clock.
void run_once(workload const& what, needs const& need, candidate const& who, std::size_t round,
              std::size_t litter_blocks, cell& into) {
    stopwatch const run;
    if (round == 0) {
        auto const bytes = in_child([&] { return metered(what, who, need); });
        into.failed = !bytes;
        if (bytes && *bytes != 0 && need.peak_requested_bytes > few_bytes)
            into.resident =
                static_cast<double>(*bytes) / static_cast<double>(need.peak_requested_bytes);
    } else {
        auto const ns = in_child([&] { return timed(what, who, need, litter_blocks); });
        into.failed = !ns;
        into.rounds.push_back(ns.value_or(none));
    }
    into.longest_ns = std::max(into.longest_ns, run.ns());
}

column measure(workload const& what, candidates const& who, arguments const& chosen,
               progress& shown) {
    std::optional<needs> const need = in_child([&] { return needs_of(what); });
    if (!need)
        throw std::runtime_error{"the workload " + what.name + " failed"};
    std::size_t const litter_blocks =
        !chosen.littered ? 0 : (chosen.smoke ? 1000 : litter::many_blocks);
    std::vector<cell> cells(who.size());
    for (std::size_t round = 0; round <= chosen.rounds; ++round)
        for (std::size_t i = 0; i < who.size(); ++i) {
            shown.step(what.name, who[i].name + ", round " + std::to_string(round));
            bool const enough = cells[i].longest_ns > long_run_ns && round > long_run_rounds;
            bool const suits = who[i].suits(*need) && (who[i].frees || what.drops_all);
            bool const asked = round != 0 || !what.drops_all; // for its memory, or the time
            if (!suits || !asked || cells[i].failed || enough)
                continue;
            run_once(what, *need, who[i], round, litter_blocks, cells[i]);
            if (cells[i].failed)
                shown.failed(what.name, who[i].name);
        }
    for (cell& one : cells)
        one.ns = one.failed ? none : median(one.rounds);
    return {what, *need, std::move(cells)};
}

// The least value of `of` on one side.
double best(candidates const& who, column const& among, side of) {
    double least = none;
    for (std::size_t i = 0; i < who.size(); ++i)
        if (who[i].side == of)
            least = std::fmin(least, among.cells[i].ns);
    return least;
}

using columns = std::vector<column>;

// One row a candidate that has any value.
table values(std::string const& title, candidates const& who, columns const& all,
             double cell::*value, int decimals) {
    std::vector<std::string> header{title};
    for (column const& one : all)
        header.push_back(one.what.name);
    table rows{header};
    for (std::size_t i = 0; i < who.size(); ++i) {
        std::vector<std::string> cells{who[i].name};
        bool any = false;
        for (column const& one : all) {
            double const here = one.cells[i].*value;
            cells.push_back(number(here, decimals));
            any = any || !std::isnan(here);
        }
        if (any)
            rows.row(std::move(cells));
    }
    return rows;
}

table times(candidates const& who, columns const& all) {
    table rows = values("ns an op", who, all, &cell::ns, 1);
    std::vector<std::string> ratios{"best of strata / best peer"};
    for (column const& one : all)
        ratios.push_back(ratio(best(who, one, side::strata) / best(who, one, side::peer)));
    rows.rule();
    rows.row(std::move(ratios));
    return rows;
}

// What the time of one is to that of each peer.
table ratios(std::string const& of, candidates const& who, columns const& all) {
    std::vector<std::string> header{of + " to"};
    for (column const& one : all)
        header.push_back(one.what.name);
    table rows{header};
    auto const subject = std::ranges::find(who, of, &candidate::name) - who.begin();
    if (static_cast<std::size_t>(subject) == who.size())
        return rows;
    for (std::size_t i = 0; i < who.size(); ++i) {
        std::vector<std::string> cells{who[i].name};
        bool any = false;
        for (column const& one : all) {
            double const here = one.cells[static_cast<std::size_t>(subject)].ns / one.cells[i].ns;
            cells.push_back(ratio(here));
            any = any || !std::isnan(here);
        }
        if (any && who[i].side == side::peer)
            rows.row(std::move(cells));
    }
    return rows;
}

std::vector<workload> chosen_workloads(arguments const& chosen) {
    std::vector<workload> all = chosen.structures ? structure_workloads(chosen.smoke)
                                : chosen.threads  ? thread_workloads(chosen.smoke)
                                                  : all_workloads(chosen.smoke);
    if (!chosen.operands.empty())
        std::erase_if(all, [&](workload const& one) {
            return std::ranges::none_of(chosen.operands, [&](std::string const& part) {
                return (one.group + " " + one.name).find(part) != std::string::npos;
            });
        });
    if (all.empty())
        throw std::runtime_error{"no workload's name holds that; --list names them"};
    return all;
}

// Returns: whether every candidate got through every workload.
bool run(arguments const& chosen) {
    std::vector<workload> const workloads = chosen_workloads(chosen);
    candidates who = select(chosen.candidate);
    if (chosen.structures) // by one thread; locks would add their own cost to each cell
        std::erase_if(who, [](candidate const& one) { return one.is_locked; });
    for (workload const& one : workloads)
        if (!one.about.empty())
            std::printf("%-20s%s\n", one.name.c_str(), one.about.c_str());
    if (chosen.structures)
        std::printf("%s\n", about_structures);
    if (chosen.threads)
        std::printf("%s\n", about_threads);
    if (chosen.littered)
        std::printf("%s\n", litter::about);
    if (chosen.list) {
        std::printf("\n");
        list(who);
        return true;
    }
    std::printf("Sizes are log-uniform unless said; everything random is drawn from seed 1.\n\n");
    std::vector<columns> groups;
    {
        progress shown{workloads.size() * who.size() * (chosen.rounds + 1)};
        for (workload const& one : workloads) {
            if (groups.empty() || groups.back().back().what.group != one.group)
                groups.emplace_back();
            groups.back().push_back(measure(one, who, chosen, shown));
        }
    }
    bool complete = true;
    for (columns const& group : groups) {
        std::string const& title = group.front().what.group;
        if (!title.empty())
            std::printf("%s\n\n", title.c_str());
        times(who, group).print(chosen.style);
        std::printf("\n");
        if (chosen.threads && chosen.candidate.empty()) {
            ratios("sync segregated_pool", who, group).print(chosen.style);
            std::printf("\n");
        }
        if (!std::ranges::all_of(group, &workload::drops_all, &column::what)) {
            values("resident / live bytes", who, group, &cell::resident, 2).print(chosen.style);
            std::printf("\n");
        }
        for (column const& one : group)
            complete = complete && std::ranges::none_of(one.cells, &cell::failed);
    }
    std::printf("An op is an allocation and a free, unless said. Median of %zu rounds (%zu where a "
                "run takes over %.2f s), each run in a fresh process.\n",
                chosen.rounds, std::min(chosen.rounds, long_run_rounds), long_run_ns / 1e9);
    return complete;
}

} // namespace

int main(int argc, char** argv) {
    return run_program(argc, argv,
                       "micro_bench [OPTION...] [WORKLOAD...]\n"
                       "Runs small workloads (those whose name holds WORKLOAD) on every "
                       "resource",
                       run);
}
