// SPDX-License-Identifier: BSL-1.0
#include <strata/synchronized_segregated_pool_resource.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <new>
#include <utility>

#include <strata/detail/rare_path.hpp>
#include <strata/detail/return_upstream.hpp>

namespace strata {

using detail::inside;
using detail::rare_path;
using detail::slab;
using detail::slab_state;

namespace {

// A thread that has been to no slab while so many were taken is idle: its slabs serve others.
constexpr std::size_t slabs_until_idle = 64;
// So many slabs may wait for their owner to collect them, until others do.
constexpr std::size_t most_pending = 8;

} // namespace

synchronized_segregated_pool_resource::synchronized_segregated_pool_resource(
    segregated_pool_options const& options, std::pmr::memory_resource* upstream)
    : segregated_base{options, upstream, detail::slab_source::users::many} {
    enter();
}

synchronized_segregated_pool_resource::~synchronized_segregated_pool_resource() {
    release();
    leave();
}

// --- shards ---

template <class Function>
void synchronized_segregated_pool_resource::for_each_shard(Function const& f) const {
    for (detail::thread_cache* s = caches(); s != nullptr; s = s->next_of_instance)
        f(static_cast<shard&>(*s));
}

synchronized_segregated_pool_resource&
synchronized_segregated_pool_resource::of(shard& mine) noexcept {
    return static_cast<synchronized_segregated_pool_resource&>(*mine.instance);
}

// Returns: one that no thread has, from the list, or new.
synchronized_segregated_pool_resource::shard&
synchronized_segregated_pool_resource::unused_shard() {
    if (auto* const waiting = static_cast<shard*>(unused()))
        return *waiting;
    std::lock_guard const lock{source_mutex_};
    auto* const s = ::new (do_upstream_resource()->allocate(sizeof(shard), alignof(shard))) shard;
    s->table = source_.table();
    return *s;
}

// No fork comes meanwhile: that locks the shards that are listed.
void synchronized_segregated_pool_resource::enlist(shard& mine) noexcept {
    std::lock_guard const lock{source_mutex_};
    list(mine);
}

// For a thread that begins with a free: it may go on with all that a thread left, which has ended, and
// gets that one's shard then. Returns: a shard that is the thread's now; null where it can have none, or
// upstream has no memory.
synchronized_segregated_pool_resource::shard*
synchronized_segregated_pool_resource::joined(slab const& s) noexcept {
    try {
        auto* const its = static_cast<shard::pool*>(s.owner.load(std::memory_order_acquire));
        bool const may_have_its = its != nullptr && take_unused(*its->shard);
        shard& mine = may_have_its ? *its->shard : unused_shard();
        enlist(mine);
        return join(mine) ? &mine : nullptr;
    } catch (...) {
        return nullptr;
    }
}

// Requires: no other call, if it is listed; its slabs, if it has any, go with the source's.
void synchronized_segregated_pool_resource::destroy(shard& gone) noexcept {
    if (gone.is_listed)
        forget(gone);
    std::lock_guard const lock{source_mutex_};
    gone.~pool_shard();
    detail::return_upstream(do_upstream_resource(), &gone, sizeof(shard), alignof(shard));
}

void synchronized_segregated_pool_resource::take_back(detail::thread_cache& cache) noexcept {
    auto& gone = static_cast<shard&>(cache);
    shard::findings found;
    {
        std::lock_guard const lock{source_mutex_};
        inside const in{gone.mutex, inside::as::owner};
        gone.collect_all(found);
        put_all_empty(gone);
    }
    hand_in(found.strays);
    try {
        tell(found);
    } catch (...) { // there is nobody to catch it
    }
}

// Its thread may have been on its way to wait outside.
void synchronized_segregated_pool_resource::lose(detail::thread_cache& cache) noexcept {
    static_cast<shard&>(cache).mutex.leave();
}

// A thread that is not here, with a shard or without, may have set a remote bit and told nobody.
void synchronized_segregated_pool_resource::be_child() noexcept {
    shard::findings found; // nobody to tell
    collect_in_quiet(found);
}

void synchronized_segregated_pool_resource::lock_all() noexcept {
    source_mutex_.lock();
    for_each_shard([](shard& s) { s.mutex.lock(); });
}
void synchronized_segregated_pool_resource::unlock_all() noexcept {
    for_each_shard([](shard& s) { s.mutex.unlock(); });
    source_mutex_.unlock();
}

// --- allocate ---

// Nothing is claimed. Inside the shard, which it leaves.
void* synchronized_segregated_pool_resource::allocate_next(shard& mine, shard::pool& pool,
                                                           std::size_t bytes,
                                                           std::size_t alignment) {
    if (!pool.advance()) [[unlikely]] {
        mine.mutex.leave();
        return of(mine).allocate_slow(bytes, alignment);
    }
    pool.claim();
    void* const p = pool.pop();
    mine.mutex.leave();
    detail::add_relaxed(mine.bytes_taken, bytes);
    return detail::hand_out(p, bytes);
}

// The class has no slab that can serve, or the thread no shard; large blocks, and aligned ones.
void* synchronized_segregated_pool_resource::allocate_slow(std::size_t bytes,
                                                           std::size_t alignment) {
    std::size_t const c = class_of(bytes, alignment);
    if (c == classes_.count() || !detail::is_power_of_two(alignment)) {
        std::lock_guard const lock{source_mutex_};
        return served_.allocate(bytes, alignment);
    }
    if (auto* const mine = static_cast<shard*>(known()))
        return pop(*mine, bytes, c);
    shard* mine = nullptr;
    try {
        mine = &unused_shard();
        void* const p = pop(*mine, bytes, c); // which lists it, if it is new
        join(*mine);
        return p;
    } catch (...) {
        if (mine == nullptr) { // no memory for a shard: a block may be had without
            rare_path("segregated pool: no memory for a shard");
            if (void* const p = pop_of_any(bytes, c))
                return p;
            throw;
        }
        if (mine->is_listed)
            mine->is_free.store(true, std::memory_order_release);
        else
            destroy(*mine);
        throw;
    }
}

void* synchronized_segregated_pool_resource::pop(shard& mine, std::size_t bytes, std::size_t c) {
    shard::findings found;
    void* p = nullptr;
    {
        inside const in{mine.mutex, inside::as::owner};
        if (mine.serve(c, found))
            p = mine.pools[c].pop();
    }
    hand_in(std::exchange(found.strays, nullptr));
    if (p == nullptr) {
        try {
            p = take_slab(mine, inside::as::owner, c, found);
        } catch (...) {
            tell(found);
            throw;
        }
    }
    detail::add_relaxed(mine.bytes_taken, bytes);
    return hand_out_and_tell(p, bytes, c, found);
}

// A thread without a shard takes a block of another's. Returns: null where there is none.
void* synchronized_segregated_pool_resource::pop_of_any(std::size_t bytes, std::size_t c) {
    shard::findings found;
    void* p = nullptr;
    if (auto* const any = static_cast<shard*>(caches())) {
        std::unique_lock lock{source_mutex_};
        for_each_shard([&](shard& of) {
            inside const in{of.mutex, inside::as::other};
            if (p == nullptr && of.serve(c, found))
                p = of.pools[c].pop();
        });
        forward(std::exchange(found.strays, nullptr));
        lock.unlock();
        if (p == nullptr)
            p = take_slab(*any, inside::as::other, c, found);
        returned_without_shard_.fetch_sub(bytes, std::memory_order_relaxed);
    }
    return p != nullptr ? hand_out_and_tell(p, bytes, c, found) : p;
}

// Throws: what the handler throws; then the block is free again.
void* synchronized_segregated_pool_resource::hand_out_and_tell(void* p, std::size_t bytes,
                                                               std::size_t c,
                                                               shard::findings& found) {
    detail::hand_out(p, bytes);
    try {
        tell(found);
    } catch (...) {
        do_try_deallocate(p, classes_.block_bytes(c), 1);
        returned_without_shard_.fetch_sub(classes_.block_bytes(c) - bytes,
                                          std::memory_order_relaxed);
        throw;
    }
    return p;
}

// Gives the shard a slab, and lists it with it: between the two no fork may come, since a child knows the
// shards that are listed. Returns: a block of it. Throws: what upstream throws.
void* synchronized_segregated_pool_resource::take_slab(shard& mine, inside::as who, std::size_t c,
                                                       shard::findings& found) {
    std::lock_guard const lock{source_mutex_};
    mine.last_seen.store(slabs_taken_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    auto const pop_of = [&](slab* adopted) noexcept {
        inside const in{mine.mutex, who};
        if (adopted != nullptr)
            mine.adopt(adopted, c);
        return mine.serve(c, found) ? mine.pools[c].pop() : nullptr;
    };
    void* p = take_from_others(mine, c, slabs_until_idle, found, pop_of);
    if (p == nullptr) {
        std::size_t const last_bytes = who == inside::as::owner ? mine.pools[c].current->bytes : 0;
        slab* fresh = nullptr;
        try {
            fresh = source_.take(classes_.block_bytes(c), last_bytes);
        } catch (...) {
            rare_path("segregated pool: upstream has none");
            gather(found);
            if ((p = pop_of(nullptr)) == nullptr)
                p = take_from_others(mine, c, 0, found, pop_of);
            if (p == nullptr)
                fresh = source_.take(classes_.block_bytes(c), last_bytes);
        }
        if (fresh != nullptr) {
            fresh->assign(mine.pools[c], c, classes_.block_bytes(c));
            slabs_taken_.fetch_add(1, std::memory_order_relaxed);
            p = pop_of(fresh);
        }
    }
    if (who == inside::as::owner)
        list(mine);
    forward(std::exchange(found.strays, nullptr));
    return p;
}

// Collects what waits for other threads, and takes a slab of one that has taken none for as many slabs
// as that. Requires: the source's lock, no shard's. Returns: pop_of(that slab), or null.
template <class PopOf>
void* synchronized_segregated_pool_resource::take_from_others(shard const& mine, std::size_t c,
                                                              std::size_t idle_for,
                                                              shard::findings& found,
                                                              PopOf const& pop_of) noexcept {
    std::size_t const now = slabs_taken_.load(std::memory_order_relaxed);
    void* p = nullptr;
    for_each_shard([&](shard& other) {
        if (p != nullptr || &other == &mine)
            return;
        std::size_t const pending = other.pending_slabs.load(std::memory_order_relaxed);
        bool const is_idle =
            static_cast<std::ptrdiff_t>(now - other.last_seen.load(std::memory_order_relaxed)) >=
            static_cast<std::ptrdiff_t>(idle_for);
        if (pending < most_pending && !(is_idle && (pending != 0 || other.may_serve(c))))
            return;
        rare_path(is_idle ? "segregated pool: an idle thread's slabs are taken"
                          : "segregated pool: others collect");
        inside const in{other.mutex, inside::as::other};
        other.collect_all(found);
        if (is_idle)
            put_all_empty(other);
        else
            for (std::size_t i = 0; i < classes_.count(); ++i)
                put_empty(other, i);
        // It changes hands while its old owner cannot be at it.
        if (slab* const s = is_idle ? other.surrender(c) : nullptr)
            p = pop_of(s);
    });
    forward(std::exchange(found.strays, nullptr));
    return p;
}

// Gives all empty slabs of all threads to the source. Requires: the source's lock, no shard's.
void synchronized_segregated_pool_resource::gather(shard::findings& found) noexcept {
    for_each_shard([&](shard& one) {
        inside const in{one.mutex, inside::as::other};
        one.collect_all(found);
        put_all_empty(one);
    });
    forward(std::exchange(found.strays, nullptr));
}

// Requires, as the next: the source's lock; inside the shard.
void synchronized_segregated_pool_resource::put_empty(shard& of, std::size_t c) noexcept {
    while (slab* const empty = of.surrender_empty(c))
        source_.put(empty);
}

void synchronized_segregated_pool_resource::put_all_empty(shard& of) noexcept {
    for (std::size_t c = 0; c < classes_.count(); ++c) {
        put_empty(of, c);
        if (slab* const empty = of.surrender_empty_current(c))
            source_.put(empty);
    }
}

// --- deallocate ---

// Returns: the slab that p lies in, or null.
slab* synchronized_segregated_pool_resource::find(shard* mine, void const* p) const noexcept {
    if (mine != nullptr)
        if (slab* const s = mine->table.find(p); s != nullptr)
            return s;
    rare_path("segregated pool: a thread's table is old, or has no such address");
    std::lock_guard const lock{source_mutex_};
    if (mine != nullptr)
        mine->table = source_.table();
    return source_.find(p);
}

std::optional<misuse_kind>
synchronized_segregated_pool_resource::do_try_deallocate(void* p, std::size_t bytes,
                                                         std::size_t alignment) {
    auto* mine = static_cast<shard*>(known());
    slab* const s = find(mine, p);
    if (s == nullptr) {
        std::lock_guard const lock{source_mutex_};
        return served_.deallocate(p, bytes, alignment);
    }
    if (mine == nullptr && !do_diagnose(p, bytes, alignment)) // else the call changes nothing
        mine = joined(*s);
    if (s->size_class == class_of(bytes, alignment) && push(mine, s, p)) {
        if (mine != nullptr)
            detail::add_relaxed(mine->bytes_returned, bytes);
        else {
            rare_path("segregated pool: a free without a shard");
            returned_without_shard_.fetch_add(bytes, std::memory_order_relaxed);
        }
        return std::nullopt;
    }
    return do_diagnose(p, bytes, alignment).value_or(misuse_kind::double_free);
}

void synchronized_segregated_pool_resource::deallocate_slow(void* p, std::size_t bytes,
                                                            std::size_t alignment) {
    if (p == nullptr)
        return;
    if (auto const wrong = do_try_deallocate(p, bytes, alignment))
        report(*wrong, p, bytes, alignment);
}

// Inside the shard, which it leaves.
void synchronized_segregated_pool_resource::deallocate_any(shard& mine, void* p, std::size_t bytes,
                                                           std::size_t alignment,
                                                           shard::pool& pool) {
    slab* const s = mine.table.guess_of_many(p);
    if (s->owner.load(std::memory_order_relaxed) != &pool ||
        s->is_pending.load(std::memory_order_relaxed) != 0 || !pool.push(s, p)) [[unlikely]] {
        mine.mutex.leave();
        return deallocate_next(mine, s, p, bytes, alignment);
    }
    if (s->count == 0) [[unlikely]]
        return returned_last(mine, s, bytes);
    mine.mutex.leave();
    detail::add_relaxed(mine.bytes_returned, bytes);
}

// The block is another thread's, or the guess at its slab was wrong.
void synchronized_segregated_pool_resource::deallocate_next(shard& mine, slab* s, void* p,
                                                            std::size_t bytes,
                                                            std::size_t alignment) {
    synchronized_segregated_pool_resource& self = of(mine);
    if (s == slab::none())
        s = mine.table.find(p);
    if (s == nullptr || s->size_class != self.classes_.of(bytes, alignment) ||
        !self.push(&mine, s, p)) [[unlikely]]
        return self.deallocate_slow(p, bytes, alignment);
    detail::add_relaxed(mine.bytes_returned, bytes);
}

// Frees a block of the slab. Returns: whether p was live.
bool synchronized_segregated_pool_resource::push(shard* mine, slab* s, void const* p) noexcept {
    std::uint64_t const found = s->index_of(p);
    auto const i = static_cast<std::size_t>(found);
    for (;;) {
        auto* const its = static_cast<shard::pool*>(s->owner.load(std::memory_order_acquire));
        if (its == nullptr || found >= s->blocks)
            return false;
        bool const is_mine = mine != nullptr && mine->has(its);
        if (!is_mine && shard::is_live(*s, i)) [[likely]]
            return push_remote(s, i);
        auto const is_done = is_mine ? push_own(*mine, s, p) : push_in_doubt(*its, s, i);
        if (is_done)
            return *is_done;
        rare_path("segregated pool: a slab was taken while a block of it came back");
    }
}

// Of another's slab: sets its remote bit, and tells the owner, once a slab.
bool synchronized_segregated_pool_resource::push_remote(slab* s, std::size_t i) noexcept {
    if (!s->push_remote(i))
        return false;
    if (s->is_pending.load() == 0 && s->is_pending.exchange(1) == 0) {
        s->next_pending = nullptr;
        hand_in(s);
    }
    return true;
}

// Of a slab of the thread's own. Returns: as push(); nothing where it is not its own any more.
std::optional<bool> synchronized_segregated_pool_resource::push_own(shard& mine, slab* s,
                                                                    void const* p) noexcept {
    mine.mutex.enter();
    auto* const its = static_cast<shard::pool*>(s->owner.load(std::memory_order_relaxed));
    bool const is_mine = its != nullptr && mine.has(its);
    bool const may_be_remote = s->is_pending.load(std::memory_order_relaxed) != 0;
    bool const is_done = is_mine && (!may_be_remote || s->is_live(p)) && its->push(s, p);
    if (is_done)
        its->forget_last(); // else deallocate() would take it for live
    if (is_done && s->count == 0)
        returned_last(mine, s, 0);
    else
        mine.mutex.leave();
    return is_mine ? std::optional{is_done} : std::nullopt;
}

// Of another's, of a block that is free, or looks so while its owner claims bits or gives them back.
// Returns: as push(); nothing where it is not that pool's any more.
std::optional<bool> synchronized_segregated_pool_resource::push_in_doubt(shard::pool const& its,
                                                                         slab* s,
                                                                         std::size_t i) noexcept {
    {
        std::lock_guard const lock{source_mutex_};
        if (s->owner.load(std::memory_order_relaxed) != &its)
            return std::nullopt;
        inside const in{its.shard->mutex, inside::as::other};
        if (!shard::is_live(*s, i))
            return false;
    }
    return push_remote(s, i);
}

// Inside the shard, which it leaves.
void synchronized_segregated_pool_resource::returned_last(shard& mine, slab* s,
                                                          std::size_t bytes) noexcept {
    std::size_t const c = s->size_class;
    bool const has_too_many = mine.returned(s);
    mine.mutex.leave();
    detail::add_relaxed(mine.bytes_returned, bytes);
    if (!has_too_many)
        return;
    synchronized_segregated_pool_resource& self = of(mine);
    std::lock_guard const lock{self.source_mutex_};
    inside const in{mine.mutex, inside::as::owner};
    if (slab* const empty = mine.surrender_empty(c)) // nobody took it meanwhile
        self.source_.put(empty);
}

// --- the rest of the interface ---

bool synchronized_segregated_pool_resource::do_try_resize(void* p, std::size_t old_bytes,
                                                          std::size_t new_bytes,
                                                          std::size_t alignment) {
    slab const* const s = find(static_cast<shard*>(known()), p);
    if (s == nullptr)
        return old_bytes == new_bytes;
    if (class_of(new_bytes, alignment) != s->size_class)
        return false;
    returned_without_shard_.fetch_add(old_bytes - new_bytes, std::memory_order_relaxed);
    detail::refit(p, old_bytes, new_bytes);
    return true;
}

std::optional<misuse_kind>
synchronized_segregated_pool_resource::do_diagnose(void const* p, std::size_t bytes,
                                                   std::size_t alignment) const {
    std::lock_guard const lock{source_mutex_};
    slab const* const s = source_.find(p);
    auto* const its = s != nullptr ? static_cast<shard::pool*>(s->owner.load()) : nullptr;
    std::optional<inside> in; // else a live block may look free: see free_bits()
    if (its != nullptr)
        in.emplace(its->shard->mutex, inside::as::other);
    return segregated_base::do_diagnose(p, bytes, alignment);
}

bool synchronized_segregated_pool_resource::do_owns(void const* p) const {
    std::lock_guard const lock{source_mutex_};
    return segregated_base::do_owns(p);
}

// --- pending slabs ---

// Hands slabs that are pending, and in no list, to their owners. Requires: the source's lock, under
// which alone a slab without an owner gets one.
void synchronized_segregated_pool_resource::forward(slab* pending) noexcept {
    while (pending != nullptr) {
        slab* const s = std::exchange(pending, pending->next_pending);
        auto* const its = static_cast<shard::pool*>(s->owner.load(std::memory_order_acquire));
        if (its != nullptr)
            its->shard->hand_in(s);
        else
            s->is_pending = 0; // it is empty: others have collected meanwhile
    }
}

// The same without the lock, which nearly always is not needed.
void synchronized_segregated_pool_resource::hand_in(slab* pending) noexcept {
    if (pending == nullptr)
        return;
    auto* const its = static_cast<shard::pool*>(pending->owner.load(std::memory_order_acquire));
    if (its != nullptr && pending->next_pending == nullptr)
        return its->shard->hand_in(pending);
    rare_path("segregated pool: pending slabs are another's");
    std::lock_guard const lock{source_mutex_};
    forward(pending);
}

// Reports what was found, once no lock is held; the block's slab may have another class by then, or have
// gone upstream. Throws: what the handler throws.
void synchronized_segregated_pool_resource::tell(shard::findings& found) {
    std::byte* const twice = std::exchange(found.freed_twice, nullptr);
    if (twice == nullptr)
        return;
    rare_path("segregated pool: a block was freed by two at once");
    report(misuse_kind::double_free, twice, found.freed_twice_bytes, detail::max_align);
}

// Collects all there is to collect. Requires: no other call, or all locks.
void synchronized_segregated_pool_resource::collect_in_quiet(shard::findings& found) noexcept {
    for_each_shard([](shard& s) { s.forget_pending(); });
    source_.for_each([&](slab const& s) {
        auto& one = const_cast<slab&>(s);
        auto* const its = static_cast<shard::pool*>(s.owner.load());
        if (its != nullptr && s.has_remote())
            its->shard->collect(&one, found);
        else if (s.is_pending != 0)
            one.is_pending = 0; // whoever was about to list it is not there
    });
}

void synchronized_segregated_pool_resource::do_release() {
    take_all_back();
    while (caches() != nullptr)
        destroy(static_cast<shard&>(*caches()));
    returned_without_shard_ = 0;
    source_.release();
    served_.release();
}

std::size_t synchronized_segregated_pool_resource::do_trim() {
    std::size_t const before = held_bytes();
    take_all_back();
    shard::findings found;
    collect_in_quiet(found);
    for_each_shard([this](shard& s) { put_all_empty(s); });
    source_.trim();
    for (auto* s = static_cast<shard*>(caches()); s != nullptr;) {
        auto* const next = static_cast<shard*>(s->next_of_instance);
        s->table = source_.table();
        if (s->slabs == 0) {
            returned_without_shard_ -= s->requested_bytes();
            destroy(*s);
        }
        s = next;
    }
    std::size_t const freed = before - held_bytes() + served_.trim();
    tell(found);
    return freed;
}

std::size_t synchronized_segregated_pool_resource::held_bytes() const noexcept {
    std::size_t bytes = source_.held_bytes();
    for_each_shard([&](shard const&) { bytes += sizeof(shard); });
    return bytes;
}

// Requires: a block begins at p.
bool synchronized_segregated_pool_resource::is_live(slab const& s, void const* p) const noexcept {
    return shard::is_live(s, s.index_of(p));
}

std::size_t synchronized_segregated_pool_resource::live_in(slab const& s) const noexcept {
    auto const* const its = static_cast<shard::pool*>(s.owner.load());
    std::size_t live = s.blocks;
    for (std::size_t i = 0; i < s.words(); ++i)
        live -= static_cast<std::size_t>(std::popcount(its->free_bits(s, i) & s.blocks_of_word(i)));
    return live;
}

statistics synchronized_segregated_pool_resource::do_stats() const {
    std::lock_guard const lock{source_mutex_};
    for_each_shard([](shard& one) { one.mutex.lock(); });
    statistics s = segregated_base::do_stats();
    for_each_shard([](shard& one) { one.mutex.unlock(); });
    std::size_t requested = 0 - returned_without_shard_.load(std::memory_order_relaxed);
    for_each_shard([&](shard& one) {
        requested += one.requested_bytes();
        s.footprint_bytes += sizeof(shard);
        s.overhead_bytes += sizeof(shard);
    });
    s.requested_bytes += std::min(requested, s.live_bytes - served_.bytes());
    return s;
}

void synchronized_segregated_pool_resource::do_visit_blocks(block_visitor f) const {
    std::lock_guard const lock{source_mutex_};
    segregated_base::do_visit_blocks(f);
}

// --- invariants ---

bool synchronized_segregated_pool_resource::do_check_invariants() const {
    auto const violated = [](char const* what, void const* where) {
        std::fprintf(stderr, "strata: synchronized_segregated_pool_resource: %s at %p\n", what,
                     where);
        return false;
    };
    if (!source_.check_invariants() || !served_.check_invariants())
        return false;
    bool sound = true;
    std::size_t slabs = 0;
    std::size_t pending = 0;
    for_each_shard([&](shard& one) {
        slabs += one.slabs;
        sound = sound && one.check_invariants(pending);
    });
    source_.for_each([&](slab const& s) {
        pending -= s.is_pending;
        if (!sound || s.state == slab_state::empty)
            return;
        --slabs;
        sound = s.check_invariants();
    });
    if (sound && slabs != 0)
        return violated("shards and their slabs do not add up", this);
    if (sound && pending != 0)
        return violated("a pending slab is in no list, or in two", this);
    return sound;
}

} // namespace strata
