// SPDX-License-Identifier: BSL-1.0
#pragma once

// Where slabs come from: chunks of upstream memory, cut into slabs that any size class may take.
//
//   chunk, aligned to its slabs   │ slab 0 │ slab 1 │ … │ last slab │ chunk │ slab records + bits │
//                                                          shortened by what is kept behind it
//
// Chunks grow from first_chunk_bytes, fourfold while small, then by up to half of what is held, up to
// largest_chunk_bytes, mostly in powers of two: upstreams find room for what they had before. Where
// upstream has no room for one, smaller ones are tried. Small chunks
// have small slabs, so that a small pool stays small. A hash table finds the slab of any address
// without reading memory near it.
//
// A chunk whose slabs are all empty goes back upstream, but for one; for each that has to be taken
// after one was given back, one more is kept, so that a tide of work settles with its second turn. Of
// many users all are kept until trim() or release().
//
//   I1  a slab is in the empty list of its size exactly if its state is empty.
//   I2  chunk.used = its slabs that are not empty; idle_chunks_ counts chunks with used = 0.
//   I3  the table leads from every address in a slab to it; more than half of it is vacant.
//   I4  held_bytes() = chunks + table = what upstream has outstanding.

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory_resource>

#include <strata/detail/bits.hpp>
#include <strata/detail/slab.hpp>
#include <strata/statistics.hpp>

namespace strata::detail {

inline slab* slab_at(std::byte* record) noexcept {
    return std::launder(reinterpret_cast<slab*>(record));
}

/// A piece of memory obtained from upstream; its description lies behind its slabs.
struct alignas(64) chunk {
    std::byte* base;
    std::size_t bytes;      ///< as upstream served it, aligned to slab_bytes
    std::size_t slab_area;  ///< bytes from base that are slabs
    std::size_t slab_bytes; ///< of each but the last; a power of two
    std::size_t record_bytes;
    std::uint32_t slabs;
    std::uint32_t used; ///< slabs that are not empty
    chunk* next;        ///< in no order; visit() sorts them
    chunk* previous;

    [[nodiscard]] slab* at(std::size_t i) const noexcept {
        return slab_at(records() + i * record_bytes);
    }
    /// Returns: the slabs' records, record_bytes apart.
    [[nodiscard]] std::byte* records() const noexcept {
        return as_bytes(const_cast<chunk*>(this)) + sizeof(chunk);
    }
};

inline chunk& chunk_of(slab* s) noexcept {
    return *std::launder(reinterpret_cast<chunk*>(as_bytes(s) - s->record_offset));
}

/// An open-addressing hash table from units of memory to the slabs that lie in them (Fibonacci
/// hashing: Knuth, TAOCP vol. 3, 6.4). Units are small, the smallest slab, so that no two slabs share
/// one. Once a pool has grown, its large slabs have one large unit each, so that the table stays in
/// cache, and small slabs are looked for where no large one was found.
class slab_table {
  public:
    /// What a guess reads. A copy stays good, though it may miss newer slabs, until release().
    struct view {
        std::uintptr_t* entries;  ///< a slab each; of many users its unit's key before it
        unsigned home_shift;      ///< 64 - log2(entries), but at most 63
        std::uintptr_t unit_mask; ///< of large slabs
        std::size_t mask;         ///< entries - 1
        std::uintptr_t small_unit_mask;
        std::size_t words; ///< an entry's: 1 or 2

        /// Requires: there is one user. Returns: the slab that p lies in, mostly; where there is none,
        /// another or one without memory.
        [[nodiscard]] slab* guess(void const* p) const noexcept {
            return slab_at(entries[(address_of(p) & unit_mask) * golden >> home_shift]);
        }
        /// The same of many: a slab that is not meant is not read, and its owner not disturbed.
        [[nodiscard]] slab* guess_of_many(void const* p) const noexcept {
            std::uintptr_t const unit = address_of(p) & unit_mask;
            std::uintptr_t const* e = &entries[2 * (unit * golden >> home_shift)];
            e += load_acquire(e[0]) != unit ? 2 : 0; // no branch: nobody could foretell it
            return load_acquire(e[0]) == unit ? slab_at(e[1]) : guess_of_many_small(p);
        }
        [[nodiscard]] slab* guess_of_many_small(void const* p) const noexcept {
            std::uintptr_t const unit = address_of(p) & small_unit_mask;
            std::uintptr_t const* e = &entries[2 * (unit * golden >> home_shift)];
            e += load_acquire(e[0]) != unit + 1 ? 2 : 0;
            return load_acquire(e[0]) == unit + 1 ? slab_at(e[1]) : slab::none();
        }
        /// Returns: the slab that p lies in, or null. Complexity: O(1) expected.
        [[nodiscard]] slab* find(void const* p) const noexcept;
    };

