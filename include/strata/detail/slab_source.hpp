// SPDX-License-Identifier: BSL-1.0
#pragma once

// Where slabs come from: chunks of upstream memory, cut into slabs that any size class may take.
//
//   chunk, aligned to its slabs   │ slab 0 │ slab 1 │ … │ last slab │ slab records + bits │ chunk │
//                                                          shortened by what is kept behind it
//
// Chunks grow from first_chunk_bytes, doubling while small, then by a quarter of what is held, up
// to largest_chunk_bytes. Small chunks have small slabs, so that a small pool stays small. A hash
// table from address to chunk finds the slab of any pointer without reading memory near it.
//
// A chunk whose slabs are all empty goes back upstream, but for one; each time a chunk has to be
// taken after one was given back, one more is kept, so that a tide of work settles.
//
//   I1  a slab is in the empty list exactly if its state is empty.
//   I2  chunk.used = its slabs that are not empty; idle_chunks_ counts chunks with used = 0.
//   I3  the table has one entry for each (region, chunk) pair; at least half of it is vacant.
//   I4  held_bytes_ = chunks + table = what upstream has outstanding.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory_resource>

#include <strata/detail/bits.hpp>
#include <strata/detail/slab.hpp>
#include <strata/statistics.hpp>

namespace strata::detail {

struct chunk {
    std::byte* base;
    std::size_t bytes;      ///< as upstream served it, aligned to slab_bytes
    std::size_t slab_area;  ///< bytes from base that are slabs
    std::size_t slab_bytes; ///< of each but the last; a power of two
    std::byte* records;     ///< slab records, record_bytes apart
    std::size_t record_bytes;
    std::uint32_t slabs;
    std::uint32_t used;
    chunk* next; ///< in address order

    [[nodiscard]] slab* at(std::size_t i) const noexcept {
        return std::launder(reinterpret_cast<slab*>(records + i * record_bytes));
    }
    [[nodiscard]] bool holds(void const* p) const noexcept {
        return offset_between(base, p) < slab_area;
    }
    [[nodiscard]] slab* slab_of(void const* p) const noexcept {
        return at(offset_between(base, p) >> std::countr_zero(slab_bytes));
    }
};

/// An open-addressing hash table from regions of 2^region_log2 bytes to the chunks that lie in
/// them. Neighbouring regions spread by Fibonacci hashing (Knuth, TAOCP vol. 3, 6.4).
class chunk_table {
  public:
    explicit chunk_table(unsigned region_log2) noexcept : region_log2_{region_log2} {}

    /// Returns: the chunk whose slabs p lies in, or null. Complexity: O(1) expected.
    [[nodiscard]] chunk* find(void const* p) const noexcept {
        std::uintptr_t const region = address_of(p) >> region_log2_;
        for (std::size_t i = home(region); entries_ != nullptr; i = (i + 1) & mask_) {
            entry const& e = entries_[i];
            if (e.owner == nullptr)
                return nullptr;
            if (e.region == region && e.owner->holds(p))
                return e.owner;
        }
        return nullptr;
    }

    /// Requires: p lies in a chunk's slabs. Returns: the chunk.
    [[nodiscard]] chunk& at(void const* p) const noexcept {
        std::uintptr_t const region = address_of(p) >> region_log2_;
        std::size_t i = home(region);
        while (entries_[i].region != region || !entries_[i].owner->holds(p))
            i = (i + 1) & mask_;
        return *entries_[i].owner;
    }

    /// Makes room for a chunk. Throws: what upstream throws; nothing has changed then.
    void reserve(chunk const& c, std::pmr::memory_resource* upstream);
    /// Requires: room was reserved.
    void insert(chunk* c) noexcept;
    void erase(chunk const* c) noexcept;
    void release(std::pmr::memory_resource* upstream) noexcept;

    [[nodiscard]] std::size_t bytes() const noexcept {
        return entries_ != nullptr ? (mask_ + 1) * sizeof(entry) : 0;
    }

  private:
    struct entry {
        std::uintptr_t region;
        chunk* owner; // null: vacant
    };

    [[nodiscard]] std::size_t home(std::uintptr_t region) const noexcept {
        return (region * 0x9e3779b97f4a7c15u >> 32) & mask_;
    }
    [[nodiscard]] std::uintptr_t first_region(chunk const& c) const noexcept {
        return address_of(c.base) >> region_log2_;
    }
    [[nodiscard]] std::uintptr_t last_region(chunk const& c) const noexcept {
        return address_of(c.base + c.slab_area - 1) >> region_log2_;
    }
    void place(entry e) noexcept;
    void remove(std::size_t hole) noexcept;

    entry* entries_ = nullptr; // owned, from upstream
    std::size_t mask_ = 0;     // entries - 1
    std::size_t used_ = 0;
    unsigned region_log2_;
};

class slab_source {
  public:
    struct geometry {
        std::size_t slab_bytes; ///< a power of two
        std::size_t first_chunk_bytes;
        std::size_t largest_chunk_bytes;
    };
    static constexpr std::size_t smallest_slab_bytes = 1024;

    slab_source(geometry const& g, std::pmr::memory_resource* upstream) noexcept
        : geometry_{g},
          upstream_{upstream},
          table_{static_cast<unsigned>(std::countr_zero(g.slab_bytes))} {}
    slab_source(slab_source const&) = delete;
    slab_source& operator=(slab_source const&) = delete;
    ~slab_source() { release(); }

    /// Returns: an empty slab with room for at least one block of `block_bytes`; its chunk counts
    /// it as used.
    /// Throws: what upstream throws; nothing has changed then. Complexity: O(1) but for upstream.
    slab* take(std::size_t block_bytes);

    /// Takes back a slab whose blocks are all free and that is in no list.
    void put(slab* s) noexcept;

    /// Returns: the slab that p lies in, or null; any address may be asked for.
    [[nodiscard]] slab* find(void const* p) const noexcept {
        chunk const* const c = table_.find(p);
        return c != nullptr ? c->slab_of(p) : nullptr;
    }

    /// Gives every chunk back.
    void release() noexcept;
    /// Gives back every chunk whose slabs are all empty.
    void trim() noexcept;

    /// Calls f(slab const&) for each slab in address order.
    template <class Visitor>
    void visit(Visitor const& f) const {
        for (chunk const* c = chunks_; c != nullptr; c = c->next)
            for (std::size_t i = 0; i < c->slabs; ++i)
                f(static_cast<slab const&>(*c->at(i)));
    }

    [[nodiscard]] std::size_t held_bytes() const noexcept { return chunk_bytes_ + table_.bytes(); }
    [[nodiscard]] geometry const& shape() const noexcept { return geometry_; }
    [[nodiscard]] bool check_invariants() const;

  private:
    [[nodiscard]] std::size_t slab_bytes_for(std::size_t block_bytes) const noexcept;
    [[nodiscard]] std::size_t next_chunk_bytes() const noexcept;
    slab* replenish(std::size_t slab_bytes);
    void adopt(std::byte* base, std::size_t bytes, std::size_t slab_bytes);
    void give_back(chunk* c) noexcept;

    geometry geometry_;
    std::pmr::memory_resource* upstream_; // held, not owned
    chunk* chunks_ = nullptr;             // all, in address order; each lies in its own memory
    chunk_table table_;
    slab_list empty_;
    std::size_t chunk_bytes_ = 0;
    std::size_t idle_chunks_ = 0; // I2
    std::size_t keep_chunks_ = 1; // idle chunks that are not given back
    bool gave_back_ = false;      // since the last replenish
};

} // namespace strata::detail
