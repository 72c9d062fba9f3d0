// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE conformance_self
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <exception>
#include <memory>
#include <memory_resource>
#include <string_view>

#include "support/conformance.hpp"
#include "support/expect.hpp"
#include "support/reference_resource.hpp"

// The suite itself: a right resource passes, and each fault is found by the promise that it breaks.

using strata::test::fault;
using strata::test::promise;
using strata::test::promises;
using strata::test::reference_resource;
using strata::test::stacked;
using strata::test::subject;

namespace {

subject reference_with(fault broken) {
    subject s;
    s.name = "reference_resource";
    s.make = [=](std::pmr::memory_resource* upstream) {
        return std::make_shared<reference_resource>(upstream, broken);
    };
    s.records_alignment = true;
    return s;
}

bool keeps(subject const& s, promise const& p) {
    try {
        p.check(s);
    } catch (std::exception const& broken) {
        BOOST_TEST_MESSAGE(p.name << ": " << broken.what());
        return false;
    }
    return true;
}

promise const& named(std::string_view name) {
    auto const all = promises();
    auto const p =
        std::find_if(all.begin(), all.end(), [name](promise const& q) { return q.name == name; });
    BOOST_REQUIRE(p != all.end());
    return *p;
}

} // namespace

BOOST_AUTO_TEST_SUITE(conformance_suite)

BOOST_AUTO_TEST_CASE(a_right_resource_keeps_every_promise) {
    for (promise const& p : promises())
        BOOST_TEST(keeps(reference_with(fault::none), p), p.name);
}

BOOST_AUTO_TEST_CASE(each_fault_is_found_by_the_promise_that_it_breaks) {
    struct expected {
        fault broken;
        std::string_view finds;
    };
    for (auto const [broken, finds] : {
             expected{fault::accepts_double_free, "a_double_free_is_reported_every_time"},
             expected{fault::accepts_wrong_alignment,
                      "a_wrong_alignment_is_found_where_it_is_recorded"},
             expected{fault::accepts_wrong_size,
                      "a_wrong_size_is_found_where_the_geometry_shows_it"},
             expected{fault::aligns_to_16_only, "every_alignment_is_kept_for_every_size"},
             expected{fault::aligns_to_what_cannot_be,
                      "an_alignment_that_is_no_power_of_two_is_refused"},
             expected{fault::asks_upstream_for_the_impossible,
                      "impossible_requests_throw_bad_alloc_and_change_nothing"},
             expected{fault::books_before_upstream_answers,
                      "failure_at_nth_upstream_call_leaves_state_unchanged"},
             expected{fault::books_before_upstream_answers,
                      "a_failure_that_ends_a_program_s_work_loses_nothing"},
             expected{fault::books_misuse_before_reporting,
                      "a_handler_that_throws_leaves_all_as_it_was"},
             expected{fault::calls_foreign_double_free, "a_foreign_pointer_is_refused_unread"},
             expected{fault::calls_free_memory_foreign, "a_pointer_into_free_memory_is_refused"},
             expected{fault::calls_interior_double_free, "a_pointer_into_a_block_is_refused"},
             expected{fault::claims_resize_without_room, "try_resize_keeps_place_and_content"},
             expected{fault::diagnoses_in_another_way, "a_double_free_is_reported_every_time"},
             expected{fault::forgets_overhead, "the_books_agree_at_every_step"},
             expected{fault::frees_with_upstreams_help,
                      "blocks_can_be_freed_while_upstream_has_nothing"},
             expected{fault::good_size_too_small, "good_size_is_what_a_request_gets"},
             expected{fault::good_size_too_small, "every_size_and_alignment_is_served_and_freed"},
             expected{fault::hands_out_twice, "content_stays_while_a_block_is_live"},
             expected{fault::heeds_upstreams_complaints,
                      "upstreams_complaints_stop_nothing_that_gives_back"},
             expected{fault::loses_block_on_double_free, "a_double_free_is_reported_every_time"},
             expected{fault::never_reuses, "freed_memory_serves_again"},
             expected{fault::overstates_largest_free,
                      "the_largest_free_block_can_be_had_without_upstream"},
             expected{fault::overstates_peak, "the_peak_is_the_most_that_was_live"},
             expected{fault::owns_served_blocks, "owns_is_true_of_carved_memory_alone"},
             expected{fault::passes_foreign_pointer_upstream,
                      "a_pointer_of_another_resource_is_refused"},
             expected{fault::reallocate_loses_last_byte, "reallocate_keeps_content_and_alignment"},
             expected{fault::release_forgets_a_counter, "release_makes_it_as_new"},
             expected{fault::release_leaks_a_chunk, "destructor_returns_what_is_live"},
             expected{fault::releases_with_upstreams_help,
                      "release_and_destructor_need_nothing_of_upstream"},
             expected{fault::renames_upstreams_exception, "what_upstream_throws_arrives_unchanged"},
             expected{fault::reports_null, "null_is_ignored_in_silence"},
             expected{fault::reports_other_bytes, "a_foreign_pointer_is_refused_unread"},
             expected{fault::reports_twice, "a_foreign_pointer_is_refused_unread"},
             expected{fault::restores_books_after_reporting,
                      "a_handler_may_use_the_resource_that_it_hears_of"},
             expected{fault::returns_other_alignment, "destructor_returns_what_is_live"},
             expected{fault::reuses_address_for_zero_bytes, "zero_bytes_give_distinct_blocks"},
             expected{fault::stops_destroying_at_a_leak,
                      "a_handler_that_throws_stops_no_destructor"},
             expected{fault::takes_chunk_in_constructor, "constructor_calls_upstream_as_promised"},
             expected{fault::trim_keeps_chunks, "trim_returns_what_upstream_sees_come_back"},
             expected{fault::trim_miscounts, "trim_returns_what_upstream_sees_come_back"},
             expected{fault::walk_is_out_of_order, "the_books_agree_at_every_step"},
             expected{fault::walk_omits_a_free_block, "the_books_agree_at_every_step"},
             expected{fault::writes_into_live_block, "content_stays_while_a_block_is_live"},
         }) {
        BOOST_TEST(!keeps(reference_with(broken), named(finds)),
                   "fault " << static_cast<int>(broken) << " is not found by " << finds);
    }
}

BOOST_AUTO_TEST_CASE(faults_of_the_layer_below_are_found_in_a_stack) {
    promise const& p = named("failure_below_a_stack_leaves_both_layers_unchanged");
    subject const right = reference_with(fault::none);
    BOOST_TEST(keeps(stacked(right, right), p));
    BOOST_TEST(!keeps(stacked(right, reference_with(fault::books_before_upstream_answers)), p));
}

BOOST_AUTO_TEST_SUITE_END()
