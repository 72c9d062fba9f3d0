// SPDX-License-Identifier: BSL-1.0
#include <strata/segregated_pool_resource.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <utility>

namespace strata {

using detail::slab;
using detail::slab_state;

namespace {

std::size_t or_default(std::size_t value, std::size_t fallback) noexcept {
    return value != 0 ? value : fallback;
}

std::size_t largest_of(segregated_pool_options const& options) {
    if (options.largest_block_bytes != 0 || options.block_sizes.empty())
        return or_default(options.largest_block_bytes, 512);
    return *std::max_element(options.block_sizes.begin(), options.block_sizes.end());
}

detail::slab_source::geometry geometry_of(segregated_pool_options const& options,
                                          std::size_t largest_block) {
    constexpr std::size_t kib = 1024;
    constexpr std::size_t most = std::size_t{1} << 32;
    auto const in_range = [&](std::size_t value, std::size_t fallback, std::size_t least) {
        return std::clamp(or_default(value, fallback), least, most);
    };
    std::size_t const slab_bytes =
        std::bit_ceil(std::clamp(or_default(options.slab_bytes, 64 * kib),
                                 std::max(4 * kib, 2 * largest_block), 1024 * kib));
    std::size_t const first = in_range(options.first_chunk_bytes, 4 * kib, 4 * kib);
    return {slab_bytes, first, in_range(options.largest_chunk_bytes, 1024 * kib, first)};
}

// The usual ones are made once: pools are made for a moment, too, and a copy takes a tenth of the time.
detail::size_classes classes_for(segregated_pool_options const& options) {
    std::size_t const largest = largest_of(options);
    if (!options.block_sizes.empty() || largest != 512)
        return {options.block_sizes, largest};
    static detail::size_classes const usual{{}, 512};
    return usual;
}

} // namespace

segregated_pool_resource::segregated_pool_resource(segregated_pool_options const& options,
                                                   std::pmr::memory_resource* upstream)
    : classes_{classes_for(options)},
      served_{upstream},
      source_{geometry_of(options, classes_.largest()), served_.upstream()} {
    pass_through_ = options.pass_through || std::getenv("STRATA_FORCE_UPSTREAM") != nullptr;
    if (pass_through_)
        classes_.switch_table_off();
}

segregated_pool_options segregated_pool_resource::options() const noexcept {
    auto const& shape = source_.shape();
    return {classes_.block_sizes(),  classes_.largest(),        shape.slab_bytes,
            shape.first_chunk_bytes, shape.largest_chunk_bytes, pass_through_};
}

// Returns: the class that serves such a request; classes_.count() when upstream does.
std::size_t segregated_pool_resource::class_of(std::size_t bytes,
                                               std::size_t alignment) const noexcept {
    if (classes_.tabulates(bytes, alignment))
        return classes_.of(bytes, alignment);
    return pass_through_ ? classes_.count() : classes_.find(bytes, alignment);
}

// --- allocate ---

// Large blocks, and aligned ones.
void* segregated_pool_resource::allocate_large(std::size_t bytes, std::size_t alignment) {
    std::size_t const c = class_of(bytes, alignment);
    void* const p = detail::is_power_of_two(alignment) ? pools_[c].pop() : nullptr;
    if (p == nullptr)
        return allocate_next(bytes, alignment, c);
    bytes_taken_ += bytes;
    return p;
}

// The current word has no block: there may be a next one, or upstream has to serve.
void* segregated_pool_resource::allocate_next(std::size_t bytes, std::size_t alignment,
                                              std::size_t c) {
    if (c == classes_.count() || !detail::is_power_of_two(alignment))
        return served_.allocate(bytes, alignment);
    if (!pools_[c].current->turn())
        refill(c);
    bytes_taken_ += bytes;
    return pools_[c].pop();
}

// Replaces the current slab, which is full, by one that has a block.
void segregated_pool_resource::refill(std::size_t c) {
    class_pool& pool = pools_[c];
    slab* next = pool.serving.pop();
    if (next == nullptr) {
        next = source_.take(classes_.block_bytes(c), pool.current->bytes);
        next->assign(pool, classes_.block_bytes(c));
    }
    next->turn();
    if (slab* const full = std::exchange(pool.current, next); full != slab::none()) {
        full->state = slab_state::full;
        full->count = 1; // the first block that returns makes it serve again
    }
}

// --- deallocate ---

// Frees a block of this pool. Returns: whether p is one.
bool segregated_pool_resource::push(void const* p, class_pool& pool) noexcept {
    if (pool.is_last(p))
        return pool.push_last(p);
    slab* const s = source_.find(p);
    if (s == nullptr || s->owner != &pool || !s->push(p))
        return false;
    if (s->count == 0)
        returned_last(s);
    return true;
}

// A slab's count has come down to 0: it can serve again, or it is empty.
void segregated_pool_resource::returned_last(slab* s) noexcept {
    class_pool& pool = *s->owner;
    if (s->state == slab_state::full) {
        s->state = slab_state::serving;
        s->count = s->blocks - 1;
        pool.serving.push_back(s); // by the time it is taken, more of its blocks may have returned
    }
    if (s->count == 0 && s != pool.current) {
        pool.serving.remove(s);
        source_.put(s);
    }
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

std::optional<misuse_kind> segregated_pool_resource::do_diagnose(void const* p, std::size_t bytes,
                                                                 std::size_t alignment) const {
    slab const* const s = source_.find(p);
    if (s == nullptr)
        return served_.diagnose(p, bytes, alignment);
    std::size_t const offset = detail::offset_between(s->begin, p);
    if (s->state == slab_state::empty || offset >= s->extent())
        return offset % 8 == 0 ? misuse_kind::double_free : misuse_kind::misaligned_pointer;
    if (offset % s->block_bytes != 0)
        return misuse_kind::misaligned_pointer;
    if (!is_live(*s, p))
        return misuse_kind::double_free;
    auto const is_served_by = [&](std::size_t for_alignment) {
        return &pools_[class_of(bytes, for_alignment)] == s->owner;
    };
    if (is_served_by(alignment))
        return std::nullopt;
    return is_served_by(8) || is_served_by(16) ? misuse_kind::alignment_mismatch
                                               : misuse_kind::size_mismatch;
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
    return true;
}

std::size_t segregated_pool_resource::do_good_size(std::size_t bytes, std::size_t alignment) const {
    std::size_t const c = class_of(bytes, alignment);
    return c == classes_.count() ? bytes : classes_.block_bytes(c);
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
        if (pool.current->count == 0 && pool.current != slab::none())
            source_.put(std::exchange(pool.current, slab::none()));
    source_.trim();
    return before - source_.held_bytes() + served_.trim();
}

// The bit of a block that waits in its pool says live.
bool segregated_pool_resource::is_live(slab const& s, void const* p) const noexcept {
    return s.is_live(p) && !s.owner->is_free_last(p);
}

// What an empty slab of `bytes` can be cut into, at most; 0 where it is too small for any class.
std::size_t segregated_pool_resource::largest_class_within(std::size_t bytes) const noexcept {
    auto const sizes = classes_.block_sizes();
    auto const above = std::upper_bound(sizes.begin(), sizes.end(), bytes);
    return above == sizes.begin() ? 0 : *std::prev(above);
}

statistics segregated_pool_resource::do_stats() const {
    statistics s;
    s.footprint_bytes = source_.held_bytes();
    source_.for_each([&](slab const& from) {
        bool const whole = from.state == slab_state::empty;
        std::size_t const block_bytes = whole ? from.bytes : from.block_bytes;
        std::size_t const live = whole ? 0 : from.live();
        std::size_t const free = whole ? 1 : from.blocks - live;
        s.live_blocks += live;
        s.live_bytes += live * block_bytes;
        s.free_blocks += free;
        s.free_bytes += free * block_bytes;
        if (free != 0)
            s.largest_free_bytes = std::max(
                s.largest_free_bytes, whole ? largest_class_within(block_bytes) : block_bytes);
    });
    for (std::size_t c = 0; c < classes_.count(); ++c) {
        if (!pools_[c].has_free_last())
            continue;
        std::size_t const block_bytes = classes_.block_bytes(c);
        --s.live_blocks;
        s.live_bytes -= block_bytes;
        ++s.free_blocks;
        s.free_bytes += block_bytes;
        s.largest_free_bytes = std::max(s.largest_free_bytes, block_bytes);
    }
    s.requested_bytes = std::min(bytes_taken_ - bytes_returned_, s.live_bytes);
    s.overhead_bytes = s.footprint_bytes - s.live_bytes - s.free_bytes;
    served_.add_to(s);
    return s;
}

void segregated_pool_resource::do_visit_blocks(block_visitor f) const {
    auto const served = served_.in_address_order();
    std::span<block_info const> rest = served;
    source_.visit([&](slab const& s) {
        rest = detail::visit_below(rest, s.begin, f);
        if (s.state == slab_state::empty) {
            f({s.begin, s.bytes, false});
            return;
        }
        for (std::byte const* p = s.begin; p != s.begin + s.extent(); p += s.block_bytes)
            f({p, s.block_bytes, is_live(s, p)});
    });
    detail::visit_below(rest, nullptr, f);
}

// --- invariants ---

namespace {

bool violated(char const* what, void const* where) {
    std::fprintf(stderr, "strata: segregated_pool_resource: %s at %p\n", what, where);
    return false;
}

// I1 of slab.hpp: exactly the free blocks have their bit set.
bool check_slab(slab const& s) {
    std::size_t live = 0;
    for (std::byte const* p = s.begin; p != s.begin + s.extent(); p += s.block_bytes)
        live += s.is_live(p) ? 1u : 0u;
    std::size_t free = 0;
    std::size_t const words = s.words();
    for (std::size_t i = 0; i < words; ++i)
        free += static_cast<std::size_t>(std::popcount(s.bits()[i]));
    if (live != s.live() || free != s.blocks - live)
        return violated("live blocks and bits do not add up in the slab", s.begin);
    auto const word = static_cast<std::size_t>(s.word - s.bits());
    if (word >= words || s.word_begin != s.begin + word * 64 * s.block_bytes)
        return violated("the current word is none of the slab", s.begin);
    return true;
}

} // namespace

bool segregated_pool_resource::check_pool(class_pool const& pool) const {
    for (slab const* s = pool.serving.front(); s != nullptr; s = s->next)
        if (s->state != slab_state::serving || s->owner != &pool || s == pool.current ||
            s->count == 0)
            return violated("a slab should not be in its class's serving list", s->begin);
    if (std::byte const* const waiting = pool.waiting(); waiting != nullptr) {
        slab const* const from = source_.find(waiting);
        if (from == nullptr || from->owner != &pool || !from->is_live(waiting))
            return violated("what waits is no block of its class", waiting);
    }
    slab const* const s = pool.current;
    if (s != slab::none() && (s->state != slab_state::serving || s->owner != &pool))
        return violated("a slab should not be current", s->begin);
    return true;
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
        sound = check_slab(s);
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
