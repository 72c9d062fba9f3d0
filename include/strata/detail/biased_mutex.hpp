// SPDX-License-Identifier: BSL-1.0
#pragma once

// A mutex that belongs to one thread, its owner, who enters and leaves it with two plain stores and
// two loads, no atomic operation and no fence. Others may lock it, at the price of a system call.
//
//   owner   inside = 1; is_revoked?          no: inside      yes: inside once the mutex was to be had
//   others  lock the mutex; is_revoked = true; fence in all threads; wait while inside = 1
//
// The bit is the lowest of a word, of which the rest is a sum. The owner adds to it with the
// store that it leaves with: what it has to count costs no store of its own.
//
// The owner's store may become visible after its load: the fence, run in every thread of the process
// by membarrier(2), stands between the two of each owner. So one of them sees the other's store.
// Where the system has no such call, is_revoked stays true: the owner asks for the mutex each time.
//
// Cost: enter() and leave() 4 instructions that touch memory, of one line; lock() about 1 us.
//
// Source: Dice, Moir and Scherer, "Quickly Reacquirable Locks", 2003; membarrier(2), Linux 4.14.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace strata::detail {

class biased_mutex {
  public:
    biased_mutex() noexcept : is_revoked_{!can_be_biased()} {}
    biased_mutex(biased_mutex const&) = delete;
    biased_mutex& operator=(biased_mutex const&) = delete;

    // Of the owner.

    /// Requires: it is outside. Returns: the word, for the next two.
    [[nodiscard]] std::uint64_t outside() const noexcept {
        return word_.load(std::memory_order_relaxed);
    }
    /// Requires: before == outside(). Returns: whether it is inside; if not, it may enter().
    [[nodiscard]] bool try_enter(std::uint64_t before) noexcept {
        word_.store(before + inside_bit, std::memory_order_relaxed);
        std::atomic_signal_fence(std::memory_order_seq_cst); // the compiler's order, at least
        if (!is_revoked_.load(std::memory_order_acquire)) [[likely]]
            return true;
        set(before);
        return false;
    }
    void enter() noexcept;
    /// Adds to the sum, which may wrap. Requires: before == outside() when it entered.
    void leave_from(std::uint64_t before, std::size_t added) noexcept {
        set(before + 2 * std::uint64_t{added});
    }
    void leave(std::size_t added = 0) noexcept { leave_from(outside() - inside_bit, added); }
    /// Requires: it is outside.
    void add(std::size_t n) noexcept { leave_from(outside(), n); }

    // Of others, and of an owner who is outside.

    /// Returns: the sum; what is below zero wraps.
    [[nodiscard]] std::size_t sum() const noexcept {
        return static_cast<std::size_t>(
            static_cast<std::int64_t>(word_.load(std::memory_order_relaxed)) >> 1);
    }
    void lock() noexcept;
    void unlock() noexcept;

  private:
    static constexpr std::uint64_t inside_bit = 1;
    static bool can_be_biased() noexcept;
    void set(std::uint64_t word) noexcept { word_.store(word, std::memory_order_release); }

    std::atomic<std::uint64_t> word_{0};
    std::atomic<bool> is_revoked_;
    std::mutex mutex_;
};

/// Who is inside for a scope: the owner, or another who holds the lock.
class inside {
  public:
    enum class as : bool { owner, other };

    inside(biased_mutex& of, as who) noexcept : of_{of}, who_{who} {
        if (who_ == as::owner)
            of_.enter();
        else
            of_.lock();
    }
    inside(inside const&) = delete;
    inside& operator=(inside const&) = delete;
    ~inside() {
        if (who_ == as::owner)
            of_.leave();
        else
            of_.unlock();
    }

  private:
    biased_mutex& of_;
    as who_;
};

} // namespace strata::detail
