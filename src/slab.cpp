// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/slab.hpp>

#include <cstdio>
#include <memory>
#include <new>
#include <utility>

#include <strata/detail/class_pool.hpp>
#include <strata/detail/rare_path.hpp>

namespace strata::detail {

namespace {

bool violated(char const* what, void const* where) {
    std::fprintf(stderr, "strata: %s at %p\n", what, where);
    return false;
}

} // namespace

constinit slab const slab::none_{};

void slab::assign(class_pool& to, std::size_t to_class, std::size_t bytes_each) noexcept {
    owner.store(&to, std::memory_order_relaxed);
    size_class = static_cast<std::uint8_t>(to_class);
    block_of = exact_divider{bytes_each};
    block_bytes = static_cast<std::uint32_t>(bytes_each);
    blocks = bytes / block_bytes;
    word = bits();
    word_begin = begin;
    count = 0;
    state = slab_state::serving;
    // A slab fresh from its chunk has no bits yet.
    std::uint64_t* const last = std::uninitialized_fill_n(bits(), blocks / 64, ~std::uint64_t{0});
    if (blocks % 64 != 0)
        std::uninitialized_fill_n(last, 1, (std::uint64_t{1} << blocks % 64) - 1);
    if (remote != nullptr)
        std::uninitialized_fill_n(remote, words(), 0);
}

std::uint32_t slab::collect(std::byte*& twice) noexcept {
    is_pending.store(0); // before the bits are read: who sets one later tells the owner again
    int came_back = 0;
    for (std::size_t i = 0; i < words(); ++i) {
        std::atomic_ref const bits_of_others{remote[i]};
        std::uint64_t const set = bits_of_others.load();
        if (set == 0)
            continue;
        std::uint64_t const freed = set & blocks_of_word(i);
        std::uint64_t const known = bits()[i];
        if ((freed & known) != 0)
            twice = begin + (i * 64 + lowest_bit(freed & known)) * block_bytes;
        came_back += std::popcount(freed & ~known);
        store_relaxed(bits()[i], known | freed);
        bits_of_others.fetch_and(~set); // only now: I4
    }
    return static_cast<std::uint32_t>(came_back);
}

// Where nearly all of the current slab is live, a word has few free blocks: a slab with more is better.
// It must have a quarter, so that it pays to go there; an empty one may be of use to others.
bool class_pool::should_leave_current() const noexcept {
    slab const* const other = serving.front();
    return other != nullptr && other->count != 0 &&
           8 * (current->blocks + 1 - current->count) < current->blocks &&
           4 * (other->blocks - other->count) >= other->blocks;
}

bool class_pool::advance() noexcept {
    if (current->turn()) {
        if (!should_leave_current())
            return true;
        rare_path("slab: nearly full");
        serving.push_back(leave_current());
    }
    slab* const next = serving.pop();
    if (next != nullptr)
        install(next);
    return next != nullptr;
}

void class_pool::install(slab* fresh) noexcept {
    fresh->turn();
    ++fresh->count;
    if (slab* const full = std::exchange(current, fresh); full != slab::none()) {
        rare_path("slab: full");
        full->state = slab_state::full;
        full->count = 1; // the first block that returns makes it serve again
    }
}

bool class_pool::returned(slab* s, std::uint32_t blocks) noexcept {
    if (s->state == slab_state::full) {
        rare_path("slab: serves again");
        s->state = slab_state::serving;
        s->count = s->blocks - blocks;
        serving.push_back(s); // by the time it is taken, more of its blocks may have returned
    }
    if (s->count != 0)
        return false;
    rare_path("slab: empty again");
    return true;
}

bool class_pool::collect(slab* s, std::byte*& twice) noexcept {
    std::uint32_t const blocks = s->collect(twice);
    if (s->state != slab_state::full)
        s->count -= blocks;
    else if (blocks == 0)
        return false;
    return returned(s, blocks);
}

slab* class_pool::surrender() noexcept {
    slab* s = serving.pop();
    if (s == nullptr && current->turn())
        s = leave_current();
    return s;
}

slab* class_pool::surrender_empty_current() noexcept {
    return current != slab::none() && current->count == 1 ? leave_current() : nullptr;
}

slab* class_pool::leave_current() noexcept {
    --current->count;
    return std::exchange(current, slab::none());
}

bool class_pool::check_invariants() const {
    for (slab const* s = serving.front(); s != nullptr; s = s->next)
        if (s->state != slab_state::serving || s->owner != this || s == current)
            return violated("a slab should not be in its class's serving list", s->begin);
    if (current != slab::none() &&
        (current->state != slab_state::serving || current->owner != this))
        return violated("a slab should not be current", current->begin);
    return true;
}

std::uint32_t slab::live() const noexcept {
    return state == slab_state::full ? blocks : count - (owner.load()->current == this ? 1 : 0);
}

bool slab::check_invariants() const {
    std::size_t free = 0;
    std::uint64_t past_last = 0;
    for (std::size_t i = 0; i < words(); ++i) {
        free += static_cast<std::size_t>(std::popcount(bits()[i]));
        past_last |= bits()[i] & ~blocks_of_word(i);
        if (remote != nullptr && (remote[i] & bits()[i]) != 0)
            return violated("a block was freed twice in the slab", begin);
    }
    if (free != blocks - live() || past_last != 0)
        return violated("live blocks and bits do not add up in the slab", begin);
    if (has_remote() && is_pending == 0)
        return violated("nobody was told of remote bits of the slab", begin);
    auto const at = static_cast<std::size_t>(word - bits());
    if (at >= words() || word_begin != begin + at * 64 * block_bytes)
        return violated("the current word is none of the slab", begin);
    return true;
}

bool slab::turn() noexcept {
    auto const after = [this](std::uint64_t* w) {
        return w + 1 != bits() + words() ? w + 1 : bits();
    };
    std::uint64_t* at = std::popcount(*word) >= 8 ? word : after(word);
    for (std::size_t left = words(); left != 0; --left) {
        if (*at != 0) {
            store_release(word, at);
            word_begin = begin + static_cast<std::size_t>(at - bits()) * 64 * block_bytes;
            return true;
        }
        at = after(at);
    }
    return false;
}

} // namespace strata::detail
