// SPDX-License-Identifier: BSL-1.0

// How long single operations take at worst, under patterns that are made to hurt.
//
// A pattern is a fixed list of operations. It is run several times, each on a resource of its own in
// one process, and of each operation the shortest time counts: what comes of the machine (interrupts,
// other processes) goes, what comes of the allocator stays. Memory is touched by the first run only,
// where the allocator keeps it.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "support/arguments.hpp"
#include "support/candidates.hpp"
#include "support/measure.hpp"
#include "support/table.hpp"

namespace {

using namespace strata::bench;

struct operation {
    std::uint32_t id;
    std::uint32_t bytes; // 0: free it
};

struct pattern {
    std::string name;
    std::string about;
    std::vector<operation> operations;
    needs need;
};

// Writes a pattern down, and what it needs.
class script {
  public:
    std::uint32_t take(std::uint32_t bytes) {
        sizes_.push_back(bytes);
        auto const id = static_cast<std::uint32_t>(sizes_.size() - 1);
        operations_.push_back({id, bytes});
        count(bytes, true);
        return id;
    }
    void give(std::uint32_t id) {
        operations_.push_back({id, 0});
        count(sizes_[id], false);
    }
    void give_all(std::vector<std::uint32_t>& ids) {
        for (std::uint32_t id : ids)
            give(id);
        ids.clear();
    }
    [[nodiscard]] pattern named(std::string name, std::string about) && {
        // Room for what these patterns leave unused: upstream is not what is to be measured here.
        for (std::size_t* bytes :
             {&peak_.peak_requested_bytes, &peak_.peak_live_bytes, &peak_.peak_in_64_bytes})
            *bytes *= 4;
        return {std::move(name), std::move(about), std::move(operations_), peak_};
    }

  private:
    void count(std::size_t bytes, bool live) {
        std::array<std::size_t, 3> const sums{bytes, whole(bytes, 16), whole(bytes, 64)};
        for (std::size_t i = 0; i < sums.size(); ++i)
            live_[i] = live ? live_[i] + sums[i] : live_[i] - sums[i];
        peak_.peak_requested_bytes = std::max(peak_.peak_requested_bytes, live_[0]);
        peak_.peak_live_bytes = std::max(peak_.peak_live_bytes, live_[1]);
        peak_.peak_in_64_bytes = std::max(peak_.peak_in_64_bytes, live_[2]);
    }

    std::vector<std::uint32_t> sizes_;
    std::vector<operation> operations_;
    std::array<std::size_t, 3> live_{};
    needs peak_;
};

// Draws numbers below a bound.
class dice {
  public:
    std::uint32_t below(std::size_t bound) { return static_cast<std::uint32_t>(random_() % bound); }
    template <class Sequence>
    void shuffle(Sequence& all) {
        std::shuffle(all.begin(), all.end(), random_);
    }

