// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/thread_caches.hpp>

#include <algorithm>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>

#include <pthread.h>

#include <strata/detail/rare_path.hpp>

namespace strata::detail {

// A thread's caches. Its own mutex is all that the thread needs to look at them; who takes one away
// has the registry's besides.
struct thread_list {
    std::mutex mutex;
    thread_cache* first = nullptr;
    bool has_ended = false; // read by its thread alone
};
static_assert(std::is_trivially_destructible_v<thread_list>, "it is used until the thread is gone");

struct thread_registry {
    std::mutex list_mutex; // of the next two
    thread_cached* newest = nullptr;
    std::array<std::uint32_t, thread_slots{}.size()> instances_of_slot{};
    std::mutex threads_mutex; // of who takes caches from threads, and taking_back_

    void lock_all() noexcept {
        list_mutex.lock();
        for (thread_cached* i = newest; i != nullptr; i = i->next_)
            i->lock_all();
        threads_mutex.lock();
    }
    void unlock_all() noexcept {
        threads_mutex.unlock();
        for (thread_cached* i = newest; i != nullptr; i = i->next_)
            i->unlock_all();
        list_mutex.unlock();
    }
    void thread_ends(thread_list& ending) noexcept;
    void be_child(thread_list const& forking) noexcept;
};

namespace {

// Constant-initialised and never destroyed: threads may end after main has.
union immortal {
    constexpr immortal() noexcept : registry{} {}
    ~immortal() {}
    thread_registry registry;
};
constinit immortal the;

constinit thread_local thread_list own;

// The first call registers what is to be done when the thread ends: the C library takes a lock for
// that, which others may hold who wait for ours.
void see_to_end_of_thread() {
    struct ending {
        ~ending() {
            own.has_ended = true;
            slots_of_thread.fill({});
            the.registry.thread_ends(own);
        }
    };
    [[maybe_unused]] thread_local ending const at_end;
}

void link(thread_cache& cache, thread_list& list) noexcept {
    cache.list_of_thread = &list;
    cache.previous_of_thread = nullptr;
    cache.next_of_thread = list.first;
    if (list.first != nullptr)
        list.first->previous_of_thread = &cache;
    list.first = &cache;
}

void unlink(thread_cache& cache) noexcept {
    thread_cache* const before = cache.previous_of_thread;
    thread_cache* const after = cache.next_of_thread;
    (before != nullptr ? before->next_of_thread : cache.list_of_thread->first) = after;
    if (after != nullptr)
        after->previous_of_thread = before;
    cache.list_of_thread = nullptr;
}

} // namespace

// Instances are called without a lock, since they lock; they wait in leave() until that is done.
void thread_registry::thread_ends(thread_list& ending) noexcept {
    std::unique_lock lock{threads_mutex};
    while (ending.first != nullptr) {
        thread_cache& cache = *ending.first;
        thread_cached& instance = *cache.instance;
        unlink(cache);
        ++instance.taking_back_;
        lock.unlock();
        rare_path("thread_caches: a thread ends");
        instance.take_back(cache);
        cache.is_free.store(true, std::memory_order_release);
        lock.lock();
        --instance.taking_back_;
    }
}

// Threads' lists lay on stacks that are gone.
void thread_registry::be_child(thread_list const& forking) noexcept {
    for (thread_cached* i = newest; i != nullptr; i = i->next_) {
        i->taking_back_ = 0;
        for (thread_cache* c = i->caches(); c != nullptr; c = c->next_of_instance)
            if (c->list_of_thread != &forking && !c->is_free) {
                rare_path("thread_caches: a child loses a cache");
                c->list_of_thread = nullptr;
                i->lose(*c);
                c->is_free = true;
            }
        i->be_child();
    }
}

void thread_cached::enter() {
    [[maybe_unused]] static int const follows_forks =
        ::pthread_atfork([] { the.registry.lock_all(); }, [] { the.registry.unlock_all(); },
                         [] {
                             the.registry.be_child(own);
                             the.registry.unlock_all();
                         });
    thread_registry& all = the.registry;
    std::lock_guard const lock{all.list_mutex};
    generation_ = ++last_generation;
    auto& users = all.instances_of_slot;
    slot_ = static_cast<std::size_t>(std::min_element(users.begin(), users.end()) - users.begin());
    ++users[slot_];
    next_ = all.newest;
    if (next_ != nullptr)
        next_->previous_ = this;
    all.newest = this;
}

void thread_cached::leave() noexcept {
    thread_registry& all = the.registry;
    std::lock_guard const lock{all.list_mutex};
    --all.instances_of_slot[slot_];
    (previous_ != nullptr ? previous_->next_ : all.newest) = next_;
    if (next_ != nullptr)
        next_->previous_ = previous_;
}

void thread_cached::take_all_back() noexcept {
    thread_registry& all = the.registry;
    generation_ = ++last_generation; // slots still lead to these caches
    std::unique_lock lock{all.threads_mutex};
    for (thread_cache* c = caches(); c != nullptr; c = c->next_of_instance)
        if (thread_list* const list = c->list_of_thread; list != nullptr) {
            std::lock_guard const list_lock{list->mutex}; // its thread may be at others in it
            rare_path("thread_caches: a cache is taken from its thread");
            unlink(*c);
        }
    while (taking_back_ != 0) {
        lock.unlock();
        rare_path("thread_caches: an instance waits for a thread that ends");
        std::this_thread::yield();
        lock.lock();
    }
    for (thread_cache* c = caches(); c != nullptr; c = c->next_of_instance)
        c->is_free = true;
}

void thread_cached::forget(thread_cache& cache) noexcept {
    if (caches_ == &cache)
        caches_ = cache.next_of_instance;
    for (thread_cache* c = caches_; c != nullptr; c = c->next_of_instance)
        if (c->next_of_instance == &cache)
            c->next_of_instance = cache.next_of_instance;
}

thread_cache* thread_cached::known() const noexcept {
    if (mine_is_known())
        return &known_mine();
    std::lock_guard const lock{own.mutex};
    thread_cache* found = own.first;
    while (found != nullptr && found->instance != this)
        found = found->next_of_thread;
    if (found == nullptr)
        return nullptr;
    rare_path("thread_caches: instances share a slot");
    slots_of_thread[slot_] = {generation_, found};
    return found;
}

thread_cache* thread_cached::unused() noexcept {
    for (thread_cache* c = caches(); c != nullptr; c = c->next_of_instance)
        if (take_unused(*c))
            return c;
    return nullptr;
}

bool thread_cached::take_unused(thread_cache& cache) noexcept {
    if (!cache.is_free.load(std::memory_order_relaxed) ||
        !cache.is_free.exchange(false, std::memory_order_acquire))
        return false;
    rare_path("thread_caches: a cache is used again");
    return true;
}

void thread_cached::list(thread_cache& cache) noexcept {
    if (std::exchange(cache.is_listed, true))
        return;
    cache.instance = this;
    cache.next_of_instance = caches_.load(std::memory_order_relaxed);
    while (
        !caches_.compare_exchange_weak(cache.next_of_instance, &cache, std::memory_order_release)) {
    }
}

bool thread_cached::join(thread_cache& cache) noexcept {
    list(cache);
    if (own.has_ended) {
        rare_path("thread_caches: a thread that has ended gets no cache");
        cache.is_free.store(true, std::memory_order_release);
        return false;
    }
    see_to_end_of_thread();
    std::lock_guard const lock{own.mutex};
    link(cache, own);
    slots_of_thread[slot_] = {generation_, &cache};
    return true;
}

} // namespace strata::detail
