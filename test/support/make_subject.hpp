// SPDX-License-Identifier: BSL-1.0
#pragma once

// Subjects of a type: how one is constructed, and what follows from it.

#include <cstddef>
#include <memory>
#include <memory_resource>
#include <string>
#include <utility>
#include <vector>

#include <strata/dll_arena_resource.hpp>
#include <strata/tracked_block_resource.hpp>

#include "subject.hpp"

namespace strata::test {

/// A subject for T, constructed from the arguments and, last, its upstream.
template <class T, class... Arguments>
subject growing(std::string name, Arguments... arguments) {
    subject s;
    s.name = std::move(name);
    s.make = [=](std::pmr::memory_resource* upstream) {
        return std::make_shared<T>(arguments..., upstream);
    };
    return s;
}

template <class T, class... Arguments>
subject bounded(std::string name, Arguments... arguments) {
    subject s = growing<T>(std::move(name), arguments...);
    s.constructor_calls = 1;
    s.bounded = true;
    return s;
}

/// In a caller's buffer of `bytes` bytes, which lies askew.
template <class T, class... Arguments>
subject in_a_buffer(std::string name, std::size_t bytes, Arguments... arguments) {
    struct both {
        both(std::size_t size, std::pmr::memory_resource* upstream, Arguments... after)
            : buffer(size + 1), resource{buffer.data() + 1, size, after..., upstream} {}
        std::vector<std::byte> buffer;
        T resource;
    };
    subject s;
    s.name = std::move(name);
    s.make = [=](std::pmr::memory_resource* upstream) {
        auto const made = std::make_shared<both>(bytes, upstream, arguments...);
        return std::shared_ptr<resource>{made, &made->resource};
    };
    s.storage_bytes = bytes;
    s.bounded = true;
    return s;
}

/// With its memory inside the object.
template <class T>
subject arena(std::string name) {
    subject s = growing<T>(std::move(name));
    s.storage_bytes = sizeof(dll_arena_resource::places_type);
    s.bounded = true;
    return s;
}

template <class T>
subject tracked(std::string name, tracked_block_options const& options = {}) {
    subject s = growing<T>(std::move(name), options);
    s.constructor_calls = options.reserve_bytes != 0 ? 1u : 0u;
    s.records_alignment = true;
    s.visits_by_age = true;
    s.reports_leaks = options.report_leaks;
    s.has_budget = options.budget_bytes != 0;
    return s;
}

} // namespace strata::test
