// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE served_blocks
#include <boost/test/unit_test.hpp>

#include <array>
#include <cstdint>
#include <limits>
#include <memory_resource>
#include <new>
#include <vector>

#include <strata/detail/served_blocks.hpp>
#include <strata/tracked_block_tools.hpp>

#include "support/counting_upstream.hpp"

using strata::misuse_kind;
using strata::detail::served_blocks;
using strata::test::counting_upstream;

BOOST_AUTO_TEST_SUITE(served_blocks_promises)

BOOST_AUTO_TEST_CASE(constructor_does_not_touch_upstream) {
    counting_upstream upstream;
    served_blocks const served{&upstream};
    BOOST_TEST(upstream.allocations() == 0u);
    BOOST_TEST(served.footprint_bytes() == 0u);
    BOOST_TEST((served.diagnose(&upstream, 1, 1) == misuse_kind::foreign_pointer));
}

BOOST_AUTO_TEST_CASE(every_block_returns_with_its_triple) {
    counting_upstream upstream;
    {
        served_blocks served{&upstream};
        std::vector<void*> blocks;
        for (std::size_t i = 0; i < 200; ++i)
            blocks.push_back(served.allocate(i, std::size_t{1} << i % 13));
        BOOST_TEST(served.blocks() == 200u);
        BOOST_TEST(served.footprint_bytes() == upstream.live_bytes());
        BOOST_TEST(served.check_invariants());
        for (std::size_t i = 0; i < 200; i += 2)
            BOOST_TEST(!served.deallocate(blocks[i], i, std::size_t{1} << i % 13));
        BOOST_TEST(served.blocks() == 100u);
        BOOST_TEST(served.check_invariants());
    }
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_CASE(blocks_of_no_bytes_are_distinct_over_any_upstream) {
    struct one_address_for_none final : std::pmr::memory_resource {
        void* do_allocate(std::size_t bytes, std::size_t alignment) override {
            return bytes != 0 ? std::pmr::new_delete_resource()->allocate(bytes, alignment) : this;
        }
        void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
            if (bytes != 0)
                std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
        }
        bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
            return this == &other;
        }
    };
    one_address_for_none upstream;
    served_blocks served{&upstream};
    void* const p = served.allocate(0, 1);
    void* const q = served.allocate(0, 1);
    BOOST_TEST(p != q);
    BOOST_TEST(served.blocks() == 2u);
    BOOST_TEST(!served.deallocate(p, 0, 1));
    BOOST_TEST(!served.deallocate(q, 0, 1));
}

BOOST_AUTO_TEST_CASE(wrong_calls_are_named_and_change_nothing) {
    counting_upstream upstream;
    served_blocks served{&upstream};
    void* const p = served.allocate(100, 32);
    BOOST_TEST((served.deallocate(p, 99, 32) == misuse_kind::size_mismatch));
    BOOST_TEST((served.deallocate(p, 100, 16) == misuse_kind::alignment_mismatch));
    int local = 0;
    BOOST_TEST((served.deallocate(&local, 100, 32) == misuse_kind::foreign_pointer));
    BOOST_TEST(served.blocks() == 1u);
    BOOST_TEST(!served.deallocate(p, 100, 32));
    BOOST_TEST((served.deallocate(p, 100, 32) == misuse_kind::double_free));
    BOOST_TEST(upstream.mismatches() == 0u);
}

BOOST_AUTO_TEST_CASE(the_last_16_freed_addresses_are_remembered) {
    served_blocks served{std::pmr::new_delete_resource()};
    std::array<void*, 17> blocks{};
    for (void*& p : blocks)
        p = served.allocate(100, 16);
    for (void* p : blocks)
        BOOST_TEST(!served.deallocate(p, 100, 16));
    BOOST_TEST((served.diagnose(blocks[0], 100, 16) == misuse_kind::foreign_pointer));
    for (std::size_t i = 1; i < blocks.size(); ++i)
        BOOST_TEST((served.diagnose(blocks[i], 100, 16) == misuse_kind::double_free));
}

BOOST_AUTO_TEST_CASE(impossible_requests_throw_before_upstream_is_asked) {
    counting_upstream upstream;
    served_blocks served{&upstream};
    std::size_t const most = std::numeric_limits<std::size_t>::max();
    for (std::size_t bytes : {most, most - 1, most - 15, most / 2 + 1})
        BOOST_CHECK_THROW(static_cast<void>(served.allocate(bytes, 8)), std::bad_alloc);
    BOOST_CHECK_THROW(static_cast<void>(served.allocate(8, 24)), std::invalid_argument);
    BOOST_TEST(upstream.allocations() == 0u);
}

BOOST_AUTO_TEST_CASE(failure_at_each_upstream_call_leaves_state_unchanged) {
    strata::tracked_block_resource upstream;
    std::size_t const failures = strata::for_each_failure(upstream, [&] {
        served_blocks served{&upstream};
        strata::tracked_block_monitor monitor{upstream};
        std::size_t got = 0;
        try {
            for (; got < 100; ++got) {
                monitor.reset();
                static_cast<void>(served.allocate(64, 8));
            }
        } catch (std::bad_alloc const&) {
            BOOST_TEST(served.blocks() == got);
            BOOST_TEST(monitor.live_bytes() == 0);
            BOOST_TEST(served.check_invariants());
            throw;
        }
    });
    BOOST_TEST(failures > 100u); // the blocks, and the map that knows them
    BOOST_TEST(upstream.stats().live_blocks == 0u);
    BOOST_TEST(upstream.totals().all_misuses() == 0u);
}

BOOST_AUTO_TEST_CASE(address_order_and_trim) {
    counting_upstream upstream;
    served_blocks served{&upstream};
    std::array<void*, 50> blocks{};
    for (void*& p : blocks)
        p = served.allocate(48, 16);
    {
        auto const sorted = served.in_address_order();
        BOOST_TEST(sorted.size() == blocks.size());
        for (std::size_t i = 1; i < sorted.size(); ++i)
            BOOST_TEST(sorted[i - 1].address < sorted[i].address);
        auto rest = strata::detail::visit_below(sorted, sorted[20].address, [](auto const&) {});
        BOOST_TEST(rest.size() == 30u);
    }
    BOOST_TEST(served.trim() == 0u);
    for (void* p : blocks)
        BOOST_TEST(!served.deallocate(p, 48, 16));
    BOOST_TEST(served.trim() > 0u);
    BOOST_TEST(upstream.settled());
}

BOOST_AUTO_TEST_SUITE_END()
