// SPDX-License-Identifier: BSL-1.0
#pragma once

// A region that need not merge at every free: small blocks wait, by size, for the next request of
// their size. What waits keeps its marks, as if it were live, and is not written to; merging it
// later is an ordinary free.
//
//   size in granules    1  │ g │ g │ g │       16 places at most; the last in is the first out, and
//                       2  │ g │               the older half is merged when there is no room
//                       …
//                      64  │ g │ g │
//
//   I1  each place is that of a block of its row's size, live by the region's marks, and there once;
//       those behind a row's count are 0.
//   I2  waiting_bytes_ = what the rows hold; at most most_bytes_. All of it counts as requested.
//
// A second free is found by looking through one row: 16 places in four comparisons.
//
// Source: deferred coalescing, Wilson, Johnstone, Neely and Boles, "Dynamic storage allocation: a
// survey and critical review", 1995, 3.12.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include <strata/detail/region.hpp>
#include <strata/misuse.hpp>
#include <strata/statistics.hpp>

namespace strata::detail {

template <class Region>
class deferring_region : public Region {
  public:
    using Region::granule_bytes, Region::granules_for;
    using typename Region::freeing;

    /// How many bytes of freed blocks may wait; 0: none. Requires: nothing waits.
    constexpr void defer(std::size_t most_bytes) noexcept {
        most_bytes_ = most_bytes;
        most_size_ = std::min(rows, most_bytes / granule_bytes);
    }

    [[gnu::always_inline]] void* quick_allocate(std::size_t bytes, std::size_t alignment) noexcept {
        return granules_for(bytes) > most_size_ ? Region::quick_allocate(bytes, alignment)
                                                : nullptr;
    }
    [[gnu::always_inline]] freeing quick_deallocate(void const* p, std::size_t bytes,
                                                    std::size_t alignment) noexcept {
        return granules_for(bytes) > most_size_ ? Region::quick_deallocate(p, bytes, alignment)
                                                : freeing::ask;
    }

    void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
        std::size_t const size = granules_for(bytes);
        if (size <= most_size_ && alignment <= granule_bytes && counts_[size - 1] != 0) {
            std::size_t const g = std::exchange(places_[size - 1][--counts_[size - 1]], 0);
            waiting_bytes_ -= size * granule_bytes;
            Region::rebook(size * granule_bytes, bytes);
            return Region::address(g);
        }
        void* p = Region::quick_allocate(bytes, alignment);
        if (p == nullptr)
            p = Region::allocate(bytes, alignment);
        return p != nullptr || waiting_bytes_ == 0 ? p : allocate_merged(bytes, alignment);
    }

    bool deallocate(void const* p, std::size_t bytes, std::size_t alignment) noexcept {
        std::size_t const size = granules_for(bytes);
        std::size_t const g = Region::granule_of(p);
        if (size > most_size_) // nothing of that size waits
            return Region::deallocate(p, bytes, alignment);
        if (waits_in(size, g))
            return false;
        if (alignment > granule_bytes) // the next request of its kind would not look here
            return Region::deallocate(p, bytes, alignment);
        if (!Region::is_live_block(p, bytes, alignment))
            return false;
        if (counts_[size - 1] == row_places)
            merge_oldest(size, row_places / 2);
        if (waiting_bytes_ + size * granule_bytes > most_bytes_)
            merge_all();
        places_[size - 1][counts_[size - 1]++] = static_cast<std::uint32_t>(g);
        waiting_bytes_ += size * granule_bytes;
        Region::rebook(bytes, size * granule_bytes);
        return true;
    }

    [[nodiscard]] std::optional<misuse_kind> diagnose(void const* p, std::size_t bytes,
                                                      std::size_t alignment) const noexcept {
        auto const wrong = Region::diagnose(p, bytes, alignment);
        std::size_t const size = granules_for(bytes);
        bool const waits_here =
            wrong ? waits(p) : size <= most_size_ && waits_in(size, Region::granule_of(p));
        return waits_here ? misuse_kind::double_free : wrong;
    }

    bool try_resize(void const* p, std::size_t old_bytes, std::size_t new_bytes) noexcept {
        if (Region::try_resize(p, old_bytes, new_bytes))
            return true;
        if (granules_for(new_bytes) * granule_bytes > Region::capacity_bytes() ||
            !waits(as_bytes(p) + granules_for(old_bytes) * granule_bytes))
            return false;
        merge_all();
        return Region::try_resize(p, old_bytes, new_bytes);
    }

