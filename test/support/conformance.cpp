// SPDX-License-Identifier: BSL-1.0
#include "conformance.hpp"

#include <algorithm>
#include <iterator>
#include <string>

#include <boost/test/unit_test.hpp>

#include "expect.hpp"

namespace strata::test {

std::span<promise const> promises() {
    static std::vector<promise> const all = [] {
        std::vector<promise> joined;
        for (auto part : {promises_of_requests(), promises_of_books(), promises_of_misuse(),
                          promises_of_failure(), promises_of_random_use()})
            std::copy(part.begin(), part.end(), std::back_inserter(joined));
        return joined;
    }();
    return all;
}

namespace {

std::vector<subject> const* listed = nullptr; // main's argument, for the function without any

void check(subject const& s, promise const& p) {
    try {
        p.check(s);
    } catch (broken_promise const& broken) {
        BOOST_TEST(false, s.name << ": " << p.name << ": " << broken.what());
    }
}

bool add_cases() {
    for (subject const& s : *listed) {
        std::string name = s.name; // Boost.Test's filters want plain words
        std::replace(name.begin(), name.end(), ' ', '_');
        auto* const suite = BOOST_TEST_SUITE(name);
        for (promise const& p : promises())
            suite->add(boost::unit_test::make_test_case([&s, &p] { check(s, p); }, p.name, __FILE__,
                                                        __LINE__));
        boost::unit_test::framework::master_test_suite().add(suite);
    }
    return true;
}

} // namespace

int run_conformance(int argc, char* argv[], std::vector<subject> const& subjects) {
    listed = &subjects;
    return boost::unit_test::unit_test_main(add_cases, argc, argv);
}

} // namespace strata::test
