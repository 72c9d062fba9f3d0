// SPDX-License-Identifier: BSL-1.0
#pragma once

// What upstream served for single requests: too large for the resource, or its region was full.
//
// Such blocks carry no header either. A flat hash map from address to (bytes, alignment), itself
// allocated from upstream at the first such request, tells them from every other address without
// reading any memory near it: what a resource did not carve and what is not in this map is foreign.
//
//   I1  the map holds exactly the blocks that upstream served and that have not come back.
//   I2  footprint_bytes = their bytes + what the map itself takes from upstream.

#include <cstddef>
#include <memory_resource>
#include <optional>
#include <span>
#include <vector>

#include <strata/misuse.hpp>
#include <strata/statistics.hpp>

namespace strata::detail {

class served_blocks {
  public:
    /// Null upstream stands for new_delete_resource(), looked up when it is first needed, so that
    /// this can be constant-initialised. Does not touch upstream.
    constexpr explicit served_blocks(std::pmr::memory_resource* upstream) noexcept
        : upstream_{upstream} {}
    served_blocks(served_blocks const&) = delete;
    served_blocks& operator=(served_blocks const&) = delete;
    ~served_blocks() { release(); }

    [[nodiscard]] std::pmr::memory_resource* upstream() const noexcept {
        return upstream_ != nullptr ? upstream_ : std::pmr::new_delete_resource();
    }

    /// Passes a request upstream and remembers it.
    /// Throws: bad_alloc for impossible sizes, invalid_argument for an alignment that is no power
    /// of two, else what upstream throws; nothing has changed then.
    /// Complexity: 1 upstream call, O(1); amortised 1/n more for the map.
    void* allocate(std::size_t bytes, std::size_t alignment);

    /// Gives a block back to upstream, with the triple that it came with.
    /// Returns: nothing; or what is wrong (then nothing has changed): foreign_pointer, double_free
    /// (where p is among the last 16 freed), size_mismatch, alignment_mismatch.
    std::optional<misuse_kind> deallocate(void* p, std::size_t bytes, std::size_t alignment);

    /// Returns: what deallocate would.
    [[nodiscard]] std::optional<misuse_kind> diagnose(void const* p, std::size_t bytes,
                                                      std::size_t alignment) const;

    // Upstream resizes nothing, and none of its memory is carved here.
    static bool try_resize(void const*, std::size_t old_bytes, std::size_t new_bytes) noexcept {
        return old_bytes == new_bytes;
    }
    static bool owns(void const*) noexcept { return false; }
    static std::size_t most_bytes() noexcept { return 0; }
    static std::size_t capacity_bytes() noexcept { return 0; }

    /// Gives every block and the map back to upstream.
    void release() noexcept;

    /// Gives the map back where it is empty. Returns: the bytes that went.
    std::size_t trim() noexcept;

    [[nodiscard]] std::size_t blocks() const noexcept;
    [[nodiscard]] std::size_t bytes() const noexcept;           ///< of the served blocks
    [[nodiscard]] std::size_t footprint_bytes() const noexcept; ///< the map's own memory included

    /// Adds what upstream served to the resource's own figures.
    void add_to(statistics& s) const noexcept;

    /// Returns: the served blocks in address order, in memory from upstream; empty without a call
    /// to upstream where there are none.
    [[nodiscard]] std::pmr::vector<block_info> in_address_order() const;

    /// Walks the map and compares it with the counts.
    [[nodiscard]] bool check_invariants() const;

  private:
    struct book; // the map and its counts; in served_blocks.cpp, so that users include no Boost

    book& open_book();
    template <class Found>
    std::optional<misuse_kind> judge(Found const& found, void const* p, std::size_t bytes,
                                     std::size_t alignment) const;

    std::pmr::memory_resource* upstream_; // held, not owned; null: new_delete_resource()
    book* book_ = nullptr;                // owned, allocated from upstream; null until needed
};

/// Visits the served blocks that lie below `limit` (null: all).
/// Returns: those that remain.
/// So that a resource can show its own blocks and upstream's in one address order.
template <class Visitor>
std::span<block_info const> visit_below(std::span<block_info const> served, void const* limit,
                                        Visitor const& f) {
    while (!served.empty() && (limit == nullptr || served.front().address < limit)) {
        f(served.front());
        served = served.subspan(1);
    }
    return served;
}

} // namespace strata::detail
