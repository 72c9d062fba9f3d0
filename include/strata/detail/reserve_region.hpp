// SPDX-License-Identifier: BSL-1.0
#pragma once

// A small region that is set aside for the day when upstream has nothing left.
//
//      blocks ──►                                        ◄── records
//      ┌──────────┬──────┬──────────────────────┬────┬────┬───────┬────────┐
//      │ taken    │ taken│ free                 │tak.│tak.│ taken │ starts │  one upstream call
//      └──────────┴──────┴──────────────────────┴────┴────┴───────┴────────┘
//       granules of 16 bytes                               bits, out of band
//
// One bit for each granule says whether it is taken, so freed neighbours coalesce by themselves,
// and what is freed carries no links that a stray write could break. A second bit marks the places
// that the owner wants to recognise again: where its blocks start.
//
// Cost: first fit over words of bits, O(region / 1 KiB): meant for kilobytes, on a bad day. 2 bits
// for 16 bytes: 1.6 %.

#include <cstddef>
#include <cstdint>
#include <memory_resource>

#include <strata/detail/bits.hpp>

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
    /// Requires: alignment is a power of two, offset a multiple of the granule.
    /// Returns: null where there is none.
    [[nodiscard]] void* take_low(std::size_t bytes, std::size_t alignment,
                                 std::size_t offset) noexcept;

    /// Takes the highest free run of `bytes`, so that records lie away from what users overrun.
    /// Returns: null where there is none.
    [[nodiscard]] void* take_high(std::size_t bytes) noexcept;

    /// Requires: p and bytes are what one take was called with and answered.
    void put(void* p, std::size_t bytes) noexcept;

    // Marks. Requires: p lies in the region, at a granule.
    void mark(void const* p) noexcept { starts()[word_of(p)] |= bit_of(p); }
    void unmark(void const* p) noexcept { starts()[word_of(p)] &= ~bit_of(p); }
    [[nodiscard]] std::size_t marks() const noexcept;

    // Any address may be asked for.
    [[nodiscard]] bool contains(void const* p) const noexcept {
        return offset_between(memory_, p) < bytes_;
    }
    [[nodiscard]] bool is_marked(void const* p) const noexcept {
        return contains(p) && is_aligned(p, granule) && (starts()[word_of(p)] & bit_of(p)) != 0;
    }
    [[nodiscard]] bool is_free(void const* p) const noexcept {
        return contains(p) && (taken()[word_of(p)] & bit_of(p)) == 0;
    }

    /// Calls f(void const* address, std::size_t bytes) for every free run, in address order.
    template <class Function>
    void visit_free(Function const& f) const {
        for (run r = next_run(0); r.begin != r.end; r = next_run(r.end))
            f(static_cast<void const*>(memory_ + r.begin * granule), (r.end - r.begin) * granule);
    }

    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] std::size_t held_bytes() const noexcept { return bytes_ + 2 * bits_bytes(); }

  private:
    struct run { // granules [begin, end)
        std::size_t begin;
        std::size_t end;
    };

    [[nodiscard]] run next_run(std::size_t from) const noexcept;
    [[nodiscard]] std::size_t next(bool is_taken, std::size_t from) const noexcept;
    void set_taken(std::size_t begin, std::size_t end, bool is_taken) noexcept;

    [[nodiscard]] std::size_t granule_of(void const* p) const noexcept {
        return offset_between(memory_, p) / granule;
    }
    [[nodiscard]] std::size_t word_of(void const* p) const noexcept { return granule_of(p) / 64; }
    [[nodiscard]] std::uint64_t bit_of(void const* p) const noexcept {
        return std::uint64_t{1} << granule_of(p) % 64;
    }
    [[nodiscard]] std::size_t words() const noexcept { return (bytes_ / granule + 63) / 64; }
    [[nodiscard]] std::size_t bits_bytes() const noexcept { return words() * 8; }
    [[nodiscard]] std::uint64_t* taken() const noexcept { return bits_; }
    [[nodiscard]] std::uint64_t* starts() const noexcept { return bits_ + words(); }

    std::pmr::memory_resource* upstream_; // held, not owned
    std::size_t bytes_;                   // of the granules
    std::byte* memory_ = nullptr;         // owned, from upstream; null where bytes_ is 0
    std::uint64_t* bits_ = nullptr;       // behind the granules: taken, then starts
};

} // namespace strata::detail
