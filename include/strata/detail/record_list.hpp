// SPDX-License-Identifier: BSL-1.0
#pragma once

// Records of live blocks in a doubly linked list, oldest first, with indices for pointers.
//
//      head ──► record ⇄ record ⇄ record ◄── tail
//
//      index ──┬──────────────┐
//        ┌─────▼──────┬───────▼───────────┬──────────────┐
//        │ links, 16 B│ facts, 32 B each  │ call stacks  │   one upstream block
//        └────────────┴───────────────────┴──────────────┘
//
// Taking a block out of the list touches three records' links, anywhere. Kept apart from what else
// is known, and with indices for pointers, those of 60,000 blocks fit into 1 MiB of cache.
//
// An index with the highest bit set is one of a record in the owner's reserve: its granule there.
//
//   I1  records below used_ are in the list or spare; those above have never been written.
//   I2  a spare record's address is null, so that no stale index finds a block.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>

#include <strata/detail/annotate.hpp>
#include <strata/detail/bits.hpp>
#include <strata/detail/function_ref.hpp>

namespace strata::detail {

class record_list {
  public:
    using index = std::uint32_t;
    static constexpr index none = ~index{0};

    /// What is known of a block besides its address.
    struct facts {
        std::size_t bytes;
        std::size_t alignment;
        std::uint64_t sequence;
        char const* label;
    };

    static constexpr std::size_t record_bytes = 48; ///< of one in the reserve, aligned to 16

    /// Does not touch upstream (held, not owned). `reserve` is where reserved records lie; with each
    /// of the others is room for `stack_frames` addresses and a null, where they are not 0.
    record_list(std::size_t stack_frames, std::span<std::byte> reserve,
                std::pmr::memory_resource* upstream) noexcept
        : stack_frames_{stack_frames}, reserve_{reserve}, upstream_{upstream} {}
    record_list(record_list const&) = delete;
    record_list& operator=(record_list const&) = delete;
    ~record_list() { clear(); }

    // Where a record comes from.
    [[nodiscard]] bool has_room() const noexcept { return spare_ != none || used_ != capacity_; }
    /// Makes room for more: for as many again, or where upstream has not as much, for an eighth. If
    /// then f() throws, nothing has changed. Throws: what upstream and f throw, and bad_alloc after
    /// 2^31 records. Complexity: O(records).
    void grow(function_ref<void()> f);
    /// Requires: has_room(). Returns: a record, which is in no list yet.
    index take() noexcept {
        if (spare_ == none)
            return used_++;
        index const i = spare_;
        spare_ = links_[i].next;
        if (spare_ != none) { // the next to be taken, most likely
            __builtin_prefetch(links_ + spare_, 1);
            __builtin_prefetch(facts_ + spare_, 1);
        }
        return i;
    }
    /// Makes a record spare. Requires: it is in no list, and not in the reserve.
    void put(index i) noexcept {
        links_[i] = {spare_, none, nullptr}; // I2
        spare_ = i;
    }
    /// Returns: the index of a record at `room`, which is 48 bytes of the reserve.
    index make_reserved(void* room) noexcept;
    [[nodiscard]] static bool is_reserved(index i) noexcept { return (i & reserved) != 0; }
    /// Returns: where make_reserved made it.
    [[nodiscard]] void* room_of(index i) const noexcept {
        return reserve_.data() + (i - reserved) * reserve_granule;
    }

    // The list.
    void push_back(index i, void const* address) noexcept {
        link_of(i) = {none, tail_, address};
        next_of(tail_) = i;
        tail_ = i;
    }
    void erase(index i) noexcept {
        link const& old = link_of(i);
        index const before = old.prev; // two loads, as there were two stores
        index const after = old.next;
        next_of(before) = after;
        prev_of(after) = before;
    }
    [[nodiscard]] index first() const noexcept { return head_; }
    [[nodiscard]] index next(index i) const noexcept { return link_of(i).next; }

    // A record. Requires: it was taken.
    [[nodiscard]] void const* address_of(index i) const noexcept { return link_of(i).address; }
    [[nodiscard]] facts& facts_of(index i) const noexcept {
        if (is_reserved(i)) [[unlikely]]
            return static_cast<reserved_record*>(room_of(i))->more;
        return facts_[i];
    }
    /// Returns: the room for its call stack; none where there is none.
    [[nodiscard]] std::span<void const*> stack_of(index i) const noexcept;

    // An index that may be anything, from a header that was perhaps written over. Returns: whether
    // its record is of a live block that begins at p.
    [[nodiscard]] bool holds(std::uint64_t i, void const* p) const noexcept {
        return i < used_ && links_[i].address == p;
    }
    [[nodiscard]] bool holds_reserved(std::uint64_t i, void const* p) const noexcept {
        return i >> 31 == 1 && (i - reserved) * reserve_granule + record_bytes <= reserve_.size() &&
               peek<void const*>(&link_of(static_cast<index>(i)).address) == p; // or of no record
    }

    /// Gives all memory back to upstream. Requires: all that is in the list is in the reserve.
    void clear() noexcept;
    [[nodiscard]] std::size_t held_bytes() const noexcept { return bytes_for(capacity_); }
    /// Walks the list and the spare records.
    [[nodiscard]] bool check_invariants() const;

  private:
    static constexpr index reserved = index{1} << 31;
    static constexpr std::size_t reserve_granule = 16; // bytes
    static constexpr index first_records = 16;

    struct link {
        index next; // of a spare record: the next spare one
        index prev;
        void const* address;
    };
    struct reserved_record {
        link list;
        facts more;
    };
    static_assert(sizeof(reserved_record) <= record_bytes);
    [[nodiscard]] link& link_of(index i) const noexcept {
        if (is_reserved(i)) [[unlikely]]
            return static_cast<reserved_record*>(room_of(i))->list;
        return links_[i];
    }
    // Where the index of the next one is kept, and of the one before; of none: the list's ends.
    [[nodiscard]] index& next_of(index i) noexcept {
        if (i < reserved) [[likely]]
            return links_[i].next;
        return i == none ? head_ : link_of(i).next;
    }
    [[nodiscard]] index& prev_of(index i) noexcept {
        if (i < reserved) [[likely]]
            return links_[i].prev;
        return i == none ? tail_ : link_of(i).prev;
    }
    [[nodiscard]] std::size_t stack_room() const noexcept {
        return stack_frames_ != 0 ? stack_frames_ + 1 : 0;
    }
    [[nodiscard]] std::size_t bytes_for(index records) const noexcept {
        return records * (sizeof(link) + sizeof(facts) + stack_room() * sizeof(void*));
    }
    std::byte* allocate_larger(index& records);
    void move_to(std::byte* memory, index records) noexcept;

    index head_ = none;
    index tail_ = none;
    index spare_ = none; // linked by next
    index used_ = 0;     // I1
    index capacity_ = 0;
    link* links_ = nullptr; // owned, from upstream, with all that follows
    facts* facts_ = nullptr;
    void const** stacks_ = nullptr;
    std::size_t stack_frames_;
    std::span<std::byte> reserve_;        // held, not owned
    std::pmr::memory_resource* upstream_; // held, not owned
};

} // namespace strata::detail
