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

// What a class that has no slab points to: it holds no address and has no block. Never written.
constinit std::uint64_t const no_bits = 0;
constinit slab const no_slab = [] {
    slab none{};
    none.word = const_cast<std::uint64_t*>(&no_bits);
    return none;
}();

slab* none() noexcept {
    return const_cast<slab*>(&no_slab);
}

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

} // namespace

segregated_pool_resource::segregated_pool_resource(segregated_pool_options const& options,
                                                   std::pmr::memory_resource* upstream)
    : classes_{options.block_sizes, largest_of(options)},
      served_{upstream},
      source_{geometry_of(options, classes_.largest()), served_.upstream()} {
    pass_through_ = options.pass_through || std::getenv("STRATA_FORCE_UPSTREAM") != nullptr;
    if (pass_through_)
        classes_.switch_table_off();
    forget_slabs();
}

segregated_pool_options segregated_pool_resource::options() const noexcept {
    auto const& shape = source_.shape();
    return {classes_.block_sizes(),  classes_.largest(),        shape.slab_bytes,
            shape.first_chunk_bytes, shape.largest_chunk_bytes, pass_through_};
}

void segregated_pool_resource::forget_slabs() noexcept {
    current_.fill(none());
    serving_.fill(detail::slab_list{});
    requested_bytes_ = 0;
}

// Returns: the class that serves such a request; classes_.count() when upstream does.
std::size_t segregated_pool_resource::class_of(std::size_t bytes,
                                               std::size_t alignment) const noexcept {
    if (classes_.tabulates(bytes, alignment))
        return classes_.of(bytes, alignment);
    return pass_through_ ? classes_.count() : classes_.find(bytes, alignment);
}

// --- allocate ---

void* segregated_pool_resource::allocate_slow(std::size_t bytes, std::size_t alignment) {
    std::size_t const c = class_of(bytes, alignment);
    if (c == classes_.count() || !detail::is_power_of_two(alignment))
        return served_.allocate(bytes, alignment);
    void* p = current_[c]->pop();
    if (p == nullptr) {
        if (!current_[c]->turn())
            serve_from_next_slab(c);
        p = current_[c]->pop();
    }
    requested_bytes_ += bytes;
    return p;
}

// Requires: the class's current slab has no block left.
void segregated_pool_resource::serve_from_next_slab(std::size_t c) {
    slab* next = serving_[c].pop();
    if (next == nullptr) {
        std::size_t const block_bytes = classes_.block_bytes(c);
        next = source_.take(block_bytes);
        next->assign(c, block_bytes);
    } else if ((~*next->word & next->starts) == 0) {
        next->turn();
    }
    if (slab* const full = std::exchange(current_[c], next); full != none()) {
        full->state = slab_state::full;
        full->count = 1; // the first block that returns makes it serve again
    }
}

// --- deallocate ---

// A slab's count has come down to 0: it can serve again, or it is empty.
void segregated_pool_resource::returned_last(slab* s) noexcept {
    std::size_t const c = s->size_class;
    if (s->state == slab_state::full) {
        s->state = slab_state::serving;
        s->count = s->capacity() - 1;
        serving_[c].push_back(s); // by the time it is taken, more of its blocks may have returned
    }
    if (s->count == 0 && s != current_[c]) {
        serving_[c].remove(s);
        source_.put(s);
    }
}

// Blocks of other slabs, large and over-aligned ones, those that upstream served, and wrong calls.
std::optional<misuse_kind> segregated_pool_resource::deallocate_slow(void* p, std::size_t bytes,
                                                                     std::size_t alignment) {
    slab* const s = source_.find(p);
    if (s == nullptr)
        return served_.deallocate(p, bytes, alignment);
    if (s->size_class != class_of(bytes, alignment) || s->state == slab_state::empty || !s->push(p))
        return do_diagnose(p, bytes, alignment);
    requested_bytes_ -= bytes;
    if (s->count == 0)
        returned_last(s);
    return std::nullopt;
}

void segregated_pool_resource::deallocate_or_report(void* p, std::size_t bytes,
                                                    std::size_t alignment) {
    if (p == nullptr)
        return;
    if (auto const wrong = deallocate_slow(p, bytes, alignment))
        report(*wrong, p, bytes, alignment);
}

