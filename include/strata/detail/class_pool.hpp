// SPDX-License-Identifier: BSL-1.0
#pragma once

// What one size class hands its blocks out from:
//
//   current ─► the slab whose free blocks come next                                    slab.hpp
//   serving ─► slab ⇄ slab ⇄ …: all others that have a free block, known longest first
//
//   I1  current is a slab of this class, or slab::none(). serving holds all others that have had a
//       block back since they were full.
//
// lone_class_pool is that of a pool for one thread; pool_shard.hpp has that of many.

#include <cstddef>
#include <cstdint>
#include <utility>

#include <strata/detail/bits.hpp>
#include <strata/detail/slab.hpp>

namespace strata::detail {

class class_pool {
  public:
    /// Makes a slab current that has a free block, if this class has one. Returns: whether it has.
    bool advance() noexcept;
    /// Makes `fresh` current in place of a full slab. Requires: it has a block, and is in no list.
    void install(slab* fresh) noexcept;
    /// A slab's count has come down to 0 with the last of `blocks`: it can serve again, or it is
    /// empty. Returns: whether it is empty and in `serving`, which it should leave.
    bool returned(slab* s, std::uint32_t blocks = 1) noexcept;
    /// Takes in what other threads have freed; `twice` as of slab::collect(). Returns: as returned().
    bool collect(slab* s, std::byte*& twice) noexcept;
    /// Returns: a slab with a free block, which this class has no more; null where there is none.
    slab* surrender() noexcept;
    /// Returns: the current slab if it is empty, which this class has no more; else null.
    slab* surrender_empty_current() noexcept;

    [[nodiscard]] bool check_invariants() const;

    slab* current = slab::none(); // I1, never null
    slab_list serving;            // I1

  private:
    [[nodiscard]] bool should_leave_current() const noexcept;
    slab* leave_current() noexcept;
};

/// A block that is freed as soon as it was made, as many are, waits in one word, and changes no bit:
/// what follows need not wait for what went before, and a pair takes 0.7 of the time.
///
///   I2  last_ is null, the live block handed out last, or 1 above that block if it is free; its bit
///       says live then, and its slab counts it, all the same. No slab in serving is empty.
class lone_class_pool : public class_pool {
  public:
    /// Returns: a block, now live; null when the current word has none. Complexity: O(1).
    void* pop() noexcept {
        if (has_free_last())
            return --last_;
        return last_ = current->pop();
    }

    /// Whether p may be the block handed out last, live or waiting here; if not, it is not.
    [[nodiscard]] bool is_last(void const* p) const noexcept {
        return offset_between(p, last_) <= 1;
    }
    /// Takes that block back. Requires: is_last(p). Returns: whether p is it, and it was live.
    bool push_last(void const* p) noexcept {
        if (p != last_ || p == nullptr || has_free_last())
            return false;
        ++last_;
        return true;
    }

    /// Whether the block handed out last waits here.
    [[nodiscard]] bool has_free_last() const noexcept { return address_of(last_) % 2 != 0; }
    [[nodiscard]] bool is_free_last(void const* p) const noexcept {
        return address_of(last_) == address_of(p) + 1;
    }
    /// Requires: has_free_last(). Returns: that block, live again and not known as the last one.
    void* take_last() noexcept { return std::exchange(last_, nullptr) - 1; }

    /// Returns: the block that waits here; null where none does.
    [[nodiscard]] std::byte const* waiting() const noexcept {
        return has_free_last() ? last_ - 1 : nullptr;
    }

  private:
    std::byte* last_ = nullptr; // I2
};

} // namespace strata::detail
