// SPDX-License-Identifier: BSL-1.0
#pragma once

// synchronized_segregated_pool_resource: the segregated pool, for many threads at once.
//
//   thread ──► its shard   class pools as those of segregated_pool_resource: slabs, their free bits
//                ▲   │
//   others ──────┘   │     free a block of its slabs: set a remote bit, and say so, once a slab
//   all    ──────────▼───  slab source, served blocks: behind one lock, under which upstream is called
//
// A thread takes blocks from its own slabs and gives them back there: no lock, no atomic operation,
// no line of memory that another thread writes. A block that another thread frees has its remote bit
// set, one atomic operation; the owner of the slab collects these bits when a class has nothing left.
// A slab whose blocks are all back serves any thread, any class. When a thread ends, its shard waits
// for the next thread.
//
// Every free is checked, whichever thread took the block or freed it before: its bit says that it is
// free, or its remote bit. Of two frees at the same instant both may pass; that is reported when the
// slab's owner collects (one, where it finds several at once), and nothing is lost, unless it has
// handed the block out anew by then: its new user loses it, as with any second free that comes when a
// block is live anew. One that comes while the slab changes its class may be missed, or free a block of
// the new class.
//
//   I1  a slab belongs to a class pool of one shard, or is empty and with the source. It changes hands
//       under the source's lock and its shard's.
//   I2  class pools are written by who is inside the shard's mutex; remote bits, is_pending and the
//       shard's list of pending slabs by any thread.
//
// Locks: the source's, then a shard's, which its thread enters at the price of two stores and others
// lock with a system call (biased_mutex.hpp): they do so to use the slabs of a thread that has taken
// none while 64 were taken, or when 8 and more wait for a thread to collect them. Upstream is
// called under the source's lock alone, so two such pools may be stacked.
//
// On many cores, counted by test/shared_lines (an operation is an allocation or a free; churn is of
// 512 blocks of 8 to 512 bytes a thread):
//
//                                  lines from or to others    own lock    all threads' lock
//   a pair, in its own thread               0                    0              0
//   churn, in its own thread            below 0.01               0          below 0.001
//   handed to another thread            below 0.3                0          below 0.01
//
// What never leaves a thread scales with the cores, but for the source's lock, which is taken when a
// slab comes or goes. With n threads that compute t ns between two such visits and hold the lock for
// s, a closed queue has all of them at work up to about n = t / s: churn at 15 ns an operation visits
// once in 15 us at most, so with s = 100 to 300 ns (three lines from far away) 128 cores lose a part of
// their time only where every thread takes and empties slabs all the while; larger slabs are the
// remedy. Blocks handed over cost the two threads the lines that they share, and nobody else.
//
// Slabs go back to the source when they are empty, but for two of each class: the one in use and one
// more; chunks to upstream with trim() or release() only. These two, check_invariants() and
// destruction need that no other call runs, nor fork; all others may run in any threads at once, in
// thread-local and static destructors (with a lock then) and in a child after fork. visit_blocks()
// may take a block for free that another thread allocates or frees meanwhile.
//
// Cost: allocate and deallocate O(1); overhead 1/32 of a slab, 9 KiB for each thread.
//
// Source: Leijen, Zorn and de Moura, "Mimalloc: Free List Sharding in Action", 2019, for lists of a
// thread's own and frees by others; Berger et al., "Hoard", 2000, for the bound on what is idle.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <mutex>
#include <optional>

#include <strata/detail/annotate.hpp>
#include <strata/detail/pool_shard.hpp>
#include <strata/detail/segregated_base.hpp>
#include <strata/detail/thread_caches.hpp>

namespace strata {

class synchronized_segregated_pool_resource final : public detail::segregated_base,
                                                    private detail::thread_cached {
  public:
    /// Null upstream stands for new_delete_resource(). Upstream is called by one thread at a time.
    /// Does not touch upstream.
    /// Throws: invalid_argument when block_sizes or largest_block_bytes are out of range.
    explicit synchronized_segregated_pool_resource(segregated_pool_options const& options,
                                                   std::pmr::memory_resource* upstream = nullptr);
    explicit synchronized_segregated_pool_resource(std::pmr::memory_resource* upstream)
        : synchronized_segregated_pool_resource(segregated_pool_options{}, upstream) {}
    synchronized_segregated_pool_resource()
        : synchronized_segregated_pool_resource(segregated_pool_options{}) {}
    ~synchronized_segregated_pool_resource() override;

    // std's calls, for holders of the concrete type without a virtual call.
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = detail::max_align) {
        return do_allocate(bytes, alignment);
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment = detail::max_align) {
        do_deallocate(p, bytes, alignment);
    }

