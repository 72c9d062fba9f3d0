// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/biased_mutex.hpp>

#include <cstdlib>
#include <mutex>
#include <thread>

#include <strata/detail/rare_path.hpp>

#if defined(__linux__)
#    include <linux/membarrier.h>
#    include <sys/syscall.h>
#    include <unistd.h>
#endif

namespace strata::detail {

namespace {

#if defined(__linux__)
bool membarrier(int command) noexcept {
    return ::syscall(SYS_membarrier, command, 0) == 0;
}
bool register_process() noexcept {
    return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}
// A process that was forked may have to register anew.
void fence_in_all_threads() noexcept {
    if (!membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) &&
        (!register_process() || !membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)))
        std::abort(); // it was there before
}
#else
bool register_process() noexcept {
    return false;
}
void fence_in_all_threads() noexcept {}
#endif

} // namespace

bool biased_mutex::can_be_biased() noexcept {
    static bool const can = register_process();
    return can;
}

// While the mutex is held here, nobody revokes; who does so next waits.
void biased_mutex::enter() noexcept {
    if (try_enter())
        return;
    rare_path("biased_mutex: its owner waits");
    std::lock_guard const lock{mutex_};
    is_inside_.store(true, std::memory_order_relaxed);
}

void biased_mutex::lock() noexcept {
    mutex_.lock();
    if (can_be_biased()) {
        is_revoked_.store(true, std::memory_order_relaxed);
        fence_in_all_threads();
    }
    while (is_inside_.load(std::memory_order_acquire)) {
        rare_path("biased_mutex: others wait for its owner");
        std::this_thread::yield(); // it is inside for some instructions
    }
}

void biased_mutex::unlock() noexcept {
    is_revoked_.store(!can_be_biased(), std::memory_order_release);
    mutex_.unlock();
}

} // namespace strata::detail
