// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE fixed_block
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <list>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <sys/mman.h>

#include <strata/detail/annotate.hpp>
#include <strata/fixed_block_resource.hpp>

#include "support/counting_upstream.hpp"
#include "support/misuse_recorder.hpp"
#include "support/seed.hpp"

using strata::block_info;
using strata::fixed_block_resource;
using strata::misuse_kind;
using strata::statistics;
using strata::test::counting_upstream;
using strata::test::misuse_recorder;

namespace {

constexpr std::size_t most = std::numeric_limits<std::size_t>::max();

// A pool whose upstream gives the region and not a byte more: a full pool throws bad_alloc.
struct bounded {
    bounded(std::size_t capacity_bytes, std::size_t block_bytes)
        : pool{capacity_bytes, block_bytes, &upstream} {
        upstream.fail_after(0);
    }

    counting_upstream upstream;
    fixed_block_resource pool;
};

std::byte* byte_at(void* p, std::size_t offset) {
    return static_cast<std::byte*>(p) + offset;
}
std::size_t address(void const* p) {
    return strata::detail::address_of(p);
}

std::vector<void*> take_all(fixed_block_resource& pool) {
    std::vector<void*> blocks;
    for (std::size_t i = 0; i < pool.capacity_blocks(); ++i)
        blocks.push_back(pool.allocate(pool.block_bytes(), 8));
    return blocks;
}

std::vector<block_info> walk(fixed_block_resource const& pool) {
    std::vector<block_info> blocks;
    pool.visit_blocks([&](block_info const& b) { blocks.push_back(b); });
    return blocks;
}

// The heap as a list: "L1 F1 F1 L3" is a live block, two free ones, and a live run of three.
std::string picture(fixed_block_resource const& pool) {
    std::string text;
    for (block_info const& b : walk(pool))
        text.append(text.empty() ? "" : " ")
            .append(b.live ? "L" : "F")
            .append(std::to_string(b.bytes / pool.block_bytes()));
    return text;
}

void check_parts(statistics const& s) {
    BOOST_TEST(s.footprint_bytes == s.live_bytes + s.free_bytes + s.overhead_bytes);
    BOOST_TEST(s.requested_bytes <= s.live_bytes);
}

// Demands one report of the kind, and that nothing changed.
void check_misuse(fixed_block_resource& pool, misuse_kind kind, void* p, std::size_t bytes,
                  std::size_t alignment = 8) {
    misuse_recorder recorder;
    statistics const before = pool.stats();
    BOOST_TEST((pool.diagnose(p, bytes, alignment) == kind));
    BOOST_TEST(recorder.take().empty());
    pool.deallocate(p, bytes, alignment);
    auto const heard = recorder.take();
    BOOST_REQUIRE(heard.size() == 1u);
    BOOST_TEST((heard[0].kind == kind));
    BOOST_TEST(heard[0].where == &pool);
    BOOST_TEST(heard[0].address == p);
    BOOST_TEST(heard[0].bytes == bytes);
    BOOST_TEST(heard[0].alignment == alignment);
    BOOST_TEST((pool.stats() == before));
    BOOST_TEST(pool.check_invariants());
}

} // namespace

BOOST_AUTO_TEST_SUITE(fixed_block_construction)

