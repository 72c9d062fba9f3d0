// SPDX-License-Identifier: BSL-1.0
#pragma once

// One thread's part of a segregated pool: class pools of its own, and what others have freed of their
// slabs.
//
//   its thread   pools     [size class]  slabs, their free bits            class_pool.hpp, slab.hpp
//   others       pending   slab ─► slab ─► …   with remote bits, as they come
//                              ↓  taken over when a class has nothing left
//                to_collect   slab ─► …        the longest first: by then more has come back
//
//   I1  pools and to_collect are used by who is inside the mutex: its thread, mostly.
//   I2  a slab is in pending or to_collect of one shard, or on the way there, exactly while its
//       is_pending is 1.
//   I3  empty slabs that are not current stand in front of their class's list.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <strata/detail/annotate.hpp>
#include <strata/detail/biased_mutex.hpp>
#include <strata/detail/class_pool.hpp>
#include <strata/detail/size_classes.hpp>
#include <strata/detail/slab.hpp>
#include <strata/detail/slab_source.hpp>
#include <strata/detail/thread_caches.hpp>

namespace strata::detail {

struct alignas(64) pool_shard : thread_cache {
    /// Knows the bit of the block handed out last: where that comes back next, as many do, nothing
    /// is computed from its address, and a pair takes half the time.
    struct alignas(64) pool : class_pool {
        pool_shard* of = nullptr;

        std::byte* pop() noexcept {
            slab& s = *current;
            std::uint64_t const free = *s.word;
            if (free == 0)
                return nullptr;
            last_bit_ = free & (~free + 1);
            store_relaxed(*s.word, free ^ last_bit_);
            ++s.count;
            return last_ = s.word_begin + lowest_bit(free) * s.block_bytes;
        }
        [[nodiscard]] bool is_last(void const* p) const noexcept { return p == last_; }
        /// Requires: is_last(p). Returns: whether p was live, and others have freed nothing beside it.
        bool push_last() noexcept {
            slab& s = *current;
            std::uint64_t const free = *s.word;
            if ((free & last_bit_) != 0 || s.is_pending.load(std::memory_order_relaxed) != 0)
                return false;
            take_back(last_, s.block_bytes);
            store_relaxed(*s.word, free | last_bit_);
            --s.count;
            return true;
        }
        /// Another word is current now.
        void forget_last() noexcept { last_ = as_bytes(this); }

      private:
        std::byte* last_ = as_bytes(this); // of the current word; or what is no block
        std::uint64_t last_bit_ = 0;
    };
    /// What is to be dealt with once no shard's mutex is held.
    struct findings {
        slab* strays = nullptr;           ///< slabs that are another shard's by now
        std::byte* freed_twice = nullptr; ///< a block; null: none was
    };

    pool_shard() noexcept;

    // Inside.

    /// Returns: whether the class has a block for pop(), perhaps after it collected some slabs.
    bool serve(std::size_t size_class, findings& found) noexcept;
    /// A slab's count has come down to 0. Returns: whether it is empty, and another of its class is
    /// too: one stays, so that work that comes and goes leaves the source alone.
    bool returned(slab* s) noexcept;
    void collect(slab* s, findings& found) noexcept;
    void collect_all(findings& found) noexcept;
    /// Takes the slab, which is nobody's and has a free block: serve() succeeds.
    void adopt(slab* s, std::size_t size_class) noexcept;
    /// Returns: a slab with a free block, nobody's now; null where the class has none.
    slab* surrender(std::size_t size_class) noexcept;
    /// Returns: an empty slab that is not current, nobody's now; null where the class has none.
    slab* surrender_empty(std::size_t size_class) noexcept;
    /// The same of the current one.
    slab* surrender_empty_current(std::size_t size_class) noexcept;

    // Any thread.

    /// Requires: the slab's is_pending is 1, and the caller has set it, or taken the slab out.
    void hand_in(slab* s) noexcept;
    [[nodiscard]] bool may_serve(std::size_t size_class) const noexcept {
        return (serves.load(std::memory_order_relaxed) >> size_class & 1) != 0;
    }

    // Nobody else.

    /// Makes all pending slabs no longer pending, without a look at their bits.
    void forget_pending() noexcept;
    /// Whether pools, and lists of pending slabs, are sound. Adds to `pending_found`.
    [[nodiscard]] bool check_invariants(std::size_t& pending_found) const;

    biased_mutex mutex; // its sum: bytes asked for in blocks taken, less those of blocks given back
    slab_table::view table{};
    std::array<pool, size_classes::most_classes + 1> pools{}; // the last one's class serves no one

    // What others write or read.
    alignas(64) std::atomic<slab*> pending{};
    std::atomic<std::size_t> pending_slabs{}; // and those to collect
    std::atomic<std::uint64_t> serves{};      // [size class], a bit: where it is 0, it has no slab
    std::atomic<std::size_t> last_seen{};     // when it was at slabs last, in slabs taken
    std::size_t slabs = 0;                    // of it; the source's lock is held

  private:
    slab* next_pending() noexcept;
    void set_serving(std::size_t size_class, bool value) noexcept;

    slab* to_collect_ = nullptr;
};

} // namespace strata::detail
