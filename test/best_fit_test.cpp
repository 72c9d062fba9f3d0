// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE best_fit
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>
#include <vector>

#include <sys/mman.h>

#include <strata/best_fit_resource.hpp>
#include <strata/detail/annotate.hpp>

#include "support/counting_upstream.hpp"
#include "support/misuse_recorder.hpp"
#include "support/seed.hpp"

using strata::best_fit_options;
using strata::best_fit_resource;
using strata::misuse_kind;
using strata::detail::redzone_bytes;
using strata::test::counting_upstream;
using strata::test::misuse_recorder;

namespace {

constexpr std::size_t kib = 1024;

// Sizes of the blocks in address order, live ones positive, free ones negative.
std::vector<long> picture(best_fit_resource const& region) {
    std::vector<long> blocks;
    region.visit_blocks([&](strata::block_info const& b) {
        blocks.push_back(b.live ? static_cast<long>(b.bytes) : -static_cast<long>(b.bytes));
    });
    return blocks;
}

bool is_one_free_block(best_fit_resource const& region) {
    return picture(region) == std::vector<long>{-static_cast<long>(region.capacity_bytes())} &&
           region.stats().largest_free_bytes == region.capacity_bytes() &&
           region.check_invariants();
}

constinit best_fit_resource static_region{};

} // namespace

BOOST_AUTO_TEST_SUITE(best_fit)

