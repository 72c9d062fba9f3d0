// SPDX-License-Identifier: BSL-1.0
#include <strata/synchronized_fixed_block_resource.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>
#include <utility>

#include <strata/detail/return_upstream.hpp>

namespace strata {

using detail::cached_block;
using detail::magazine;

namespace {

constexpr std::size_t marks_alignment = 64; // a word's in a line

// What of a buffer is marks: enough for the blocks that fit into the rest.
constexpr std::size_t marks_in(std::size_t bytes, std::size_t block_bytes) noexcept {
    return block_bytes == 0 || block_bytes > bytes ? 0 : bytes / (block_bytes + 1) + 1;
}

} // namespace

synchronized_fixed_block_resource::synchronized_fixed_block_resource(
    std::size_t capacity_bytes, std::size_t block_bytes, std::pmr::memory_resource* upstream)
    : pool_{capacity_bytes, block_bytes, upstream},
      marks_{static_cast<std::uint8_t*>(
          pool_.upstream_resource()->allocate(pool_.capacity_blocks(), marks_alignment))},
      marks_bytes_{pool_.capacity_blocks()},
      owns_marks_{true} {
    std::memset(marks_, mark::none, pool_.capacity_blocks());
    cached_each_ = std::clamp<std::size_t>(
        std::min(8192 / pool_.block_bytes(), pool_.capacity_blocks() / 32), 1, most_cached);
    enter();
}

synchronized_fixed_block_resource::synchronized_fixed_block_resource(
    void* buffer, std::size_t bytes, std::size_t block_bytes, std::pmr::memory_resource* upstream)
    : pool_{buffer, bytes - marks_in(bytes, block_bytes), block_bytes, upstream},
      marks_{static_cast<std::uint8_t*>(buffer) + (bytes - marks_in(bytes, block_bytes))},
      marks_bytes_{marks_in(bytes, block_bytes)} {
    std::memset(marks_, mark::none, marks_bytes_);
    cached_each_ = std::clamp<std::size_t>(
        std::min(8192 / pool_.block_bytes(), pool_.capacity_blocks() / 32), 1, most_cached);
    enter();
}

synchronized_fixed_block_resource::~synchronized_fixed_block_resource() {
    take_all_back();
    while (caches() != nullptr)
        destroy(static_cast<cache&>(*caches()));
    leave();
    if (owns_marks_)
        detail::return_upstream(pool_.upstream_resource(), marks_, marks_bytes_, marks_alignment);
}

// --- caches ---

// Returns: the thread's, made where it has none; null where it can have none, or upstream no memory.
synchronized_fixed_block_resource::cache* synchronized_fixed_block_resource::own_cache() noexcept {
    if (auto* const mine = static_cast<cache*>(known()))
        return mine;
    auto* mine = static_cast<cache*>(unused());
    if (mine == nullptr) {
        try {
            std::lock_guard const lock{mutex_};
            mine = ::new (pool_.upstream_resource()->allocate(sizeof(cache), alignof(cache))) cache;
            mine->blocks = {mine->room, mine->room, mine->room + cached_each_};
        } catch (...) {
            return nullptr;
        }
    }
    return join(*mine) ? mine : nullptr;
}

void synchronized_fixed_block_resource::destroy(cache& gone) noexcept {
    forget(gone);
    gone.~cache();
    detail::return_upstream(pool_.upstream_resource(), &gone, sizeof(cache), alignof(cache));
}

void synchronized_fixed_block_resource::take_back(detail::thread_cache& gone) noexcept {
    auto& mine = static_cast<cache&>(gone);
    flush_oldest(mine, mine.blocks.size());
}

void synchronized_fixed_block_resource::lose(detail::thread_cache& gone) noexcept {
    magazine& m = static_cast<cache&>(gone).blocks;
    m.top = m.begin;
    has_lost_blocks_ = true;
}

// Fills half of an empty magazine at least, the lowest block on top. Takes whole words of bits
// where that many fit in: then no other thread gets blocks whose marks share a line with these.
void synchronized_fixed_block_resource::draw(cache& mine) noexcept {
    magazine& m = mine.blocks;
    {
        std::lock_guard const lock{mutex_};
        pool_.drop_front();
        while (2 * m.size() < m.capacity()) {
            std::size_t first = 0;
            detail::bit_word taken = pool_.free_.take_lowest_word(first, m.capacity() - m.size());
            if (taken == 0)
                break;
            for (; taken != 0; taken &= taken - 1) {
                std::size_t const i = first + detail::lowest_bit(taken);
                *m.top++ = {detail::as_bytes(pool_.block_at(i)), marks_ + i};
            }
        }
    }
    std::reverse(m.begin, m.top);
}

// Gives the oldest blocks of a magazine back to the pool.
void synchronized_fixed_block_resource::flush_oldest(cache& mine, std::size_t blocks) noexcept {
    magazine& m = mine.blocks;
    {
        std::lock_guard const lock{mutex_};
        pool_.drop_front();
        for (cached_block const* b = m.begin; b != m.begin + blocks; ++b) {
            auto const i = static_cast<std::size_t>(b->mark - marks_);
            if (!pool_.free_.is_free(i)) // else it was freed twice at once
                pool_.free_.give(i);
        }
    }
    m.top = std::move(m.begin + blocks, m.top, m.begin);
}

// --- allocate, deallocate ---

// The magazine is empty, or the thread has none; runs, and uncommon alignments.
void* synchronized_fixed_block_resource::allocate_slow(std::size_t bytes, std::size_t alignment) {
    bool const is_plain = bytes <= block_bytes() && alignment <= pool_.common_alignment_;
    cache* const mine = is_plain ? own_cache() : static_cast<cache*>(known());
    if (is_plain && mine != nullptr) {
        draw(*mine);
        if (!mine->blocks.is_empty()) {
            detail::add_relaxed(mine->bytes_taken, bytes);
            return detail::hand_out(mine->blocks.pop(), bytes);
        }
    }
    if (mine != nullptr) // its blocks may make a run
        flush_oldest(*mine, mine->blocks.size());
    std::lock_guard const lock{mutex_};
    void* const p = pool_.allocate(bytes, alignment);
    if (pool_.owns(p))
        detail::set_mark(marks_ + pool_.index_of(p), mark::other);
    return p;
}

// Returns: the mark of the block that starts at p; none where none does.
std::uint8_t synchronized_fixed_block_resource::mark_at(void const* p) const noexcept {
    std::size_t const i = pool_.index_of(p);
    return i < pool_.blocks_ ? detail::get_mark(marks_ + i) : std::uint8_t{mark::none};
}

// Requires: the lock. Returns: what is wrong with a block, which the pool alone cannot say of one in
// a magazine.
std::optional<misuse_kind> synchronized_fixed_block_resource::judge(void const* p,
                                                                    std::size_t bytes,
                                                                    std::size_t alignment) const {
    bool const starts_block = pool_.index_of(p) < pool_.blocks_;
    if (starts_block && mark_at(p) == mark::none && !pool_.is_joined(pool_.index_of(p)))
        return misuse_kind::double_free;
    return pool_.diagnose(p, bytes, alignment);
}

std::optional<misuse_kind>
synchronized_fixed_block_resource::do_try_deallocate(void* p, std::size_t bytes,
                                                     std::size_t alignment) {
    bool const is_single =
        mark_at(p) == mark::single && bytes <= block_bytes() && alignment <= pool_.alignment_;
    cache* const mine = is_single ? own_cache() : nullptr;
    if (mine != nullptr) {
        magazine& m = mine->blocks;
        if (m.is_full())
            flush_oldest(*mine, (m.capacity() + 1) / 2);
        detail::add_relaxed(mine->bytes_returned, bytes);
        detail::take_back(p, block_bytes());
        m.push(p, marks_ + pool_.index_of(p));
        return std::nullopt;
    }
    std::lock_guard const lock{mutex_};
    if (auto const wrong = p != nullptr ? judge(p, bytes, alignment) : std::nullopt)
        return wrong;
    bool const owned = pool_.owns(p);
    if (auto const wrong = pool_.try_deallocate(p, bytes, alignment))
        return wrong;
    if (owned)
        detail::set_mark(marks_ + pool_.index_of(p), mark::none);
    return std::nullopt;
}

void synchronized_fixed_block_resource::deallocate_slow(void* p, std::size_t bytes,
                                                        std::size_t alignment) {
    if (p == nullptr)
        return;
    if (auto const wrong = do_try_deallocate(p, bytes, alignment))
        report(*wrong, p, bytes, alignment);
}

// --- the rest of the interface ---

// A block that has become a run is no magazine's any more.
bool synchronized_fixed_block_resource::do_try_resize(void* p, std::size_t old_bytes,
                                                      std::size_t new_bytes,
                                                      std::size_t alignment) {
    std::lock_guard const lock{mutex_};
    if (judge(p, old_bytes, alignment) || !pool_.try_resize(p, old_bytes, new_bytes, alignment))
        return false;
    if (pool_.owns(p) && new_bytes > block_bytes())
        detail::set_mark(marks_ + pool_.index_of(p), mark::other);
    return true;
}

std::optional<misuse_kind>
synchronized_fixed_block_resource::do_diagnose(void const* p, std::size_t bytes,
                                               std::size_t alignment) const {
    std::lock_guard const lock{mutex_};
    return judge(p, bytes, alignment);
}

void synchronized_fixed_block_resource::do_release() {
    take_all_back();
    while (caches() != nullptr)
        destroy(static_cast<cache&>(*caches()));
    std::memset(marks_, mark::none, pool_.blocks_);
    has_lost_blocks_ = false;
    pool_.release();
}

std::size_t synchronized_fixed_block_resource::do_trim() {
    take_all_back();
    std::size_t freed = 0;
    while (caches() != nullptr) {
        auto& gone = static_cast<cache&>(*caches());
        flush_oldest(gone, gone.blocks.size());
        pool_.requested_bytes_ += gone.bytes_taken - gone.bytes_returned;
        destroy(gone);
        freed += sizeof(cache);
    }
    return freed + pool_.trim();
}

// Requires: the lock.
std::size_t synchronized_fixed_block_resource::cached_blocks() const noexcept {
    std::size_t cached = 0;
    for (std::size_t i = 0; i < pool_.blocks_; ++i)
        if (detail::get_mark(marks_ + i) == mark::none && !pool_.is_free(i) && !pool_.is_joined(i))
            ++cached;
    return cached;
}

statistics synchronized_fixed_block_resource::do_stats() const {
    std::lock_guard const lock{mutex_};
    statistics s = pool_.stats();
    std::size_t const cached = cached_blocks();
    std::size_t const bytes = cached * block_bytes();
    s.live_blocks -= cached;
    s.live_bytes -= bytes;
    s.free_blocks += cached;
    s.free_bytes += bytes;
    if (cached != 0)
        s.largest_free_bytes = std::max(s.largest_free_bytes, block_bytes());
    std::size_t requested = pool_.requested_bytes_;
    std::size_t overhead = marks_bytes_;
    for (auto* c = static_cast<cache*>(caches()); c != nullptr;
         c = static_cast<cache*>(c->next_of_instance)) {
        requested += detail::load_relaxed(c->bytes_taken) - detail::load_relaxed(c->bytes_returned);
        overhead += sizeof(cache);
    }
    std::size_t const served = pool_.served_.bytes();
    s.requested_bytes = std::min(requested, s.live_bytes - served) + served;
    s.footprint_bytes += overhead;
    s.overhead_bytes += overhead;
    return s;
}

void synchronized_fixed_block_resource::do_visit_blocks(block_visitor f) const {
    std::lock_guard const lock{mutex_};
    pool_.visit_blocks([&](block_info block) {
        if (pool_.owns(block.address))
            block.live = block.live && mark_at(block.address) != mark::none;
        f(block);
    });
}

bool synchronized_fixed_block_resource::do_check_invariants() const {
    if (!pool_.check_invariants())
        return false;
    auto const violated = [&](char const* what) {
        std::fprintf(stderr, "strata: synchronized_fixed_block_resource %p: %s\n",
                     static_cast<void const*>(this), what);
        return false;
    };
    for (std::size_t i = 0; i < pool_.blocks_; ++i)
        if (marks_[i] != mark::none && (pool_.is_free(i) || pool_.is_joined(i)))
            return violated("I1: a block is marked that the user does not have");
    std::size_t cached = 0;
    for (auto* c = static_cast<cache*>(caches()); c != nullptr;
         c = static_cast<cache*>(c->next_of_instance))
        for (cached_block const* b = c->blocks.begin; b != c->blocks.top; ++b, ++cached) {
            auto const i = static_cast<std::size_t>(b->mark - marks_);
            if (i >= pool_.blocks_ || pool_.block_at(i) != b->block || pool_.is_free(i) ||
                marks_[i] != mark::none)
                return violated("I2: a magazine has what is no free block");
        }
    return cached == cached_blocks() || has_lost_blocks_ ||
           violated("I2: a block is in no magazine, or in two");
}

} // namespace strata