  private:
    using slab = detail::slab;
    using shard = detail::pool_shard; // what a thread has of this resource, in memory from upstream

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (!classes_.tabulates(bytes, alignment) || !mine_is_known()) [[unlikely]]
            return allocate_slow(bytes, alignment);
        auto& mine = static_cast<shard&>(known_mine());
        shard::pool& pool = mine.pools[classes_.of(bytes, alignment)];
        if (!mine.mutex.try_enter()) [[unlikely]]
            return allocate_slow(bytes, alignment);
        if (pool.is_empty()) [[unlikely]]
            return allocate_next(mine, pool, bytes, alignment);
        void* const p = pool.pop();
        mine.mutex.leave();
        detail::add_relaxed(mine.bytes_taken, bytes);
        return detail::hand_out(p, bytes);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        if (!classes_.tabulates(bytes, alignment) || !mine_is_known()) [[unlikely]]
            return deallocate_slow(p, bytes, alignment);
        auto& mine = static_cast<shard&>(known_mine());
        shard::pool& pool = mine.pools[classes_.of(bytes, alignment)];
        if (!mine.mutex.try_enter()) [[unlikely]]
            return deallocate_slow(p, bytes, alignment);
        if (!pool.is_last(p) || !pool.push_last())
            return deallocate_any(mine, p, bytes, alignment, pool);
        mine.mutex.leave();
        detail::add_relaxed(mine.bytes_returned, bytes);
    }
    std::optional<misuse_kind> do_try_deallocate(void* p, std::size_t bytes,
                                                 std::size_t alignment) override;
    bool do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                       std::size_t alignment) override;
    std::optional<misuse_kind> do_diagnose(void const* p, std::size_t bytes,
                                           std::size_t alignment) const override;
    bool do_owns(void const* p) const override;
    void do_release() override;
    std::size_t do_trim() override;
    statistics do_stats() const override;
    void do_visit_blocks(block_visitor f) const override;
    bool do_check_invariants() const override;
    char const* do_name() const noexcept override {
        return "synchronized_segregated_pool_resource";
    }

    void take_back(detail::thread_cache& cache) noexcept override;
    void lose(detail::thread_cache& cache) noexcept override;
    void be_child() noexcept override;
    void lock_all() noexcept override;
    void unlock_all() noexcept override;

    [[nodiscard]] bool is_live(slab const& s, void const* p) const noexcept override;
    [[nodiscard]] std::size_t live_in(slab const& s) const noexcept override;

    [[gnu::noinline]] void* allocate_slow(std::size_t bytes, std::size_t alignment);
    [[gnu::noinline]] void deallocate_slow(void* p, std::size_t bytes, std::size_t alignment);
    // Apart, and of the shard, so that do_allocate() and do_deallocate() save no register.
    [[gnu::noinline]] static void* allocate_next(shard& mine, shard::pool& pool, std::size_t bytes,
                                                 std::size_t alignment);
    [[gnu::noinline]] static void deallocate_any(shard& mine, void* p, std::size_t bytes,
                                                 std::size_t alignment, shard::pool& pool);
    [[gnu::noinline]] static void deallocate_next(shard& mine, slab* s, void* p, std::size_t bytes,
                                                  std::size_t alignment);
    [[gnu::noinline]] static void returned_last(shard& mine, slab* s, std::size_t bytes) noexcept;
    static synchronized_segregated_pool_resource& of(shard& mine) noexcept;
    shard& unused_shard();
    void enlist(shard& mine) noexcept;
    shard* joined(slab const& s) noexcept;
    void destroy(shard& gone) noexcept;
    template <class Function>
    void for_each_shard(Function const& f) const;

    void* pop(shard& mine, std::size_t bytes, std::size_t c);
    void* pop_of_any(std::size_t bytes, std::size_t c);
    void* hand_out_and_tell(void* p, std::size_t bytes, std::size_t c, shard::findings& found);
    void* take_slab(shard& mine, detail::inside::as who, std::size_t c, shard::findings& found);
    template <class PopOf>
    void* take_from_others(shard const& mine, std::size_t c, std::size_t idle_for,
                           shard::findings& found, PopOf const& pop_of) noexcept;
    void gather(shard::findings& found) noexcept;
    void put_empty(shard& of, std::size_t c) noexcept;
    void put_all_empty(shard& of) noexcept;

    bool push(shard* mine, slab* s, void const* p) noexcept;
    bool push_remote(slab* s, std::size_t i) noexcept;
    [[gnu::noinline]] static std::optional<bool> push_own(shard& mine, slab* s,
                                                          void const* p) noexcept;
    [[gnu::noinline]] std::optional<bool> push_in_doubt(shard::pool const& its, slab* s,
                                                        std::size_t i) noexcept;
    static void forward(slab* pending) noexcept;
    void hand_in(slab* pending) noexcept;
    void collect_in_quiet(shard::findings& found) noexcept;
    void tell(shard::findings& found);

    [[nodiscard]] std::size_t held_bytes() const noexcept;
    [[nodiscard]] slab* find(shard* mine, void const* p) const noexcept;

    // What threads write lies apart from what every call reads.
    // Asked for in blocks that came back to nobody's shard, and more such sums: it may wrap.
    alignas(64) std::atomic<std::size_t> returned_without_shard_{};
    std::atomic<std::size_t> slabs_taken_{};
    mutable std::mutex
        source_mutex_; // of the source and the served blocks; upstream is called under it
};

} // namespace strata
