// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE boost_adaptor
#include <boost/test/unit_test.hpp>

#include <array>
#include <cstddef>
#include <cstring>
#include <limits>
#include <span>
#include <stdexcept>
#include <vector>

#include <boost/container/pmr/flat_map.hpp>
#include <boost/container/pmr/list.hpp>
#include <boost/container/pmr/monotonic_buffer_resource.hpp>
#include <boost/container/pmr/small_vector.hpp>
#include <boost/container/pmr/string.hpp>
#include <boost/container/pmr/unsynchronized_pool_resource.hpp>
#include <boost/container/pmr/vector.hpp>

#include <strata/boost_adaptor.hpp>
#include <strata/detail/bits.hpp>

#include "support/counting_upstream.hpp"
#include "support/subjects.hpp"

namespace boost_pmr = boost::container::pmr;
using strata::boost_over_std;
using strata::std_over_boost;
using strata::test::counting_upstream;

namespace {

constexpr std::size_t max_align = strata::detail::max_align;

// What a std_over_boost hands out and takes back, filled to its last byte.
void fill_and_free(std::pmr::memory_resource& resource, std::size_t bytes, std::size_t alignment) {
    void* const p = resource.allocate(bytes, alignment);
    BOOST_TEST(strata::detail::is_aligned(p, alignment));
    std::memset(p, 0x5a, bytes);
    resource.deallocate(p, bytes, alignment);
}

} // namespace

BOOST_AUTO_TEST_SUITE(boost_over_std_promises)

BOOST_AUTO_TEST_CASE(every_call_is_passed_on_as_it_is) {
    counting_upstream upstream;
    boost_over_std adaptor{&upstream};
    BOOST_TEST(adaptor.upstream_resource() == &upstream);
    void* const p = adaptor.allocate(100, 64);
    BOOST_TEST(upstream.live_bytes() == 100u);
    BOOST_TEST(strata::detail::is_aligned(p, 64));
    adaptor.deallocate(p, 100, 64);
    BOOST_TEST(upstream.settled());
    upstream.fail_after(0);
    BOOST_CHECK_THROW(adaptor.allocate(1, 1), std::bad_alloc);
}

BOOST_AUTO_TEST_CASE(adaptors_over_equal_resources_are_equal) {
    counting_upstream one;
    counting_upstream other;
    boost_over_std const a{&one};
    boost_over_std const b{&one};
    boost_over_std const c{&other};
    BOOST_TEST(a.is_equal(b));
    BOOST_TEST(!a.is_equal(c));
    BOOST_TEST(!a.is_equal(*boost_pmr::new_delete_resource()));
    BOOST_TEST(boost_over_std{nullptr}.is_equal(boost_over_std{std::pmr::new_delete_resource()}));
}

