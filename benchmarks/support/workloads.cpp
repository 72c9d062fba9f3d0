// SPDX-License-Identifier: BSL-1.0
#include "workloads.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <functional>
#include <latch>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string_view>
#include <thread>
#include <unordered_map>

#include <strata/detail/function_ref.hpp>

#include "astar.hpp"
#include "measure.hpp"
#include "trace/trace.hpp"

namespace strata::bench {

namespace {

using random = std::mt19937_64;
constexpr random::result_type seed = 1;
constexpr std::size_t alignment = 8; // of ordinary objects

using memory = std::pmr::memory_resource;

struct block {
    void* p = nullptr;
    std::size_t bytes = 0;
};

block take(memory& from, std::size_t bytes) {
    void* const p = from.allocate(bytes, alignment);
    trace::touch_pages{}(p, bytes);
    return {p, bytes};
}

void give(memory& to, block const& one) {
    to.deallocate(one.p, one.bytes, alignment);
}

// Sizes as programs ask for them: each octave as likely as the next.
class log_uniform {
  public:
    log_uniform(std::size_t least, std::size_t most)
        : exponent_{std::log(static_cast<double>(least)), std::log(static_cast<double>(most))} {}
    std::size_t operator()(random& source) {
        return static_cast<std::size_t>(std::lround(std::exp(exponent_(source))));
    }