std::optional<misuse_kind> segregated_pool_resource::do_diagnose(void const* p, std::size_t bytes,
                                                                 std::size_t alignment) const {
    slab const* const s = source_.find(p);
    if (s == nullptr)
        return served_.diagnose(p, bytes, alignment);
    std::size_t const offset = detail::offset_between(s->begin, p);
    if (s->state == slab_state::empty || offset >= s->extent)
        return offset % 8 == 0 ? misuse_kind::double_free : misuse_kind::misaligned_pointer;
    if (offset % s->block_bytes != 0)
        return misuse_kind::misaligned_pointer;
    if (!s->is_live(p))
        return misuse_kind::double_free;
    if (class_of(bytes, alignment) == s->size_class)
        return std::nullopt;
    bool const would_be_right =
        class_of(bytes, 8) == s->size_class || class_of(bytes, 16) == s->size_class;
    return would_be_right ? misuse_kind::alignment_mismatch : misuse_kind::size_mismatch;
}

// --- the rest of the interface ---

bool segregated_pool_resource::do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                                             std::size_t alignment) {
    slab const* const s = source_.find(p);
    if (s == nullptr)
        return old_bytes == new_bytes;
    if (class_of(new_bytes, alignment) != s->size_class)
        return false;
    requested_bytes_ += new_bytes - old_bytes;
    return true;
}

std::size_t segregated_pool_resource::do_good_size(std::size_t bytes, std::size_t alignment) const {
    std::size_t const c = class_of(bytes, alignment);
    return c == classes_.count() ? bytes : classes_.block_bytes(c);
}

void segregated_pool_resource::do_release() {
    forget_slabs();
    source_.release();
    served_.release();
}

std::size_t segregated_pool_resource::do_trim() {
    std::size_t const before = source_.held_bytes();
    for (slab*& s : current_)
        if (s != none() && s->count == 0)
            source_.put(std::exchange(s, none()));
    source_.trim();
    return before - source_.held_bytes() + served_.trim();
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
    source_.visit([&](slab const& from) {
        bool const whole = from.state == slab_state::empty;
        std::size_t const block_bytes = whole ? from.bytes : from.block_bytes;
        std::size_t const live = whole ? 0 : from.live();
        std::size_t const free = whole ? 1 : from.capacity() - live;
        s.live_blocks += live;
        s.live_bytes += live * block_bytes;
        s.free_blocks += free;
        s.free_bytes += free * block_bytes;
        if (free != 0)
            s.largest_free_bytes = std::max(
                s.largest_free_bytes, whole ? largest_class_within(block_bytes) : block_bytes);
    });
    s.requested_bytes = std::min(requested_bytes_, s.live_bytes);
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
        for (std::byte const* p = s.begin; p != s.begin + s.extent; p += s.block_bytes)
            f({p, s.block_bytes, s.is_live(p)});
    });
    detail::visit_below(rest, nullptr, f);
}

// --- invariants ---

namespace {

bool violated(char const* what, void const* where) {
    std::fprintf(stderr, "strata: segregated_pool_resource: %s at %p\n", what, where);
    return false;
}

// I1 of slab.hpp: exactly the live blocks have their bit set.
bool checked_slab(slab const& s) {
    std::size_t live = 0;
    for (std::byte const* p = s.begin; p != s.begin + s.extent; p += s.block_bytes)
        live += s.is_live(p) ? 1u : 0u;
    std::size_t bits_set = 0;
    for (std::size_t i = 0; i < slab::bits_bytes(s.bytes) / 8; ++i)
        bits_set += static_cast<std::size_t>(std::popcount(s.bits()[i]));
    if (live != s.live() || bits_set != live)
        return violated("live blocks and bits do not add up in the slab", s.begin);
    if (s.word_begin != s.begin + ((s.word - s.bits()) * 64 << s.shift))
        return violated("the current word is not where it should be in the slab", s.begin);
    return true;
}

} // namespace

bool segregated_pool_resource::checked_class(std::size_t c) const {
    for (slab const* s = serving_[c].front(); s != nullptr; s = s->next)
        if (s->state != slab_state::serving || s->size_class != c || s == current_[c] ||
            s->count == 0 || s->count == s->capacity())
            return violated("a slab should not be in its class's serving list", s->begin);
    slab const* const s = current_[c];
    if (s != none() && (s->state != slab_state::serving || s->size_class != c))
        return violated("a slab should not be current", s->begin);
    return true;
}

bool segregated_pool_resource::do_check_invariants() const {
    if (!source_.check_invariants() || !served_.check_invariants())
        return false;
    bool sound = true;
    std::size_t serving = 0;
    source_.visit([&](slab const& s) {
        if (!sound || s.state == slab_state::empty)
            return;
        serving += s.state == slab_state::serving ? 1u : 0u;
        sound = checked_slab(s);
    });
    for (std::size_t c = 0; sound && c < classes_.count(); ++c) {
        sound = checked_class(c);
        serving -= current_[c] != none() ? 1u : 0u;
        for (slab const* s = serving_[c].front(); s != nullptr; s = s->next)
            --serving;
    }
    if (sound && serving != 0)
        return violated("a slab that can serve is in no list", this);
    return sound;
}

} // namespace strata
