// SPDX-License-Identifier: BSL-1.0
#include "wrong_call.hpp"

#include <algorithm>

#include "expect.hpp"

namespace strata::test {

namespace {

void expect_one_report(bench& b, wrong_call const& call, misuse_kind kind, char const* verb) {
    auto const heard = b.recorder().take();
    expect_equal(heard.size(), std::size_t{1}, "reports of ", verb, call);
    misuse const& what = heard.front();
    expect(what.kind == kind, verb, call, " is reported as ", to_string(what.kind),
           ", diagnosed as ", to_string(kind));
    expect(what.where == &b.tested(), verb, call, " names another resource");
    expect(what.address == call.p && what.bytes == call.bytes && what.alignment == call.alignment,
           verb, call, " is reported as (", what.address, ", ", what.bytes, ", ", what.alignment,
           ")");
}

} // namespace

std::ostream& operator<<(std::ostream& out, wrong_call const& call) {
    return out << "(" << call.p << ", " << call.bytes << ", " << call.alignment << ")";
}

void expect_refused(bench& b, wrong_call const& call, std::initializer_list<misuse_kind> allowed) {
    resource& r = b.tested();
    picture const before{b};
    auto const kind = r.diagnose(call.p, call.bytes, call.alignment);
    expect(kind.has_value(), "diagnose", call, " finds nothing wrong");
    expect(std::find(allowed.begin(), allowed.end(), *kind) != allowed.end(), "diagnose", call,
           " says ", to_string(*kind), ", expected ", to_string(*allowed.begin()));
    expect(b.recorder().take().empty(), "diagnose reports");

    auto const answer = r.try_deallocate(call.p, call.bytes, call.alignment);
    expect(answer == kind, "try_deallocate", call, " answers ",
           answer ? to_string(*answer) : "nothing", ", diagnose ", to_string(*kind));
    expect(b.recorder().take().empty(), "try_deallocate reports");
    r.deallocate(call.p, call.bytes, call.alignment);
    expect_one_report(b, call, *kind, "deallocate");
    expect(!r.try_resize(call.p, call.bytes, call.bytes / 2, call.alignment), "try_resize", call,
           " says that it did");
    expect_one_report(b, call, *kind, "try_resize");
    expect(r.reallocate(call.p, call.bytes, call.bytes + 9, call.alignment) == nullptr,
           "reallocate", call, " returned a block");
    expect_one_report(b, call, *kind, "reallocate");
    before.expect_same(b, "misuse with ", call);
}

} // namespace strata::test