  private:
    std::uniform_real_distribution<double> exponent_;
};

std::vector<std::uint32_t> shuffled(std::size_t n, random& source) {
    std::vector<std::uint32_t> order(n);
    std::iota(order.begin(), order.end(), 0u);
    std::ranges::shuffle(order, source);
    return order;
}

// ---- blocks ------------------------------------------------------------------------------------

workload pair(std::size_t ops) {
    return {.name = "pair",
            .about = "a block of 64 bytes, freed at once",
            .run = [ops](stage& on) -> sample {
                memory& from = on.open();
                give(from, take(from, 64));
                stopwatch const clock;
                for (std::size_t i = 0; i < ops; ++i)
                    give(from, take(from, 64));
                double const ns = clock.ns();
                block const last = take(from, 64);
                on.full();
                give(from, last);
                return {ns, static_cast<double>(ops)};
            }};
}

workload batch(char const* name, char const* about, std::size_t n, std::size_t repeats) {
    // Several orders, so that none can be learned by the branch predictor.
    std::vector<std::vector<std::uint32_t>> orders;
    random source{seed};
    for (std::size_t i = 0; i < std::clamp<std::size_t>(repeats, 1, 8); ++i)
        orders.push_back(shuffled(n, source));
    return {.name = name, .about = about, .run = [n, repeats, orders](stage& on) -> sample {
                std::vector<block> blocks(n);
                memory& from = on.open();
                auto const once = [&](std::vector<std::uint32_t> const& order) {
                    for (block& one : blocks)
                        one = take(from, 64);
                    for (std::uint32_t i : order)
                        give(from, blocks[i]);
                };
                for (auto const& order : orders)
                    once(order);
                stopwatch const clock;
                for (std::size_t i = 0; i < repeats; ++i)
                    once(orders[i % orders.size()]);
                double const ns = clock.ns();
                for (block& one : blocks)
                    one = take(from, 64);
                on.full();
                for (block& one : blocks)
                    give(from, one);
                return {ns, static_cast<double>(n * repeats)};
            }};
}

// Which of the live blocks is replaced next, and by how much.
struct step {
    std::uint32_t victim;
    std::uint32_t bytes;
};

template <class Sizes>
std::vector<step> churn_steps(std::size_t live, std::size_t ops, Sizes sizes, random source) {
    std::uniform_int_distribution<std::uint32_t> victim(0, static_cast<std::uint32_t>(live - 1));
    std::vector<step> steps(ops);
    for (step& one : steps)
        one = {victim(source), static_cast<std::uint32_t>(sizes(source))};
    return steps;
}

void churn_through(memory& from, std::vector<block>& live, step const* first, step const* last) {
    for (; first != last; ++first) {
        block& old = live[first->victim];
        give(from, old);
        old = take(from, first->bytes);
    }
}

// The live blocks of a churn, in the sizes of its first steps.
void populate(memory& from, std::vector<block>& live, std::vector<step> const& steps) {
    for (std::size_t i = 0; i < live.size(); ++i)
        live[i] = take(from, steps[i % steps.size()].bytes);
}

void free_all(memory& to, std::vector<block>& live) {
    for (block& one : live)
        give(to, one);
}

workload churn(char const* name, char const* about, std::size_t n, std::size_t ops,
               log_uniform sizes) {
    // Half as many again warm up: by then most of what was there at first is gone.
    auto steps = churn_steps(n, ops + std::min(ops, 2 * n), sizes, random{seed});
    return {.name = name,
            .about = about,
            .run = [steps = std::move(steps), n, ops](stage& on) -> sample {
                std::vector<block> live(n);
                memory& from = on.open();
                populate(from, live, steps);
                step const* const end = steps.data() + steps.size();
                churn_through(from, live, steps.data(), end - ops);
                stopwatch const clock;
                churn_through(from, live, end - ops, end);
                double const ns = clock.ns();
                on.full();
                free_all(from, live);
                return {ns, static_cast<double>(ops)};
            }};
}

// ---- containers --------------------------------------------------------------------------------

using full_hook = detail::function_ref<void()>;

// Runs once(memory, full) twice to warm up and `repeats` times by the clock; once() makes `n`
// elements, calls full() and frees them.
template <class Once>
sample repeat(std::size_t repeats, std::size_t n, stage& on, Once once) {
    memory& from = on.open();
    auto const nothing = [] {};
    once(from, nothing);
    once(from, nothing);
    stopwatch const clock;
    for (std::size_t i = 0; i < repeats; ++i)
        once(from, nothing);
    double const ns = clock.ns();
    auto const full = [&] { on.full(); };
    once(from, full);
    return {ns, static_cast<double>(n * repeats)};
}

workload list(std::size_t n, std::size_t repeats) {
    return {.name = "list",
            .about = "pmr::list<int> of 10,000: filled at its end, then cleared",
            .run = [=](stage& on) {
                return repeat(repeats, n, on, [&](memory& from, full_hook full) {
                    std::pmr::list<int> numbers{&from};
                    for (std::size_t i = 0; i < n; ++i)
                        numbers.push_back(static_cast<int>(i));
                    keep(&numbers);
                    full();
                });
            }};
}

workload map(std::size_t n, std::size_t repeats) {
    random source{seed};
    auto keys = shuffled(n, source);
    auto erased = shuffled(n, source);
    return {.name = "map",
            .about = "pmr::map<unsigned, unsigned> of 10,000: filled and emptied in random orders",
            .run = [=](stage& on) {
                return repeat(repeats, n, on, [&](memory& from, full_hook full) {
                    std::pmr::map<std::uint32_t, std::uint32_t> numbers{&from};
                    for (std::uint32_t key : keys)
                        numbers.emplace(key, key);
                    full();
                    for (std::uint32_t key : erased)
                        numbers.erase(key);
                    keep(&numbers);
                });
            }};
}

// Different strings of log-uniform lengths, the same in every program.
std::vector<std::string> texts(std::size_t n, std::size_t least, std::size_t most, random& source) {
    log_uniform lengths{least, most};
    std::vector<std::string> all;
    for (std::size_t i = 0; i < n; ++i) {
        std::string text = std::to_string(i);
        text.resize(std::max(text.size(), lengths(source)), 'x');
        all.push_back(std::move(text));
    }
    return all;
}

workload unordered_map(std::size_t n, std::size_t repeats) {
    random source{seed};
    auto keys = texts(n, 8, 64, source);
    auto values = texts(n, 8, 256, source);
    auto order = shuffled(n, source);
    return {.name = "unordered_map",
            .about = "pmr::unordered_map of 10,000 pmr::strings, keys of 8 to 64 characters, "
                     "values of 8 to 256: filled, each found and erased in random order",
            .run = [=](stage& on) {
                return repeat(repeats, n, on, [&](memory& from, full_hook full) {
                    std::pmr::unordered_map<std::pmr::string, std::pmr::string> pairs{&from};
                    for (std::size_t i = 0; i < n; ++i)
                        pairs.emplace(keys[i], values[i]);
                    full();
                    std::pmr::string wanted{&from};
                    for (std::uint32_t i : order) {
                        wanted = keys[i];
                        pairs.erase(pairs.find(wanted));
                    }
                    keep(&pairs);
                });
            }};
}

workload strings(std::size_t n, std::size_t repeats) {
    random source{seed};
    auto words = texts(n, 8, 128, source);
    return {.name = "strings",
            .about = "pmr::vector of 10,000 pmr::string of 8 to 128 characters: grown, destroyed",
            .run = [=](stage& on) {
                return repeat(repeats, n, on, [&](memory& from, full_hook full) {
                    std::pmr::vector<std::pmr::string> all{&from};
                    for (std::string const& word : words)
                        all.emplace_back(word);
                    keep(all.data());
                    full();
                });
            }};
}

workload littered_walk(std::size_t n, std::size_t nodes, std::size_t repeats) {
    random source{seed};
    log_uniform sizes{8, 512};
    std::vector<std::size_t> drawn(n);
    for (std::size_t& bytes : drawn)
        bytes = sizes(source);
    auto order = shuffled(n, source);
    return {.name = "littered walk",
            .about = "of 200,000 blocks of 8 to 512 bytes a random half is freed, then a "
                     "pmr::list<int> of 20,000 is filled and walked; an op is a step",
            .run = [=](stage& on) -> sample {
                std::vector<block> litter(n);
                memory& from = on.open();
                for (std::size_t i = 0; i < n; ++i)
                    litter[i] = take(from, drawn[i]);
                on.full();
                for (std::size_t i = 0; i < n / 2; ++i)
                    give(from, litter[order[i]]);
                double ns = 0;
                {
                    std::pmr::list<int> const numbers(nodes, 1, &from);
                    stopwatch const clock;
                    for (std::size_t i = 0; i < repeats; ++i) {
                        int const sum = std::accumulate(numbers.begin(), numbers.end(), 0);
                        keep(&sum);
                    }
                    ns = clock.ns();
                }
                for (std::size_t i = n / 2; i < n; ++i)
                    give(from, litter[order[i]]);
                return {ns, static_cast<double>(nodes * repeats)};
            }};
}

workload search(std::array<int, 16> const& tiles) {
    return {.name = "A*",
            .about = "shortest solution of a 15-puzzle (Korf's 79th): half of the nodes go back at "
                     "once, the others at the end",
            .run = [start = board{tiles}](stage& on) -> sample {
                astar solver{&on.open()};
                static_cast<void>(solver.solve(start));
                solver.clear();
                stopwatch const clock;
                keep(solver.solve(start));
                auto const nodes = static_cast<double>(solver.generated());
                solver.clear();
                return {clock.ns(), nodes};
            }};
}

// ---- threads -----------------------------------------------------------------------------------

// Nanoseconds from the moment that all threads are there until the last has ended, times the
// processors that they can have used: what an op costs one of them.
template <class Body>
double timed_threads(std::size_t count, Body body) {
    std::latch there{static_cast<std::ptrdiff_t>(count)};
    std::latch start{1};
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < count; ++i)
        threads.emplace_back([&, i] {
            there.count_down();
            start.wait();
            body(i);
        });
    there.wait();
    stopwatch const clock; // before they start: this thread may have to wait for its turn
    start.count_down();
    for (std::thread& one : threads)
        one.join();
    std::size_t const processors = std::max(1u, std::thread::hardware_concurrency());
    return clock.ns() * static_cast<double>(std::min(count, processors));
}

workload shared_churn(char const* name, char const* about, std::size_t n, std::size_t ops,
                      log_uniform sizes) {
    constexpr std::size_t threads = 2;
    std::array<std::vector<step>, threads> steps;
    for (std::size_t i = 0; i < threads; ++i)
        steps[i] = churn_steps(n, ops, sizes, random{seed + i});
    return {.name = name,
            .about = about,
            .group = "threads",
            .threads = true,
            .run = [steps = std::move(steps), n, ops](stage& on) -> sample {
                std::array<std::vector<block>, threads> live;
                for (std::size_t i = 0; i < threads; ++i)
                    live[i].resize(n);
                memory& from = on.open();
                auto const churn_one = [&](std::size_t i) {
                    if (live[i][0].p == nullptr)
                        populate(from, live[i], steps[i]);
                    churn_through(from, live[i], steps[i].data(), steps[i].data() + ops);
                };
                static_cast<void>(timed_threads(threads, churn_one));
                double const ns = timed_threads(threads, churn_one);
                on.full();
                for (auto& blocks : live)
                    free_all(from, blocks);
                return {ns, static_cast<double>(threads * ops)};
            }};
}

// A ring for one thread that puts and one that takes, in whole batches.
class ring {
  public:
    static constexpr std::size_t batch = 32;