  private:
    std::mt19937 random_{1};
};

pattern churn(std::uint32_t n) {
    script s;
    dice random;
    std::vector<std::uint32_t> live;
    auto const size = [&] {
        std::uint32_t const octave = 8u << random.below(6);
        return octave + random.below(octave);
    };
    for (std::uint32_t i = 0; i < n; ++i)
        live.push_back(s.take(size()));
    for (std::uint32_t i = 0; i < 4 * n; ++i) {
        std::uint32_t& id = live[random.below(n)];
        s.give(id);
        id = s.take(size());
    }
    s.give_all(live);
    return std::move(s).named("churn", "random ones of many blocks of 8 to 511 bytes replaced");
}

pattern nearly_equal(std::uint32_t n, std::uint32_t least, char const* name, char const* about) {
    script s;
    dice random;
    std::vector<std::uint32_t> apart;
    std::vector<std::uint32_t> gone;
    for (std::uint32_t i = 0; i < n; ++i) {
        gone.push_back(s.take(least + 16 * (random.below(256))));
        apart.push_back(s.take(16));
    }
    random.shuffle(gone);
    s.give_all(gone);
    for (std::uint32_t i = 0; i < n; ++i) {
        gone.push_back(s.take(least + 16 * (random.below(256))));
        if (random.below(2) == 0) {
            std::swap(gone[random.below(gone.size())], gone.back());
            s.give(gone.back());
            gone.pop_back();
        }
    }
    s.give_all(gone);
    s.give_all(apart);
    return std::move(s).named(name, about);
}

pattern comb(std::uint32_t n) {
    script s;
    std::vector<std::uint32_t> teeth;
    std::vector<std::uint32_t> gone;
    for (std::uint32_t i = 0; i < n; ++i)
        (i % 2 == 0 ? gone : teeth).push_back(s.take(64));
    s.give_all(gone);
    for (std::uint32_t i = 0; i < n / 4; ++i) {
        gone.push_back(s.take(128)); // fits no gap
        if (i % 2 == 0)
            s.give(std::exchange(gone.back(), s.take(48)));
    }
    s.give_all(gone);
    s.give_all(teeth);
    return std::move(s).named("comb", "every second of many blocks of 64 bytes freed, larger ones "
                                      "asked for");
}

pattern sawtooth(std::uint32_t n) {
    script s;
    std::vector<std::uint32_t> rising;
    for (int tooth = 0; tooth < 4; ++tooth) {
        for (std::uint32_t i = 0; i < n; ++i)
            rising.push_back(s.take(16 + i % 2000));
        if (tooth % 2 != 0)
            std::reverse(rising.begin(), rising.end());
        s.give_all(rising);
    }
    return std::move(s).named("sawtooth", "filled with rising sizes and emptied, first to last or "
                                          "last to first");
}

// After Robson, "Worst case fragmentation of first fit and best fit", 1977: each size twice the one
// before, and of each only so much stays that the gaps are too small for the next.
pattern robson(std::uint32_t all_bytes) {
    script s;
    std::vector<std::uint32_t> live;
    for (std::uint32_t bytes = 16; bytes <= 16384; bytes *= 2) {
        for (std::uint32_t i = 0; i < all_bytes / bytes / 2; ++i)
            live.push_back(s.take(bytes));
        std::vector<std::uint32_t> kept;
        for (std::size_t i = 0; i < live.size(); ++i)
            if (i % 2 == 0)
                kept.push_back(live[i]);
            else
                s.give(live[i]);
        live = std::move(kept);
    }
    s.give_all(live);
    return std::move(s).named("doubling", "sizes doubled, every second block of each freed "
                                          "(after Robson)");
}

std::vector<pattern> all_patterns(bool smoke) {
    std::uint32_t const n = smoke ? 500 : 50'000;
    return {churn(n),
            nearly_equal(n, 512, "equal small", "50,000 free blocks of 512 to 4592 bytes, apart"),
            nearly_equal(n / 5, 16384, "equal large", "10,000 free blocks of 16 to 20 KiB, apart"),
            comb(4 * n),
            sawtooth(n),
            robson(smoke ? 100'000 : 16'000'000)};
}

struct result {
    double median = 0;
    double p99 = 0;
    double p999 = 0;
    double worst = 0;
};

constexpr result none{
    std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::quiet_NaN(),
    std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::quiet_NaN()};

result measure(pattern const& of, candidate const& who, std::size_t runs) {
    std::vector<double> least(of.operations.size(), std::numeric_limits<double>::max());
    std::vector<void*> blocks(of.operations.size());
    std::vector<std::uint32_t> sizes(of.operations.size());
    double const reading = cost_of_now();
    resource_ptr const memory = who.make(of.need, std::pmr::new_delete_resource());
    for (std::size_t run = 0; run < runs; ++run)
        for (std::size_t i = 0; i < of.operations.size(); ++i) {
            auto const [id, bytes] = of.operations[i];
            double const before = now();
            if (bytes != 0)
                blocks[id] = memory->allocate(bytes, 8);
            else
                memory->deallocate(blocks[id], sizes[id], 8);
            least[i] = std::min(least[i], now() - before - reading);
            if (bytes != 0)
                sizes[id] = bytes;
            keep(blocks[id]);
        }
    std::sort(least.begin(), least.end());
    auto const at = [&](double part) {
        return least[static_cast<std::size_t>(part * static_cast<double>(least.size() - 1))];
    };
    return {at(0.5), at(0.99), at(0.999), least.back()};
}

bool run(arguments const& chosen) {
    std::vector<pattern> const patterns = all_patterns(chosen.smoke);
    candidates who = select(chosen.candidate);
    std::erase_if(
        who, [](candidate const& one) { return one.is_locked || !one.frees || one.one_size_only; });
    for (pattern const& one : patterns)
        std::printf("%-20s%s: %zu operations\n", one.name.c_str(), one.about.c_str(),
                    one.operations.size());
    std::printf("\n");
    if (chosen.list) {
        list(who);
        return true;
    }
    std::size_t const runs = chosen.smoke ? 1 : std::max<std::size_t>(chosen.rounds, 3);
    bool complete = true;
    for (pattern const& one : patterns) {
        table rows{{one.name + ", ns an operation", "median", "99 %", "99.9 %", "worst",
                    "worst / median"}};
        {
            progress shown{who.size()};
            for (candidate const& each : who) {
                shown.step(one.name, each.name);
                auto const got = in_child([&] { return measure(one, each, runs); });
                if (!got)
                    shown.failed(one.name, each.name);
                complete = complete && got.has_value();
                result const r = got.value_or(none);
                rows.row({each.name, number(r.median, 0), number(r.p99, 0), number(r.p999, 0),
                          number(r.worst, 0), number(r.worst / r.median, 0)});
            }
        }
        rows.print(chosen.style);
        std::printf("\n");
    }
    std::printf("Of each operation the shortest of %zu runs counts, less the clock's own time.\n",
                runs);
    return complete;
}

} // namespace

int main(int argc, char** argv) {
    return run_program(argc, argv,
                       "worst_bench [OPTION...]\n"
                       "Times single operations under patterns that are made to hurt",
                       run);
}
