// SPDX-License-Identifier: BSL-1.0
#include "structures.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <list>
#include <memory_resource>
#include <numeric>
#include <random>
#include <string>
#include <unordered_set>
#include <vector>

#include "measure.hpp"

namespace strata::bench {

namespace {

using memory = std::pmr::memory_resource;

std::string power(unsigned exponent) {
    return "2^" + std::to_string(exponent);
}

// So many elements are made in a run, whatever the size of each structure.
constexpr std::size_t elements_in_a_run = std::size_t{1} << 16;

// The i-th of many different texts, too long to lie inside the string.
template <class String, class... Memory>
String text(std::size_t i, Memory... from) {
    String made(33 + i % 96, 'x', from...);
    for (std::size_t digit = 0; digit < 8; ++digit, i /= 16)
        made[digit] = "0123456789abcdef"[i % 16];
    return made;
}

// ---- growth ------------------------------------------------------------------------------------

// What is grown: fill(from, n) makes a structure of n elements in `from`, and destroys it.
void grow_numbers(memory& from, std::size_t n) {
    std::pmr::vector<int> all{&from};
    for (std::size_t i = 0; i < n; ++i)
        all.push_back(static_cast<int>(i));
    keep(all.data());
}

void grow_texts(memory& from, std::size_t n) {
    std::pmr::vector<std::pmr::string> all{&from};
    for (std::size_t i = 0; i < n; ++i)
        all.push_back(text<std::pmr::string>(i, &from));
    keep(all.data());
}

void grow_text_set(memory& from, std::size_t n) {
    std::pmr::unordered_set<std::pmr::string> all{&from};
    for (std::size_t i = 0; i < n; ++i)
        all.insert(text<std::pmr::string>(i, &from));
    keep(&all);
}

constexpr std::size_t inner = 32; // elements of each inner structure

void grow_sets_of_numbers(memory& from, std::size_t n) {
    std::pmr::vector<std::pmr::unordered_set<int>> all{&from};
    for (std::size_t i = 0; i < n / inner; ++i) {
        auto& set = all.emplace_back();
        for (std::size_t k = 0; k < inner; ++k)
            set.insert(static_cast<int>(i + k));
    }
    keep(all.data());
}

// A structure is made in a resource of its own and both are destroyed, again and again.
workload growth(char const* group, void (*grow)(memory&, std::size_t), unsigned exponent,
                std::size_t elements) {
    std::size_t const n = std::size_t{1} << exponent;
    return {.name = power(exponent),
            .about = {},
            .group = group,
            .drops_all = true,
            .run = [=](stage& on) -> sample {
                std::size_t const repeats = std::max<std::size_t>(1, elements / n);
                grow(on.open(), n);
                stopwatch const clock;
                for (std::size_t i = 0; i < repeats; ++i)
                    grow(on.open(), n);
                on.close();
                return {clock.ns(), static_cast<double>(repeats * n)};
            }};
}

// ---- locality ----------------------------------------------------------------------------------

// Subsystems, lists of 2^exponent numbers each, 2^16 in all, share a resource. Their elements are
// handed from one to another at random, as work is in a long-lived system, and made anew there.
// Then each list is walked in turn.
workload locality(unsigned exponent, unsigned total_exponent, std::size_t walks) {
    std::size_t const total = std::size_t{1} << total_exponent;
    std::size_t const lists = std::max<std::size_t>(1, total >> exponent);
    return {.name = power(exponent),
            .about = {},
            .group = "locality",
            .drops_all = true,
            .run = [=](stage& on) -> sample {
                std::mt19937 random{1};
                memory& from = on.open();
                double ns = 0;
                {
                    std::pmr::vector<std::pmr::list<int>> system{&from};
                    for (std::size_t i = 0; i < lists; ++i)
                        system.emplace_back().assign(total / lists, 1);
                    for (std::size_t i = 0; i < total; ++i) {
                        system[random() % lists].push_back(1);
                        auto& other = system[random() % lists];
                        if (!other.empty())
                            other.pop_front();
                    }
                    on.full();
                    stopwatch const clock;
                    for (std::size_t walk = 0; walk < walks; ++walk)
                        for (auto const& one : system) {
                            int const sum = std::accumulate(one.begin(), one.end(), 0);
                            keep(&sum);
                        }
                    ns = clock.ns();
                }
                on.close();
                return {ns, static_cast<double>(total * walks)};
            }};
}

// ---- utilization -------------------------------------------------------------------------------

// 4 MiB of blocks of 2^exponent bytes are live, the oldest of which is replaced each time.
workload utilization(unsigned exponent, std::size_t ops) {
    std::size_t const bytes = std::size_t{1} << exponent;
    std::size_t const live = (std::size_t{4} << 20) / bytes;
    return {.name = power(exponent),
            .about = {},
            .group = "utilization",
            .run = [=](stage& on) -> sample {
                std::vector<void*> ring(live);
                memory& from = on.open();
                for (void*& p : ring)
                    p = from.allocate(bytes);
                auto const replace = [&](std::size_t times) {
                    for (std::size_t i = 0; i < times; ++i) {
                        void*& oldest = ring[i % live];
                        from.deallocate(oldest, bytes);
                        oldest = from.allocate(bytes);
                        *static_cast<char*>(oldest) = 1;
                    }
                };
                replace(live);
                stopwatch const clock;
                replace(ops);
                double const ns = clock.ns();
                on.full();
                for (void* p : ring)
                    from.deallocate(p, bytes);
                return {ns, static_cast<double>(ops)};
            }};
}

} // namespace

std::vector<workload> structure_workloads(bool smoke) {
    constexpr std::array<unsigned, 6> exponents{6, 8, 10, 12, 14, 16};
    struct structure {
        char const* group;
        void (*grow)(memory&, std::size_t);
    };
    std::vector<workload> all;
    for (auto const [group, grow] : {
             structure{"growth: vector<int>", grow_numbers},
             structure{"growth: vector<string>", grow_texts},
             structure{"growth: unordered_set<string>", grow_text_set},
             structure{"growth: vector<unordered_set<int>>", grow_sets_of_numbers},
         })
        for (unsigned exponent : exponents)
            if (!smoke || exponent <= 8)
                all.push_back(growth(group, grow, exponent, smoke ? 256 : elements_in_a_run));
    for (unsigned exponent : exponents)
        if (!smoke || exponent <= 8)
            all.push_back(locality(exponent, smoke ? 10 : 16, smoke ? 1 : 10));
    for (unsigned exponent : exponents)
        if (!smoke || exponent <= 8)
            all.push_back(utilization(exponent, smoke ? 1000 : 100'000));
    return all;
}

} // namespace strata::bench
