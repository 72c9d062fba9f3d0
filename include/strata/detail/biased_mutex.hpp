// SPDX-License-Identifier: BSL-1.0
#pragma once

// A mutex that belongs to one thread, its owner, who enters and leaves it with two plain stores and
// a load, no atomic operation and no fence. Others may lock it, at the price of a system call.
//
//   owner   inside = 1; is_revoked?          no: inside      yes: inside once the mutex was to be had
//   others  lock the mutex; is_revoked = true; fence in all threads; wait while inside = 1
//
// The owner's store may become visible after its load: the fence, run in every thread of the process
// by membarrier(2), stands between the two of each owner. So one of them sees the other's store.
// Where the system has no such call, is_revoked stays true: the owner asks for the mutex each time.
//
// Cost: enter() and leave() 3 instructions that touch memory, of one line; lock() about 1 us.
//
// Source: Dice, Moir and Scherer, "Quickly Reacquirable Locks", 2003; membarrier(2), Linux 4.14.

#include <atomic>
#include <mutex>

namespace strata::detail {

class biased_mutex {
  public:
    biased_mutex() noexcept : is_revoked_{!can_be_biased()} {}
    biased_mutex(biased_mutex const&) = delete;
    biased_mutex& operator=(biased_mutex const&) = delete;

    // Of the owner.

    /// Requires: it is outside. Returns: whether it is inside; if not, it may enter().
    [[nodiscard]] bool try_enter() noexcept {
        is_inside_.store(true, std::memory_order_relaxed);
        std::atomic_signal_fence(std::memory_order_seq_cst); // the compiler's order, at least
        if (!is_revoked_.load(std::memory_order_acquire)) [[likely]]
            return true;
        leave();
        return false;
    }
    void enter() noexcept;
    void leave() noexcept { is_inside_.store(false, std::memory_order_release); }

    // Of others, and of an owner who is outside.

    void lock() noexcept;
    void unlock() noexcept;

  private:
    static bool can_be_biased() noexcept;

    std::atomic<bool> is_inside_{false};
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
