// SPDX-License-Identifier: BSL-1.0
#pragma once

// A resource as plain as can be, for tests of what stacks on any resource and for the conformance
// suite's test of itself: first fit over a std::map of free blocks, a std::map of live ones, chunks
// of 8 KiB from upstream. The maps live in the program's heap, outside the footprint.
//
// On demand it breaks one promise, so that a test can show that the suite notices.

#include <cstddef>
#include <map>
#include <memory_resource>
#include <optional>
#include <set>

#include <strata/detail/served_blocks.hpp>
#include <strata/resource.hpp>

namespace strata::test {

/// The promise that a reference_resource breaks, in the words of its deed.
enum class fault {
    none,
    accepts_double_free,
    accepts_wrong_alignment,
    accepts_wrong_size,
    aligns_to_16_only,
    aligns_to_what_cannot_be,
    asks_upstream_for_the_impossible,
    books_before_upstream_answers,
    books_misuse_before_reporting,
    calls_foreign_double_free,
    calls_free_memory_foreign,
    calls_interior_double_free,
    claims_resize_without_room,
    diagnoses_in_another_way,
    forgets_overhead,
    frees_with_upstreams_help,
    good_size_too_small,
    hands_out_twice,
    heeds_upstreams_complaints,
    loses_block_on_double_free,
    never_reuses,
    overstates_largest_free,
    overstates_peak,
    owns_served_blocks,
    passes_foreign_pointer_upstream,
    reallocate_loses_last_byte,
    release_forgets_a_counter,
    release_leaks_a_chunk,
    releases_with_upstreams_help,
    renames_upstreams_exception,
    reports_null,
    reports_other_bytes,
    reports_twice,
    restores_books_after_reporting,
    returns_other_alignment,
    reuses_address_for_zero_bytes,
    stops_destroying_at_a_leak,
    takes_chunk_in_constructor,
    trim_keeps_chunks,
    trim_miscounts,
    walk_is_out_of_order,
    walk_omits_a_free_block,
    writes_into_live_block,
};

class reference_resource final : public resource {
  public:
    explicit reference_resource(std::pmr::memory_resource* upstream = nullptr,
                                fault broken = fault::none);
    ~reference_resource() override;

    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = detail::max_align) {
        return do_allocate(bytes, alignment);
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment = detail::max_align) {
        do_deallocate(p, bytes, alignment);
    }

    static constexpr std::size_t chunk_bytes = 8192;
    static constexpr std::size_t largest_bytes = 2048; ///< above: served by upstream

  private:
    static constexpr std::size_t granule = 16;
    static constexpr std::size_t chunk_overhead = 64; // never handed out, to have some overhead

    struct request {
        std::size_t bytes;
        std::size_t alignment;
    };
    using free_map = std::map<std::byte const*, std::size_t>; // address to bytes

    void* do_allocate(std::size_t bytes, std::size_t alignment) override;
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override;
    std::optional<misuse_kind> do_try_deallocate(void* p, std::size_t bytes,
                                                 std::size_t alignment) override;
    void* do_reallocate(void* p, std::size_t old_bytes, std::size_t new_bytes,
                        std::size_t alignment) override;
    bool do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                       std::size_t alignment) override;
    std::optional<misuse_kind> do_diagnose(void const* p, std::size_t bytes,
                                           std::size_t alignment) const override;
    bool do_owns(void const* p) const override;
    std::size_t do_good_size(std::size_t bytes, std::size_t alignment) const override;
    void do_release() override;
    std::size_t do_trim() override;
    statistics do_stats() const override;
    void do_visit_blocks(block_visitor f) const override;
    bool do_check_invariants() const override;
    std::pmr::memory_resource* do_upstream_resource() const override { return served_.upstream(); }
    char const* do_name() const noexcept override { return "reference_resource"; }

    void give_back(std::byte const* chunk, std::size_t alignment);
    [[nodiscard]] bool is(fault f) const noexcept { return broken_ == f; }
    [[nodiscard]] static bool carves(std::size_t bytes, std::size_t alignment) noexcept {
        return bytes <= largest_bytes && alignment <= largest_bytes;
    }
    [[nodiscard]] void* serve(std::size_t bytes, std::size_t alignment);
    [[nodiscard]] std::byte const* carve(std::size_t size, std::size_t alignment);
    void take_chunk();
    void add_free(std::byte const* p, std::size_t size);
    [[nodiscard]] std::byte const* chunk_of(void const* p) const;

    fault broken_;
    free_map free_; // no two adjacent ones in a chunk
    std::map<std::byte const*, request> live_;
    std::set<std::byte const*> chunks_;
    std::size_t requested_bytes_ = 0;
    bool freed_ = false; // since the last allocate, for fault::never_reuses
    detail::served_blocks served_;
};

} // namespace strata::test
