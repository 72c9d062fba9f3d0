// SPDX-License-Identifier: BSL-1.0
#pragma once

// What a test that runs on every resource must know of one.

#include <cstddef>
#include <functional>
#include <memory>
#include <memory_resource>
#include <string>
#include <utility>

#include <strata/resource.hpp>

namespace strata::test {

class bench;
class choices;
class ledger;

struct subject {
    /// As failures print it.
    std::string name;

    /// Makes one over the given upstream; what it needs besides (a buffer, say) dies with it.
    std::function<std::shared_ptr<resource>(std::pmr::memory_resource*)> make;

    /// Makes the layer between the tested resource's upstream and the program's heap; none where
    /// it is empty. So a stack of two is tested as closely as one resource.
    std::function<std::shared_ptr<resource>(std::pmr::memory_resource*)> make_below = {};

    /// Upstream calls that the constructor makes: 0 where it grows, 1 where its region is fixed.
    std::size_t constructor_calls = 0;

    /// Part of the footprint that is not upstream's: in the object, or in the caller's buffer.
    std::size_t storage_bytes = 0;

    /// Serves from its fixed memory alone; what does not fit is served by upstream.
    bool bounded = false;

    /// Every alignment is recorded: freeing with another one is found.
    bool records_alignment = false;

    /// visit_blocks goes by age, not by address.
    bool visits_by_age = false;

    /// What is free waits to be merged: a call that throws may have merged it.
    bool merges_late = false;

    /// What is free waits in magazines: a call that throws may have emptied them, and slabs.
    bool gathers_late = false;

    /// A thread's first call takes a cache from upstream, which stays where the call then throws.
    bool keeps_cache = false;

    /// Blocks that are live when the resource is destroyed are reported.
    bool reports_leaks = false;

    /// Throws bad_alloc though upstream has memory, where its own bound is reached.
    bool has_budget = false;

    /// Uses what this resource alone has; the ledger is to agree afterwards. Nothing where empty.
    std::function<void(bench&, ledger&, choices&)> special = {};
};

/// Returns: `above`, tested over a layer of `below`.
inline subject stacked(subject above, subject const& below) {
    above.name += " over " + below.name;
    above.make_below = below.make;
    return above;
}

} // namespace strata::test
