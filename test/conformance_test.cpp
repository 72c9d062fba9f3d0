// SPDX-License-Identifier: BSL-1.0
#include "support/conformance.hpp"
#include "support/subjects.hpp"

// Every resource, its variants, and every stack of two: a test suite for each.

using strata::test::every_resource;
using strata::test::stacked;
using strata::test::subject;

int main(int argc, char* argv[]) {
    std::vector<subject> subjects = strata::test::every_variant();
    for (subject const& above : every_resource()) {
        subjects.push_back(above);
        for (subject const& below : every_resource())
            subjects.push_back(stacked(above, below));
    }
    return strata::test::run_conformance(argc, argv, subjects);
}