    /// Units of 2^small_log2 bytes, and of 2^large_log2 for slabs that large once there are many.
    slab_table(unsigned small_log2, unsigned large_log2, bool keeps_old) noexcept
        : unit_log2_{small_log2},
          small_log2_{small_log2},
          large_log2_{large_log2},
          keeps_old_{keeps_old},
          now_{of_none()} {}

    [[nodiscard]] view const& now() const noexcept { return now_; }
    /// Returns: the slab that p lies in, or null. Complexity: O(1) expected.
    [[nodiscard]] slab* find(void const* p) const noexcept { return now_.find(p); }

    /// Makes room for a chunk beside those of the list.
    /// Throws: what upstream throws; nothing has changed then. Complexity: amortised O(slabs of it).
    void reserve(chunk const& added, chunk const* list, std::pmr::memory_resource* upstream);
    /// Requires: room was reserved.
    void insert(chunk const& c) noexcept;
    void erase(chunk const& c) noexcept; ///< Complexity: O(units)
    void release(std::pmr::memory_resource* upstream) noexcept;

    /// Returns: what it holds from upstream.
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

  private:
    static constexpr std::uint64_t golden = 0x9e3779b97f4a7c15; // 2^64 / golden ratio
    static constexpr std::size_t most_small_units = 512;

    // A table that was too small. Behind the entries of the one that replaced it, of which there is
    // one more than are used: a guess looks at two that are neighbours.
    struct old_table {
        std::uintptr_t* entries; ///< null: none
        std::size_t bytes;
    };

    static slab* slab_at(std::uintptr_t word) noexcept { return pointer_to<slab>(word); }
    static std::uintptr_t vacant() noexcept { return address_of(slab::none()); }
    static std::uintptr_t erased() noexcept { return address_of(&erased_); }
    [[nodiscard]] std::uintptr_t* entry(std::size_t i) const noexcept {
        return now_.entries + i * now_.words;
    }
    [[nodiscard]] std::uintptr_t& slab_of(std::size_t i) const noexcept {
        return entry(i)[now_.words - 1];
    }
    [[nodiscard]] std::size_t home(std::uintptr_t key) const noexcept {
        return static_cast<std::size_t>((key & ~std::uintptr_t{1}) * golden >> now_.home_shift);
    }
    [[nodiscard]] std::size_t table_bytes(std::size_t entries) const noexcept {
        return (entries + 1) * now_.words * sizeof(std::uintptr_t) +
               (keeps_old_ ? sizeof(old_table) : 0);
    }
    void give_back(old_table table, std::pmr::memory_resource* upstream) noexcept;
    template <class Visitor>
    void for_each_unit(chunk const& c, unsigned large_unit_log2, Visitor const& f) const;

    [[nodiscard]] view of_none() noexcept {
        std::uintptr_t const small = ~std::uintptr_t{0} << small_log2_;
        return {ends_.data(), 63, small, 0, small, keeps_old_ ? std::size_t{2} : std::size_t{1}};
    }

    static slab erased_; // one without memory, too, but not the end of a search

    std::size_t bytes_ = 0; // from upstream
    std::size_t used_ = 0;  // entries that are not vacant
    unsigned unit_log2_;    // of large slabs
    unsigned small_log2_;
    unsigned large_log2_;
    bool keeps_old_;
    // Of an empty table.
    std::array<std::uintptr_t, 6> ends_{vacant(), vacant(), vacant(), vacant(), vacant(), vacant()};
    view now_; // entries owned, from upstream, but for those
};

class slab_source {
  public:
    struct geometry {
        std::size_t slab_bytes; ///< a power of two
        std::size_t first_chunk_bytes;
        std::size_t largest_chunk_bytes;
    };
    static constexpr std::size_t shortest_slab_bytes = 512; ///< of what is left at a chunk's end

