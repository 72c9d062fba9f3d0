// SPDX-License-Identifier: BSL-1.0
//
// One wrong access to memory of one resource or stack, for annotations.py to see who reports it.
//
//   annotations                 prints what there is
//   annotations STACK MISTAKE   makes the mistake; none, where it is `none`

#include <array>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory_resource>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <strata/strata.hpp>

namespace {

using strata::resource;
using user = std::function<void(resource&)>;

alignas(64) std::byte buffer[1 << 20];

// An upstream that writes to what comes back, as it may.
struct writer final : std::pmr::memory_resource {
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        std::memset(p, 7, bytes);
        std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
    }
    bool do_is_equal(memory_resource const& other) const noexcept override {
        return this == &other;
    }
};
writer below_all;

// --- stacks: what is tested is on top ---

template <class R, class... Args>
auto alone(Args... args) {
    return [=](user const& use) {
        R r{args...};
        use(r);
    };
}
// `below` calls this with the resource that R is made over.
template <class R, class Below, class... Args>
auto over(Below below, Args... args) {
    return [=](user const& use) {
        below([&](resource& upstream) {
            R r{args..., &upstream};
            use(r);
        });
    };
}

constexpr std::size_t region_bytes = 128 * 1024;
using strata::best_fit_options, strata::best_fit_resource, strata::dll_arena_resource,
    strata::fixed_block_options, strata::fixed_block_resource, strata::segregated_pool_resource,
    strata::synchronized_fixed_block_resource, strata::synchronized_segregated_pool_resource,
    strata::tracked_block_options, strata::tracked_block_resource;
using outside_arena = strata::basic_dll_arena_resource<0, std::uint32_t>;

tracked_block_options const with_reserve{.reserve_bytes = 4096, .report_leaks = false};
// Every block from the reserve. Not on the stack, all of which AddressSanitizer opens at a throw.
void in_reserve(user const& use) {
    outside_arena below{buffer, 65536, std::pmr::null_memory_resource()};
    tracked_block_resource r{tracked_block_options{.reserve_bytes = 32768}, &below};
    std::vector<void*> filler;
    try {
        for (;;)
            filler.push_back(below.allocate(64));
    } catch (std::bad_alloc const&) {
    }
    use(r);
    r.release();
    for (void* const p : filler)
        below.deallocate(p, 64);
}

std::map<std::string, std::function<void(user const&)>> stacks() {
    auto const buffered = alone<best_fit_resource>(buffer + 8, sizeof buffer - 8);
    auto const arena = alone<outside_arena>(buffer, sizeof buffer);
    auto const tracked = alone<tracked_block_resource>(with_reserve, &below_all);
    auto const pool = alone<segregated_pool_resource>(&below_all);
    return {
        {"best_fit", alone<best_fit_resource>(region_bytes, &below_all)},
        {"best_fit_deferring",
         alone<best_fit_resource>(region_bytes, best_fit_options{.deferred_bytes = 65536},
                                  &below_all)},
        {"best_fit_growing",
         alone<best_fit_resource>(std::size_t{16}, best_fit_options{.growth_bytes = region_bytes},
                                  &below_all)},
        {"dll_arena", alone<dll_arena_resource>(&below_all)},
        {"fixed_block", alone<fixed_block_resource>(region_bytes, std::size_t{64}, &below_all)},
        {"fixed_block_growing",
         alone<fixed_block_resource>(std::size_t{4096}, std::size_t{64},
                                     fixed_block_options{.growth = fixed_block_options::by_regions},
                                     &below_all)},
        {"segregated_pool", pool},
        {"tracked_block", tracked},
        {"tracked_block_reserve", in_reserve},
        {"synchronized_fixed_block",
         alone<synchronized_fixed_block_resource>(region_bytes, std::size_t{64}, &below_all)},
        {"synchronized_segregated_pool", alone<synchronized_segregated_pool_resource>(&below_all)},
        {"synchronized_best_fit", alone<strata::synchronized_best_fit_resource>(region_bytes)},
        {"best_fit.buffer", buffered},
        {"dll_arena.buffer", arena},
        {"fixed_block.buffer", alone<fixed_block_resource>(buffer, sizeof buffer, std::size_t{64})},
        {"segregated_pool.best_fit.buffer", over<segregated_pool_resource>(buffered)},
        {"tracked_block.dll_arena.buffer", over<tracked_block_resource>(arena, with_reserve)},
        {"best_fit.tracked_block", over<best_fit_resource>(tracked, region_bytes)},
        {"fixed_block.segregated_pool",
         over<fixed_block_resource>(pool, std::size_t{300}, std::size_t{64})},
        {"synchronized_segregated_pool.best_fit.buffer",
         over<synchronized_segregated_pool_resource>(buffered)},
        {"segregated_pool.fixed_block.best_fit.buffer",
         over<segregated_pool_resource>(
             over<fixed_block_resource>(buffered, region_bytes, std::size_t{4096}))},
        {"best_fit.segregated_pool.tracked_block",
         over<best_fit_resource>(over<segregated_pool_resource>(tracked), std::size_t{4096})},
        {"synchronized_fixed_block.best_fit.tracked_block",
         over<synchronized_fixed_block_resource>(over<best_fit_resource>(tracked, region_bytes),
                                                 std::size_t{4096}, std::size_t{64})},
    };
}

