// SPDX-License-Identifier: BSL-1.0
#pragma once

// A cache for each thread in each instance that wants one.
//
//   thread A   slots  │ gen 7, ● │ … │ gen 9, ● │      trivial thread-local data, a slot for an instance
//                          │              │
//   instance 7 ──────► cache of A  ⇄  cache of B  ⇄  cache of C, whose thread has ended: for the next
//
// An instance has a generation that no other ever has. A slot that says it leads to this thread's
// cache; a stale slot says another one. When a thread ends, each instance that is still there gets
// the thread's cache back; when an instance ends, threads find other generations.
//
//   I1  an instance is listed exactly while it lives; a cache that a live thread has is in that
//       thread's list, and in no other.
//   I2  a slot with an instance's generation points to a cache of that instance, used by no other
//       thread.
//
// Lock order: list of instances, the locks of instances, the newest instance first (an instance calls
// older ones, its upstreams), all threads' lists, one thread's list. The registry is never destroyed. A
// thread that allocates after its thread-local objects are gone has no cache (null). A child process
// keeps the cache of the thread that forked; what others' caches held is lost to it.
//
// Cost where a slot leads to the cache: 2 loads and 1 compare. A thread that uses more instances than
// it has slots searches its own list where two of them share one: an uncontended lock, and 1 to 2 ns for
// each of its instances.
//
// The model of thread-local storage is initial-exec, so that a library loaded late needs no call to
// find the slots. Each copy of this library that is loaded late takes 1/3 KiB of the 1.6 KiB that glibc
// keeps for such: 5 copies, more with GLIBC_TUNABLES=glibc.rtld.optional_static_tls. A copy has a
// registry of its own. Whether two share slots is for the linker to say; where they do they share
// generations, so that no instance finds the cache of another copy's.
//
// dlclose, while threads live: a thread that has a cache has its end registered in the library's name,
// and so has the handler for fork. The C library unloads it when the last such thread has ended and
// something is closed, and forgets the handler then; static objects in it live as long. Until then a
// thread may even go on to use its instances. The end is registered under no lock, since the
// loader's is taken for it: a constructor or destructor that dlopen or dlclose runs may allocate, and
// make and destroy instances.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace strata::detail {

class thread_cached;
struct thread_list;

/// The part of a cache that threads and instances know.
struct thread_cache {
    thread_cached* instance = nullptr;
    thread_cache* next_of_thread = nullptr;
    thread_cache* previous_of_thread = nullptr;
    thread_list* list_of_thread = nullptr; ///< null: no thread has it

    thread_cache* next_of_instance = nullptr;
    bool is_listed = false;      ///< by its instance
    std::atomic<bool> is_free{}; ///< listed, and waits for a thread
};

struct thread_slot {
    std::uint64_t generation;
    thread_cache* cache;
};
using thread_slots = std::array<thread_slot, 16>;
[[gnu::tls_model("initial-exec")]] extern constinit thread_local thread_slots slots_of_thread;
extern constinit std::atomic<std::uint64_t> last_generation;

/// Base of what has a cache for each thread.
class thread_cached {
  public:
    thread_cached(thread_cached const&) = delete;
    thread_cached& operator=(thread_cached const&) = delete;

  protected:
    thread_cached() noexcept = default;
    virtual ~thread_cached() = default;

    /// From now on threads may find the instance. To be called last in a constructor.
    void enter();

    /// Whether a slot leads to the calling thread's cache.
    [[nodiscard]] bool mine_is_known() const noexcept {
        return slots_of_thread[slot_].generation == generation_;
    }
    /// Requires: mine_is_known().
    [[nodiscard]] thread_cache& known_mine() const noexcept {
        return *slots_of_thread[slot_].cache;
    }
    /// Returns: the calling thread's cache; null where it has none.
    [[nodiscard]] thread_cache* known() const noexcept;
    /// Returns: one that waits for a thread, and is the caller's to hand on; null where none does.
    [[nodiscard]] thread_cache* unused() noexcept;
    /// The same of one. Returns: whether it waited.
    [[nodiscard]] static bool take_unused(thread_cache& cache) noexcept;
    /// Makes `cache`, which is unused or new, the calling thread's. Requires: it has none.
    /// Returns: whether it did; where the thread's local objects are gone, the cache waits again.
    bool join(thread_cache& cache) noexcept;
    /// The first part of that, for those who must list a new cache under a lock: join() may call what
    /// is called under none.
    void list(thread_cache& cache) noexcept;
    /// All caches that have ever joined, those made meanwhile perhaps not.
    [[nodiscard]] thread_cache* caches() const noexcept {
        return caches_.load(std::memory_order_acquire);
    }

    /// Ends what enter() began. Requires: take_all_back() was called.
    void leave() noexcept;
    /// Takes all caches away from their threads: they wait for a thread. Waits for threads that are in
    /// take_back(). Requires: no other call at the time; threads may end.
    void take_all_back() noexcept;
    /// Requires: take_all_back() was called, and no thread has joined since. Then the cache is known
    /// to nobody.
    void forget(thread_cache& cache) noexcept;

  private:
    friend struct thread_registry;

    /// The cache's thread has ended.
    virtual void take_back(thread_cache& cache) noexcept = 0;
    /// In a child process: the cache's thread is not there, and what it was doing will not be done.
    virtual void lose(thread_cache& cache) noexcept = 0;
    /// In a child process, after that.
    virtual void be_child() noexcept {}
    // For fork: so that no lock is held by a thread that the child does not have.
    virtual void lock_all() noexcept = 0;
    virtual void unlock_all() noexcept = 0;

    std::uint64_t generation_ = ~std::uint64_t{0}; // no slot has that
    std::size_t slot_ = 0;
    std::uint32_t taking_back_ = 0; // threads that are in take_back()
    std::atomic<thread_cache*> caches_{};
    thread_cached* next_ = nullptr; // in the registry's list
    thread_cached* previous_ = nullptr;
};

} // namespace strata::detail