BOOST_AUTO_TEST_CASE(constructor_takes_one_region_and_no_more) {
    counting_upstream upstream;
    {
        best_fit_resource region{100 * kib, &upstream};
        BOOST_TEST(upstream.allocations() == 1u);
        BOOST_TEST(region.stats().footprint_bytes == upstream.live_bytes());
        BOOST_TEST(region.capacity_bytes() == 100 * kib);
        void* const p = region.allocate(100 * kib);
        BOOST_TEST(region.owns(p));
        BOOST_TEST(region.stats().free_bytes == 0u);
        BOOST_TEST(region.check_invariants());
        region.deallocate(p, 100 * kib);
        BOOST_TEST(upstream.allocations() == 1u);
        BOOST_TEST(is_one_free_block(region));
    }
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(bits_cost_one_sixty_fourth) {
    best_fit_resource const region{1024 * kib};
    auto const s = region.stats();
    BOOST_TEST(s.overhead_bytes <= 1024 * kib / 64 + 16 + redzone_bytes);
}

BOOST_AUTO_TEST_CASE(a_region_of_no_size_is_refused) {
    counting_upstream upstream;
    std::size_t const most = std::numeric_limits<std::size_t>::max();
    for (std::size_t bytes : {std::size_t{0}, most, strata::detail::most_best_fit_bytes + 1})
        BOOST_CHECK_THROW((best_fit_resource{bytes, &upstream}), std::invalid_argument);
    BOOST_TEST(upstream.allocations() == 0u);
}

BOOST_AUTO_TEST_CASE(the_documented_example) {
    alignas(16) std::array<std::byte, 1024> memory;
    best_fit_resource region;
    region.assign(memory.data(), memory.size());
    void* const a = region.allocate(100);
    void* const b = region.allocate(50);
    void* const c = region.allocate(100);
    void* const d = region.allocate(60);
    std::vector<long> const expected{112, 64, 112, 64, -640};
    BOOST_TEST(picture(region) == expected);
    region.deallocate(b, 50);
    region.deallocate(c, 100);
    std::vector<long> const merged{112, -176, 64, -640};
    BOOST_TEST(picture(region) == merged);
    region.deallocate(a, 100);
    region.deallocate(d, 60);
    BOOST_TEST(is_one_free_block(region));
    BOOST_TEST(region.capacity_bytes() == 1024u - 32u); // the bits of 62 granules
}

BOOST_AUTO_TEST_CASE(neighbours_coalesce_in_every_order) {
    for (std::size_t const deferred : {0u, 200u, 1024u}) // none wait, some, all
        for (std::size_t n = 1; n <= 8; ++n) {
            best_fit_resource region{kib, best_fit_options{.deferred_bytes = deferred}};
            std::vector<std::size_t> order(n);
            std::iota(order.begin(), order.end(), 0u);
            do {
                std::array<void*, 8> blocks{};
                for (std::size_t i = 0; i < n; ++i)
                    blocks[i] = region.allocate(16 * (i + 1));
                void* const behind = region.allocate(16); // else top is their neighbour
                for (std::size_t i : order)
                    region.deallocate(blocks[i], 16 * (i + 1));
                region.trim();
                BOOST_REQUIRE(region.stats().free_blocks == 2u);
                region.deallocate(behind, 16);
                for (std::size_t i = 0; i < n; ++i)
                    blocks[i] = region.allocate(16 * (i + 1));
                for (std::size_t i : order)
                    region.deallocate(blocks[i], 16 * (i + 1));
                region.trim();
                BOOST_REQUIRE(is_one_free_block(region));
            } while (std::next_permutation(order.begin(), order.end()));
        }
}

BOOST_AUTO_TEST_CASE(deferred_blocks_serve_their_size_first) {
    best_fit_resource region{4 * kib, best_fit_options{.deferred_bytes = 200}};
    void* const a = region.allocate(64);
    void* const b = region.allocate(64);
    void* const c = region.allocate(100);
    region.deallocate(a, 64);
    region.deallocate(b, 64);
    std::vector<long> const waiting{-64, -64, 112};
    auto const now = picture(region);
    BOOST_TEST(std::vector<long>(now.begin(), now.begin() + 3) == waiting);
    BOOST_TEST(region.stats().live_blocks == 1u);
    BOOST_TEST(region.stats().requested_bytes == 100u);
    BOOST_TEST(region.stats().largest_free_bytes >= 64u);
    BOOST_TEST(region.allocate(50) == b); // last in, first out
    BOOST_TEST(region.allocate(64) == a);
    region.deallocate(a, 64);
    region.deallocate(b, 50);
    region.deallocate(c, 100);                    // no room to wait: what waits is merged
    BOOST_TEST(region.stats().free_blocks == 3u); // a and b, c, top
    BOOST_TEST(region.check_invariants());
    region.trim();
    BOOST_TEST(is_one_free_block(region));
}

BOOST_AUTO_TEST_CASE(what_waits_is_merged_before_upstream_is_asked) {
    counting_upstream upstream;
    best_fit_resource region{4 * kib, best_fit_options{.deferred_bytes = 64 * kib}, &upstream};
    std::vector<void*> blocks;
    for (std::size_t i = 0; i < 4 * kib / 64; ++i)
        blocks.push_back(region.allocate(64));
    std::size_t const calls = upstream.allocations();
    for (void* p : blocks)
        region.deallocate(p, 64);
    void* const all = region.allocate(4 * kib);
    BOOST_TEST(region.owns(all));
    BOOST_TEST(upstream.allocations() == calls);
    region.deallocate(all, 4 * kib);
    BOOST_TEST(is_one_free_block(region));
}

BOOST_AUTO_TEST_CASE(a_block_grows_into_one_that_waits) {
    alignas(64) std::array<std::byte, 256 + redzone_bytes> memory;
    best_fit_resource region{memory.data(), memory.size(), best_fit_options{.deferred_bytes = 4096},
                             std::pmr::null_memory_resource()};
    void* const a = region.allocate(32);
    void* const b = region.allocate(208);
    region.deallocate(b, 208);
    BOOST_TEST(region.reallocate(a, 32, 240) == a);
    region.deallocate(a, 240);
    BOOST_TEST(region.check_invariants());
}

BOOST_AUTO_TEST_CASE(a_request_that_can_never_fit_merges_nothing) {
    best_fit_resource region{64 * kib, best_fit_options{.deferred_bytes = 4096}};
    std::array<void*, 10> blocks{};
    for (void*& p : blocks)
        p = region.allocate(64);
    for (void* p : blocks)
        region.deallocate(p, 64);
    auto const before = region.stats();
    BOOST_CHECK_THROW(static_cast<void>(region.allocate(10, 48)), std::invalid_argument);
    BOOST_TEST((region.stats() == before));
    region.deallocate(region.allocate(kib * kib), kib * kib);
    BOOST_TEST(region.stats().free_blocks == before.free_blocks);
}

BOOST_AUTO_TEST_CASE(a_block_that_waits_is_free_to_every_check) {
    misuse_recorder recorder;
    best_fit_resource region{4 * kib, best_fit_options{.deferred_bytes = 1024}};
    std::array<void*, 20> blocks{};
    for (void*& p : blocks)
        p = region.allocate(48);
    for (void* p : blocks)
        region.deallocate(p, 48);
    auto const before = region.stats();
    for (void* p : blocks)
        for (std::size_t bytes : {48u, 33u, 16u, 49u, 2000u}) {
            BOOST_TEST((region.diagnose(p, bytes, 8) == misuse_kind::double_free));
            region.deallocate(p, bytes, 8);
            BOOST_TEST(!region.try_resize(p, bytes, 32, 8));
            auto const heard = recorder.take();
            BOOST_REQUIRE(heard.size() == 2u);
            BOOST_TEST((heard[0].kind == misuse_kind::double_free));
        }
    BOOST_TEST((region.stats() == before));
    BOOST_TEST(region.check_invariants());
}

BOOST_AUTO_TEST_CASE(further_regions_come_and_go) {
    counting_upstream upstream;
    best_fit_resource region{kib, best_fit_options{.growth_bytes = 4 * kib}, &upstream};
    std::size_t const first_alone = upstream.live_bytes();
    std::vector<void*> blocks;
    for (std::size_t i = 0; i < 15; ++i) // 1 in the first, 4 in each of the others
        blocks.push_back(region.allocate(kib));
    BOOST_TEST(upstream.allocations() == 5u);
    BOOST_TEST(region.capacity_bytes() == 17 * kib);
    for (void* p : blocks)
        BOOST_TEST(region.owns(p));
    auto const s = region.stats();
    BOOST_TEST(s.live_blocks == 15u);
    BOOST_TEST(s.upstream_live_blocks == 0u);
    BOOST_TEST(s.footprint_bytes == upstream.live_bytes());
    BOOST_TEST(s.live_bytes + s.free_bytes + s.overhead_bytes == s.footprint_bytes);
    void* const large = region.allocate(5 * kib);
    BOOST_TEST(!region.owns(large));
    void const* before = nullptr;
    std::size_t visited = 0;
    region.visit_blocks([&](strata::block_info const& block) {
        BOOST_TEST(std::less<>{}(before, block.address));
        before = block.address;
        visited += block.live ? 1u : 0u;
    });
    BOOST_TEST(visited == 16u);
    region.deallocate(large, 5 * kib);
    for (std::size_t i = 1; i < blocks.size(); ++i)
        region.deallocate(blocks[i], kib);
    std::size_t const held = upstream.live_bytes();
    BOOST_TEST(region.trim() == held - first_alone);
    BOOST_TEST(upstream.live_bytes() == first_alone);
    BOOST_TEST(region.check_invariants());
    region.deallocate(blocks[0], kib);
    BOOST_TEST(is_one_free_block(region));
}

BOOST_AUTO_TEST_CASE(blocks_wait_in_further_regions_until_trim_gives_those_back) {
    counting_upstream upstream;
    best_fit_options const both{.deferred_bytes = 4096, .growth_bytes = 4 * kib};
    best_fit_resource region{kib, both, &upstream};
    std::size_t const first_alone = upstream.live_bytes();
    void* const all_of_the_first = region.allocate(kib);
    void* const a = region.allocate(64);
    void* const b = region.allocate(64);
    region.deallocate(a, 64);
    region.deallocate(b, 64);
    BOOST_TEST(region.allocate(64) == b); // last in, first out
    region.deallocate(b, 64);
    BOOST_TEST(region.trim() > 0u);
    BOOST_TEST(upstream.live_bytes() == first_alone);
    region.deallocate(all_of_the_first, kib);
}

BOOST_AUTO_TEST_CASE(a_block_of_a_further_region_is_resized_in_place) {
    best_fit_resource region{best_fit_options{.growth_bytes = 4 * kib}};
    void* const p = region.allocate(64);
    BOOST_TEST(region.try_resize(p, 64, 2000));
    BOOST_TEST(region.try_resize(p, 2000, 100));
    BOOST_TEST(!region.try_resize(p, 100, 5 * kib));
    BOOST_TEST(region.stats().requested_bytes == 100u);
    region.deallocate(p, 100);
    BOOST_TEST(region.check_invariants());
}

BOOST_AUTO_TEST_CASE(a_further_region_that_upstream_refuses_is_no_loss) {
    counting_upstream upstream;
    best_fit_resource region{best_fit_options{.growth_bytes = 64 * kib}, &upstream};
    upstream.fail_after(0);
    BOOST_CHECK_THROW(static_cast<void>(region.allocate(64)), std::bad_alloc);
    BOOST_TEST((region.stats() == strata::statistics{}));
    upstream.never_fail();
    void* const p = region.allocate(64);
    void* const aligned = region.allocate(64 * kib, 4096); // no room for both ends
    BOOST_TEST(region.owns(p));
    BOOST_TEST(aligned != nullptr);
    BOOST_TEST(strata::detail::is_aligned(aligned, 4096));
    region.deallocate(p, 64);
    region.deallocate(aligned, 64 * kib, 4096);
    region.release();
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(any_buffer_however_aligned_and_small) {
    alignas(64) std::array<std::byte, 700> memory;
    for (std::size_t skip = 0; skip < 40; ++skip) {
        for (std::size_t bytes = 0; bytes <= 640; ++bytes) {
            std::byte* const buffer = memory.data() + skip;
            std::size_t const books = 8 + redzone_bytes; // a word of marks
            if (bytes < 16 + books + (16 - skip % 16) % 16) {
                BOOST_REQUIRE_THROW((best_fit_resource{buffer, bytes}), std::invalid_argument);
                continue;
            }
            best_fit_resource region{buffer, bytes, std::pmr::null_memory_resource()};
            BOOST_REQUIRE(region.stats().footprint_bytes == bytes);
            BOOST_REQUIRE(region.capacity_bytes() + 16 * 3 + 15 + redzone_bytes + bytes / 64 >=
                          bytes);
            auto* const p = static_cast<std::byte*>(region.allocate(region.capacity_bytes()));
            BOOST_REQUIRE((p >= buffer && p + region.capacity_bytes() <= buffer + bytes));
            std::memset(p, 0xff, region.capacity_bytes());
            BOOST_REQUIRE_THROW(static_cast<void>(region.allocate(1)), std::bad_alloc);
            region.deallocate(p, region.capacity_bytes());
            BOOST_REQUIRE(is_one_free_block(region));
        }
    }
}

BOOST_AUTO_TEST_CASE(a_region_may_be_replaced_by_one_that_overlaps_it) {
    alignas(64) std::array<std::byte, 8192> memory;
    best_fit_resource region{memory.data(), memory.size()};
    std::array<std::pair<std::size_t, std::size_t>, 4> const places{
        {{0, 4096}, {2048, 4096}, {100, 8000}, {0, 8192}}};
    for (auto const& [skip, bytes] : places) {
        region.assign(memory.data() + skip, bytes);
        BOOST_TEST(is_one_free_block(region));
        void* const whole = region.allocate(region.capacity_bytes());
        std::memset(whole, 0xff, region.capacity_bytes());
        BOOST_CHECK_THROW(region.assign(memory.data(), 8192), std::invalid_argument);
        region.deallocate(whole, region.capacity_bytes());
        BOOST_CHECK_THROW(region.assign(memory.data(), 1), std::invalid_argument);
        BOOST_TEST(is_one_free_block(region));
    }
}

BOOST_AUTO_TEST_CASE(check_invariants_finds_damage_and_survives_it) {
    alignas(64) static std::array<std::byte, 65536> memory;
    best_fit_resource region{memory.data(), memory.size()};
    auto* const marks =
        reinterpret_cast<std::uint64_t*>(memory.data() + region.capacity_bytes() + redzone_bytes);
    void* const large = region.allocate(160); // granules 1 to 10
    void* const freed = region.allocate(64);
    void* const last = region.allocate(16);
    region.deallocate(large, 160);
    BOOST_REQUIRE(region.check_invariants());
    auto const finds = [&](std::size_t word, std::uint64_t mark) {
        marks[word] ^= mark;
        bool const found = !region.check_invariants();
        marks[word] ^= mark;
        return found && region.check_invariants();
    };
    BOOST_TEST(finds(0, std::uint64_t{1} << 2 * 5));  // live, within the free block
    BOOST_TEST(finds(0, std::uint64_t{2} << 2 * 5));  // an end there
    BOOST_TEST(finds(0, std::uint64_t{2}));           // of granule 0
    BOOST_TEST(finds(10, std::uint64_t{1}));          // live, behind top
    BOOST_TEST(finds(0, std::uint64_t{1} << 2 * 11)); // a live block's
    region.deallocate(freed, 64);
    strata::detail::open(freed, 64);
    for (int const byte : {0xdd, 0xff, 0x01}) { // written to after it was freed
        std::memset(freed, byte, 64);
        BOOST_TEST(!region.check_invariants());
    }
    static_cast<void>(last);
}

BOOST_AUTO_TEST_CASE(assign_replaces_the_region_only_while_nothing_is_live) {
    alignas(16) std::array<std::byte, 1024> memory;
    counting_upstream upstream;
    best_fit_resource region{2048, &upstream};
    void* const p = region.allocate(10);
    BOOST_CHECK_THROW(region.assign(memory.data(), memory.size()), std::invalid_argument);
    BOOST_TEST(region.owns(p));
    region.deallocate(p, 10);
    void* const large = region.allocate(4 * kib);
    BOOST_TEST(!region.owns(large));
    BOOST_CHECK_THROW(region.assign(memory.data(), memory.size()), std::invalid_argument);
    region.deallocate(large, 4 * kib);
    region.trim();
    BOOST_CHECK_THROW(region.assign(memory.data(), 20), std::invalid_argument);
    BOOST_CHECK_THROW(region.assign(nullptr, 1024), std::invalid_argument);
    BOOST_TEST(region.capacity_bytes() == 2048u);
    region.assign(memory.data(), memory.size());
    BOOST_TEST(upstream.settled());
    void* const q = region.allocate(10);
    BOOST_TEST(q == memory.data());
    region.deallocate(q, 10);
}

// AddressSanitizer reports where something stays hidden.
BOOST_AUTO_TEST_CASE(a_buffer_is_its_owners_again_after_assign_and_at_the_end) {
    alignas(16) std::array<std::byte, 1024> first;
    alignas(16) std::array<std::byte, 1024> second;
    {
        best_fit_resource region{first.data(), first.size()};
        region.deallocate(region.allocate(100), 100);
        region.assign(second.data(), second.size());
        first.fill(std::byte{0xEE});
        region.deallocate(region.allocate(100), 100);
    }
    second.fill(std::byte{0xEE});
    BOOST_TEST((first == second));
}

BOOST_AUTO_TEST_CASE(what_waits_is_forgotten_with_the_region_that_assign_replaces) {
    alignas(16) std::array<std::byte, 512> memory;
    best_fit_resource region{4 * kib, best_fit_options{.deferred_bytes = 2048}};
    std::array<void*, 20> blocks{};
    for (void*& p : blocks)
        p = region.allocate(64);
    for (void* p : blocks)
        region.deallocate(p, 64);
    region.assign(memory.data(), memory.size());
    BOOST_REQUIRE(region.check_invariants());
    BOOST_TEST(is_one_free_block(region));
    BOOST_TEST(region.allocate(64) == memory.data());
}

BOOST_AUTO_TEST_CASE(without_a_region_requests_go_upstream) {
    void* const p = static_region.allocate(100);
    BOOST_TEST(!static_region.owns(p));
    BOOST_TEST(static_region.stats().upstream_live_blocks == 1u);
    static_region.deallocate(p, 100);
    BOOST_TEST(static_region.check_invariants());
    static_region.release();
    BOOST_TEST(static_region.stats().footprint_bytes == 0u);
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_goes_upstream) {
    counting_upstream upstream;
    best_fit_resource region{1024, &upstream};
    void* const large = region.allocate(1025);
    void* const all = region.allocate(1000);
    void* const more = region.allocate(24 + 16);
    BOOST_TEST(region.stats().upstream_live_blocks == 2u);
    BOOST_TEST(region.stats().upstream_live_bytes == 1025u + 40u);
    region.deallocate(large, 1025);
    region.deallocate(more, 40);
    region.deallocate(all, 1000);
    BOOST_TEST(region.stats().live_blocks == 0u);
    BOOST_TEST(region.trim() > 0u);
    BOOST_TEST(upstream.live_blocks() == 1u);
}

BOOST_AUTO_TEST_CASE(release_makes_all_free_and_keeps_the_region) {
    counting_upstream upstream;
    best_fit_resource region{1024, &upstream};
    void* const first = region.allocate(100);
    BOOST_TEST(region.owns(region.allocate(500)));
    BOOST_TEST(!region.owns(region.allocate(1000)));
    region.release();
    BOOST_TEST(upstream.live_blocks() == 1u);
    BOOST_TEST(upstream.mismatches() == 0u);
    BOOST_TEST(region.stats().requested_bytes == 0u);
    BOOST_TEST(is_one_free_block(region));
    BOOST_TEST(region.allocate(1024) == first);
}

BOOST_AUTO_TEST_CASE(over_aligned_blocks_leave_both_ends_free) {
    best_fit_resource region{64 * kib, std::pmr::new_delete_resource()};
    std::vector<std::pair<void*, std::size_t>> blocks;
    for (std::size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        void* const p = region.allocate(40, alignment);
        BOOST_TEST(region.owns(p));
        BOOST_TEST(strata::detail::is_aligned(p, alignment));
        BOOST_TEST(region.check_invariants());
        blocks.emplace_back(p, alignment);
    }
    BOOST_TEST(region.stats().live_bytes == 13u * 48u);
    for (auto const& [p, alignment] : blocks)
        region.deallocate(p, 40, alignment);
    BOOST_TEST(is_one_free_block(region));
}

// A hole that is large enough lies askew, and there is none with room to spare.
BOOST_AUTO_TEST_CASE(top_is_the_last_resort_for_an_aligned_block) {
    alignas(64) std::array<std::byte, 13 * 16 + redzone_bytes + 8> memory;
    best_fit_resource region{memory.data(), memory.size(), std::pmr::null_memory_resource()};
    static_cast<void>(region.allocate(16));
    void* const hole = region.allocate(64);
    static_cast<void>(region.allocate(48));
    region.deallocate(hole, 64);
    std::vector<long> const before{16, -64, 48, -80};
    BOOST_TEST(picture(region) == before);
    BOOST_TEST(region.allocate(64, 64) == memory.data() + 128);
    BOOST_TEST(region.check_invariants());
}

BOOST_AUTO_TEST_CASE(try_resize_grows_into_free_neighbours_and_gives_back) {
    best_fit_resource region{8 * kib};
    void* const a = region.allocate(100);
    void* const b = region.allocate(100);
    void* const c = region.allocate(100);
    BOOST_TEST(!region.try_resize(a, 100, 113)); // b is in the way
    BOOST_TEST(region.try_resize(a, 100, 112));
    region.deallocate(b, 100);
    BOOST_TEST(region.try_resize(a, 112, 160));
    BOOST_TEST(region.try_resize(a, 160, 224)); // all of what was b
    BOOST_TEST(!region.try_resize(a, 224, 225));
    BOOST_TEST(region.try_resize(a, 224, 16));
    BOOST_TEST(region.try_resize(c, 100, 4 * kib)); // into top
    BOOST_TEST(region.try_resize(c, 4 * kib, 0));
    std::vector<long> const expected{16, -208, 16, -(8 * 1024 - 240)};
    BOOST_TEST(picture(region) == expected);
    BOOST_TEST(region.stats().requested_bytes == 16u);
    BOOST_TEST(region.check_invariants());
    region.deallocate(a, 16);
    region.deallocate(c, 0);
    BOOST_TEST(is_one_free_block(region));
}

BOOST_AUTO_TEST_CASE(what_a_shrunk_block_gives_back_merges_with_what_follows) {
    best_fit_resource region{8 * kib};
    void* const a = region.allocate(512);
    void* const b = region.allocate(512);
    void* const c = region.allocate(16);
    region.deallocate(b, 512);
    BOOST_TEST(region.try_resize(a, 512, 256));
    std::vector<long> const expected{256, -768, 16, -(8 * 1024 - 1040)};
    BOOST_TEST(picture(region) == expected);
    BOOST_TEST(region.check_invariants());
    region.deallocate(a, 256);
    region.deallocate(c, 16);
    BOOST_TEST(is_one_free_block(region));
}

BOOST_AUTO_TEST_CASE(reallocate_keeps_contents) {
    best_fit_resource region{64 * kib};
    auto* p = static_cast<unsigned char*>(region.allocate(10));
    for (unsigned char i = 0; i < 10; ++i)
        p[i] = i;
    void* fence = region.allocate(1);
    std::size_t bytes = 10;
    for (std::size_t next : {200u, 50u, 3000u, 10u, 20000u, 11u}) {
        p = static_cast<unsigned char*>(region.reallocate(p, bytes, next));
        bytes = next;
        for (unsigned char i = 0; i < 10; ++i)
            BOOST_REQUIRE(p[i] == i);
        BOOST_REQUIRE(region.check_invariants());
    }
    region.deallocate(p, bytes);
    region.deallocate(fence, 1);
    BOOST_TEST(is_one_free_block(region));
}

BOOST_AUTO_TEST_CASE(misuse_is_named_and_changes_nothing) {
    misuse_recorder recorder;
    best_fit_resource region{8 * kib};
    auto* const p = static_cast<std::byte*>(region.allocate(100));
    auto* const q = static_cast<std::byte*>(region.allocate(200));
    auto* const r = static_cast<std::byte*>(region.allocate(100));
    auto* const s = static_cast<std::byte*>(region.allocate(4000));
    auto* const t = static_cast<std::byte*>(region.allocate(100));
    std::memset(s, 1, 4000); // plausible sizes everywhere
    region.deallocate(q, 200);
    auto const before = region.stats();
    auto const expect = [&](void* address, std::size_t bytes, misuse_kind kind) {
        region.deallocate(address, bytes, 8);
        auto const heard = recorder.take();
        BOOST_REQUIRE(heard.size() == 1u);
        BOOST_TEST((heard[0].kind == kind), strata::to_string(heard[0].kind));
        BOOST_TEST((heard[0].where == &region && heard[0].address == address));
        BOOST_TEST((region.stats() == before));
        BOOST_TEST(region.check_invariants());
    };
    for (int i = 0; i < 1000; ++i)
        expect(q, 200, misuse_kind::double_free);
    expect(q + 32, 16, misuse_kind::double_free);
    expect(t + 112, 16, misuse_kind::double_free); // in top
    for (std::size_t offset : {1u, 16u, 96u, 111u})
        expect(p + offset, 84, misuse_kind::misaligned_pointer);
    expect(s + 16, 100, misuse_kind::misaligned_pointer);
    expect(s + 2048, 100, misuse_kind::misaligned_pointer);
    for (std::size_t bytes : {0u, 16u, 96u, 113u, 128u, 208u, 320u, 321u, 432u, 100000u})
        expect(p, bytes, misuse_kind::size_mismatch); // 320: up to r, over the free block
    for (std::size_t bytes : {16u, 1000u, 3984u, 4001u, 4112u, 5000u})
        expect(s, bytes, misuse_kind::size_mismatch);  // 4112: s and t
    expect(t + 7000, 8, misuse_kind::foreign_pointer); // the bits, or behind
    region.deallocate(t, 100, 32);                     // t lies at an odd granule
    BOOST_TEST((recorder.take().at(0).kind == misuse_kind::alignment_mismatch));
    BOOST_TEST((region.stats() == before));
    static int a_static = 0;
    expect(&a_static, 4, misuse_kind::foreign_pointer);
    region.deallocate(p, 100);
    region.deallocate(r, 100);
    region.deallocate(s, 4000);
    region.deallocate(t, 100);
    BOOST_TEST(recorder.take().empty());
    BOOST_TEST(is_one_free_block(region));
}

// Of a large block each granule's marks are looked at, wherever the words of bits begin.
BOOST_AUTO_TEST_CASE(a_size_that_reaches_over_a_neighbour_is_found_wherever_it_starts) {
    constexpr std::size_t all = 300 * 16;
    best_fit_resource region{8 * kib};
    for (std::size_t first = 16; first < all; first += 16) {
        void* const p = region.allocate(first);
        void* const neighbour = region.allocate(all - first);
        void* const fence = region.allocate(16);
        BOOST_REQUIRE((region.try_deallocate(p, all) == misuse_kind::size_mismatch));
        region.deallocate(neighbour, all - first);
        BOOST_REQUIRE((region.try_deallocate(p, all) == misuse_kind::size_mismatch));
        region.deallocate(p, first);
        region.deallocate(fence, 16);
        BOOST_REQUIRE(is_one_free_block(region));
    }
}

// A size that is wrong is found even where the block's content looks like a free block's size.
BOOST_AUTO_TEST_CASE(no_content_passes_for_a_free_block) {
    misuse_recorder recorder;
    best_fit_resource region{8 * kib};
    auto* const p = static_cast<std::byte*>(region.allocate(160));
    void* const hole = region.allocate(64);
    void* const fence = region.allocate(16);
    region.deallocate(hole, 64);
    for (std::uint32_t guess = 0; guess < 20; ++guess) {
        for (std::size_t at = 0; at < 160; at += sizeof guess)
            std::memcpy(p + at, &guess, sizeof guess);
        for (std::size_t bytes = 0; bytes <= 144; bytes += 16)
            region.deallocate(p, bytes);
        BOOST_REQUIRE(recorder.take().size() == 10u);
        BOOST_REQUIRE(region.check_invariants());
    }
    region.deallocate(p, 160);
    region.deallocate(fence, 16);
    BOOST_TEST(is_one_free_block(region));
}

BOOST_AUTO_TEST_CASE(every_request_gets_the_smallest_block_that_fits) {
    struct block {
        unsigned char* p;
        std::size_t bytes;
        std::size_t alignment;
        unsigned char fill;
    };
    std::mt19937_64 random{strata::test::seed("best_fit model")};
    auto const below = [&](std::size_t n) { return random() % n; };
    counting_upstream upstream;
    best_fit_resource region{512 * kib, &upstream};
    std::vector<block> live;
    auto const free_sizes = [&] {
        std::multiset<std::size_t> sizes;
        region.visit_blocks([&](strata::block_info const& b) {
            if (!b.live)
                sizes.insert(b.bytes);
        });
        return sizes;
    };
    for (int step = 0; step < 12000; ++step) {
        bool const grow = below(1000) < (step / 2000 % 2 == 0 ? 700u : 300u);
        if (grow || live.empty()) {
            std::size_t const bytes = below(std::size_t{2} << below(16));
            std::size_t const alignment = below(4) == 0 ? std::size_t{1} << below(10) : 8;
            auto const before = free_sizes();
            auto* const p = static_cast<unsigned char*>(region.allocate(bytes, alignment));
            BOOST_REQUIRE(strata::detail::is_aligned(p, alignment));
            std::size_t const block_bytes = region.good_size(bytes);
            if (alignment <= 16 && region.owns(p)) {
                auto expected = before;
                auto const fit = expected.lower_bound(block_bytes);
                BOOST_REQUIRE((fit != expected.end()));
                if (*fit != block_bytes)
                    expected.insert(*fit - block_bytes);
                expected.erase(expected.find(*fit));
                BOOST_REQUIRE((free_sizes() == expected));
            } else if (!region.owns(p)) { // no block is sure to have room for it
                std::size_t const lead = std::max<std::size_t>(alignment, 16) - 16;
                BOOST_REQUIRE((before.lower_bound(block_bytes + lead) == before.end()));
            }
            live.push_back({p, bytes, alignment, static_cast<unsigned char>(below(256))});
            std::fill_n(p, bytes, live.back().fill);
        } else {
            std::swap(live[below(live.size())], live.back());
            block const b = live.back();
            live.pop_back();
            BOOST_REQUIRE(std::all_of(b.p, b.p + b.bytes, [&](auto c) { return c == b.fill; }));
            BOOST_REQUIRE(!region.try_deallocate(b.p, b.bytes, b.alignment));
            BOOST_REQUIRE(region.try_deallocate(b.p, b.bytes, b.alignment));
        }
        BOOST_REQUIRE(region.check_invariants());
        if (step % 16 == 0) {
            auto const s = region.stats();
            BOOST_REQUIRE(s.live_blocks == live.size());
            BOOST_REQUIRE(s.footprint_bytes == upstream.live_bytes());
            BOOST_REQUIRE(s.footprint_bytes == s.live_bytes + s.free_bytes + s.overhead_bytes);
        }
    }
    for (block const& b : live)
        region.deallocate(b.p, b.bytes, b.alignment);
    BOOST_TEST(region.stats().largest_free_bytes == region.capacity_bytes());
    BOOST_TEST(is_one_free_block(region));
}

BOOST_AUTO_TEST_CASE(regions_beyond_4_gib, *boost::unit_test::enable_if<sizeof(void*) == 8>()) {
    constexpr std::size_t bytes = std::size_t{8} << 30;
    void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    BOOST_REQUIRE(memory != MAP_FAILED);
    {
        best_fit_resource region{memory, bytes, std::pmr::null_memory_resource()};
        BOOST_TEST(region.capacity_bytes() > bytes - bytes / 64);
        void* const low = region.allocate(std::size_t{5} << 30);
        void* const high = region.allocate(std::size_t{2} << 30);
        region.deallocate(low, std::size_t{5} << 30);
        void* const again = region.allocate(std::size_t{3} << 30);
        BOOST_TEST(again == low);
        region.deallocate(high, std::size_t{2} << 30);
        region.deallocate(again, std::size_t{3} << 30);
        BOOST_TEST(region.stats().largest_free_bytes == region.capacity_bytes());
    }
    ::munmap(memory, bytes);
}

BOOST_AUTO_TEST_SUITE_END()