// --- mistakes ---

constexpr std::size_t bytes = 40;

[[gnu::noinline]] unsigned char read(void const volatile* at) {
    return *static_cast<unsigned char const volatile*>(at);
}
[[gnu::noinline]] void write(void* at) {
    *static_cast<unsigned char volatile*>(at) = 1;
}
void* at(void const* p, std::size_t offset) {
    return const_cast<std::byte*>(static_cast<std::byte const*>(p)) + offset;
}

// All that one may do.
void none(resource& r) {
    for (std::size_t round = 0; round < 2; ++round) {
        std::vector<std::pair<void*, std::size_t>> blocks;
        for (std::size_t n = 0; n < 70; n += 1) {
            blocks.emplace_back(r.allocate(n, 8), n);
            std::memset(blocks.back().first, 7, n);
        }
        for (std::size_t i = 0; i < blocks.size(); i += 3) {
            auto& [p, n] = blocks[i];
            p = r.reallocate(p, n, n + 100, 8);
            std::memset(at(p, n), 7, 100);
            p = r.reallocate(p, n + 100, n, 8);
            if (n != 0 && read(at(p, n - 1)) != 7)
                std::puts("contents are lost");
        }
        for (std::size_t i = 0; i < blocks.size(); i += 2)
            r.deallocate(blocks[i].first, blocks[i].second, 8);
        std::thread{[&] {
            for (std::size_t i = 1; i < blocks.size(); i += 4)
                r.deallocate(blocks[i].first, blocks[i].second, 8);
        }}.join();
        void* const whole = r.allocate(3000);
        std::memset(whole, 7, 3000);
        r.deallocate(whole, 3000);
        r.trim();
        r.check_invariants();
        if (round == 0)
            r.release();
    } // some blocks are live when the resource goes
    std::memset(r.allocate(500), 7, 500);
}

