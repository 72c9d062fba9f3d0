// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/slab_source.hpp>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <new>
#include <utility>

namespace strata::detail {

// --- chunk_table ---

void chunk_table::reserve(chunk const& c, std::pmr::memory_resource* upstream) {
    std::size_t const needed = used_ + last_region(c) - first_region(c) + 1;
    std::size_t const old_count = entries_ != nullptr ? mask_ + 1 : 0;
    if (2 * needed <= old_count)
        return;
    std::size_t const count = std::max<std::size_t>(16, std::bit_ceil(2 * needed));
    auto* const grown =
        static_cast<entry*>(upstream->allocate(count * sizeof(entry), alignof(entry)));
    std::uninitialized_fill_n(grown, count, entry{0, nullptr});
    entry* const old = std::exchange(entries_, grown);
    mask_ = count - 1;
    for (std::size_t i = 0; i < old_count; ++i)
        if (old[i].owner != nullptr)
            place(old[i]);
    if (old != nullptr)
        upstream->deallocate(old, old_count * sizeof(entry), alignof(entry));
}

void chunk_table::place(entry e) noexcept {
    std::size_t i = home(e.region);
    while (entries_[i].owner != nullptr)
        i = (i + 1) & mask_;
    entries_[i] = e;
}

void chunk_table::insert(chunk* c) noexcept {
    for (std::uintptr_t region = first_region(*c); region <= last_region(*c); ++region, ++used_)
        place({region, c});
}

void chunk_table::erase(chunk const* c) noexcept {
    for (std::uintptr_t region = first_region(*c); region <= last_region(*c); ++region, --used_) {
        std::size_t i = home(region);
        while (entries_[i].owner != c || entries_[i].region != region)
            i = (i + 1) & mask_;
        remove(i);
    }
}

// Pulls later entries of the probe sequence back over the hole, so that no search ends early
// (Knuth, TAOCP vol. 3, 6.4, algorithm R).
void chunk_table::remove(std::size_t hole) noexcept {
    for (std::size_t i = (hole + 1) & mask_; entries_[i].owner != nullptr; i = (i + 1) & mask_) {
        std::size_t const from_home = (i - home(entries_[i].region)) & mask_;
        std::size_t const from_hole = (i - hole) & mask_;
        if (from_home >= from_hole) {
            entries_[hole] = entries_[i];
            hole = i;
        }
    }
    entries_[hole] = entry{0, nullptr};
}

void chunk_table::release(std::pmr::memory_resource* upstream) noexcept {
    if (entries_ != nullptr)
        upstream->deallocate(entries_, bytes(), alignof(entry));
    entries_ = nullptr;
    mask_ = used_ = 0;
}

// --- slab_source ---

// Two blocks at least, where a slab can be that large.
std::size_t slab_source::slab_bytes_for(std::size_t block_bytes) const noexcept {
    return std::clamp(std::bit_ceil(2 * block_bytes), smallest_slab_bytes, geometry_.slab_bytes);
}

slab* slab_source::take(std::size_t block_bytes) {
    slab* s = empty_.front();
    while (s != nullptr && s->bytes < block_bytes)
        s = s->next;
    if (s == nullptr)
        s = replenish(slab_bytes_for(block_bytes));
    empty_.remove(s);
    if (table_.at(s->begin).used++ == 0)
        --idle_chunks_;
    return s;
}

void slab_source::put(slab* s) noexcept {
    s->state = slab_state::empty;
    empty_.push(s);
    chunk& c = table_.at(s->begin);
    if (--c.used != 0)
        return;
    if (++idle_chunks_ > keep_chunks_)
        give_back(&c);
}

std::size_t slab_source::next_chunk_bytes() const noexcept {
    std::size_t const doubled = std::bit_floor(std::max<std::size_t>(chunk_bytes_, 1));
    std::size_t const wanted = chunk_bytes_ < 4 * geometry_.slab_bytes ? doubled : chunk_bytes_ / 4;
    return std::clamp(wanted, geometry_.first_chunk_bytes, geometry_.largest_chunk_bytes);
}

// Takes the next chunk, at worst the smallest that holds one slab of `slab_bytes`.
// Returns: its first slab, the largest.
slab* slab_source::replenish(std::size_t slab_bytes) {
    std::size_t const least = 2 * slab_bytes;
    std::size_t bytes = std::max(next_chunk_bytes(), least);
    std::size_t slabs_of = slab_bytes;
    if (bytes >= geometry_.slab_bytes)
        slabs_of = geometry_.slab_bytes;
    else
        slabs_of = std::max(slab_bytes, std::bit_floor(bytes) / 4);
    bytes = align_up(bytes, slabs_of);
    void* p = nullptr;
    try {
        p = upstream_->allocate(bytes, slabs_of);
    } catch (std::bad_alloc const&) {
        if (bytes == least && slabs_of == slab_bytes)
            throw;
        bytes = least;
        slabs_of = slab_bytes;
        p = upstream_->allocate(bytes, slabs_of);
    }
    try {
        adopt(as_bytes(p), bytes, slabs_of);
    } catch (...) {
        upstream_->deallocate(p, bytes, slabs_of);
        throw;
    }
    if (std::exchange(gave_back_, false))
        ++keep_chunks_;
    return empty_.front();
}

// Lays a chunk out: slabs from its base, records and the chunk itself at its end.
void slab_source::adopt(std::byte* base, std::size_t bytes, std::size_t slab_bytes) {
    std::size_t const record_bytes = sizeof(slab) + slab::bits_bytes(slab_bytes);
    std::size_t const most_slabs = bytes / slab_bytes;
    std::size_t const kept = align_up(sizeof(chunk) + most_slabs * record_bytes, 64);
    std::size_t const area = bytes - kept;
    std::size_t slabs = area / slab_bytes;
    std::size_t const last_bytes = align_down(area % slab_bytes, 64);
    bool const has_short_slab = last_bytes >= smallest_slab_bytes / 2;

    chunk laid_out{};
    laid_out.base = base;
    laid_out.bytes = bytes;
    laid_out.slab_area = slabs * slab_bytes + (has_short_slab ? last_bytes : 0);
    laid_out.slab_bytes = slab_bytes;
    laid_out.records = base + area;
    laid_out.record_bytes = record_bytes;
    laid_out.slabs = static_cast<std::uint32_t>(slabs + (has_short_slab ? 1 : 0));
    table_.reserve(laid_out, upstream_);

    auto* const c = ::new (base + bytes - sizeof(chunk)) chunk{laid_out};
    for (std::size_t i = c->slabs; i-- > 0;) {
        std::size_t const own_bytes = i < slabs ? slab_bytes : last_bytes;
        auto* const s = ::new (c->records + i * record_bytes) slab{};
        s->begin = base + i * slab_bytes;
        s->bytes = static_cast<std::uint32_t>(own_bytes);
        s->state = slab_state::empty;
        std::uninitialized_fill_n(s->bits(), slab::bits_bytes(slab_bytes) / 8, std::uint64_t{0});
        empty_.push(s);
    }
    chunk** after = &chunks_;
    while (*after != nullptr && std::less<>{}((*after)->base, base))
        after = &(*after)->next;
    c->next = std::exchange(*after, c);
    table_.insert(c);
    chunk_bytes_ += bytes;
    ++idle_chunks_;
}

// Requires: every slab of c is empty and in the empty list.
void slab_source::give_back(chunk* c) noexcept {
    for (std::size_t i = 0; i < c->slabs; ++i)
        empty_.remove(c->at(i));
    table_.erase(c);
    chunk** at = &chunks_;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    chunk_bytes_ -= c->bytes;
    --idle_chunks_;
    gave_back_ = true;
    upstream_->deallocate(c->base, c->bytes, c->slab_bytes);
    if (chunks_ == nullptr)
        table_.release(upstream_);
}

void slab_source::release() noexcept {
    for (chunk* c = std::exchange(chunks_, nullptr); c != nullptr;) {
        chunk* const next = c->next;
        upstream_->deallocate(c->base, c->bytes, c->slab_bytes);
        c = next;
    }
    table_.release(upstream_);
    empty_ = slab_list{};
    chunk_bytes_ = idle_chunks_ = 0;
    keep_chunks_ = 1;
    gave_back_ = false;
}

void slab_source::trim() noexcept {
    for (chunk* c = chunks_; c != nullptr;) {
        chunk* const next = c->next;
        if (c->used == 0)
            give_back(c);
        c = next;
    }
    keep_chunks_ = 1;
    gave_back_ = false;
}

bool slab_source::check_invariants() const {
    auto const violated = [](char const* what, void const* where) {
        std::fprintf(stderr, "strata: slab source: %s at %p\n", what, where);
        return false;
    };
    std::size_t empties = 0;
    for (slab const* s = empty_.front(); s != nullptr; s = s->next, ++empties)
        if (s->state != slab_state::empty || (s->next != nullptr && s->next->previous != s))
            return violated("broken empty list", s->begin);
    std::size_t bytes = 0;
    std::size_t idle = 0;
    for (chunk const* c = chunks_; c != nullptr; c = c->next) {
        std::size_t used = 0;
        for (std::size_t i = 0; i < c->slabs; ++i) {
            slab const* const s = c->at(i);
            if (find(s->begin) != s || find(s->begin + s->bytes - 1) != s)
                return violated("slab not found by its address", s->begin);
            if (s->state != slab_state::empty)
                ++used;
            else
                --empties;
        }
        if (used != c->used)
            return violated("wrong count of used slabs", c->base);
        if (c->next != nullptr && !std::less<>{}(c->base, c->next->base))
            return violated("chunks out of order", c->base);
        bytes += c->bytes;
        idle += used == 0 ? 1u : 0u;
    }
    if (empties != 0)
        return violated("an empty slab is in no list, or in two", this);
    if (bytes != chunk_bytes_ || idle != idle_chunks_)
        return violated("wrong count of bytes or of idle chunks", this);
    return true;
}

} // namespace strata::detail