    /// Of many, guesses may be made while a slab is taken or put back, all else needs a lock; chunks
    /// and old tables go back upstream with trim() and release() only, which need no guesses beside.
    /// Slabs of one have 1 KiB at least, of many 2 KiB: the table has but one size of unit then.
    enum class users : bool { one, many };

    slab_source(geometry const& g, std::pmr::memory_resource* upstream, users of) noexcept
        : geometry_{g},
          upstream_{upstream},
          smallest_slab_bytes_{of == users::many ? std::size_t{2048} : std::size_t{1024}},
          table_{log2(smallest_slab_bytes_),
                 log2(of == users::many ? std::max(smallest_slab_bytes_, g.slab_bytes / 4)
                                        : g.slab_bytes),
                 of == users::many},
          users_{of} {}
    slab_source(slab_source const&) = delete;
    slab_source& operator=(slab_source const&) = delete;
    ~slab_source() { release(); }

    /// Returns: an empty slab with room for at least one block of `block_bytes`; its chunk counts
    /// it as used. A new one has 16 times `last_bytes` (of many users 8 times), those of the slab that
    /// is full, within limits: classes grow at their own pace.
    /// Throws: what upstream throws; nothing has changed then. Complexity: O(1) but for upstream.
    slab* take(std::size_t block_bytes, std::size_t last_bytes);

    /// Takes back a slab whose blocks are all free and that is in no list.
    void put(slab* s) noexcept;

    /// Returns: the slab that p lies in, or null; any address may be asked for.
    [[nodiscard]] slab* find(void const* p) const noexcept { return table_.find(p); }
    /// For guesses at the slab that an address lies in.
    [[nodiscard]] slab_table::view const& table() const noexcept { return table_.now(); }

    /// Gives every chunk back.
    void release() noexcept;
    /// Gives back every chunk whose slabs are all empty.
    void trim() noexcept;

    /// Calls f(slab const&) for each slab in address order.
    template <class Visitor>
    void visit(Visitor const& f) const {
        chunks_ = sorted(chunks_);
        link_back();
        for_each(f);
    }
    /// Calls f(slab const&) for each slab in any order.
    template <class Visitor>
    void for_each(Visitor const& f) const {
        for (chunk const* c = chunks_; c != nullptr; c = c->next)
            for (std::size_t i = 0; i < c->slabs; ++i)
                f(static_cast<slab const&>(*c->at(i)));
    }

    [[nodiscard]] std::size_t held_bytes() const noexcept { return chunk_bytes_ + table_.bytes(); }
    [[nodiscard]] geometry const& shape() const noexcept { return geometry_; }
    [[nodiscard]] bool check_invariants() const;

  private:
    static unsigned log2(std::size_t power) noexcept {
        return static_cast<unsigned>(std::countr_zero(power));
    }
    [[nodiscard]] slab_list& empties_like(slab const& s) noexcept {
        return empty_[static_cast<std::size_t>(std::bit_width(s.bytes) - 1)];
    }
    [[nodiscard]] slab* largest_empty(std::size_t block_bytes) const noexcept;
    [[nodiscard]] slab* smallest_empty(std::size_t bytes) const noexcept;
    [[nodiscard]] std::size_t slab_bytes_for(std::size_t block_bytes,
                                             std::size_t last_bytes) const noexcept;
    [[nodiscard]] std::size_t next_chunk_bytes() const noexcept;
    slab* replenish(std::size_t slab_bytes, std::size_t least_slab_bytes);
    chunk* take_chunk(std::size_t bytes, std::size_t slab_bytes);
    static chunk* sorted(chunk* list) noexcept;
    void link_back() const noexcept;
    chunk* adopt(std::byte* base, std::size_t bytes, std::size_t slab_bytes);
    void unhook(chunk& c) noexcept;
    void give_back(chunk* list) noexcept;

    geometry geometry_;
    std::pmr::memory_resource* upstream_; // held, not owned
    mutable chunk* chunks_ = nullptr;     // all; each lies in its own memory; visit() orders them
    std::size_t smallest_slab_bytes_;
    slab_table table_;
    users users_;
    std::array<slab_list, 21> empty_{}; // [floor(log2(bytes))]
    std::size_t chunk_bytes_ = 0;
    std::size_t idle_chunks_ = 0; // I2
    std::size_t keep_chunks_ = 1; // idle chunks that are not given back
    std::size_t regretted_ = 0;   // given back and not taken anew
};

} // namespace strata::detail