void after_free(resource& r) {
    void* const p = r.allocate(bytes);
    void* const q = r.allocate(bytes);
    write(p);
    r.deallocate(p, bytes);
    read(p);
    write(q);
}
void after_free_of_the_last(resource& r) {
    void* const p = r.allocate(bytes);
    write(p);
    r.deallocate(p, bytes);
    write(at(p, bytes - 1));
}
void after_try_deallocate(resource& r) {
    void* const p = r.allocate(bytes);
    write(p);
    static_cast<void>(r.try_deallocate(p, bytes));
    read(p);
}
void after_free_elsewhere(resource& r) {
    void* const p = r.allocate(bytes);
    void* const q = r.allocate(bytes);
    write(p);
    std::thread{[&] { r.deallocate(p, bytes); }}.join();
    read(at(p, 8));
    write(q);
}
void after_release(resource& r) {
    void* const p = r.allocate(bytes);
    write(p);
    r.release();
    read(p);
}
void past_the_end(resource& r) {
    void* const p = r.allocate(bytes + 1);
    write(at(p, bytes + 1));
}
// Returns: two of three blocks, the lower one first.
std::pair<void*, void*> two_neighbours(resource& r, std::size_t whole) {
    std::array<void*, 3> blocks;
    for (void*& p : blocks)
        p = r.allocate(whole);
    return std::minmax(blocks[0], blocks[1], std::less<>{});
}
void into_a_neighbour(resource& r) {
    std::size_t const whole = r.good_size(bytes);
    auto const [low, high] = two_neighbours(r, whole);
    r.deallocate(high, whole);
    write(at(low, whole));
}
// Where the resource's own books may lie.
void behind_the_last(resource& r) {
    std::size_t const whole = r.good_size(bytes);
    std::byte* last = nullptr;
    std::vector<void*> blocks;
    try {
        for (bool owned = true; owned && blocks.size() < 30'000;) {
            auto* const p = static_cast<std::byte*>(blocks.emplace_back(r.allocate(whole)));
            owned = r.owns(p);
            if (owned && std::greater<>{}(p, last))
                last = p;
        }
    } catch (std::bad_alloc const&) {
    }
    write(last + whole);
}
void before_the_start(resource& r) {
    std::size_t const whole = r.good_size(bytes);
    auto const [low, high] = two_neighbours(r, whole);
    r.deallocate(low, whole);
    write(static_cast<std::byte*>(high) - 1);
}
void never_allocated(resource& r) {
    void* const p = r.allocate(bytes);
    strata::block_info free{};
    r.visit_blocks([&](strata::block_info const& b) {
        if (!b.live && b.bytes >= free.bytes)
            free = b;
    });
    if (free.address == nullptr)
        free = {at(p, bytes), 8, false};
    read(at(free.address, free.bytes / 2));
}
void after_shrinking(resource& r) {
    void* const p = r.allocate(256);
    write(at(p, 100));
    static_cast<void>(r.reallocate(p, 256, bytes));
    read(at(p, 100));
}
// Not by enough for a smaller block.
void after_shrinking_a_little(resource& r) {
    void* const p = r.allocate(64);
    write(at(p, 57));
    static_cast<void>(r.reallocate(p, 64, 57));
    read(at(p, 57));
}

std::map<std::string, void (*)(resource&)> const mistakes{
    {"none", none},
    {"after_free", after_free},
    {"after_free_of_the_last", after_free_of_the_last},
    {"after_try_deallocate", after_try_deallocate},
    {"after_free_elsewhere", after_free_elsewhere},
    {"after_release", after_release},
    {"past_the_end", past_the_end},
    {"behind_the_last", behind_the_last},
    {"before_the_start", before_the_start},
    {"into_a_neighbour", into_a_neighbour},
    {"never_allocated", never_allocated},
    {"after_shrinking", after_shrinking},
    {"after_shrinking_a_little", after_shrinking_a_little},
};

// --- for heaptrack ---

[[gnu::noinline]] void hundred_blocks(resource& r) {
    for (int i = 0; i < 100; ++i)
        write(r.allocate(bytes));
}
[[gnu::noinline]] void ten_blocks_that_come_back(resource& r) {
    std::array<void*, 10> blocks;
    for (void*& p : blocks)
        write(p = r.allocate(bytes));
    for (void* const p : blocks)
        r.deallocate(p, bytes);
}
void blocks_of_two(resource& r) {
    hundred_blocks(r);
    ten_blocks_that_come_back(r);
}

} // namespace

int main(int argc, char** argv) {
    auto const all = stacks();
    if (argc != 3) {
        for (auto const& [stack, make] : all)
            for (auto const& [mistake, make_it] : mistakes)
                if (stack != "dll_arena" || mistake != "behind_the_last") // its bits are next: open
                    std::printf("%s %s\n", stack.c_str(), mistake.c_str());
        return 0;
    }
    strata::set_misuse_handler(strata::ignore_misuse); // what is live at the end of tracked blocks
    if (argv[2] == std::string{"blocks_of_two"})
        all.at(argv[1])(blocks_of_two);
    else
        all.at(argv[1])(mistakes.at(argv[2]));
    return 0;
}
