// SPDX-License-Identifier: BSL-1.0
#pragma once

// synchronized_segregated_pool_resource: the segregated pool, for many threads at once.
//
//   thread ──► its shard   magazines   a stack of free blocks for each size class
//                          class pools, as those of segregated_pool_resource, behind the shard's lock
//                             │  slabs
//   all    ──► slab source, served blocks: behind one lock, under which upstream is called
//
// A thread takes blocks from its magazines and returns them there, whoever took them: no lock, and no
// write that another thread sees, as long as blocks stay with threads. An empty magazine draws from
// the thread's own slabs; of a full one the older half goes back to the slabs, whosever they are, one
// lock for many blocks. So neighbouring blocks belong to one thread. A slab whose blocks are all back
// serves any thread, any class. When a thread ends, its magazines are emptied, and its shard waits for
// the next thread.
//
// Each block has a mark, a byte behind the slab's blocks, that says whether it is live. Every free asks
// it: whichever thread freed the block before, or allocated it, a second free is reported when it is
// made. Only two frees of one block at the same instant may both pass, unreported; so may, rarely, one
// that comes while the block's slab changes its class.
//
//   I1  a mark is 1 exactly while the user has the block.
//   I2  to its slab a block in a magazine is live; a slab belongs to a class pool of one shard, or is
//       empty and with the source.
//   I3  magazines, table and counts of a shard are its thread's own; its class pools are the lock's.
//
// Locks: the source's, then a shard's; upstream is called under the former alone, so two such pools
// may be stacked. When each thread frees what it took, no line of memory is written by two: magazines
// and marks by that thread, slab records by it under its shard's lock; what all read (table, classes,
// the place of the thread's slot) is written when the pool grows, or threads come and go. So it scales
// with the cores, until blocks cross threads: then each costs its share of a lock for half a magazine,
// and of a line of marks.
//
// A magazine holds 64 blocks, or 3 KiB of them if that is less, or one: at most 72 KiB a thread with
// the default classes, which stats() shows as free. Slabs go back to the source, chunks to upstream
// with trim() or release() only. These two, check_invariants() and destruction need that no other
// call runs; all others may run in any threads at once, in thread-local and static destructors (with
// a lock then) and in a child after fork, where what other threads' magazines held is lost.
//
// Cost: allocate and deallocate O(1); overhead 1/64 and a byte a block, 24 KiB for each thread.
//
// Source: Bonwick and Adams, "Magazines and vmem", USENIX 2001; Berger et al., "Hoard", 2000.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <mutex>
#include <optional>
#include <span>

#include <strata/detail/class_pool.hpp>
#include <strata/detail/magazine.hpp>
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
    using magazine = detail::magazine;
    struct shard;
    struct shard_pool : detail::class_pool {
        shard* of = nullptr;
    };
    // What a thread has of this resource, in memory from upstream.
    struct alignas(64) shard : detail::thread_cache {
        detail::slab_table::view table{};
        std::size_t bytes_taken = 0; // of what was asked for; read by others, too
        std::size_t bytes_returned = 0;
        std::array<magazine, detail::size_classes::most_classes + 1> magazines{};

        alignas(64) std::mutex mutex; // of the pools
        std::array<shard_pool, detail::size_classes::most_classes> pools{};
        std::size_t slabs = 0;          // under the mutex
        std::size_t magazine_bytes = 0; // under the source's lock

        [[nodiscard]] std::size_t bytes() const noexcept { return sizeof(shard) + magazine_bytes; }
        std::atomic<std::size_t> last_seen{}; // slabs_taken_ when it was at slabs last
    };

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (!classes_.tabulates(bytes, alignment)) [[unlikely]]
            return allocate_slow(bytes, alignment);
        if (!mine_is_known()) [[unlikely]]
            return allocate_slow(bytes, alignment);
        auto* const mine = static_cast<shard*>(&known_mine());
        magazine& m = mine->magazines[classes_.of(bytes, alignment)];
        if (m.is_empty()) [[unlikely]]
            return allocate_slow(bytes, alignment);
        detail::add_relaxed(mine->bytes_taken, bytes);
        return m.pop();
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        if (!classes_.tabulates(bytes, alignment)) [[unlikely]]
            return deallocate_slow(p, bytes, alignment);
        if (!mine_is_known()) [[unlikely]]
            return deallocate_slow(p, bytes, alignment);
        auto* const mine = static_cast<shard*>(&known_mine());
        std::size_t const c = classes_.of(bytes, alignment);
        slab* const s = mine->table.guess(p);
        std::uint8_t* const mark = detail::live_mark(*s, c, p);
        magazine& m = mine->magazines[c];
        if (mark == nullptr || m.is_full()) [[unlikely]]
            return deallocate_slow(p, bytes, alignment);
        detail::add_relaxed(mine->bytes_returned, bytes);
        m.push(p, mark, s);
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
    void lock_all() noexcept override;
    void unlock_all() noexcept override;

    [[nodiscard]] bool is_live(slab const& s, void const* p) const noexcept override;
    [[nodiscard]] std::size_t live_in(slab const& s) const noexcept override;

    [[gnu::noinline]] void* allocate_slow(std::size_t bytes, std::size_t alignment);
    [[gnu::noinline]] void deallocate_slow(void* p, std::size_t bytes, std::size_t alignment);
    shard& unused_shard();
    shard* joined() noexcept;
    void destroy(shard& gone) noexcept;
    template <class Function>
    void for_each_shard(Function const& f) const;
    void* pop(shard& mine, std::size_t bytes, std::size_t c);
    void refill(shard& mine, std::size_t c);
    void enlarge(shard& mine, std::size_t c) noexcept;
    bool draw(shard& from, std::size_t c, magazine& into, std::size_t most) noexcept;
    bool draw_from_others(shard const* mine, std::size_t c, magazine& into, std::size_t most,
                          std::size_t idle_for) noexcept;
    void take_slab(shard& owner, std::size_t c);
    void flush_oldest(shard& mine, std::size_t c, std::size_t blocks) noexcept;
    slab* flush(std::span<detail::cached_block const> blocks) noexcept;
    void flush_all(shard& mine) noexcept;
    void put_empty(shard& from) noexcept;
    void put(slab* list) noexcept;
    [[nodiscard]] std::size_t held_bytes() const noexcept;
    [[nodiscard]] slab* find(shard* mine, void const* p) const noexcept;

    // What threads write lies apart from what every call reads.
    // Asked for in blocks that came back to nobody's shard, and more such sums: it may wrap.
    alignas(64) std::atomic<std::size_t> returned_without_shard_{};
    bool has_lost_blocks_ = false; // in a child process
    std::atomic<std::size_t> slabs_taken_{};
    mutable std::mutex
        source_mutex_; // of the source and the served blocks; upstream is called under it
};

} // namespace strata
