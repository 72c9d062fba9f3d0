// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>

namespace strata {

/// One block, as visit_blocks shows it.
struct block_info {
    void const* address;
    std::size_t bytes; ///< block size: what the block holds, not what was asked for
    bool live;         ///< handed out and not given back
};

/// Where a resource's memory is at this moment. All counts of bytes are of block sizes unless said.
///
/// The parts sum to the whole:  footprint_bytes = live_bytes + free_bytes + overhead_bytes.
/// Upstream's parts are included: live_bytes counts upstream_live_bytes, and so does footprint.
struct statistics {
    std::size_t live_blocks = 0;     ///< handed out and not given back
    std::size_t live_bytes = 0;      ///< their block sizes
    std::size_t requested_bytes = 0; ///< asked for, if sizes came back as asked; at most live_bytes
    std::size_t peak_live_bytes = 0; ///< high-water mark of live_bytes; 0 where it is not kept
    std::size_t footprint_bytes = 0; ///< held from upstream, the caller's buffer included
    std::size_t free_blocks = 0;     ///< carved or coalesced, ready to be handed out
    std::size_t free_bytes = 0;      ///< their sizes, memory not yet carved included
    std::size_t largest_free_bytes = 0;   ///< the largest request that needs no more memory
    std::size_t overhead_bytes = 0;       ///< bookkeeping, and what rounding leaves over
    std::size_t upstream_live_blocks = 0; ///< live blocks that upstream served one by one
    std::size_t upstream_live_bytes = 0;  ///< their bytes

    /// Returns: live / footprint, 0 to 1; 0 where nothing is held.
    [[nodiscard]] double utilization() const noexcept { return share(live_bytes, footprint_bytes); }

    /// Returns: the part of live bytes that nobody asked for, 0 to 1.
    [[nodiscard]] double internal_fragmentation() const noexcept {
        return share(live_bytes - requested_bytes, live_bytes);
    }

    /// Returns: 1 - largest free / total free, 0 to 1; 0 where nothing is free.
    [[nodiscard]] double external_fragmentation() const noexcept {
        return share(free_bytes - largest_free_bytes, free_bytes);
    }

    bool operator==(statistics const&) const = default;

  private:
    static double share(std::size_t part, std::size_t whole) noexcept {
        return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
    }
};

} // namespace strata
