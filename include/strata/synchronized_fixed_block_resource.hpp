// SPDX-License-Identifier: BSL-1.0
#pragma once

// synchronized_fixed_block_resource: the pool of equal blocks, for many threads at once.
//
//   thread ──► its magazine: a stack of free blocks            no lock
//                 │ half of it at a time
//   all    ──► fixed_block_resource: bits, runs, upstream      one lock
//
// Each block has a mark, a byte out of band, that says whether the user has it. Every free asks it:
// whichever thread freed the block before, a second free is reported when it is made. Only two frees
// of one block at the same instant may both pass; then two threads may get it.
//
//   I1  a mark is `single` or `other` exactly while the user has the block that starts there: `single`
//       where it is one block that a magazine may take, `other` for runs and what was asked of the
//       pool itself.
//   I2  to the pool a block in a magazine is live. A magazine is its thread's own, all else is the
//       lock's.
//
// A magazine holds 64 blocks, or 8 KiB, or 1/32 of all if that is less, and one at least: so many of
// the pool's blocks another thread may not get, though they are free; stats() shows them as free.
// A thread's first call takes 2 KiB from upstream for its magazine; without, it works with the lock.
// release(), trim(), check_invariants() and destruction need that no other call runs; all others may
// run in any threads at once, in thread-local destructors and, with the forking thread's magazine
// alone, in a child after fork.
//
// Cost: as fixed_block_resource, and a byte a block.
//
// Source: Bonwick and Adams, "Magazines and vmem", USENIX 2001.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <mutex>
#include <optional>

#include <strata/detail/annotate.hpp>
#include <strata/detail/magazine.hpp>
#include <strata/detail/thread_caches.hpp>
#include <strata/fixed_block_resource.hpp>

namespace strata {

class synchronized_fixed_block_resource final : public resource, private detail::thread_cached {
  public:
    /// As fixed_block_resource's; upstream is called twice, and by one thread at a time later.
    synchronized_fixed_block_resource(std::size_t capacity_bytes, std::size_t block_bytes,
                                      std::pmr::memory_resource* upstream = nullptr);
    /// As fixed_block_resource's; the marks lie in the buffer, too.
    synchronized_fixed_block_resource(void* buffer, std::size_t bytes, std::size_t block_bytes,
                                      std::pmr::memory_resource* upstream = nullptr);
    ~synchronized_fixed_block_resource() override;

    [[nodiscard]] std::size_t block_bytes() const noexcept { return pool_.block_bytes(); }
    [[nodiscard]] std::size_t capacity_blocks() const noexcept { return pool_.capacity_blocks(); }

    // std's calls, for holders of the concrete type without a virtual call.
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = detail::max_align) {
        return do_allocate(bytes, alignment);
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment = detail::max_align) {
        do_deallocate(p, bytes, alignment);
    }

  private:
    enum mark : std::uint8_t { none, single, other };
    static constexpr std::size_t most_cached = 64;
    struct cache : detail::thread_cache {
        detail::magazine blocks{};
        std::size_t bytes_taken = 0; // of what was asked for; read by others, too
        std::size_t bytes_returned = 0;
        detail::cached_block room[most_cached];
    };

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (bytes <= pool_.block_bytes_ && alignment <= pool_.common_alignment_ && mine_is_known())
            [[likely]] {
            auto& mine = static_cast<cache&>(known_mine());
            if (!mine.blocks.is_empty()) [[likely]] {
                detail::add_relaxed(mine.bytes_taken, bytes);
                return detail::hand_out(mine.blocks.pop(), bytes);
            }
        }
        return allocate_slow(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        std::size_t const i = pool_.index_of(p);
        if (i < pool_.blocks_ && bytes <= pool_.block_bytes_ && alignment <= pool_.alignment_ &&
            mine_is_known()) [[likely]] {
            auto& mine = static_cast<cache&>(known_mine());
            if (detail::get_mark(marks_ + i) == mark::single && !mine.blocks.is_full()) [[likely]] {
                detail::add_relaxed(mine.bytes_returned, bytes);
                detail::take_back(p, pool_.block_bytes_);
                return mine.blocks.push(p, marks_ + i);
            }
        }
        deallocate_slow(p, bytes, alignment);
    }
    std::optional<misuse_kind> do_try_deallocate(void* p, std::size_t bytes,
                                                 std::size_t alignment) override;
    bool do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                       std::size_t alignment) override;
    std::optional<misuse_kind> do_diagnose(void const* p, std::size_t bytes,
                                           std::size_t alignment) const override;
    bool do_owns(void const* p) const override { return pool_.owns(p); }
    std::size_t do_good_size(std::size_t bytes, std::size_t alignment) const override {
        return pool_.good_size(bytes, alignment);
    }
    void do_release() override;
    std::size_t do_trim() override;
    statistics do_stats() const override;
    void do_visit_blocks(block_visitor f) const override;
    bool do_check_invariants() const override;
    std::pmr::memory_resource* do_upstream_resource() const override {
        return pool_.upstream_resource();
    }
    char const* do_name() const noexcept override { return "synchronized_fixed_block_resource"; }

    void take_back(detail::thread_cache& gone) noexcept override;
    void lose(detail::thread_cache& gone) noexcept override;
    void lock_all() noexcept override { mutex_.lock(); }
    void unlock_all() noexcept override { mutex_.unlock(); }

    [[gnu::noinline]] void* allocate_slow(std::size_t bytes, std::size_t alignment);
    [[gnu::noinline]] void deallocate_slow(void* p, std::size_t bytes, std::size_t alignment);
    [[nodiscard]] cache* own_cache() noexcept;
    void destroy(cache& gone) noexcept;
    void draw(cache& mine) noexcept;
    void flush_oldest(cache& mine, std::size_t blocks) noexcept;
    [[nodiscard]] std::uint8_t mark_at(void const* p) const noexcept;
    [[nodiscard]] std::optional<misuse_kind> judge(void const* p, std::size_t bytes,
                                                   std::size_t alignment) const;
    [[nodiscard]] std::size_t cached_blocks() const noexcept;

    alignas(64) mutable std::mutex mutex_; // apart from what every call reads
    alignas(64) fixed_block_resource pool_;
    std::uint8_t* marks_ = nullptr; // one for each block
    std::size_t marks_bytes_ = 0;
    bool owns_marks_ = false;      // from upstream; else they lie in the caller's buffer
    std::size_t cached_each_ = 1;  // blocks that a magazine holds
    bool has_lost_blocks_ = false; // in a child process
};

} // namespace strata
