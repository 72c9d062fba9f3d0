// SPDX-License-Identifier: BSL-1.0
#include <strata/segregated_pool_resource.hpp>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace strata {

using detail::slab;
using detail::slab_state;

// --- allocate ---

// Large blocks, and aligned ones.
void* segregated_pool_resource::allocate_large(std::size_t bytes, std::size_t alignment) {
    std::size_t const c = class_of(bytes, alignment);
    void* const p = detail::is_power_of_two(alignment) ? pools_[c].pop() : nullptr;
    if (p == nullptr)
        return allocate_next(bytes, alignment, c);
    bytes_taken_ += bytes;
    return detail::hand_out(p, bytes);
}

// The current word has no block: there may be a next one, or upstream has to serve.
void* segregated_pool_resource::allocate_next(std::size_t bytes, std::size_t alignment,
                                              std::size_t c) {
    if (c == classes_.count() || !detail::is_power_of_two(alignment))
        return served_.allocate(bytes, alignment);
    refill(c);
    bytes_taken_ += bytes;
    return detail::hand_out(pools_[c].pop(), bytes);
}

// The current slab is full: takes another that has a block.
void segregated_pool_resource::refill(std::size_t c) {
    class_pool& pool = pools_[c];
    if (pool.advance())
        return;
    slab* const fresh = source_.take(classes_.block_bytes(c), pool.current->bytes);
    fresh->assign(pool, c, classes_.block_bytes(c));
    pool.install(fresh);
}

// --- deallocate ---

// Frees a block of this pool. Returns: whether p is one.
bool segregated_pool_resource::push(void const* p, class_pool& pool) noexcept {
    if (pool.is_last(p)) {
        if (!pool.push_last(p))
            return false;
        detail::take_back(p, classes_.block_bytes(static_cast<std::size_t>(&pool - pools_.data())));
        return true;
    }
    slab* const s = source_.find(p);
    if (s == nullptr || s->owner != &pool || !s->push(p))
        return false;
    if (s->count == 0)
        returned(s);
    return true;
}

void segregated_pool_resource::returned(slab* s) noexcept {
    detail::class_pool& pool = *s->owner;
    if (!pool.returned(s))
        return;
    pool.serving.remove(s);
    source_.put(s);
}

std::optional<misuse_kind> segregated_pool_resource::do_try_deallocate(void* p, std::size_t bytes,
                                                                       std::size_t alignment) {
    std::size_t const c = class_of(bytes, alignment);
    if (c != classes_.count() && push(p, pools_[c])) {
        bytes_returned_ += bytes;
        return std::nullopt;
    }
    return source_.find(p) != nullptr ? do_diagnose(p, bytes, alignment)
                                      : served_.deallocate(p, bytes, alignment);
}

// Large blocks, those not found at the first guess, and wrong calls.
void segregated_pool_resource::deallocate_slow(void* p, std::size_t bytes, std::size_t alignment) {
    if (p == nullptr)
        return;
    if (auto const wrong = do_try_deallocate(p, bytes, alignment))
        report(*wrong, p, bytes, alignment);
}

// --- the rest of the interface ---

bool segregated_pool_resource::do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                                             std::size_t alignment) {
    slab const* const s = source_.find(p);
    if (s == nullptr)
        return old_bytes == new_bytes;
    if (&pools_[class_of(new_bytes, alignment)] != s->owner)
        return false;
    bytes_taken_ += new_bytes;
    bytes_returned_ += old_bytes;
    detail::refit(p, old_bytes, new_bytes);
    return true;
}

void segregated_pool_resource::do_release() {
    pools_ = {};
    bytes_taken_ = bytes_returned_ = 0;
    source_.release();
    served_.release();
}

std::size_t segregated_pool_resource::do_trim() {
    std::size_t const before = source_.held_bytes();
    for (class_pool& pool : pools_)
        if (pool.has_free_last())
            push(pool.take_last(), pool);
    for (class_pool& pool : pools_)
        if (slab* const empty = pool.surrender_empty_current())
            source_.put(empty);
    source_.trim();
    return before - source_.held_bytes() + served_.trim();
}

statistics segregated_pool_resource::do_stats() const {
    statistics s = segregated_base::do_stats();
    s.requested_bytes += std::min(bytes_taken_ - bytes_returned_, s.live_bytes - served_.bytes());
    return s;
}

// --- invariants ---

namespace {

bool violated(char const* what, void const* where) {
    std::fprintf(stderr, "strata: segregated_pool_resource: %s at %p\n", what, where);
    return false;
}

} // namespace

bool segregated_pool_resource::check_pool(class_pool const& pool) const {
    for (slab const* s = pool.serving.front(); s != nullptr; s = s->next)
        if (s->count == 0)
            return violated("an empty slab is in its class's serving list", s->begin);
    if (std::byte const* const waiting = pool.waiting(); waiting != nullptr) {
        slab const* const from = source_.find(waiting);
        if (from == nullptr || from->owner != &pool || !from->is_live(waiting))
            return violated("what waits is no block of its class", waiting);
    }
    return pool.check_invariants();
}

bool segregated_pool_resource::do_check_invariants() const {
    if (!source_.check_invariants() || !served_.check_invariants())
        return false;
    bool sound = true;
    std::size_t serving = 0;
    source_.for_each([&](slab const& s) {
        if (!sound || s.state == slab_state::empty)
            return;
        serving += s.state == slab_state::serving ? 1u : 0u;
        sound = s.check_invariants();
    });
    for (std::size_t c = 0; sound && c < classes_.count(); ++c) {
        sound = check_pool(pools_[c]);
        serving -= pools_[c].current != slab::none() ? 1u : 0u;
        for (slab const* s = pools_[c].serving.front(); s != nullptr; s = s->next)
            --serving;
    }
    if (sound && serving != 0)
        return violated("a slab that can serve is in no list", this);
    return sound;
}

} // namespace strata