    /// Merges all that waits.
    void merge_all() noexcept {
        for (std::size_t size = 1; waiting_bytes_ != 0; ++size)
            if (counts_[size - 1] != 0)
                merge_oldest(size, counts_[size - 1]);
    }

    void free_all() noexcept {
        counts_.fill(0);
        places_.fill({});
        waiting_bytes_ = 0;
        Region::free_all();
    }

    template <class Visitor>
    void visit(Visitor const& f) const {
        Region::visit([&](block_info block) {
            std::size_t const size = block.bytes / granule_bytes;
            block.live = block.live &&
                         !(size <= most_size_ && waits_in(size, Region::granule_of(block.address)));
            f(block);
        });
    }

    void add_to(statistics& s) const noexcept {
        statistics own;
        Region::add_to(own);
        for (std::size_t size = 1; size <= most_size_; ++size) {
            std::size_t const count = counts_[size - 1];
            own.live_blocks -= count;
            own.free_blocks += count;
            if (count != 0)
                own.largest_free_bytes = std::max(own.largest_free_bytes, size * granule_bytes);
        }
        own.live_bytes -= waiting_bytes_;
        own.requested_bytes -= std::min(own.requested_bytes, waiting_bytes_);
        s.live_blocks += own.live_blocks;
        s.live_bytes += own.live_bytes;
        s.requested_bytes += std::min(own.requested_bytes, own.live_bytes);
        s.free_blocks += own.free_blocks;
        s.free_bytes += own.free_bytes + waiting_bytes_;
        s.largest_free_bytes = std::max(s.largest_free_bytes, own.largest_free_bytes);
    }

    [[nodiscard]] char const* broken_invariant() const noexcept {
        std::size_t bytes = 0;
        for (std::size_t size = 1; size <= most_size_; ++size)
            for (std::size_t i = 0; i < row_places; ++i) {
                std::size_t const g = places_[size - 1][i];
                if ((g != 0) != (i < counts_[size - 1]))
                    return "a row has places behind its count, or none before";
                if (g == 0)
                    continue;
                bytes += size * granule_bytes;
                if (Region::diagnose(Region::address(g), size * granule_bytes, 1) ||
                    std::count(places_[size - 1].begin(), places_[size - 1].end(), g) != 1)
                    return "what waits is no block, or waits twice";
            }
        if (bytes != waiting_bytes_ || bytes > most_bytes_)
            return "wrong count of waiting bytes";
        return Region::broken_invariant();
    }

  private:
    static constexpr std::size_t rows = 64; // blocks of up to 1 KiB
    static constexpr std::size_t row_places = 16;

    [[nodiscard]] bool waits_in(std::size_t size, std::size_t g) const noexcept {
        std::uint32_t found = 0;
        for (std::uint32_t const place : places_[size - 1]) // all of them: it takes no branch so
            found |= place == static_cast<std::uint32_t>(g) ? 1u : 0u;
        return found != 0;
    }
    // Any p may be asked for. Complexity: O(places).
    [[nodiscard]] bool waits(void const* p) const noexcept {
        if (waiting_bytes_ == 0 || !Region::holds(p) || !is_aligned(p, granule_bytes))
            return false;
        for (std::size_t size = 1; size <= most_size_; ++size)
            if (waits_in(size, Region::granule_of(p)))
                return true;
        return false;
    }

    [[gnu::noinline]] void merge_oldest(std::size_t size, std::size_t count) noexcept {
        auto& oldest = places_[size - 1];
        for (std::size_t i = 0; i < count; ++i)
            Region::deallocate(Region::address(oldest[i]), size * granule_bytes, 1);
        auto const kept = std::copy(oldest.begin() + static_cast<std::ptrdiff_t>(count),
                                    oldest.end(), oldest.begin());
        std::fill(kept, oldest.end(), 0u);
        counts_[size - 1] = static_cast<std::uint8_t>(counts_[size - 1] - count);
        waiting_bytes_ -= count * size * granule_bytes;
    }

    [[gnu::noinline]] void* allocate_merged(std::size_t bytes, std::size_t alignment) noexcept {
        if (bytes > Region::capacity_bytes() || !is_power_of_two(alignment))
            return nullptr;
        merge_all();
        return Region::allocate(bytes, alignment);
    }

    std::size_t most_size_ = 0; // in granules
    std::size_t most_bytes_ = 0;
    std::size_t waiting_bytes_ = 0;
    std::array<std::uint8_t, rows> counts_{};
    std::array<std::array<std::uint32_t, row_places>, rows> places_{};
};

} // namespace strata::detail