    block* claim() {
        while (put_.load(std::memory_order_relaxed) - taken_.load(std::memory_order_acquire) ==
               batches)
            std::this_thread::yield();
        return slots_[put_.load(std::memory_order_relaxed) % batches].data();
    }
    void publish() { put_.fetch_add(1, std::memory_order_release); }
    block const* await() {
        while (put_.load(std::memory_order_acquire) == taken_.load(std::memory_order_relaxed))
            std::this_thread::yield();
        return slots_[taken_.load(std::memory_order_relaxed) % batches].data();
    }
    void release() { taken_.fetch_add(1, std::memory_order_release); }

  private:
    static constexpr std::size_t batches = 32;
    std::array<std::array<block, batch>, batches> slots_{};
    alignas(64) std::atomic<std::size_t> put_{0};
    alignas(64) std::atomic<std::size_t> taken_{0};
};

workload producer_consumer(char const* name, char const* about, std::size_t rounds_of_32,
                           log_uniform sizes) {
    random source{seed};
    std::vector<std::size_t> drawn(4096);
    for (std::size_t& bytes : drawn)
        bytes = sizes(source);
    return {.name = name,
            .about = about,
            .group = "threads",
            .threads = true,
            .run = [=](stage& on) -> sample {
                auto const between = std::make_unique<ring>();
                memory& from = on.open();
                double const ns = timed_threads(2, [&](std::size_t thread) {
                    for (std::size_t i = 0; i < rounds_of_32; ++i) {
                        if (thread == 0) {
                            block* const blocks = between->claim();
                            for (std::size_t k = 0; k < ring::batch; ++k)
                                blocks[k] = take(from, drawn[(i * ring::batch + k) % 4096]);
                            between->publish();
                        } else {
                            block const* const blocks = between->await();
                            for (std::size_t k = 0; k < ring::batch; ++k)
                                give(from, blocks[k]);
                            between->release();
                        }
                    }
                });
                on.full();
                return {ns, static_cast<double>(rounds_of_32 * ring::batch)};
            }};
}

workload larson(std::size_t ops) {
    constexpr std::size_t threads = 8;
    constexpr std::size_t generations = 4;
    constexpr std::size_t n = 1000;
    std::array<std::vector<step>, threads> steps;
    for (std::size_t i = 0; i < threads; ++i)
        steps[i] = churn_steps(n, ops, std::uniform_int_distribution<std::size_t>(8, 1000),
                               random{seed + i});
    return {.name = "larson 8 threads",
            .about = "8 threads replace random ones of 1000 blocks each of 8 to 1000 bytes, and "
                     "leave theirs to a new thread, 4 times (Larson and Krishnan, 1998)",
            .group = "threads",
            .threads = true,
            .run = [steps = std::move(steps), ops](stage& on) -> sample {
                std::array<std::vector<block>, threads> live;
                for (std::size_t i = 0; i < threads; ++i)
                    live[i].resize(n);
                memory& from = on.open();
                for (std::size_t i = 0; i < threads; ++i)
                    populate(from, live[i], steps[i]);
                double ns = 0;
                for (std::size_t generation = 0; generation < generations; ++generation)
                    ns += timed_threads(threads, [&](std::size_t i) {
                        churn_through(from, live[i], steps[i].data(), steps[i].data() + ops);
                    });
                on.full();
                for (auto& blocks : live)
                    free_all(from, blocks);
                return {ns, static_cast<double>(threads * generations * ops)};
            }};
}

// Who frees what a thread allocated, and where it came from.
enum class sharing { one_thread, resource_each, one_resource, freed_elsewhere };

workload scenario(char const* name, char const* about, sharing how, bool ends, std::size_t n,
                  std::size_t rounds) {
    std::size_t const threads = how == sharing::one_thread ? 1 : 4;
    std::vector<std::vector<step>> steps;
    for (std::size_t i = 0; i < threads; ++i)
        steps.push_back(churn_steps(n, n, log_uniform{8, 512}, random{seed + i}));
    return {.name = name,
            .about = about,
            .group = ends ? "each round by new threads" : "threads that live on",
            .threads = how == sharing::one_resource || how == sharing::freed_elsewhere,
            .run = [=, steps = std::move(steps)](stage& on) -> sample {
                std::vector<std::vector<block>> live(2 * threads, std::vector<block>(n));
                std::vector<memory*> from(threads, &on.open());
                for (std::size_t i = 1; i < threads && how == sharing::resource_each; ++i)
                    from[i] = &on.open_another();
                auto const fill = [&](std::size_t i, std::vector<block>& blocks) {
                    populate(*from[i], blocks, steps[i]);
                    churn_through(*from[i], blocks, steps[i].data(), steps[i].data() + n);
                };
                auto const once = [&](std::size_t i, std::size_t round) {
                    std::vector<block>& own = live[round % 2 * threads + i];
                    fill(i, own);
                    if (how != sharing::freed_elsewhere)
                        free_all(*from[i], own);
                    else if (round != 0) // what another has left a round ago
                        free_all(*from[i], live[(round + 1) % 2 * threads + (i + 1) % threads]);
                };
                std::barrier all{static_cast<std::ptrdiff_t>(threads)};
                auto const run = [&](std::size_t first, std::size_t last) {
                    double ns = 0;
                    for (; ends && first != last; ++first)
                        ns += timed_threads(threads, [&](std::size_t i) { once(i, first); });
                    if (first != last)
                        ns = timed_threads(threads, [&](std::size_t i) {
                            for (std::size_t round = first; round != last; ++round) {
                                once(i, round);
                                if (how == sharing::freed_elsewhere)
                                    all.arrive_and_wait();
                            }
                        });
                    return ns;
                };
                static_cast<void>(run(0, 2));
                double const ns = run(2, 2 + rounds);
                for (std::size_t i = 0; i < threads; ++i)
                    if (how != sharing::freed_elsewhere)
                        fill(i, live[i]);
                on.full();
                std::size_t const last = how == sharing::freed_elsewhere ? (1 + rounds) % 2 : 0;
                for (std::size_t i = 0; i < threads; ++i)
                    free_all(*from[i], live[last * threads + i]);
                return {ns, static_cast<double>(threads * rounds * 2 * n)};
            }};
}

// ---- what they need ----------------------------------------------------------------------------

// Adds up what is live, in whole granules, and finds out whether all blocks are of one size.
class demand_meter final : public memory {
  public:
    [[nodiscard]] needs demand() const {
        return {.peak_requested_bytes = requested_.peak.load(),
                .peak_live_bytes = granules_.peak.load(),
                .peak_in_64_bytes = lines_.peak.load(),
                .block_bytes = several_sizes_.load() ? 0 : size_.load()};
    }

