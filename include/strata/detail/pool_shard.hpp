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
    /// The free blocks of one word, taken from the slab: their bits are cleared there, and kept here.
    /// So allocate() touches no line of the slab: these, which others read when they free its blocks,
    /// are written once in 64 times.
    ///
    /// Others look for a block's bit in the slab and here. It may move between the two looks: then the
    /// slab's count of moves is another, and they look again.
    class claimed_word {
      public:
        [[nodiscard]] bool is_empty() const noexcept { return free_ == 0; }
        /// Requires: it is not empty. Returns: a block, now live. Complexity: O(1).
        std::byte* pop() noexcept {
            std::uint64_t const free = free_;
            before_ = free;
            store_release(free_, free & (free - 1)); // clears the lowest 1
            return last_ = begin_ + lowest_bit(free) * block_bytes_;
        }

        // Where the block handed out last comes back next, as many do, nothing is computed from its
        // address, and the next pop() need not wait for that: a pair takes 0.7 of the time.
        [[nodiscard]] bool is_last(void const* p) const noexcept { return p == last_; }
        /// Requires: is_last(p) of the live block p.
        void push_last() noexcept {
            take_back(last_, block_bytes_);
            last_ = no_block();
            store_release(free_, before_);
        }
        /// To be called where a block that may be the last one came back otherwise.
        void forget_last() noexcept { last_ = no_block(); }

        /// Returns: what it has of that word of a slab.
        [[nodiscard]] std::uint64_t of(std::uint64_t const* word) const noexcept {
            std::uint64_t const free =
                load_acquire(free_); // before its word: claim() sets that first
            std::uint64_t const is_word = load_acquire(word_) == word ? 1 : 0;
            return free & (0 - is_word); // no branch: nobody could foretell it
        }
        /// Requires: it is empty, and the slab's current word has a free block.
        void claim(slab& s) noexcept;
        /// Gives the bits back to the slab.
        void unclaim(slab& s) noexcept;

      private:
        // Null may be given back by mistake, and any address of memory; the last ones are no process's.
        [[nodiscard]] static std::byte* no_block() noexcept {
            return reinterpret_cast<std::byte*>(std::uintptr_t{0} - 3);
        }

        std::uint64_t free_ = 0;
        std::uint64_t before_ = 0;     // free_ before the last pop()
        std::byte* last_ = no_block(); // the block handed out last, if it is live
        std::byte* begin_ = nullptr;   // the block of the word's first bit
        std::uint64_t const* word_ = nullptr;
        std::size_t block_bytes_ = 0;
    };
    /// What a call touches is one line: with the current slab's address.
    ///
    ///   I4  the blocks of the claimed word are the current slab's, live to it, and free.
    class alignas(64) pool : public claimed_word, public class_pool {
      public:
        /// Takes back the block handed out last. Requires: is_last(p). Returns: whether it may be
        /// sure that it is live: others have freed nothing beside it.
        bool push_last() noexcept {
            if (current->is_pending.load(std::memory_order_relaxed) != 0)
                return false;
            claimed_word::push_last();
            return true;
        }
        /// Takes a block of this class back. Returns: whether p was a live block of the slab.
        bool push(slab* s, void const* p) noexcept {
            std::uint64_t const i = s->block_of(offset_between(s->begin, p));
            if (i >= s->blocks)
                return false;
            std::uint64_t const mark = std::uint64_t{1} << i % 64;
            std::uint64_t& word = s->bits()[i / 64];
            std::uint64_t const free = word;
            if (((free | of(&word)) & mark) != 0)
                return false;
            take_back(p, s->block_bytes);
            store_release(word, free | mark);
            --s->count;
            return true;
        }

        /// Requires: nothing is claimed, and the current slab's word has a free block.
        void claim() noexcept { claimed_word::claim(*current); }
        void unclaim() noexcept { claimed_word::unclaim(*current); }
        /// Returns: the bits of 64 blocks of a slab of this class, where a bit says that the block is
        /// free, whoever freed it. Beside its thread's work: see is_live(). It disturbs that work only
        /// where it takes blocks from that word.
        [[nodiscard]] std::uint64_t free_bits(slab const& s, std::size_t i) const noexcept {
            std::uint64_t const* const word = s.bits() + i;
            std::uint64_t const free = s.free_bits(i);
            return load_acquire(s.word) == word ? free | of(word) : free;
        }

        pool_shard* shard = nullptr;
    };
    /// What is to be dealt with once no shard's mutex is held.
    struct findings {
        slab* strays = nullptr;           ///< slabs that are another shard's by now
        std::byte* freed_twice = nullptr; ///< a block; null: none was
        std::size_t freed_twice_bytes = 0;
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

    /// Returns: whether block i of a slab of any shard is live. Beside the work of its owner a live
    /// block may look free for a moment, a free one never looks live.
    static bool is_live(slab const& s, std::size_t i) noexcept;
    /// Requires: the slab's is_pending is 1, and the caller has set it, or taken the slab out.
    void hand_in(slab* s) noexcept;
    [[nodiscard]] bool may_serve(std::size_t size_class) const noexcept {
        return (serves.load(std::memory_order_relaxed) >> size_class & 1) != 0;
    }

    /// Whether the pool is one of its own. That is not read: its thread writes it all the time.
    [[nodiscard]] bool has(pool const* its) const noexcept {
        return offset_between(pools.data(), its) < sizeof pools;
    }

    /// Returns: bytes asked for in blocks taken here less those of blocks given back here; may wrap.
    [[nodiscard]] std::size_t requested_bytes() const noexcept {
        return load_relaxed(bytes_taken) - load_relaxed(bytes_returned);
    }

    // Nobody else.

    /// Makes all pending slabs no longer pending, without a look at their bits.
    void forget_pending() noexcept;
    /// Whether pools, and lists of pending slabs, are sound. Adds to `pending_found`.
    [[nodiscard]] bool check_invariants(std::size_t& pending_found) const;

    biased_mutex mutex;
    std::size_t bytes_taken = 0;    // asked for in blocks; its thread's, others read it
    std::size_t bytes_returned = 0; // maybe of blocks that another took
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
