// SPDX-License-Identifier: BSL-1.0
#pragma once

// The addresses where live blocks start: exact, out of band, and never read through.
//
// A hash table of pages of 4 KiB, with one bit for each granule of 16 bytes in them:
//
//      address ──► page number ── hash ──► slot {page number, 256 bits}
//
// Blocks that lie together share a slot, so the table of a whole heap takes about 1/40 of it and
// mostly stays in cache, where a table with a slot for each block would not. Forgetting a block
// clears its bit; a slot without bits stays until the table is rebuilt.
//
//   I1  a page has at most one slot, found by probing from its hash; no empty slot lies between.
//   I2  used slots <= 3/4 of all, so that probing ends soon.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>

#include <strata/detail/bits.hpp>

namespace strata::detail {

class address_set {
  public:
    static constexpr std::size_t granule = 16; ///< bytes; what lies between is never in the set

    /// Does not touch upstream (held, not owned).
    explicit address_set(std::pmr::memory_resource* upstream) noexcept;
    address_set(address_set const&) = delete;
    address_set& operator=(address_set const&) = delete;
    ~address_set() { clear(); }

    /// Where an address is kept; valid until the next insert or clear.
    class place {
      public:
        explicit operator bool() const noexcept { return word_ != nullptr; }
        /// Requires: it is one. Takes the address out of the set.
        void clear() const noexcept { *word_ &= ~bit_; }

      private:
        friend class address_set;
        std::uint64_t* word_ = nullptr;
        std::uint64_t bit_ = 0;
    };

    /// Returns: the place of p; none, which reads as false, when p is not in the set.
    /// Complexity: O(1).
    [[nodiscard]] place find(void const* p) const noexcept {
        place found;
        slot* const s = slot_of(page_of(p));
        if (s == nullptr || !is_aligned(p, granule))
            return found;
        std::uint64_t& word = s->starts[word_of(p)];
        if ((word & bit_of(p)) != 0) {
            found.word_ = &word;
            found.bit_ = bit_of(p);
        }
        return found;
    }

    /// Requires: p is a multiple of 16, not null, and not in the set.
    /// Throws: what upstream throws; nothing has changed then. Complexity: O(1) amortised.
    void insert(void const* p) {
        if (!insert_where_room(p))
            add_slot(page_of(p))->starts[word_of(p)] |= bit_of(p);
    }

    /// The same, where the page of p has a slot already, as it mostly has. Returns: whether it had.
    bool insert_where_room(void const* p) noexcept {
        slot* const s = slot_of(page_of(p));
        if (s == nullptr) [[unlikely]]
            return false;
        s->starts[word_of(p)] |= bit_of(p);
        return true;
    }

    /// Takes p out of the set. Returns: whether it was in it.
    bool erase(void const* p) noexcept {
        place const found = find(p);
        if (found)
            found.clear();
        return static_cast<bool>(found);
    }

    /// Forgets all and gives all memory back to upstream.
    void clear() noexcept;

    [[nodiscard]] std::size_t held_bytes() const noexcept { return slots_held_ * sizeof(slot); }

    /// Returns: the addresses in the set. Complexity: O(pages).
    [[nodiscard]] std::size_t size() const noexcept;

    /// Walks the table.
    [[nodiscard]] bool check_invariants() const;

  private:
    static constexpr std::size_t page_log2 = 12;
    static constexpr std::size_t granules = (std::size_t{1} << page_log2) / granule;

    struct slot {
        std::uintptr_t page = 0; // 0: empty; no block lies in the first page of memory
        std::array<std::uint64_t, granules / 64> starts{};
    };

    static std::uintptr_t page_of(void const* p) noexcept { return address_of(p) >> page_log2; }
    static std::size_t word_of(void const* p) noexcept {
        return address_of(p) / granule % granules / 64;
    }
    static std::uint64_t bit_of(void const* p) noexcept {
        return std::uint64_t{1} << address_of(p) / granule % 64;
    }

    [[nodiscard]] std::size_t home(std::uintptr_t page) const noexcept {
        return static_cast<std::size_t>(page * 0x9e3779b97f4a7c15u >> 32) &
               mask_; // the golden ratio's bits, scattered
    }
    [[nodiscard]] slot* slot_of(std::uintptr_t page) const noexcept {
        for (std::size_t i = home(page);; i = (i + 1) & mask_) {
            if (slots_[i].page == page) [[likely]]
                return &slots_[i];
            if (slots_[i].page == 0)
                return nullptr;
        }
    }
    slot* add_slot(std::uintptr_t page);
    slot* place_slot(std::uintptr_t page) noexcept;
    void rebuild();

    static slot nothing; // the table of an empty set: one empty slot, never written

    slot* slots_ = &nothing; // owned, from upstream, unless slots_held_ is 0
    std::size_t mask_ = 0;   // slots - 1; a power of two - 1
    std::size_t slots_held_ = 0;
    std::size_t slots_used_ = 0;
    std::pmr::memory_resource* upstream_; // held, not owned
};

} // namespace strata::detail