  private:
    struct high_water_mark {
        std::atomic<std::size_t> live = 0;
        std::atomic<std::size_t> peak = 0;
        void add(std::size_t bytes) {
            std::size_t const now = live.fetch_add(bytes) + bytes;
            std::size_t most = peak.load();
            while (now > most && !peak.compare_exchange_weak(most, now)) {
            }
        }
    };

    void* do_allocate(std::size_t bytes, std::size_t align) override {
        requested_.add(bytes);
        granules_.add(whole(bytes, 16));
        lines_.add(whole(bytes, 64));
        std::size_t unknown = 0;
        if (!size_.compare_exchange_strong(unknown, bytes) && unknown != bytes)
            several_sizes_ = true;
        return std::pmr::new_delete_resource()->allocate(bytes, align);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t align) override {
        requested_.live -= bytes;
        granules_.live -= whole(bytes, 16);
        lines_.live -= whole(bytes, 64);
        std::pmr::new_delete_resource()->deallocate(p, bytes, align);
    }
    bool do_is_equal(memory const& other) const noexcept override { return this == &other; }

    high_water_mark requested_;
    high_water_mark granules_;
    high_water_mark lines_;
    std::atomic<std::size_t> size_ = 0; // of the first block
    std::atomic<bool> several_sizes_ = false;
};

} // namespace

