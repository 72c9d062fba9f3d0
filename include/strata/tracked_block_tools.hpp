// SPDX-License-Identifier: BSL-1.0
#pragma once

// What tests do with a tracked_block_resource: label what is allocated, serve code that names no
// resource, tell what has changed, and let each allocation fail in turn. They are for one thread: of a
// synchronized_tracked_block_resource, apply() reaches set_label, fail_after and totals.

#include <cstddef>
#include <memory_resource>

#include <strata/detail/function_ref.hpp>
#include <strata/tracked_block_resource.hpp>

namespace strata {

/// Labels the blocks that are allocated while it is in scope.
class label_scope {
  public:
    label_scope(tracked_block_resource& tracked, char const* label) noexcept
        : tracked_{tracked}, before_{tracked.set_label(label)} {}
    label_scope(label_scope const&) = delete;
    label_scope& operator=(label_scope const&) = delete;
    ~label_scope() { tracked_.set_label(before_); }

  private:
    tracked_block_resource& tracked_; // held, not owned
    char const* before_;
};

/// Makes a resource the default one, std::pmr::get_default_resource(), while it is in scope: for code
/// that names no resource.
class default_resource_scope {
  public:
    explicit default_resource_scope(std::pmr::memory_resource* memory) noexcept
        : before_{std::pmr::set_default_resource(memory)} {}
    default_resource_scope(default_resource_scope const&) = delete;
    default_resource_scope& operator=(default_resource_scope const&) = delete;
    ~default_resource_scope() { std::pmr::set_default_resource(before_); }

  private:
    std::pmr::memory_resource* before_; // held, not owned
};

/// What has changed since construction or reset: each figure is what it is now, less what it was.
/// (release() of the resource makes totals and peaks begin anew, and these negative.)
class tracked_block_monitor {
  public:
    explicit tracked_block_monitor(tracked_block_resource const& tracked) : tracked_{tracked} {
        reset();
    }
    explicit tracked_block_monitor(tracked_block_resource const&&) = delete;

    void reset() {
        stats_ = tracked_.stats();
        totals_ = tracked_.totals();
    }

    [[nodiscard]] std::ptrdiff_t live_blocks() const { return since(&statistics::live_blocks); }
    [[nodiscard]] std::ptrdiff_t live_bytes() const { return since(&statistics::live_bytes); }
    [[nodiscard]] std::ptrdiff_t peak_live_bytes() const {
        return since(&statistics::peak_live_bytes);
    }
    [[nodiscard]] std::ptrdiff_t footprint_bytes() const {
        return since(&statistics::footprint_bytes);
    }
    [[nodiscard]] std::ptrdiff_t peak_live_blocks() const {
        return since(&tracked_block_totals::peak_live_blocks);
    }
    [[nodiscard]] std::ptrdiff_t allocations() const {
        return since(&tracked_block_totals::allocations);
    }
    [[nodiscard]] std::ptrdiff_t deallocations() const {
        return since(&tracked_block_totals::deallocations);
    }
    /// Returns: the bytes of these allocations, as asked for.
    [[nodiscard]] std::ptrdiff_t bytes() const { return since(&tracked_block_totals::bytes); }
    /// Returns: what was found wrong.
    [[nodiscard]] std::ptrdiff_t misuses() const {
        return static_cast<std::ptrdiff_t>(tracked_.totals().all_misuses() - totals_.all_misuses());
    }

  private:
    template <class Figure>
    [[nodiscard]] std::ptrdiff_t since(Figure statistics::*figure) const {
        return static_cast<std::ptrdiff_t>(tracked_.stats().*figure - stats_.*figure);
    }
    template <class Figure>
    [[nodiscard]] std::ptrdiff_t since(Figure tracked_block_totals::*figure) const {
        return static_cast<std::ptrdiff_t>(tracked_.totals().*figure - totals_.*figure);
    }

    tracked_block_resource const& tracked_; // held, not owned
    statistics stats_;
    tracked_block_totals totals_;
};

/// Runs f() with its 1st allocation from `tracked` failing, and all after it; then with the 2nd;
/// and so on, until f returns without having met a failure. Leaves fail_after off.
/// What a failing run leaves allocated is not looked for, as f may mean to keep it: compare with a
/// tracked_block_monitor.
/// Returns: the allocations that were made to fail: so many f needs.
/// Throws: logic_error when f returned although an allocation had failed: it swallowed the failure;
/// what f throws, but for the bad_alloc of a failing run.
/// Source: Bloomberg, P1160 "Add test polymorphic memory resource", exception_test_loop; Zig,
/// std.testing.checkAllAllocationFailures.
std::size_t for_each_failure(tracked_block_resource& tracked, detail::function_ref<void()> f);

} // namespace strata