BOOST_AUTO_TEST_CASE(containers_of_boost_live_on_every_resource) {
    for (auto const& subject : strata::test::every_resource()) {
        BOOST_TEST_CONTEXT(subject.name) {
            counting_upstream upstream;
            {
                auto const resource = subject.make(&upstream);
                boost_over_std adaptor{resource.get()};
                boost_pmr::vector<int> numbers{&adaptor};
                boost_pmr::flat_map<int, int> squares{&adaptor};
                boost_pmr::list<std::size_t> nodes{&adaptor};
                using few_doubles = boost_pmr::small_vector<double, 4>;
                few_doubles few{few_doubles::allocator_type{&adaptor}};
                boost_pmr::string text{&adaptor};
                for (int i = 0; i < 2000; ++i) {
                    numbers.push_back(i);
                    squares.emplace(i, i * i);
                    nodes.push_front(static_cast<std::size_t>(i));
                    few.push_back(i);
                    text += static_cast<char>('a' + i % 26);
                }
                BOOST_TEST(numbers[1999] == 1999);
                BOOST_TEST(squares.at(40) == 1600);
                BOOST_TEST(nodes.back() == 0u);
                BOOST_TEST(few[1999] == 1999.0);
                BOOST_TEST(text.substr(26, 3) == "abc");
                BOOST_TEST(resource->stats().live_blocks >= 2004u);
                BOOST_TEST(resource->check_invariants());
                boost_pmr::list<std::size_t> const copied{nodes, &adaptor};
                boost_pmr::vector<int> const moved{std::move(numbers), &adaptor};
                BOOST_TEST(copied.size() == moved.size());
            }
            BOOST_TEST(upstream.settled());
        }
    }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(std_over_boost_promises)

BOOST_AUTO_TEST_CASE(every_alignment_is_honoured_over_resources_that_ignore_or_refuse_it) {
    boost_pmr::unsynchronized_pool_resource pool;
    boost_pmr::monotonic_buffer_resource monotonic;
    for (boost_pmr::memory_resource* upstream :
         {static_cast<boost_pmr::memory_resource*>(&pool),
          static_cast<boost_pmr::memory_resource*>(&monotonic), boost_pmr::new_delete_resource()}) {
        std_over_boost adaptor{upstream};
        for (std::size_t alignment = 1; alignment <= 4096; alignment *= 2)
            for (std::size_t bytes : {1u, 3u, 17u, 63u, 64u, 100u, 1000u, 5000u})
                fill_and_free(adaptor, bytes, alignment);
    }
}

BOOST_AUTO_TEST_CASE(boost_gets_every_block_back_as_it_handed_it_out) {
    counting_upstream bottom;
    boost_over_std boost_side{&bottom};
    std_over_boost adaptor{&boost_side};
    BOOST_TEST(adaptor.upstream_resource() == &boost_side);
    std::vector<void*> blocks;
    for (std::size_t i = 0; i < 200; ++i)
        blocks.push_back(adaptor.allocate(i, std::size_t{1} << i % 13));
    for (std::size_t i = 0; i < 200; ++i)
        adaptor.deallocate(blocks[i], i, std::size_t{1} << i % 13);
    BOOST_TEST(bottom.settled());
    static_cast<void>(adaptor.allocate(48, max_align));
    BOOST_TEST(bottom.live_bytes() == 48u); // no surplus where none is needed
}

BOOST_AUTO_TEST_CASE(blocks_are_aligned_over_a_resource_that_aligns_to_1_only) {
    struct odd final : boost_pmr::memory_resource {
        void* do_allocate(std::size_t bytes, std::size_t) override {
            return static_cast<std::byte*>(::operator new(bytes + 1)) + 1;
        }
        void do_deallocate(void* p, std::size_t, std::size_t) override {
            ::operator delete(static_cast<std::byte*>(p) - 1);
        }
        bool do_is_equal(boost_pmr::memory_resource const& other) const noexcept override {
            return this == &other;
        }
    };
    odd upstream;
    std_over_boost adaptor{&upstream};
    for (std::size_t alignment = 2 * max_align; alignment <= 4096; alignment *= 2)
        fill_and_free(adaptor, 33, alignment);
}

BOOST_AUTO_TEST_CASE(blocks_lie_within_boost_s_wherever_that_lies) {
    struct placing final : boost_pmr::memory_resource {
        void* do_allocate(std::size_t bytes, std::size_t) override {
            block = std::span{room}.subspan(at, bytes);
            return block.data();
        }
        void do_deallocate(void*, std::size_t, std::size_t) override {}
        bool do_is_equal(boost_pmr::memory_resource const& other) const noexcept override {
            return this == &other;
        }
        alignas(128) std::array<std::byte, 512> room;
        std::size_t at = 0;
        std::span<std::byte> block;
    };
    placing upstream;
    std_over_boost adaptor{&upstream};
    for (std::size_t alignment = 2 * max_align; alignment <= 128; alignment *= 2)
        for (upstream.at = 0; upstream.at < alignment; ++upstream.at) {
            auto* const p = static_cast<std::byte*>(adaptor.allocate(33, alignment));
            auto const offset = static_cast<std::size_t>(p - upstream.block.data());
            BOOST_TEST(offset >= sizeof(void*)); // where its address is noted
            BOOST_TEST(offset + 33 <= upstream.block.size());
            adaptor.deallocate(p, 33, alignment);
        }
}

BOOST_AUTO_TEST_CASE(impossible_requests_throw_before_boost_is_asked) {
    counting_upstream bottom;
    boost_over_std boost_side{&bottom};
    std_over_boost adaptor{&boost_side};
    std::size_t const most = std::numeric_limits<std::size_t>::max();
    struct request {
        std::size_t bytes;
        std::size_t alignment;
    };
    for (auto const [bytes, alignment] : {request{most, 1}, request{most - 15, 64},
                                          request{most / 2 + 1, 64}, request{1, most / 2 + 1}})
        BOOST_CHECK_THROW(static_cast<void>(adaptor.allocate(bytes, alignment)), std::bad_alloc);
    for (std::size_t alignment : {0u, 3u, 48u})
        BOOST_CHECK_THROW(static_cast<void>(adaptor.allocate(8, alignment)), std::invalid_argument);
    BOOST_TEST(bottom.allocations() == 0u);
}

BOOST_AUTO_TEST_CASE(adaptors_over_equal_resources_are_equal) {
    boost_pmr::unsynchronized_pool_resource one;
    boost_pmr::unsynchronized_pool_resource other;
    std_over_boost const a{&one};
    std_over_boost const b{&one};
    std_over_boost const c{&other};
    BOOST_TEST((a == b));
    BOOST_TEST((a != c));
    BOOST_TEST(!a.is_equal(*std::pmr::new_delete_resource()));
}

BOOST_AUTO_TEST_CASE(a_boost_pool_is_an_upstream_of_every_resource) {
    for (auto const& subject : strata::test::every_resource()) {
        BOOST_TEST_CONTEXT(subject.name) {
            counting_upstream bottom;
            {
                boost_over_std source{&bottom};
                boost_pmr::unsynchronized_pool_resource pool{&source};
                std_over_boost over_pool{&pool};
                counting_upstream upstream{&over_pool};
                auto const resource = subject.make(&upstream);
                struct request {
                    void* p;
                    std::size_t bytes;
                    std::size_t alignment;
                };
                std::vector<request> live;
                for (std::size_t i = 0; i < 600; ++i) {
                    std::size_t const bytes = i * i % 3001;
                    std::size_t const alignment = std::size_t{1} << i % 13;
                    live.push_back({resource->allocate(bytes, alignment), bytes, alignment});
                    BOOST_TEST(strata::detail::is_aligned(live.back().p, alignment));
                    std::memset(live.back().p, 0xa5, bytes);
                }
                for (request const& r : live)
                    resource->deallocate(r.p, r.bytes, r.alignment);
                BOOST_TEST(resource->check_invariants());
                resource->release();
                BOOST_TEST(upstream.live_blocks() == subject.constructor_calls);
                BOOST_TEST(upstream.mismatches() == 0u);
            }
            BOOST_TEST(bottom.settled());
        }
    }
}

BOOST_AUTO_TEST_SUITE_END()