std::vector<workload> all_workloads(bool smoke) {
    auto const scaled = [smoke](std::size_t ops) { return smoke ? (ops + 99) / 100 : ops; };
    std::vector<workload> all;
    all.push_back(pair(scaled(2'000'000)));
    all.push_back(
        batch("batch 1k", "1000 blocks of 64 bytes, freed in random order", 1000, scaled(800)));
    all.push_back(batch("batch 100k", "100,000 blocks of 64 bytes, freed in random order",
                        scaled(100'000), scaled(5)));
    all.push_back(churn("nodes 10", "a random one of 10 blocks replaced, 8 to 24 bytes", 10,
                        scaled(1'000'000), {8, 24}));
    all.push_back(churn("nodes 3k", "a random one of 3000 blocks replaced, 8 to 24 bytes", 3000,
                        scaled(1'000'000), {8, 24}));
    all.push_back(churn("churn 1k", "a random one of 1000 blocks replaced, 8 to 512 bytes", 1000,
                        scaled(800'000), {8, 512}));
    all.push_back(churn("churn 100k", "a random one of 100,000 blocks replaced, 8 to 512 bytes",
                        scaled(100'000), scaled(500'000), {8, 512}));
    all.push_back(churn("churn big", "a random one of 2000 blocks replaced, 16 to 64 KiB", 2000,
                        scaled(200'000), {16384, 65536}));
    all.push_back(list(scaled(10'000), scaled(100)));
    all.push_back(map(scaled(10'000), scaled(10)));
    all.push_back(unordered_map(scaled(10'000), scaled(10)));
    all.push_back(strings(scaled(10'000), scaled(40)));
    all.push_back(littered_walk(scaled(200'000), scaled(20'000), scaled(100)));
    if (smoke)
        all.push_back(search({1, 2, 3, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14, 0}));
    else
        all.push_back(search({0, 1, 9, 7, 11, 13, 5, 3, 14, 12, 4, 2, 8, 6, 10, 15}));
    all.push_back(shared_churn("churn 2 threads", "churn 1k on each of 2 threads, one resource",
                               1000, scaled(400'000), {8, 512}));
    all.push_back(shared_churn("churn 64 2 threads", "the same of blocks of 64 bytes", 1000,
                               scaled(400'000), {64, 64}));
    all.push_back(producer_consumer(
        "producer-consumer",
        "one thread allocates 16 to 256 bytes, another frees, at most 1024 between", scaled(16'000),
        {16, 256}));
    all.push_back(producer_consumer("producer-consumer 64", "the same of blocks of 64 bytes",
                                    scaled(16'000), {64, 64}));
    all.push_back(larson(scaled(20'000)));
    return all;
}

std::vector<workload> thread_workloads(bool smoke) {
    std::size_t const n = smoke ? 100 : 4000;
    std::size_t const rounds = smoke ? 2 : 40;
    std::vector<workload> all;
    for (bool const ends : {false, true}) {
        auto const add = [&](char const* name, char const* about, sharing how) {
            all.push_back(scenario(name, ends ? "" : about, how, ends, n, rounds));
        };
        add("one thread", "one thread, one resource", sharing::one_thread);
        add("a resource each", "4 threads, each with a resource of its own",
            sharing::resource_each);
        add("shared", "4 threads, one resource", sharing::one_resource);
        add("freed elsewhere", "the same, a thread's blocks are freed by another, a round later",
            sharing::freed_elsewhere);
    }
    return all;
}

needs needs_of(workload const& of) {
    class : public stage {
      public:
        memory& open() override { return meter; }
        memory& open_another() override { return meter; }
        demand_meter meter;
    } metered;
    static_cast<void>(of.run(metered));
    needs found = metered.meter.demand();
    found.threads = of.threads;
    return found;
}

} // namespace strata::bench
