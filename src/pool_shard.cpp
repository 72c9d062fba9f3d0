// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/pool_shard.hpp>

#include <bit>
#include <cstdio>
#include <utility>

namespace strata::detail {

namespace {

bool violated(char const* what, void const* where) {
    std::fprintf(stderr, "strata: pool shard: %s at %p\n", what, where);
    return false;
}

} // namespace

bool pool_shard::is_live(slab const& s, std::size_t i) noexcept {
    for (;;) {
        std::uint32_t const moves =
            load_acquire(s.moves); // before its owner, which may change, too
        auto const* const its = static_cast<pool*>(s.owner.load(std::memory_order_acquire));
        if (its == nullptr || (its->free_bits(s, i / 64) >> i % 64 & 1) != 0)
            return false;
        if (load_relaxed(s.moves) == moves)
            return true;
    }
}

pool_shard::pool_shard() noexcept {
    for (pool& one : pools)
        one.shard = this;
}

void pool_shard::set_serving(std::size_t size_class, bool value) noexcept {
    std::uint64_t const bit = std::uint64_t{1} << size_class;
    std::uint64_t const others = serves.load(std::memory_order_relaxed) & ~bit;
    serves.store(value ? others | bit : others, std::memory_order_relaxed);
}

// Others who find a block's bit in neither place take it for live: it is in both while `moves` changes.
void pool_shard::claimed_word::claim(slab& s) noexcept {
    std::uint64_t const free = *s.word;
    s.count += static_cast<std::uint32_t>(std::popcount(free));
    before_ = free;
    begin_ = s.word_begin;
    block_bytes_ = s.block_bytes;
    last_ = no_block();
    store_release(word_, static_cast<std::uint64_t const*>(s.word));
    store_release(free_, free);
    store_release(s.moves, s.moves + 1);
    store_release(*s.word, std::uint64_t{0});
}

void pool_shard::claimed_word::unclaim(slab& s) noexcept {
    before_ = 0;
    last_ = no_block();
    std::uint64_t const free = free_;
    if (free == 0)
        return;
    store_release(*s.word, *s.word | free);
    store_release(s.moves, s.moves + 1);
    store_release(free_, std::uint64_t{0});
    s.count -= static_cast<std::uint32_t>(std::popcount(free));
}

bool pool_shard::serve(std::size_t size_class, findings& found) noexcept {
    pool& its = pools[size_class];
    while (its.is_empty()) {
        if (its.advance())
            its.claim();
        else if (slab* const s = next_pending(); s != nullptr)
            collect(s, found);
        else
            return false;
    }
    return true;
}

bool pool_shard::returned(slab* s) noexcept {
    class_pool& its = pools[s->size_class];
    set_serving(s->size_class, true);
    if (!its.returned(s))
        return false;
    its.serving.remove(s);
    bool const has_another = its.serving.front() != nullptr && its.serving.front()->count == 0;
    its.serving.push(s);
    return has_another;
}

void pool_shard::collect(slab* s, findings& found) noexcept {
    auto* const its = static_cast<pool*>(s->owner.load());
    if (!has(its)) {
        s->next_pending = std::exchange(found.strays, s);
        return;
    }
    set_serving(s->size_class, true);
    if (s == its->current)
        its->unclaim(); // then the slab's bits tell which blocks were freed twice
    std::byte* twice = nullptr;
    if (its->collect(s, twice)) {
        its->serving.remove(s);
        its->serving.push(s);
    }
    if (twice != nullptr) {
        found.freed_twice = twice;
        found.freed_twice_bytes = s->block_bytes;
    }
}

void pool_shard::collect_all(findings& found) noexcept {
    while (slab* const s = next_pending())
        collect(s, found);
}

void pool_shard::adopt(slab* s, std::size_t size_class) noexcept {
    pool& its = pools[size_class];
    s->owner.store(&its);
    if (s->count == 0)
        its.serving.push(s); // I3
    else
        its.serving.push_back(s);
    set_serving(size_class, true);
    ++slabs;
}

slab* pool_shard::surrender(std::size_t size_class) noexcept {
    pools[size_class].unclaim();
    slab* const s = pools[size_class].surrender();
    if (s != nullptr)
        --slabs;
    else
        set_serving(size_class, pools[size_class].current != slab::none());
    return s;
}

slab* pool_shard::surrender_empty(std::size_t size_class) noexcept {
    slab_list& list = pools[size_class].serving;
    if (list.front() == nullptr || list.front()->count != 0)
        return nullptr;
    --slabs;
    return list.pop();
}

slab* pool_shard::surrender_empty_current(std::size_t size_class) noexcept {
    pool& its = pools[size_class];
    its.unclaim();
    slab* const s = its.surrender_empty_current();
    if (s != nullptr)
        --slabs;
    set_serving(size_class, its.current != slab::none() || its.serving.front() != nullptr);
    return s;
}

void pool_shard::hand_in(slab* s) noexcept {
    pending_slabs.fetch_add(1, std::memory_order_relaxed);
    s->next_pending = pending.load(std::memory_order_relaxed);
    while (!pending.compare_exchange_weak(s->next_pending, s, std::memory_order_release,
                                          std::memory_order_relaxed)) {
    }
}

slab* pool_shard::next_pending() noexcept {
    if (to_collect_ == nullptr && pending.load(std::memory_order_relaxed) != nullptr)
        for (slab* s = pending.exchange(nullptr, std::memory_order_acquire); s != nullptr;) {
            slab* const next = std::exchange(s->next_pending, to_collect_);
            to_collect_ = std::exchange(s, next);
        }
    slab* const first = to_collect_;
    if (first == nullptr)
        return nullptr;
    to_collect_ = first->next_pending;
    pending_slabs.fetch_sub(1, std::memory_order_relaxed);
    return first;
}

void pool_shard::forget_pending() noexcept {
    while (slab* const s = next_pending())
        s->is_pending = 0;
    pending_slabs = 0;
}

bool pool_shard::check_invariants(std::size_t& pending_found) const {
    for (slab* first : {pending.load(), to_collect_})
        for (slab const* s = first; s != nullptr; s = s->next_pending) {
            ++pending_found;
            if (s->is_pending == 0)
                return violated("a slab is listed as pending, and is not", s->begin);
        }
    for (pool const& one : pools) {
        std::uint64_t const* const word = one.current->word;
        if (!one.is_empty() && (one.of(word) == 0 || (one.of(word) & *word) != 0))
            return violated("what is claimed is not of the current word, or is free there", &one);
        bool has_free = false;
        for (slab const* s = one.serving.front(); s != nullptr; s = s->next) {
            if (s->count == 0 && has_free)
                return violated("an empty slab does not stand in front", s->begin);
            has_free = s->count != 0;
        }
        if (!one.check_invariants())
            return false;
    }
    return true;
}

} // namespace strata::detail
