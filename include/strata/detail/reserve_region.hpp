// SPDX-License-Identifier: BSL-1.0
#pragma once

// A small region that is set aside for the day when upstream has nothing left.
//
//      blocks ──►                                        ◄── records
//      ┌──────────┬──────┬──────────────────────┬────┬────┬───────┬────────┐
//      │ taken    │ taken│ free                 │tak.│tak.│ free  │ starts │  one upstream call
//      └──────────┴──────┴──────────────────────┴────┴────┴───────┴────────┘
//       granules of 16 bytes                               bits, out of band
//
// One bit for each granule says whether it is free, so freed neighbours coalesce by themselves, and
// what is freed carries no links that a stray write could break. A second bit marks the places that
// the owner wants to recognise again: where its blocks start.
//
// Cost: first fit over words of bits, O(region / 1 KiB): meant for kilobytes, on a bad day. About 2
// bits for 16 bytes: 1.6 %.

#include <cstddef>
#include <memory_resource>
#include <span>

#include <strata/detail/bits.hpp>
#include <strata/detail/free_bits.hpp>

namespace strata::detail {

class reserve_region {
  public:
    static constexpr std::size_t granule = 16; ///< bytes

    /// Takes `bytes`, rounded up to granules, from upstream (held, not owned) in one call; none
    /// for 0. Throws: what upstream throws, bad_alloc for impossible sizes.
    reserve_region(std::size_t bytes, std::pmr::memory_resource* upstream);
    reserve_region(reserve_region const&) = delete;
    reserve_region& operator=(reserve_region const&) = delete;
    ~reserve_region();

    /// Takes the lowest free run of `bytes` whose address + offset is a multiple of alignment.
    /// Requires: bytes is not 0, alignment a power of two, offset a multiple of the granule.
    /// Returns: null where there is none.
    [[nodiscard]] void* take_low(std::size_t bytes, std::size_t alignment,
                                 std::size_t offset) noexcept;

    /// Takes the end of the highest free run of `bytes`, so that records lie away from what users
    /// overrun. Requires: bytes is not 0. Returns: null where there is none.
    [[nodiscard]] void* take_high(std::size_t bytes) noexcept;

    /// Requires: p and bytes are what one take answered and was called with.
    void put(void* p, std::size_t bytes) noexcept;

    // Marks. Requires: p lies in the region, at a granule.
    void mark(void const* p) noexcept { word_of(p) |= bit_of(granule_of(p)); }
    void unmark(void const* p) noexcept { word_of(p) &= ~bit_of(granule_of(p)); }
    [[nodiscard]] std::size_t marks() const noexcept;

    // Any address may be asked for.
    [[nodiscard]] bool contains(void const* p) const noexcept {
        return offset_between(memory_, p) < bytes_;
    }
    [[nodiscard]] bool is_marked(void const* p) const noexcept {
        return contains(p) && is_aligned(p, granule) && (word_of(p) & bit_of(granule_of(p))) != 0;
    }
    [[nodiscard]] bool is_free(void const* p) const noexcept {
        return contains(p) && free_.is_free(granule_of(p));
    }

    /// Calls f(void const* address, std::size_t bytes) for every free run, in address order.
    template <class Function>
    void visit_free(Function const& f) const {
        for_each_run([&](std::size_t first, std::size_t length) {
            f(static_cast<void const*>(memory_ + first * granule), length * granule);
        });
    }

    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] std::span<std::byte> memory() const noexcept { return {memory_, bytes_}; }
    [[nodiscard]] std::size_t held_bytes() const noexcept;

    /// Walks every bit. Returns: whether they agree; if not, stderr has a line that says why.
    [[nodiscard]] bool check_invariants() const;

  private:
    template <class Function>
    void for_each_run(Function const& f) const {
        std::size_t length = 0;
        for (std::size_t i = bytes_ != 0 ? free_.next_free(0) : free_bits::none;
             i != free_bits::none; i = free_.next_free(i + length)) {
            length = free_.run_length(i);
            f(i, length);
        }
    }

    [[nodiscard]] std::size_t granules() const noexcept { return bytes_ / granule; }
    [[nodiscard]] std::size_t granule_of(void const* p) const noexcept {
        return offset_between(memory_, p) / granule;
    }
    [[nodiscard]] bit_word& word_of(void const* p) const noexcept {
        return marks_[granule_of(p) / word_bits];
    }

    std::pmr::memory_resource* upstream_; // held, not owned
    std::size_t bytes_;                   // of the granules
    std::byte* memory_ = nullptr;         // owned, from upstream; null where bytes_ is 0
    bit_word* marks_ = nullptr;           // behind the granules; free_'s words follow
    free_bits free_;
};

} // namespace strata::detail
