// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE misuse
#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstdio>
#include <stdexcept>
#include <string>

#include <sys/wait.h>

#include <strata/misuse.hpp>
#include <strata/segregated_pool_resource.hpp>

#include "support/child.hpp"

using strata::misuse;
using strata::misuse_kind;
using strata::test::stderr_of_child;

namespace {

void free_twice() {
    strata::segregated_pool_resource pool;
    void* const p = pool.allocate(48);
    pool.deallocate(p, 48);
    pool.deallocate(p, 48);
}

struct heard : std::runtime_error {
    heard() : std::runtime_error{"heard"} {}
};

} // namespace

BOOST_AUTO_TEST_SUITE(misuse_handlers)

BOOST_AUTO_TEST_CASE(set_returns_the_one_before_and_null_means_the_default) {
    BOOST_TEST((strata::get_misuse_handler() == strata::report_misuse));
    BOOST_TEST((strata::set_misuse_handler(strata::ignore_misuse) == strata::report_misuse));
    BOOST_TEST((strata::set_misuse_handler(nullptr) == strata::ignore_misuse));
    BOOST_TEST((strata::get_misuse_handler() == strata::report_misuse));
}

BOOST_AUTO_TEST_CASE(every_kind_has_words_of_its_own) {
    std::string all;
    for (int i = 0; i <= static_cast<int>(misuse_kind::leak); ++i) {
        std::string const words = strata::to_string(static_cast<misuse_kind>(i));
        BOOST_TEST(all.find("|" + words + "|") == all.npos);
        BOOST_TEST(words != "unknown misuse");
        all += "|" + words + "|";
    }
}

BOOST_AUTO_TEST_CASE(the_default_reports_one_clear_line_and_goes_on) {
    int status = -1;
    std::string const text = stderr_of_child(free_twice, status);
    BOOST_TEST(WIFEXITED(status));
    BOOST_TEST(text.find("strata: double free: 0x") == 0u);
    BOOST_TEST(text.find("(48 bytes, alignment 16) at segregated_pool_resource 0x") != text.npos);
    BOOST_TEST(text.find('\n') == text.size() - 1);
}

BOOST_AUTO_TEST_CASE(abort_reports_and_ends_the_program) {
    int status = 0;
    std::string const text = stderr_of_child(
        [] {
            strata::set_misuse_handler(strata::abort_on_misuse);
            free_twice();
        },
        status);
    BOOST_TEST(WIFSIGNALED(status));
    BOOST_TEST(WTERMSIG(status) == SIGABRT);
    BOOST_TEST(text.find("strata: double free") == 0u);
}

BOOST_AUTO_TEST_CASE(ignore_is_silent) {
    int status = -1;
    std::string const text = stderr_of_child(
        [] {
            strata::set_misuse_handler(strata::ignore_misuse);
            free_twice();
        },
        status);
    BOOST_TEST(WIFEXITED(status));
    BOOST_TEST(text.empty());
}

BOOST_AUTO_TEST_CASE(a_handler_may_throw_and_nothing_has_changed) {
    auto* const before = strata::set_misuse_handler([](misuse const&) { throw heard{}; });
    strata::segregated_pool_resource pool;
    void* const p = pool.allocate(48);
    auto const sound = pool.stats();
    BOOST_CHECK_THROW(pool.deallocate(static_cast<std::byte*>(p) + 8, 48), heard);
    BOOST_CHECK_THROW(pool.reallocate(p, 400, 48), heard);
    BOOST_CHECK_THROW(pool.try_resize(p, 400, 48), heard);
    BOOST_TEST((pool.stats() == sound));
    pool.deallocate(p, 48);
    BOOST_CHECK_THROW(pool.deallocate(p, 48), heard);
    BOOST_TEST(pool.check_invariants());
    strata::set_misuse_handler(before);
}

std::size_t blocks_seen = 0;
void see(strata::block_info const&) {
    ++blocks_seen;
}

BOOST_AUTO_TEST_CASE(a_plain_function_visits_blocks) {
    strata::segregated_pool_resource pool;
    pool.visit_blocks(see);
    BOOST_TEST(blocks_seen == 0u);
    pool.deallocate(pool.allocate(8), 8);
    pool.visit_blocks(see);
    pool.visit_blocks(&see);
    BOOST_TEST(blocks_seen > 0u);
    BOOST_TEST(blocks_seen % 2 == 0u);
}

BOOST_AUTO_TEST_SUITE_END()
