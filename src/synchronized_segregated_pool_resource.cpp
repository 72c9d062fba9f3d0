// SPDX-License-Identifier: BSL-1.0
#include <strata/synchronized_segregated_pool_resource.hpp>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <new>
#include <span>
#include <utility>

#include <strata/detail/return_upstream.hpp>

namespace strata {

using detail::cached_block;
using detail::class_pool;
using detail::magazine;
using detail::slab;
using detail::slab_state;

namespace {

// How many blocks a magazine holds.
constexpr std::size_t capacity_for(std::size_t block_bytes) noexcept {
    return std::clamp<std::size_t>(3072 / block_bytes, 1, 64);
}

// A thread that has been to no slab while so many were taken is idle: its slabs serve others.
constexpr std::size_t slabs_until_idle = 64;

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

// Returns: one that no thread has, from the list, or new.
synchronized_segregated_pool_resource::shard&
synchronized_segregated_pool_resource::unused_shard() {
    if (auto* const waiting = static_cast<shard*>(unused()))
        return *waiting;
    std::lock_guard const lock{source_mutex_};
    auto* const s = ::new (do_upstream_resource()->allocate(sizeof(shard), alignof(shard))) shard;
    s->table = source_.table();
    for (shard_pool& pool : s->pools)
        pool.of = s;
    return *s;
}

// Returns: a shard that is the thread's now; null where it can have none, or upstream has no memory.
synchronized_segregated_pool_resource::shard*
synchronized_segregated_pool_resource::joined() noexcept {
    try {
        shard& mine = unused_shard();
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
    for (magazine& m : gone.magazines)
        if (m.is_large())
            detail::return_upstream(do_upstream_resource(), m.begin,
                                    m.capacity() * sizeof(cached_block), alignof(cached_block));
    gone.~shard();
    detail::return_upstream(do_upstream_resource(), &gone, sizeof(shard), alignof(shard));
}

// A magazine that is used again and again gets its whole size, if upstream has as much.
void synchronized_segregated_pool_resource::enlarge(shard& mine, std::size_t c) noexcept {
    magazine& m = mine.magazines[c];
    std::size_t const blocks = capacity_for(classes_.block_bytes(c));
    if (m.is_large() || blocks == 1)
        return;
    std::lock_guard const lock{source_mutex_};
    try {
        std::size_t const bytes = blocks * sizeof(cached_block);
        m.move_to(static_cast<cached_block*>(
                      do_upstream_resource()->allocate(bytes, alignof(cached_block))),
                  blocks);
        mine.magazine_bytes += bytes;
    } catch (...) { // so it goes on as it is
    }
}

void synchronized_segregated_pool_resource::take_back(detail::thread_cache& cache) noexcept {
    auto& mine = static_cast<shard&>(cache);
    flush_all(mine);
    put_empty(mine);
}

void synchronized_segregated_pool_resource::lose(detail::thread_cache& cache) noexcept {
    for (magazine& m : static_cast<shard&>(cache).magazines)
        m.top = m.begin;
    has_lost_blocks_ = true;
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

// The magazine is empty, or the thread has none; large blocks, and aligned ones.
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
        void* const p = pop(*mine, bytes, c);
        join(*mine);
        return p;
    } catch (...) { // nothing has changed
        if (mine != nullptr && mine->is_listed)
            mine->is_free.store(true, std::memory_order_release);
        else if (mine != nullptr)
            destroy(*mine);
        auto* const any = static_cast<shard*>(caches());
        if (mine != nullptr || any == nullptr)
            throw;
        magazine m; // no memory for a shard: a block may be had without
        if (!draw_from_others(nullptr, c, m, 1, 0)) {
            for_each_shard([this](shard& s) { put_empty(s); });
            take_slab(*any, c);
            draw_from_others(nullptr, c, m, 1, 0);
        }
        if (m.is_empty())
            throw;
        returned_without_shard_.fetch_sub(bytes, std::memory_order_relaxed);
        return m.pop();
    }
}

void* synchronized_segregated_pool_resource::pop(shard& mine, std::size_t bytes, std::size_t c) {
    if (mine.magazines[c].is_empty())
        refill(mine, c);
    detail::add_relaxed(mine.bytes_taken, bytes);
    return mine.magazines[c].pop();
}

void synchronized_segregated_pool_resource::refill(shard& mine, std::size_t c) {
    magazine& m = mine.magazines[c];
    bool const is_first = m.drawn == 0;
    m.drawn = std::clamp<std::size_t>(2 * m.drawn, 1, (m.capacity() + 1) / 2);
    mine.last_seen.store(slabs_taken_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    while (!draw(mine, c, m, m.drawn) &&
           !draw_from_others(&mine, c, m, m.drawn, slabs_until_idle)) {
        try {
            take_slab(mine, c);
        } catch (std::bad_alloc const&) {
            if (draw_from_others(&mine, c, m, 1, 0))
                break;
            flush_all(mine);
            for_each_shard([this](shard& s) { put_empty(s); });
            take_slab(mine, c);
        }
    }
    if (!is_first)
        enlarge(mine, c);
}

// Fills an empty magazine with up to `most` blocks of `from`'s slabs, the lowest on top.
// Returns: whether there was one.
bool synchronized_segregated_pool_resource::draw(shard& from, std::size_t c, magazine& into,
                                                 std::size_t most) noexcept {
    class_pool& pool = from.pools[c];
    cached_block* at = into.begin + most;
    {
        std::lock_guard const lock{from.mutex};
        while (at != into.begin) {
            slab* const s = pool.current;
            auto const left = static_cast<std::size_t>(at - into.begin);
            if (s == slab::none() || s->pop_many(left, [&](std::byte* block, std::size_t i) {
                    *--at = {block, s->marks + i, s};
                }) == 0)
                if (!pool.advance())
                    break;
        }
    }
    into.top = std::move(at, into.begin + most, into.begin);
    return !into.is_empty();
}

// Fills an empty magazine from slabs of threads that have been idle for as many slabs as that.
// Returns: whether there was a block.
bool synchronized_segregated_pool_resource::draw_from_others(shard const* mine, std::size_t c,
                                                             magazine& into, std::size_t most,
                                                             std::size_t idle_for) noexcept {
    std::size_t const now = slabs_taken_.load(std::memory_order_relaxed);
    for_each_shard([&](shard& other) {
        if (&other != mine && into.is_empty() &&
            static_cast<std::ptrdiff_t>(now - other.last_seen.load(std::memory_order_relaxed)) >=
                static_cast<std::ptrdiff_t>(idle_for))
            draw(other, c, into, most);
    });
    return !into.is_empty();
}

// A thread that lacks the new slab in its table finds it under the source's lock.
void synchronized_segregated_pool_resource::take_slab(shard& owner, std::size_t c) {
    class_pool& pool = owner.pools[c];
    std::size_t const block_bytes = classes_.block_bytes(c);
    std::lock_guard const lock{source_mutex_};
    std::size_t last_bytes = 0;
    {
        std::lock_guard const owner_lock{owner.mutex};
        last_bytes = pool.current->bytes;
    }
    slab* const fresh = source_.take(block_bytes + 1, last_bytes); // a byte for the mark
    std::lock_guard const owner_lock{owner.mutex};
    if (pool.advance()) // blocks have come back meanwhile
        return source_.put(fresh);
    fresh->assign(pool, c, block_bytes, slab::marks_kept::behind_blocks);
    pool.install(fresh);
    ++owner.slabs;
    slabs_taken_.fetch_add(1, std::memory_order_relaxed);
}

// --- deallocate ---

// Returns: the slab that p lies in, or null.
slab* synchronized_segregated_pool_resource::find(shard* mine, void const* p) const noexcept {
    if (mine != nullptr)
        if (slab* const s = mine->table.find(p); s != nullptr)
            return s;
    std::lock_guard const lock{source_mutex_};
    if (mine != nullptr)
        mine->table = source_.table();
    return source_.find(p);
}

std::optional<misuse_kind>
synchronized_segregated_pool_resource::do_try_deallocate(void* p, std::size_t bytes,
                                                         std::size_t alignment) {
    std::size_t const c = class_of(bytes, alignment);
    auto* mine = static_cast<shard*>(known());
    slab* const s = find(mine, p);
    std::uint8_t* const mark = s != nullptr ? detail::live_mark(*s, c, p) : nullptr;
    if (mark == nullptr) {
        std::lock_guard const lock{source_mutex_};
        return s != nullptr ? segregated_base::do_diagnose(p, bytes, alignment)
                            : served_.deallocate(p, bytes, alignment);
    }
    if (mine == nullptr)
        mine = joined();
    if (mine == nullptr) { // without a shard, the slab has it back at once
        returned_without_shard_.fetch_add(bytes, std::memory_order_relaxed);
        detail::set_mark(mark, 0);
        cached_block const alone{detail::as_bytes(p), mark, s};
        put(flush({&alone, 1}));
        return std::nullopt;
    }
    magazine& m = mine->magazines[c];
    if (m.is_full())
        enlarge(*mine, c);
    if (m.is_full())
        flush_oldest(*mine, c, (m.capacity() + 1) / 2);
    detail::add_relaxed(mine->bytes_returned, bytes);
    m.push(p, mark, s);
    return std::nullopt;
}

void synchronized_segregated_pool_resource::deallocate_slow(void* p, std::size_t bytes,
                                                            std::size_t alignment) {
    if (p == nullptr)
        return;
    if (auto const wrong = do_try_deallocate(p, bytes, alignment))
        report(*wrong, p, bytes, alignment);
}

// Gives the oldest blocks of a magazine back to their slabs.
void synchronized_segregated_pool_resource::flush_oldest(shard& mine, std::size_t c,
                                                         std::size_t blocks) noexcept {
    magazine& m = mine.magazines[c];
    mine.last_seen.store(slabs_taken_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    slab* const empty = flush({m.begin, blocks});
    m.top = std::move(m.begin + blocks, m.top, m.begin);
    put(empty);
}

// Gives blocks back to their slabs. Returns: a list of slabs that are empty now.
slab* synchronized_segregated_pool_resource::flush(
    std::span<detail::cached_block const> blocks) noexcept {
    slab* empty = nullptr;
    std::unique_lock<std::mutex> lock; // of one shard at a time
    for (cached_block const& returned : blocks) {
        slab* const s = returned.from;
        if (s->owner == nullptr) // two frees at once, and the other's made the slab empty
            continue;
        shard& owner = *static_cast<shard_pool*>(s->owner)->of;
        if (!lock || lock.mutex() != &owner.mutex) {
            if (lock)
                lock.unlock();
            lock = std::unique_lock{owner.mutex};
        }
        // It is not taken where two frees met, and the other's came first.
        if (s->push_at(static_cast<std::size_t>(returned.mark - s->marks)) && s->count == 0 &&
            s->owner->returned_last(s)) {
            --owner.slabs;
            s->next = std::exchange(empty, s);
        }
    }
    return empty;
}

void synchronized_segregated_pool_resource::flush_all(shard& mine) noexcept {
    for (std::size_t c = 0; c < classes_.count(); ++c)
        if (std::size_t const cached = mine.magazines[c].size(); cached != 0)
            flush_oldest(mine, c, cached);
}

// A class pool keeps its current slab, though it is empty, until it is asked to give that back.
void synchronized_segregated_pool_resource::put_empty(shard& from) noexcept {
    slab* empty = nullptr;
    {
        std::lock_guard const lock{from.mutex};
        for (class_pool& pool : from.pools)
            if (pool.current->count == 0 && pool.current != slab::none()) {
                slab* const s = std::exchange(pool.current, slab::none());
                --from.slabs;
                s->next = std::exchange(empty, s);
            }
    }
    put(empty);
}

// Slabs that are in no class pool any more.
void synchronized_segregated_pool_resource::put(slab* list) noexcept {
    if (list == nullptr)
        return;
    std::lock_guard const lock{source_mutex_};
    while (list != nullptr)
        source_.put(std::exchange(list, list->next));
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
    return true;
}

std::optional<misuse_kind>
synchronized_segregated_pool_resource::do_diagnose(void const* p, std::size_t bytes,
                                                   std::size_t alignment) const {
    std::lock_guard const lock{source_mutex_};
    return segregated_base::do_diagnose(p, bytes, alignment);
}

bool synchronized_segregated_pool_resource::do_owns(void const* p) const {
    std::lock_guard const lock{source_mutex_};
    return segregated_base::do_owns(p);
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
    for_each_shard([this](shard& s) { flush_all(s); });
    for_each_shard([this](shard& s) { put_empty(s); });
    source_.trim();
    for (auto* s = static_cast<shard*>(caches()); s != nullptr;) {
        auto* const next = static_cast<shard*>(s->next_of_instance);
        s->table = source_.table();
        if (s->slabs == 0) {
            returned_without_shard_ += s->bytes_returned - s->bytes_taken;
            destroy(*s);
        }
        s = next;
    }
    return before - held_bytes() + served_.trim();
}

std::size_t synchronized_segregated_pool_resource::held_bytes() const noexcept {
    std::size_t bytes = source_.held_bytes();
    for_each_shard([&](shard& s) { bytes += s.bytes(); });
    return bytes;
}

bool synchronized_segregated_pool_resource::is_live(slab const& s, void const* p) const noexcept {
    return detail::live_mark(s, s.size_class, p) != nullptr;
}

std::size_t synchronized_segregated_pool_resource::live_in(slab const& s) const noexcept {
    return static_cast<std::size_t>(
        std::count_if(s.marks, s.marks + s.blocks,
                      [](std::uint8_t& mark) { return detail::get_mark(&mark) != 0; }));
}

statistics synchronized_segregated_pool_resource::do_stats() const {
    std::lock_guard const lock{source_mutex_};
    statistics s = segregated_base::do_stats();
    std::size_t requested = 0 - returned_without_shard_.load(std::memory_order_relaxed);
    for_each_shard([&](shard& one) {
        requested +=
            detail::load_relaxed(one.bytes_taken) - detail::load_relaxed(one.bytes_returned);
        s.footprint_bytes += one.bytes();
        s.overhead_bytes += one.bytes();
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
    std::size_t cached = 0;
    for_each_shard([&](shard& one) {
        for (std::size_t c = 0; sound && c < classes_.count(); ++c) {
            magazine const& m = one.magazines[c];
            cached += m.size();
            for (cached_block const* b = m.begin; sound && b != m.top; ++b) {
                slab const* const s = source_.find(b->block);
                sound = s != nullptr && s->size_class == c && s->is_live(b->block) &&
                        b->mark == s->marks + s->index_of(b->block) && *b->mark == 0;
            }
            if (!sound)
                violated("a magazine has what is no free block of its class", &m);
            slab const* const current = one.pools[c].current;
            if (current != slab::none() &&
                (current->state != slab_state::serving || current->owner != &one.pools[c]))
                sound = violated("a slab should not be current", current);
        }
    });
    source_.for_each([&](slab const& s) {
        if (!sound || s.state == slab_state::empty)
            return;
        std::size_t vacant = 0;
        for (std::size_t i = 0; i < s.words(); ++i)
            vacant += static_cast<std::size_t>(std::popcount(s.bits()[i]));
        for (std::size_t i = 0; i < s.blocks; ++i)
            if (s.marks[i] != 0 && !s.is_live(s.begin + i * s.block_bytes))
                sound = violated("a block is live, and vacant in its slab", s.begin);
        std::size_t const live = live_in(s);
        if (vacant != s.blocks - s.live() || live > s.live())
            sound = violated("live blocks and bits do not add up in the slab", s.begin);
        cached -= s.live() - live;
    });
    if (sound && cached != 0 && !has_lost_blocks_)
        return violated("a block is in no magazine, or in two", this);
    return sound;
}

} // namespace strata