BOOST_AUTO_TEST_CASE(constructor_takes_one_region_and_the_destructor_returns_it) {
    counting_upstream upstream;
    {
        fixed_block_resource pool{64 * 100, 64, &upstream};
        BOOST_TEST(upstream.allocations() == 1u);
        BOOST_TEST(pool.capacity_blocks() == 100u);
        BOOST_TEST(pool.stats().footprint_bytes == upstream.live_bytes());
        static_cast<void>(take_all(pool));
        BOOST_TEST(upstream.allocations() == 1u);
        BOOST_TEST(pool.upstream_resource() == &upstream);
    }
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(null_upstream_is_new_delete) {
    fixed_block_resource const pool{100, 10, nullptr};
    BOOST_TEST(pool.upstream_resource() == std::pmr::new_delete_resource());
}

BOOST_AUTO_TEST_CASE(as_many_blocks_as_the_capacity_holds_rounded_up) {
    for (std::size_t block = 1; block <= 300; ++block)
        for (std::size_t capacity : {std::size_t{1}, block - 1, block, block + 1, 7 * block + 3}) {
            if (capacity == 0)
                continue;
            fixed_block_resource pool{capacity, block};
            BOOST_REQUIRE(pool.capacity_blocks() == (capacity + block - 1) / block);
            BOOST_REQUIRE(pool.block_bytes() == (block + 7) / 8 * 8);
            BOOST_REQUIRE(pool.check_invariants());
        }
}

BOOST_AUTO_TEST_CASE(sizes_that_cannot_be_are_refused_before_upstream_is_asked) {
    counting_upstream upstream;
    using pool = fixed_block_resource;
    BOOST_CHECK_THROW((pool{1024, 0, &upstream}), std::invalid_argument);
    BOOST_CHECK_THROW((pool{0, 64, &upstream}), std::invalid_argument);
    for (std::size_t huge : {most, most - 1, most - 15, most / 2 + 1}) {
        BOOST_CHECK_THROW((pool{huge, 64, &upstream}), std::bad_alloc);
        BOOST_CHECK_THROW((pool{huge, 1, &upstream}), std::bad_alloc);
        BOOST_CHECK_THROW((pool{64, huge, &upstream}), std::bad_alloc);
        BOOST_CHECK_THROW((pool{huge, huge, &upstream}), std::bad_alloc);
    }
    BOOST_TEST(upstream.allocations() == 0u);
    upstream.fail_after(0);
    BOOST_CHECK_THROW((pool{1024, 64, &upstream}), std::bad_alloc);
}

BOOST_AUTO_TEST_CASE(overhead_is_two_bits_a_block_and_less_than_a_kibibyte) {
    for (std::size_t blocks : {1u, 2u, 63u, 64u, 65u, 1000u, 4096u, 4097u, 100000u, 1000000u}) {
        fixed_block_resource const pool{blocks * 8, 8};
        BOOST_TEST(pool.capacity_blocks() == blocks);
        BOOST_TEST(pool.stats().overhead_bytes <= blocks / 4 + 1024);
    }
}

BOOST_AUTO_TEST_CASE(blocks_are_aligned_as_objects_of_their_size_may_need) {
    for (std::size_t block :
         {8u, 24u, 48u, 64u, 96u, 640u, 4096u, 12288u, 65536u, 3u << 16, 1u << 20}) {
        bounded limited{block * 5, block};
        auto& pool = limited.pool;
        std::size_t const natural = block & (0 - block);
        for (void* p : take_all(pool))
            BOOST_TEST(address(p) % natural == 0u);
    }
}

BOOST_AUTO_TEST_CASE(a_buffer_of_any_alignment_serves_and_nothing_outside_it_is_written) {
    for (std::size_t const block : {8u, 24u, 64u, 100u})
        for (std::size_t offset = 0; offset < 64; ++offset) {
            alignas(64) std::array<std::byte, 1200> memory{};
            memory.fill(std::byte{0xEE});
            std::size_t const bytes = 1000 - offset;
            {
                counting_upstream upstream;
                fixed_block_resource pool{&memory[offset], bytes, block, &upstream};
                for (void* p : take_all(pool)) {
                    BOOST_REQUIRE(p >= &memory[offset]);
                    BOOST_REQUIRE(byte_at(p, block) <= &memory[offset] + bytes);
                    std::memset(p, 0xAB, block);
                }
                BOOST_REQUIRE(upstream.allocations() == 0u);
                BOOST_REQUIRE(pool.check_invariants());
                BOOST_REQUIRE(pool.stats().footprint_bytes == bytes);
                check_parts(pool.stats());
                // No more than alignment and bits are lost.
                BOOST_REQUIRE(pool.stats().overhead_bytes < 64 + 64 + pool.block_bytes());
            }
            for (std::size_t i = 0; i < memory.size(); ++i)
                BOOST_REQUIRE((i >= offset && i < offset + bytes) || memory[i] == std::byte{0xEE});
        }
}

BOOST_AUTO_TEST_CASE(a_buffer_that_holds_no_block_is_refused_in_clear_words) {
    alignas(64) std::array<std::byte, 256> memory{};
    std::size_t smallest = 0;
    for (std::size_t bytes = memory.size(); bytes > 0; --bytes)
        try {
            fixed_block_resource const pool{memory.data(), bytes, 64};
            BOOST_TEST(pool.capacity_blocks() >= 1u);
            smallest = bytes;
        } catch (std::invalid_argument const& refused) {
            BOOST_TEST(std::string{refused.what()}.find("does not hold one block of 64 bytes") !=
                       std::string::npos);
        }
    BOOST_TEST(smallest == 64u + strata::detail::redzone_bytes + 5 * 8);
    using pool = fixed_block_resource;
    BOOST_CHECK_THROW((pool{memory.data(), 0, 64}), std::invalid_argument);
    BOOST_CHECK_THROW((pool{memory.data(), 256, 0}), std::invalid_argument);
    BOOST_CHECK_THROW((pool{nullptr, 256, 8}), std::invalid_argument);
    BOOST_CHECK_THROW((pool{memory.data(), 256, 1 << 20}), std::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(fixed_block_single_blocks)

BOOST_AUTO_TEST_CASE(batches_come_in_address_order_whatever_the_order_of_frees) {
    std::mt19937_64 random{strata::test::seed("fixed_block model")};
    for (std::size_t const n : {1u, 2u, 64u, 65u, 130u, 5000u}) {
        bounded limited{n * 40, 40};
        auto& pool = limited.pool;
        for (int round = 0; round < 4; ++round) {
            auto blocks = take_all(pool);
            for (std::size_t i = 0; i < n; ++i)
                BOOST_REQUIRE(blocks[i] == byte_at(blocks[0], i * 40));
            BOOST_CHECK_THROW(static_cast<void>(pool.allocate(40, 8)), std::bad_alloc);
            if (round == 0)
                std::reverse(blocks.begin(), blocks.end());
            if (round >= 2)
                std::shuffle(blocks.begin(), blocks.end(), random);
            for (void* p : blocks)
                pool.deallocate(p, 40, 8);
            BOOST_TEST(pool.check_invariants());
            BOOST_TEST(pool.stats().live_blocks == 0u);
        }
    }
}

BOOST_AUTO_TEST_CASE(a_request_gets_the_lowest_free_block) {
    bounded limited{200 * 16, 16};
    auto& pool = limited.pool;
    auto const blocks = take_all(pool);
    for (std::size_t i : {150u, 3u, 70u, 2u, 199u, 64u})
        pool.deallocate(blocks[i], 16);
    for (std::size_t i : {2u, 3u, 64u, 70u, 150u, 199u})
        BOOST_TEST(pool.allocate(16) == blocks[i]);
}

BOOST_AUTO_TEST_CASE(freed_memory_is_never_written) {
    bounded limited{100 * 24, 24};
    auto& pool = limited.pool;
    auto const blocks = take_all(pool);
    auto const pattern = [](std::size_t i) { return static_cast<unsigned char>(i * 37 + 1); };
    for (std::size_t i = 0; i < blocks.size(); ++i)
        std::memset(blocks[i], pattern(i), 24);
    for (std::size_t i = 0; i < blocks.size(); i += 3)
        pool.deallocate(blocks[i], 24, 8);
    void* const run = pool.allocate(24, 8);
    pool.deallocate(run, 24, 8);
    for (std::size_t i = 1; i < blocks.size(); i += 3)
        pool.deallocate(blocks[i], 24, 8);
    void* const pair = pool.allocate(48, 8);
    BOOST_TEST(pool.try_resize(pair, 48, 20, 8));
    pool.deallocate(pair, 20, 8);
    pool.release();
    for (void* const p : blocks)
        strata::detail::open(p, 24); // to look at
    for (std::size_t i = 0; i < blocks.size(); ++i)
        for (std::size_t k = 0; k < 24; ++k)
            BOOST_REQUIRE((*byte_at(blocks[i], k) == std::byte{pattern(i)}));
}

BOOST_AUTO_TEST_CASE(every_short_sequence_of_calls_is_told_right_from_wrong) {
    constexpr std::size_t blocks = 4;
    constexpr unsigned choices =
        blocks + 3; // free one of them, take one, take two, resize the first
    constexpr unsigned length = 6;
    misuse_recorder recorder;
    for (unsigned sequence = 0; sequence < 117'649; ++sequence) { // choices ^ length
        bounded limited{blocks * 24, 24};
        auto& pool = limited.pool;
        std::byte* const base = static_cast<std::byte*>(const_cast<void*>(walk(pool)[0].address));
        std::array<std::size_t, blocks + 1> live{}; // blocks that start there; 0: none do
        std::array<bool, blocks + 1> taken{};
        auto const take = [&](std::size_t i, std::size_t n) {
            live[i] = n;
            std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(i), n, true);
        };
        auto const give = [&](std::size_t i) {
            std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(i), live[i], false);
            live[i] = 0;
        };
        unsigned rest = sequence;
        for (unsigned call = 0; call < length; ++call, rest /= choices) {
            unsigned const choice = rest % choices;
            if (choice < blocks) {
                std::size_t const n = std::max<std::size_t>(live[choice], 1);
                pool.deallocate(base + choice * 24, n * 24, 8);
                BOOST_REQUIRE(recorder.take().empty() == (live[choice] != 0));
                give(choice);
            } else if (choice == blocks + 2) {
                if (live[0] == 0)
                    continue;
                std::size_t const to = 3 - live[0]; // one to two, two to one
                bool const expected = to == 1 || !taken[1];
                BOOST_REQUIRE(pool.try_resize(base, live[0] * 24, to * 24, 8) == expected);
                if (expected) {
                    give(0);
                    take(0, to);
                }
            } else {
                std::size_t const n = choice - blocks + 1;
                std::size_t first = 0;
                while (first + n <= blocks && (taken[first] || taken[first + n - 1]))
                    ++first;
                if (first + n > blocks) {
                    BOOST_REQUIRE_THROW(static_cast<void>(pool.allocate(n * 24, 8)),
                                        std::bad_alloc);
                    continue;
                }
                BOOST_REQUIRE(pool.allocate(n * 24, 8) == base + first * 24);
                take(first, n);
            }
        }
        BOOST_REQUIRE(pool.check_invariants());
        BOOST_REQUIRE(pool.stats().free_blocks == static_cast<std::size_t>(std::count(
                                                      taken.begin(), taken.begin() + 4, false)));
    }
}

BOOST_AUTO_TEST_CASE(zero_bytes_give_distinct_blocks) {
    bounded limited{320, 32};
    auto& pool = limited.pool;
    void* const a = pool.allocate(0);
    void* const b = pool.allocate(0, 1);
    BOOST_TEST(a != nullptr);
    BOOST_TEST(a != b);
    BOOST_TEST(pool.good_size(0) == 32u);
    pool.deallocate(a, 0);
    pool.deallocate(b, 0, 1);
    BOOST_TEST(pool.stats().live_blocks == 0u);
}

BOOST_AUTO_TEST_CASE(every_address_of_every_block_size_is_told_apart) {
    for (std::size_t block = 1; block <= 300; ++block) {
        bounded limited{block * 3, block};
        auto& pool = limited.pool;
        std::size_t const stride = pool.block_bytes();
        auto const blocks = take_all(pool);
        pool.deallocate(blocks[1], block, 8);
        for (std::size_t offset = 0; offset < stride * 3 + 40; ++offset) {
            void* const p = byte_at(blocks[0], offset);
            auto const found = pool.diagnose(p, block, 8);
            BOOST_REQUIRE(pool.owns(p) == (offset < stride * 3));
            if (offset >= stride * 3)
                BOOST_REQUIRE((found == misuse_kind::foreign_pointer));
            else if (offset % stride != 0)
                BOOST_REQUIRE((found == misuse_kind::misaligned_pointer));
            else if (offset == stride)
                BOOST_REQUIRE((found == misuse_kind::double_free));
            else
                BOOST_REQUIRE(!found);
        }
    }
}

BOOST_AUTO_TEST_CASE(serves_pmr_containers) {
    bounded limited{1000 * 24, 24};
    auto& pool = limited.pool;
    std::pmr::list<long> numbers{&pool};
    for (long i = 0; i < 1000; ++i)
        numbers.push_back(i);
    BOOST_TEST(pool.stats().free_blocks == 0u); // 24 bytes a node, and not one more
    numbers.remove_if([](long i) { return i % 2 == 0; });
    BOOST_TEST(pool.stats().live_blocks == 500u);
    BOOST_TEST(std::accumulate(numbers.begin(), numbers.end(), 0L) == 250000);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(fixed_block_runs)

BOOST_AUTO_TEST_CASE(a_run_of_every_length_fits_every_hole_of_its_size_and_none_smaller) {
    for (std::size_t const n : {12u, 64u, 70u, 130u}) {
        bounded limited{n * 8, 8};
        auto& pool = limited.pool;
        for (std::size_t first = 0; first < n; ++first)
            for (std::size_t length = 1; length <= n - first; ++length) {
                auto const blocks = take_all(pool);
                for (std::size_t i = length; i-- > 0;)
                    pool.deallocate(blocks[first + i], 8, 8);
                BOOST_REQUIRE_THROW(static_cast<void>(pool.allocate(length * 8 + 1, 8)),
                                    std::bad_alloc);
                void* const run = pool.allocate(length * 8 - 7, 8);
                BOOST_REQUIRE(run == blocks[first]);
                BOOST_REQUIRE(pool.stats().free_blocks == 0u);
                BOOST_REQUIRE(pool.stats().live_blocks == n - length + 1);
                if (length > 1) {
                    void* const inside = byte_at(run, (length - 1) * 8);
                    BOOST_REQUIRE((pool.try_deallocate(run, 8, 8) == misuse_kind::size_mismatch));
                    BOOST_REQUIRE(
                        (pool.try_deallocate(inside, 8, 8) == misuse_kind::misaligned_pointer));
                }
                BOOST_REQUIRE(!pool.try_deallocate(run, length * 8, 8));
                BOOST_REQUIRE(pool.stats().free_blocks == length);
                BOOST_REQUIRE(pool.stats().largest_free_bytes == length * 8);
                pool.release();
            }
        BOOST_TEST(pool.check_invariants());
    }
}

// All ways to free some of ten blocks, in a pool of ten and around the end of a word of bits: the
// lowest run of each length and alignment is found where there is one, every block grows over what
// is free behind it and no further.
BOOST_AUTO_TEST_CASE(every_state_of_ten_blocks_serves_what_fits) {
    constexpr std::size_t n = 10;
    struct place {
        std::size_t blocks;
        std::size_t first; // of the ten
    };
    for (auto const [count, first] : {place{n, 0}, place{130, 59}, place{130, 120}}) {
        bounded limited{count * 8, 8};
        auto& pool = limited.pool;
        for (unsigned freed = 0; freed < 1u << n; ++freed) {
            auto const blocks = take_all(pool);
            auto const free_from = [&, at = first](std::size_t i) { // one after the other
                return static_cast<std::size_t>(std::countr_one(freed >> (i - at)));
            };
            std::size_t longest = 0;
            for (std::size_t i = first; i < first + n; ++i) {
                longest = std::max(longest, free_from(i));
                if (free_from(i) != 0)
                    pool.deallocate(blocks[i], 8, 8);
            }
            BOOST_REQUIRE(pool.stats().largest_free_bytes == longest * 8);
            for (std::size_t length = 1; length <= n; ++length) {
                for (std::size_t const alignment : {8u, 16u, 32u}) {
                    std::size_t i = first;
                    while (i < first + n &&
                           (free_from(i) < length || address(blocks[i]) % alignment != 0))
                        ++i;
                    if (i == first + n) {
                        BOOST_REQUIRE_THROW(static_cast<void>(pool.allocate(length * 8, alignment)),
                                            std::bad_alloc);
                        continue;
                    }
                    BOOST_REQUIRE(pool.allocate(length * 8, alignment) == blocks[i]);
                    BOOST_REQUIRE(!pool.try_deallocate(blocks[i], length * 8, alignment));
                }
                for (std::size_t i = first; i < first + n; ++i) {
                    if (free_from(i) != 0)
                        continue;
                    bool const fits = length - 1 <= (i + 1 < first + n ? free_from(i + 1) : 0);
                    BOOST_REQUIRE(pool.try_resize(blocks[i], 8, length * 8, 8) == fits);
                    if (fits)
                        BOOST_REQUIRE(pool.try_resize(blocks[i], length * 8, 8, 8));
                }
            }
            BOOST_REQUIRE(pool.check_invariants());
            pool.release();
        }
    }
}

BOOST_AUTO_TEST_CASE(neighbours_coalesce_in_every_order) {
    bounded limited{6 * 16, 16};
    auto& pool = limited.pool;
    std::array<std::size_t, 4> order{0, 1, 2, 3};
    do {
        std::array<std::size_t, 4> const bytes{16, 32, 16, 32};
        std::array<void*, 4> blocks{};
        for (std::size_t i = 0; i < 4; ++i)
            blocks[i] = pool.allocate(bytes[i]);
        BOOST_REQUIRE(picture(pool) == "L1 L2 L1 L2");
        for (std::size_t i : order)
            pool.deallocate(blocks[i], bytes[i]);
        BOOST_REQUIRE(pool.stats().largest_free_bytes == 96u);
        BOOST_REQUIRE(pool.check_invariants());
    } while (std::next_permutation(order.begin(), order.end()));
}

BOOST_AUTO_TEST_CASE(the_walk_shows_runs_singles_and_free_blocks) {
    bounded limited{8 * 16, 16};
    auto& pool = limited.pool;
    static_cast<void>(pool.allocate(16));
    static_cast<void>(pool.allocate(33));
    void* const c = pool.allocate(16);
    static_cast<void>(pool.allocate(20));
    BOOST_TEST(picture(pool) == "L1 L3 L1 L2 F1");
    pool.deallocate(c, 16);
    BOOST_TEST(picture(pool) == "L1 L3 F1 L2 F1");
    BOOST_CHECK_THROW(static_cast<void>(pool.allocate(17)), std::bad_alloc); // two holes of one
    BOOST_TEST(pool.allocate(16) == c);
}

BOOST_AUTO_TEST_CASE(over_aligned_requests_get_blocks_that_have_it) {
    for (std::size_t const block : {8u, 24u, 40u, 48u, 64u, 4096u})
        for (std::size_t alignment = 1; alignment <= 65536; alignment *= 2)
            for (std::size_t bytes : {std::size_t{1}, block, block + 1, 3 * block + 5}) {
                counting_upstream upstream;
                fixed_block_resource pool{block * 600, block, &upstream};
                std::vector<void*> blocks;
                for (int i = 0; i < 20; ++i) {
                    blocks.push_back(pool.allocate(bytes, alignment));
                    BOOST_REQUIRE(address(blocks.back()) % alignment == 0u);
                    std::memset(blocks.back(), i, bytes);
                    BOOST_REQUIRE(pool.check_invariants());
                }
                if (pool.good_size(bytes, alignment) != bytes)
                    BOOST_REQUIRE(pool.owns(blocks.front()));
                for (std::size_t i = 0; i < 20; ++i) {
                    BOOST_REQUIRE((*byte_at(blocks[i], bytes - 1) == std::byte(i)));
                    BOOST_REQUIRE(!pool.try_deallocate(blocks[i], bytes, alignment));
                }
                BOOST_REQUIRE(pool.stats().live_blocks == 0u);
                BOOST_REQUIRE(upstream.mismatches() == 0u);
            }
}

BOOST_AUTO_TEST_CASE(try_resize_takes_what_follows_and_gives_back_the_end) {
    bounded limited{10 * 16, 16};
    auto& pool = limited.pool;
    void* const a = pool.allocate(16);
    void* const b = pool.allocate(16);
    void* const c = pool.allocate(16);
    pool.deallocate(b, 16);
    BOOST_TEST(pool.try_resize(a, 16, 10)); // the same block
    BOOST_TEST(pool.try_resize(a, 10, 32));
    BOOST_TEST(picture(pool) == "L2 L1 F1 F1 F1 F1 F1 F1 F1");
    BOOST_TEST(!pool.try_resize(a, 32, 33)); // c follows
    BOOST_TEST(!pool.try_resize(c, 16, 8 * 16 + 1));
    BOOST_TEST(!pool.try_resize(c, 16, most));
    BOOST_TEST(pool.try_resize(c, 16, 8 * 16));
    BOOST_TEST(picture(pool) == "L2 L8");
    BOOST_TEST(pool.stats().requested_bytes == 32u + 128u);
    BOOST_TEST(pool.try_resize(c, 128, 17));
    BOOST_TEST(pool.try_resize(a, 32, 0));
    BOOST_TEST(picture(pool) == "L1 F1 L2 F1 F1 F1 F1 F1 F1");
    BOOST_TEST(pool.stats().requested_bytes == 17u);
    BOOST_TEST(pool.check_invariants());
    pool.deallocate(a, 0);
    pool.deallocate(c, 17);
    BOOST_TEST(pool.stats().live_blocks == 0u);
}

BOOST_AUTO_TEST_CASE(reallocate_keeps_contents_and_calloc_is_zero) {
    counting_upstream upstream;
    fixed_block_resource pool{50 * 16, 16, &upstream};
    void* p = pool.allocate(16);
    void* const in_the_way = pool.allocate(16);
    std::memset(p, 7, 16);
    p = pool.reallocate(p, 16, 100);  // moves
    p = pool.reallocate(p, 100, 300); // grows in place
    BOOST_TEST(pool.owns(p));
    p = pool.reallocate(p, 300, 5000); // moves to upstream
    BOOST_TEST(!pool.owns(p));
    p = pool.reallocate(p, 5000, 20); // and back
    BOOST_TEST(pool.owns(p));
    for (std::size_t i = 0; i < 16; ++i)
        BOOST_TEST((*byte_at(p, i) == std::byte{7}));
    pool.deallocate(p, 20);
    auto* const zeroed = static_cast<unsigned char*>(pool.allocate_zeroed(5, 16));
    BOOST_TEST(std::count(zeroed, zeroed + 80, 0) == 80);
    BOOST_CHECK_THROW(static_cast<void>(pool.allocate_zeroed(most / 4, 8)), std::bad_alloc);
    pool.deallocate(zeroed, 80);
    pool.deallocate(in_the_way, 16);
    BOOST_TEST(pool.stats().live_blocks == 0u);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(fixed_block_upstream)

BOOST_AUTO_TEST_CASE(what_does_not_fit_goes_upstream_and_comes_back) {
    counting_upstream upstream;
    fixed_block_resource pool{4 * 32, 32, &upstream};
    auto const blocks = take_all(pool);
    void* const spilled = pool.allocate(32, 8);
    void* const large = pool.allocate(1000, 64);
    BOOST_TEST(!pool.owns(spilled));
    BOOST_TEST(pool.good_size(1000, 64) == 1000u);
    statistics const s = pool.stats();
    BOOST_TEST(s.upstream_live_blocks == 2u);
    BOOST_TEST(s.live_blocks == 6u);
    BOOST_TEST(s.footprint_bytes == upstream.live_bytes());
    check_parts(s);
    auto const walked = walk(pool);
    BOOST_TEST(walked.size() == 6u);
    BOOST_TEST(std::is_sorted(walked.begin(), walked.end(), [](auto const& a, auto const& b) {
        return std::less<>{}(a.address, b.address);
    }));
    BOOST_TEST(pool.try_resize(spilled, 32, 32, 8));
    BOOST_TEST(!pool.try_resize(spilled, 32, 33, 8));
    check_misuse(pool, misuse_kind::size_mismatch, spilled, 31);
    check_misuse(pool, misuse_kind::alignment_mismatch, large, 1000, 32);
    pool.deallocate(spilled, 32, 8);
    check_misuse(pool, misuse_kind::double_free, spilled, 32);
    pool.deallocate(large, 1000, 64);
    BOOST_TEST(pool.trim() > 0u);
    BOOST_TEST(pool.trim() == 0u);
    BOOST_TEST(upstream.live_blocks() == 1u);
}

BOOST_AUTO_TEST_CASE(requests_that_cannot_be_met_throw_and_change_nothing) {
    counting_upstream upstream;
    fixed_block_resource pool{10 * 32, 32, &upstream};
    void* const p = pool.allocate(32);
    pool.deallocate(pool.allocate(32), 32);
    statistics const before = pool.stats();
    for (std::size_t bytes : {most, most - 1, most - 15, most / 2 + 1})
        for (std::size_t alignment : {1u, 16u, 64u, 4096u})
            BOOST_CHECK_THROW(static_cast<void>(pool.allocate(bytes, alignment)), std::bad_alloc);
    for (std::size_t alignment : {24u, 48u, 100u, 4097u})
        for (std::size_t bytes : {8u, 64u})
            BOOST_CHECK_THROW(static_cast<void>(pool.allocate(bytes, alignment)),
                              std::invalid_argument);
    BOOST_TEST((pool.stats() == before));
    BOOST_TEST(upstream.allocations() == 1u);
    BOOST_TEST(pool.check_invariants());
    pool.deallocate(p, 32);
}

BOOST_AUTO_TEST_CASE(failure_at_nth_upstream_call_leaves_state_unchanged) {
    for (std::size_t calls = 0; calls < 8; ++calls) {
        counting_upstream upstream;
        fixed_block_resource pool{3 * 32, 32, &upstream};
        upstream.fail_after(calls);
        bool failed = false;
        for (int i = 0; i < 40 && !failed; ++i) {
            statistics const before = pool.stats();
            try {
                static_cast<void>(pool.allocate(i % 2 == 0 ? 32 : 500));
            } catch (std::bad_alloc const&) {
                failed = true;
                BOOST_TEST((pool.stats() == before));
                BOOST_TEST(upstream.live_bytes() == before.footprint_bytes);
            }
            BOOST_REQUIRE(pool.check_invariants());
        }
        BOOST_TEST(failed);
        upstream.never_fail();
        pool.release();
        BOOST_TEST(upstream.live_blocks() == 1u);
    }
}

BOOST_AUTO_TEST_CASE(release_makes_everything_free_and_keeps_the_region) {
    counting_upstream upstream;
    fixed_block_resource pool{100 * 32, 32, &upstream};
    statistics const fresh = pool.stats();
    void* const first = pool.allocate(32);
    static_cast<void>(pool.allocate(320));
    static_cast<void>(pool.allocate(1 << 20));
    pool.deallocate(first, 32);
    pool.release();
    BOOST_TEST((pool.stats() == fresh));
    BOOST_TEST(pool.check_invariants());
    BOOST_TEST(upstream.live_blocks() == 1u);
    BOOST_TEST(pool.allocate(32) == first);
    check_misuse(pool, misuse_kind::double_free, byte_at(first, 32), 32);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(fixed_block_growth)

namespace {

constexpr strata::fixed_block_options growing{.growth = strata::fixed_block_options::by_regions};

// Serves 16 KiB from its own, whose address 8192 divides: the first block at that offset, each at the
// next that the step divides. Nothing comes back.
class placing_upstream final : public std::pmr::memory_resource {
  public:
    placing_upstream(std::size_t first, std::size_t step) : next_{first}, step_{step} {}

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        std::size_t const at = strata::detail::align_up(next_, std::max(alignment, step_));
        if (at + bytes > memory_.size())
            throw std::bad_alloc{};
        next_ = at + bytes;
        return memory_.data() + at;
    }
    void do_deallocate(void*, std::size_t, std::size_t) override {}
    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& to) const noexcept override {
        return this == &to;
    }

    alignas(8192) std::array<std::byte, 16384> memory_{};
    std::size_t next_;
    std::size_t step_;
};

} // namespace

BOOST_AUTO_TEST_CASE(good_size_is_that_of_a_further_region_where_only_that_is_so_aligned) {
    placing_upstream upstream{4096, 4096};
    fixed_block_resource pool{4 * 64, 64, growing, &upstream};
    BOOST_TEST(pool.good_size(30, 8192) == 30u);
    for (int i = 0; i < 4; ++i)
        static_cast<void>(pool.allocate(64));
    pool.deallocate(pool.allocate(64), 64);
    BOOST_TEST(pool.good_size(30, 8192) == 64u);
    void* const p = pool.allocate(30, 8192);
    BOOST_TEST(pool.owns(p));
    BOOST_TEST(!pool.diagnose(p, 31, 8192));
    BOOST_TEST(pool.good_size(31, 8192) == 64u);
}

BOOST_AUTO_TEST_CASE(further_regions_come_and_go) {
    counting_upstream upstream;
    fixed_block_resource pool{100 * 32, 32, growing, &upstream};
    BOOST_TEST((pool.options().growth == growing.growth));
    statistics const fresh = pool.stats();
    std::vector<void*> blocks;
    for (int i = 0; i < 350; ++i) {
        blocks.push_back(pool.allocate(32));
        std::memset(blocks.back(), i, 32);
        BOOST_REQUIRE(pool.owns(blocks.back()));
        BOOST_REQUIRE(pool.check_invariants());
    }
    BOOST_TEST(upstream.live_blocks() == 4u); // as many of the same geometry as it takes
    statistics const s = pool.stats();
    BOOST_TEST(s.live_blocks == 350u);
    BOOST_TEST(s.free_blocks == 50u);
    BOOST_TEST(s.upstream_live_blocks == 0u);
    BOOST_TEST(s.requested_bytes == 350u * 32);
    BOOST_TEST(s.footprint_bytes == upstream.live_bytes());
    check_parts(s);
    auto const walked = walk(pool);
    BOOST_TEST(walked.size() == 400u);
    BOOST_TEST(std::is_sorted(walked.begin(), walked.end(), [](auto const& a, auto const& b) {
        return std::less<>{}(a.address, b.address);
    }));
    BOOST_TEST(pool.trim() == 0u);
    std::size_t const before = upstream.live_bytes();
    for (int i = 349; i >= 0; --i) {
        BOOST_REQUIRE((*byte_at(blocks[static_cast<std::size_t>(i)], 31) == std::byte(i)));
        pool.deallocate(blocks[static_cast<std::size_t>(i)], 32);
        if (i == 301)
            BOOST_TEST(pool.trim() == 0u); // one is live in the last
        if (i == 150) {
            BOOST_TEST(pool.trim() > 2u * 100 * 32); // the last used among them
            BOOST_TEST(pool.check_invariants());
        }
    }
    BOOST_TEST(pool.trim() > 100u * 32);
    BOOST_TEST(upstream.live_blocks() == 1u);
    BOOST_TEST(before > upstream.live_bytes());
    BOOST_TEST((pool.stats() == fresh));
    BOOST_TEST(upstream.mismatches() == 0u);
}

BOOST_AUTO_TEST_CASE(misuse_is_named_in_further_regions_too) {
    fixed_block_resource pool{4 * 32, 32, growing};
    static_cast<void>(take_all(pool));
    void* const p = pool.allocate(32);
    void* const run = pool.allocate(64);
    check_misuse(pool, misuse_kind::misaligned_pointer, byte_at(p, 8), 32);
    check_misuse(pool, misuse_kind::misaligned_pointer, byte_at(run, 32), 32);
    check_misuse(pool, misuse_kind::size_mismatch, run, 32);
    check_misuse(pool, misuse_kind::size_mismatch, p, 33);
    check_misuse(pool, misuse_kind::double_free, byte_at(run, 64), 32);
    check_misuse(pool, misuse_kind::foreign_pointer, byte_at(p, 4 * 32), 32); // the bits
    BOOST_TEST(pool.try_resize(run, 64, 96));
    BOOST_TEST(!pool.try_resize(run, 96, 128));
    BOOST_TEST(pool.try_resize(run, 96, 32));
    pool.deallocate(run, 32);
    pool.deallocate(p, 32);
    check_misuse(pool, misuse_kind::double_free, p, 32);
}

BOOST_AUTO_TEST_CASE(what_no_region_can_hold_goes_upstream_and_no_region_is_taken_for_it) {
    counting_upstream upstream;
    fixed_block_resource pool{4 * 32, 32, growing, &upstream};
    void* const large = pool.allocate(5 * 32);
    BOOST_TEST(!pool.owns(large));
    BOOST_TEST(pool.stats().upstream_live_blocks == 1u);
    BOOST_CHECK_THROW(static_cast<void>(pool.allocate(most)), std::bad_alloc);
    BOOST_CHECK_THROW(static_cast<void>(pool.allocate(8, 48)), std::invalid_argument);
    pool.deallocate(large, 5 * 32);
    pool.trim();
    BOOST_TEST(upstream.live_blocks() == 1u);

    static_cast<void>(pool.allocate(3 * 32));
    void* const run = pool.allocate(4 * 32); // does not fit the first, but one of its kind
    BOOST_TEST(pool.owns(run));
    BOOST_TEST(upstream.live_blocks() == 2u);
    pool.release();
    BOOST_TEST(upstream.live_blocks() == 1u);
    BOOST_TEST(pool.check_invariants());
}

// The pool begins with a page; no further region does, nor is it large enough to reach the next one.
BOOST_AUTO_TEST_CASE(a_region_without_a_place_so_aligned_goes_back) {
    placing_upstream source{0, 1};
    counting_upstream upstream{&source};
    fixed_block_resource pool{4 * 32, 32, growing, &upstream};
    BOOST_TEST(pool.owns(pool.allocate(32, 4096))); // the one place that it has
    statistics const before = pool.stats();
    upstream.fail_after(1); // which is the region
    BOOST_CHECK_THROW(static_cast<void>(pool.allocate(32, 4096)), std::bad_alloc);
    BOOST_TEST((pool.stats() == before));
    BOOST_TEST(upstream.live_blocks() == 1u);
    upstream.never_fail();
    void* const p = pool.allocate(32, 4096);
    BOOST_TEST(!pool.owns(p));
    BOOST_TEST(pool.stats().free_blocks == before.free_blocks);
    pool.deallocate(p, 32, 4096);
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(without_memory_for_a_region_upstream_is_asked_for_the_block) {
    counting_upstream upstream;
    fixed_block_resource pool{64 * 32, 32, growing, &upstream};
    static_cast<void>(take_all(pool));
    statistics const before = pool.stats();
    upstream.fail_after(0);
    BOOST_CHECK_THROW(static_cast<void>(pool.allocate(32)), std::bad_alloc);
    BOOST_TEST((pool.stats() == before));
    upstream.never_fail();
    BOOST_TEST(pool.owns(pool.allocate(32)));
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(a_buffer_grows_as_well_and_keeps_its_contents_when_its_pages_are_touched) {
    counting_upstream upstream;
    alignas(64) std::array<std::byte, 20000> memory{};
    memory.fill(std::byte{0xEE});
    strata::fixed_block_options both = growing;
    both.prefault = true;
    fixed_block_resource pool{memory.data(), memory.size(), 64, both, &upstream};
    BOOST_TEST(pool.capacity_blocks() > 300u);
    strata::detail::open(memory.data(), memory.size()); // to look at
    for (std::size_t i = 0; i < pool.capacity_blocks() * 64; ++i)
        BOOST_REQUIRE((memory[i] == std::byte{0xEE}));
    static_cast<void>(take_all(pool));
    void* const further = pool.allocate(64);
    BOOST_TEST(pool.owns(further));
    BOOST_TEST(upstream.live_blocks() == 1u);
    pool.deallocate(further, 64);
    pool.trim();
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(upstream_may_throw_what_is_no_bad_alloc) {
    struct unusual {};
    class : public std::pmr::memory_resource {
        void* do_allocate(std::size_t bytes, std::size_t alignment) override {
            if (std::exchange(throws_next, false))
                throw unusual{};
            return std::pmr::new_delete_resource()->allocate(bytes, alignment);
        }
        void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
            std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
        }
        bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
            return this == &other;
        }

      public:
        bool throws_next = false;
    } upstream;
    fixed_block_resource pool{10 * 64, 64, growing, &upstream};
    static_cast<void>(take_all(pool));
    statistics const full = pool.stats();
    upstream.throws_next = true;
    BOOST_CHECK_THROW(static_cast<void>(pool.allocate(64)), unusual);
    BOOST_TEST((pool.stats() == full));
    BOOST_TEST(pool.check_invariants());
    BOOST_TEST(pool.owns(pool.allocate(64)));
}

BOOST_AUTO_TEST_CASE(prefault_has_every_page_in_memory_when_the_constructor_ends) {
    class : public std::pmr::memory_resource {
        void* do_allocate(std::size_t bytes, std::size_t) override {
            bytes_ = bytes;
            void* const p =
                ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (p == MAP_FAILED)
                throw std::bad_alloc{};
            ::madvise(p, bytes, MADV_NOHUGEPAGE); // where there are any, one touch has many pages
            return p;
        }
        void do_deallocate(void* p, std::size_t bytes, std::size_t) override { ::munmap(p, bytes); }
        bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
            return this == &other;
        }

      public:
        [[nodiscard]] std::size_t resident_pages(void* p) const {
            std::vector<unsigned char> pages((bytes_ + 4095) / 4096);
            BOOST_REQUIRE(::mincore(p, bytes_, pages.data()) == 0);
            return static_cast<std::size_t>(
                std::count_if(pages.begin(), pages.end(), [](unsigned char c) { return c & 1; }));
        }
        [[nodiscard]] std::size_t pages() const { return (bytes_ + 4095) / 4096; }

      private:
        std::size_t bytes_ = 0;
    } mapped;
    {
        fixed_block_resource pool{1000 * 4096, 4096, &mapped};
        BOOST_TEST(mapped.resident_pages(pool.allocate(4096)) < 10u);
    }
    strata::fixed_block_options both = growing;
    both.prefault = true;
    fixed_block_resource pool{1000 * 4096, 4096, both, &mapped};
    BOOST_TEST(mapped.resident_pages(pool.allocate(4096)) == mapped.pages());
    void* const further = take_all(pool).back(); // of a further region: one was taken before
    BOOST_TEST(mapped.resident_pages(further) == mapped.pages());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(fixed_block_misuse)

BOOST_AUTO_TEST_CASE(a_double_free_is_found_a_thousand_times) {
    fixed_block_resource pool{200 * 32, 32};
    auto const blocks = take_all(pool);
    for (std::size_t i : {0u, 5u, 63u, 64u, 199u})
        pool.deallocate(blocks[i], 32, 8);
    misuse_recorder recorder;
    for (int round = 0; round < 200; ++round)
        for (std::size_t i : {0u, 5u, 63u, 64u, 199u})
            pool.deallocate(blocks[i], 32, 8);
    auto const heard = recorder.take();
    BOOST_TEST(heard.size() == 1000u);
    BOOST_TEST(std::all_of(heard.begin(), heard.end(),
                           [](auto const& what) { return what.kind == misuse_kind::double_free; }));
    BOOST_TEST(pool.stats().free_blocks == 5u);
    BOOST_TEST(pool.check_invariants());
}

BOOST_AUTO_TEST_CASE(each_wrong_call_is_named) {
    fixed_block_resource pool{20 * 32, 32};
    fixed_block_resource sibling{20 * 32, 32};
    void* const single = pool.allocate(32);
    void* const run = pool.allocate(100);
    void* const last = pool.allocate(32);
    void* const untouched = byte_at(last, 32);
    static int in_static_memory = 0;
    int on_stack = 0;

    check_misuse(pool, misuse_kind::misaligned_pointer, byte_at(single, 8), 32);
    check_misuse(pool, misuse_kind::misaligned_pointer, byte_at(run, 32), 32);
    check_misuse(pool, misuse_kind::misaligned_pointer, byte_at(run, 96), 4);
    check_misuse(pool, misuse_kind::misaligned_pointer, byte_at(untouched, 1), 32);
    check_misuse(pool, misuse_kind::double_free, untouched, 32);
    check_misuse(pool, misuse_kind::foreign_pointer, sibling.allocate(32), 32);
    check_misuse(pool, misuse_kind::foreign_pointer, &in_static_memory, 4);
    check_misuse(pool, misuse_kind::foreign_pointer, &on_stack, 4);
    check_misuse(pool, misuse_kind::foreign_pointer, byte_at(single, 20 * 32), 32); // the bits
    check_misuse(pool, misuse_kind::foreign_pointer, byte_at(single, most), 32);
    for (std::size_t bytes : {33u, 64u, 100u, 5000u})
        check_misuse(pool, misuse_kind::size_mismatch, single, bytes);
    for (std::size_t bytes : {std::size_t{0}, std::size_t{32}, std::size_t{96}, std::size_t{129},
                              std::size_t{160}, most})
        check_misuse(pool, misuse_kind::size_mismatch, run, bytes);
    check_misuse(pool, misuse_kind::alignment_mismatch, last, 32, 4096);
    check_misuse(pool, misuse_kind::alignment_mismatch, last, 32, 48);

    pool.deallocate(run, 100);
    check_misuse(pool, misuse_kind::double_free, run, 100);
    check_misuse(pool, misuse_kind::double_free, byte_at(run, 32), 32);
    pool.deallocate(single, 32);
    check_misuse(pool, misuse_kind::double_free, single, 32);
    check_misuse(pool, misuse_kind::double_free, single, 64);
    pool.deallocate(last, 32);
    BOOST_TEST(pool.stats().live_blocks == 0u);
}

BOOST_AUTO_TEST_CASE(null_is_ignored_and_bad_resizes_are_reported) {
    fixed_block_resource pool{20 * 32, 32};
    misuse_recorder recorder;
    statistics const fresh = pool.stats();
    pool.deallocate(nullptr, 32); // no block was handed out yet, and none is the last
    BOOST_TEST((pool.stats() == fresh));
    void* const p = pool.allocate(32);
    pool.deallocate(nullptr, 32);
    pool.deallocate(nullptr, most, 3);
    BOOST_TEST(pool.stats().requested_bytes == 32u);
    BOOST_TEST(recorder.take().empty());
    BOOST_TEST(!pool.try_resize(byte_at(p, 8), 32, 64));
    BOOST_TEST(pool.reallocate(p, 64, 128) == nullptr);
    auto const heard = recorder.take();
    BOOST_REQUIRE(heard.size() == 2u);
    BOOST_TEST((heard[0].kind == misuse_kind::misaligned_pointer));
    BOOST_TEST((heard[1].kind == misuse_kind::size_mismatch));
    pool.deallocate(p, 32);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(fixed_block_model)

namespace {

// First fit on a vector<bool>, and what every live block must hold.
struct model {
    struct live_block {
        std::size_t first;
        std::size_t blocks;
        std::size_t bytes;
        std::size_t alignment;
        unsigned char pattern;
    };

    explicit model(fixed_block_resource& pool_)
        : pool{pool_}, free(pool_.capacity_blocks(), true), base{walk(pool_)[0].address} {}

    [[nodiscard]] std::size_t blocks_for(std::size_t bytes) const {
        return bytes == 0 ? 1 : (bytes + pool.block_bytes() - 1) / pool.block_bytes();
    }
    [[nodiscard]] bool all_free(std::size_t first, std::size_t n) const {
        for (std::size_t i = first; i < first + n; ++i)
            if (i >= free.size() || !free[i])
                return false;
        return true;
    }
    [[nodiscard]] void* at(std::size_t i) const {
        return byte_at(const_cast<void*>(base), i * pool.block_bytes());
    }
    // free.size() where it does not fit.
    [[nodiscard]] std::size_t first_fit(std::size_t bytes, std::size_t alignment) const {
        for (std::size_t i = 0; i < free.size(); ++i)
            if (address(at(i)) % alignment == 0 && all_free(i, blocks_for(bytes)))
                return i;
        return free.size();
    }
    void mark(std::size_t first, std::size_t n, bool to) {
        for (std::size_t i = first; i < first + n; ++i)
            free[i] = to;
    }
    void fill(live_block& b, unsigned char pattern) {
        b.pattern = pattern;
        std::memset(at(b.first), pattern, b.bytes);
    }
    void check_content(live_block const& b, std::size_t bytes) const {
        auto const* const content = static_cast<unsigned char const*>(at(b.first));
        BOOST_REQUIRE(static_cast<std::size_t>(std::count(content, content + bytes, b.pattern)) ==
                      bytes);
    }

    void allocate(std::size_t bytes, std::size_t alignment, unsigned char pattern) {
        std::size_t const expected = first_fit(bytes, alignment);
        if (expected == free.size()) {
            BOOST_REQUIRE_THROW(static_cast<void>(pool.allocate(bytes, alignment)), std::bad_alloc);
            return;
        }
        BOOST_REQUIRE(pool.allocate(bytes, alignment) == at(expected));
        live.push_back({expected, blocks_for(bytes), bytes, alignment, 0});
        mark(expected, blocks_for(bytes), false);
        fill(live.back(), pattern);
    }
    void deallocate(std::size_t i) {
        live_block const b = live[i];
        check_content(b, b.bytes);
        pool.deallocate(at(b.first), b.bytes, b.alignment);
        mark(b.first, b.blocks, true);
        live[i] = live.back();
        live.pop_back();
    }
    void resize(std::size_t i, std::size_t bytes, unsigned char pattern) {
        live_block& b = live[i];
        std::size_t const n = blocks_for(bytes);
        bool const expected = n <= b.blocks || all_free(b.first + b.blocks, n - b.blocks);
        BOOST_REQUIRE(pool.try_resize(at(b.first), b.bytes, bytes, b.alignment) == expected);
        if (!expected)
            return;
        check_content(b, std::min(b.bytes, bytes));
        mark(b.first, b.blocks, true);
        mark(b.first, n, false);
        b.blocks = n;
        b.bytes = bytes;
        fill(b, pattern);
    }
    void compare() const {
        statistics const s = pool.stats();
        std::size_t requested = 0;
        for (live_block const& b : live)
            requested += b.bytes;
        std::size_t longest = 0;
        std::size_t run = 0;
        for (bool is_free : free)
            longest = std::max(longest, run = is_free ? run + 1 : 0);
        BOOST_REQUIRE(s.live_blocks == live.size());
        BOOST_REQUIRE(s.requested_bytes == requested);
        BOOST_REQUIRE(s.free_blocks ==
                      static_cast<std::size_t>(std::count(free.begin(), free.end(), true)));
        BOOST_REQUIRE(s.largest_free_bytes == longest * pool.block_bytes());
        BOOST_REQUIRE(s.footprint_bytes == s.live_bytes + s.free_bytes + s.overhead_bytes);
        BOOST_REQUIRE(pool.check_invariants());
    }

    fixed_block_resource& pool;
    std::vector<bool> free;
    void const* base;
    std::vector<live_block> live;
};

} // namespace

BOOST_AUTO_TEST_CASE(random_operations_agree_with_first_fit_on_a_vector_of_bool) {
    std::mt19937_64 random{strata::test::seed("fixed_block model")};
    for (std::size_t const block : {8u, 24u, 64u, 104u})
        for (std::size_t const n : {12u, 64u, 130u, 700u}) {
            misuse_recorder recorder;
            bounded limited{n * block, block};
            auto& pool = limited.pool;
            model both{pool};
            for (int step = 0; step < 1500; ++step) {
                auto const pattern = static_cast<unsigned char>(random());
                std::size_t const bytes =
                    random() % 3 != 0 ? random() % (block + 1) : random() % (block * n / 3);
                std::size_t const alignment = random() % 4 != 0 ? 8 : 1u << random() % 9;
                std::size_t const choice = random() % 100;
                // Grows for 300 steps, then shrinks for 300: full and empty are both visited.
                std::size_t const growth = step / 300 % 2 == 0 ? 60 : 35;
                if (both.live.empty() || choice < growth)
                    both.allocate(bytes, alignment, pattern);
                else if (choice < 85)
                    both.deallocate(random() % both.live.size());
                else
                    both.resize(random() % both.live.size(), bytes, pattern);
                both.compare();
            }
            while (!both.live.empty())
                both.deallocate(random() % both.live.size());
            both.compare();
            BOOST_TEST(recorder.take().empty());
        }
}

BOOST_AUTO_TEST_SUITE_END()
