// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/slab_source.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <utility>

#include <strata/detail/annotate.hpp>
#include <strata/detail/rare_path.hpp>
#include <strata/detail/return_upstream.hpp>

namespace strata::detail {

// --- slab_table ---

constinit slab slab_table::erased_{};

// Calls f(key, slab*) for each unit that the chunk's slabs lie in: its address, and 1 more of a small
// one where there are large ones. So who looks for a large unit reads no small slab that begins there.
template <class Visitor>
void slab_table::for_each_unit(chunk const& c, unsigned large_unit_log2, Visitor const& f) const {
    unsigned const unit_log2 = c.slab_bytes >> large_log2_ != 0 ? large_unit_log2 : small_log2_;
    std::uintptr_t const is_other = unit_log2 != large_unit_log2 ? 1 : 0;
    for (std::size_t i = 0; i < c.slabs; ++i) {
        slab* const s = c.at(i);
        std::size_t const offset = i * c.slab_bytes;
        std::uintptr_t const begin = address_of(c.base) + offset;
        std::uintptr_t const end = begin + std::min(c.slab_bytes, c.slab_area - offset);
        for (std::uintptr_t unit = begin; unit < end; unit += std::uintptr_t{1} << unit_log2)
            f(unit + is_other, s);
    }
}

slab* slab_table::view::find(void const* p) const noexcept {
    for (std::uintptr_t masked = unit_mask;; masked = small_unit_mask) {
        std::uintptr_t const unit = address_of(p) & masked;
        std::uintptr_t const key = unit + (masked != unit_mask ? 1 : 0);
        for (auto i = static_cast<std::size_t>(unit * golden >> home_shift);; i = (i + 1) & mask) {
            std::uintptr_t const* const e = entries + i * words;
            std::uintptr_t const found = load_acquire(e[words - 1]);
            if (found == vacant())
                break;
            if ((words == 1 || load_acquire(e[0]) == key) && slab_at(found)->contains(p))
                return slab_at(found);
        }
        if (masked == small_unit_mask)
            return nullptr;
    }
}

void slab_table::reserve(chunk const& added, chunk const* list,
                         std::pmr::memory_resource* upstream) {
    auto const units_of = [&](chunk const& c, unsigned large_unit_log2) {
        std::size_t units = 0;
        for_each_unit(c, large_unit_log2, [&](std::uintptr_t, slab*) { ++units; });
        return units;
    };
    if (2 * (used_ + units_of(added, unit_log2_)) <= now_.mask)
        return;
    auto const all_units = [&](unsigned large_unit_log2) {
        std::size_t units = units_of(added, large_unit_log2);
        for (chunk const* c = list; c != nullptr; c = c->next)
            units += units_of(*c, large_unit_log2);
        return units;
    };
    bool const is_large = unit_log2_ == large_log2_ || all_units(small_log2_) > most_small_units;
    unsigned const unit_log2 = is_large ? large_log2_ : small_log2_;
    // Sparse, so that the first guess is right nearly always.
    std::size_t const sparse = is_large ? 8 : 4;
    std::size_t const wanted =
        std::max<std::size_t>(16, std::bit_ceil(sparse * all_units(unit_log2)));
    auto* const grown = static_cast<std::uintptr_t*>(
        upstream->allocate(table_bytes(wanted), alignof(std::uintptr_t)));
    std::uninitialized_fill_n(grown, (wanted + 1) * now_.words, vacant());
    old_table const old{now_.mask != 0 ? now_.entries : nullptr, table_bytes(now_.mask + 1)};
    now_ = {grown,
            static_cast<unsigned>(std::countl_zero(std::uint64_t{wanted} - 1)),
            ~std::uintptr_t{0} << unit_log2,
            wanted - 1,
            now_.small_unit_mask,
            now_.words};
    rare_path("slab_source: the table grows");
    bytes_ += table_bytes(wanted);
    used_ = 0;
    unit_log2_ = unit_log2;
    for (chunk const* c = list; c != nullptr; c = c->next)
        insert(*c);
    if (keeps_old_)
        std::memcpy(entry(wanted + 1), &old, sizeof old);
    else if (old.entries != nullptr)
        give_back(old, upstream);
}

void slab_table::insert(chunk const& c) noexcept {
    for_each_unit(c, unit_log2_, [&](std::uintptr_t key, slab* s) {
        std::size_t i = home(key);
        while (slab_of(i) != vacant() && slab_of(i) != erased())
            i = (i + 1) & now_.mask;
        used_ += slab_of(i) == vacant() ? 1u : 0u;
        // Who finds the unit finds the slab, too, or none yet.
        std::atomic_ref{slab_of(i)}.store(address_of(s), std::memory_order_release);
        if (now_.words == 2)
            std::atomic_ref{*entry(i)}.store(key, std::memory_order_release);
    });
}

// Searches for others pass on.
void slab_table::erase(chunk const& c) noexcept {
    for_each_unit(c, unit_log2_, [&](std::uintptr_t key, slab const* s) {
        for (std::size_t i = home(key); slab_of(i) != vacant(); i = (i + 1) & now_.mask)
            if (slab_of(i) == address_of(s))
                slab_of(i) = erased();
    });
}

void slab_table::give_back(old_table table, std::pmr::memory_resource* upstream) noexcept {
    bytes_ -= table.bytes;
    return_upstream(upstream, table.entries, table.bytes, alignof(std::uintptr_t));
}

// Upstream may call back: what it gets is no longer known here.
void slab_table::release(std::pmr::memory_resource* upstream) noexcept {
    old_table gone{now_.mask != 0 ? now_.entries : nullptr, table_bytes(now_.mask + 1)};
    now_ = of_none();
    now_.mask = used_ = 0;
    unit_log2_ = small_log2_;
    while (gone.entries != nullptr) {
        old_table older{};
        if (keeps_old_)
            std::memcpy(&older, as_bytes(gone.entries) + gone.bytes - sizeof older, sizeof older);
        give_back(gone, upstream);
        gone = older;
    }
}

// --- slab_source ---

// Two blocks at least, where a slab can be that large.
std::size_t slab_source::slab_bytes_for(std::size_t block_bytes,
                                        std::size_t last_bytes) const noexcept {
    std::size_t const grown = (users_ == users::one ? 16 : 8) * std::bit_floor(last_bytes);
    return std::clamp(std::bit_ceil(std::max(2 * block_bytes, grown)), smallest_slab_bytes_,
                      geometry_.slab_bytes);
}

// Returns: the largest empty slab that holds a block of these bytes, or null. In large slabs blocks
// lie together, and are found sooner. Complexity: O(1), O(chunks) where only the short slabs at the
// end of chunks may do.
slab* slab_source::largest_empty(std::size_t block_bytes) const noexcept {
    for (std::size_t i = empty_.size();
         i-- > static_cast<std::size_t>(std::bit_width(block_bytes) - 1);)
        for (slab* s = empty_[i].front(); s != nullptr; s = s->next)
            if (s->bytes >= block_bytes)
                return s;
    return nullptr;
}

// Returns: the smallest empty slab that has, mostly, these bytes, or null. Each thread has slabs of its
// own, and would hold many large ones of which it uses little.
slab* slab_source::smallest_empty(std::size_t bytes) const noexcept {
    for (auto i = static_cast<std::size_t>(std::bit_width(bytes) - 1); i < empty_.size(); ++i)
        if (empty_[i].front() != nullptr)
            return empty_[i].front();
    return nullptr;
}

slab* slab_source::take(std::size_t block_bytes, std::size_t last_bytes) {
    std::size_t const wanted = slab_bytes_for(block_bytes, last_bytes);
    slab* s = users_ == users::one ? largest_empty(block_bytes) : smallest_empty(wanted);
    if (s == nullptr) {
        try {
            s = replenish(wanted, slab_bytes_for(block_bytes, 0));
        } catch (std::bad_alloc const&) {
            s = largest_empty(block_bytes);
            if (s == nullptr)
                throw;
            rare_path("slab_source: no chunk, but a slab of another size");
        }
    }
    empties_like(*s).remove(s);
    if (chunk_of(s).used++ == 0)
        --idle_chunks_;
    return s;
}

void slab_source::put(slab* s) noexcept {
    s->state = slab_state::empty;
    s->owner.store(nullptr, std::memory_order_relaxed);
    empties_like(*s).push(s);
    chunk& c = chunk_of(s);
    if (--c.used != 0)
        return;
    rare_path("slab_source: a chunk is idle");
    if (++idle_chunks_ <= keep_chunks_ || users_ == users::many)
        return;
    unhook(c);
    ++regretted_;
    c.next = nullptr;
    give_back(&c);
}

std::size_t slab_source::next_chunk_bytes() const noexcept {
    std::size_t const small = geometry_.slab_bytes;
    std::size_t const wanted = chunk_bytes_ < small
                                   ? std::min(std::bit_floor(4 * chunk_bytes_), small)
                                   : std::max(std::bit_floor(chunk_bytes_ / 2), small);
    return std::clamp(wanted, geometry_.first_chunk_bytes, geometry_.largest_chunk_bytes);
}

// Takes the next chunk; where upstream has no room, a smaller one, at last of two slabs of
// `least_slab_bytes`: one of them gives a part to the records.
// Returns: its first slab, the largest.
slab* slab_source::replenish(std::size_t slab_bytes, std::size_t least_slab_bytes) {
    std::size_t bytes = std::max(next_chunk_bytes(), 2 * slab_bytes);
    // A grown pool has large slabs only, others 16 a chunk at most; of many users' as they ask for.
    std::size_t slabs_of = geometry_.slab_bytes;
    if (users_ == users::many)
        bytes = std::clamp(bytes, 2 * slab_bytes,
                           std::max(32 * (slabs_of = slab_bytes), geometry_.first_chunk_bytes));
    else if (chunk_bytes_ < 8 * geometry_.slab_bytes)
        slabs_of = std::min(slabs_of, std::max(slab_bytes, std::bit_floor(bytes) / 16));
    bytes = align_up(bytes, slabs_of);
    chunk* c = nullptr;
    while (c == nullptr) {
        try {
            c = take_chunk(bytes, slabs_of);
        } catch (std::bad_alloc const&) {
            if (bytes <= 2 * least_slab_bytes)
                throw;
            rare_path("slab_source: a smaller chunk");
            bytes = std::max(std::bit_ceil(bytes) / 2, 2 * least_slab_bytes);
            slabs_of = std::clamp(bytes / 16, least_slab_bytes, slabs_of);
        }
    }
    if (regretted_ != 0) {
        --regretted_;
        ++keep_chunks_;
    }
    return c->at(0);
}

chunk* slab_source::take_chunk(std::size_t bytes, std::size_t slab_bytes) {
    void* const p = upstream_->allocate(bytes, slab_bytes);
    try {
        return adopt(as_bytes(p), bytes, slab_bytes);
    } catch (...) {
        return_upstream(upstream_, p, bytes, slab_bytes);
        throw;
    }
}

// Lays a chunk out: slabs from its base, records and the chunk itself at its end.
chunk* slab_source::adopt(std::byte* base, std::size_t bytes, std::size_t slab_bytes) {
    // Remote bits have lines of their own: others write them while the owner writes its bits.
    std::size_t const own_bytes = align_up(sizeof(slab) + slab::bits_bytes(slab_bytes), 64);
    std::size_t const record_bytes =
        own_bytes + (users_ == users::many ? align_up(slab::bits_bytes(slab_bytes), 64) : 0);
    std::size_t const most_slabs = bytes / slab_bytes;
    std::size_t const kept = align_up(sizeof(chunk) + most_slabs * record_bytes, 64);
    std::byte* const books = base + bytes - kept;
    std::size_t const area = bytes - kept - redzone_bytes;
    std::size_t slabs = area / slab_bytes;
    std::size_t const last_bytes = align_down(area % slab_bytes, 64);
    bool const has_short_slab = last_bytes >= shortest_slab_bytes;

    chunk laid_out{};
    laid_out.base = base;
    laid_out.bytes = bytes;
    laid_out.slab_area = slabs * slab_bytes + (has_short_slab ? last_bytes : 0);
    laid_out.slab_bytes = slab_bytes;
    laid_out.record_bytes = record_bytes;
    laid_out.slabs = static_cast<std::uint32_t>(slabs + (has_short_slab ? 1 : 0));
    table_.reserve(laid_out, chunks_, upstream_);

    auto* const c = ::new (books) chunk{laid_out};
    for (std::size_t i = c->slabs; i-- > 0;) {
        std::byte* const record = c->records() + i * record_bytes;
        auto* const s = ::new (record) slab{};
        s->begin = base + i * slab_bytes;
        s->bytes = static_cast<std::uint32_t>(i < slabs ? slab_bytes : last_bytes);
        s->state = slab_state::empty;
        if (users_ == users::many)
            s->remote = reinterpret_cast<std::uint64_t*>(record + own_bytes);
        s->record_offset = static_cast<std::uint32_t>(record - books);
        empties_like(*s).push(s);
    }
    c->previous = nullptr;
    c->next = std::exchange(chunks_, c);
    if (c->next != nullptr)
        c->next->previous = c;
    table_.insert(*c);
    chunk_bytes_ += bytes;
    ++idle_chunks_;
    carve(base, base, bytes - kept);
    return c;
}

// Requires: every slab of c is empty and in the empty list.
void slab_source::unhook(chunk& c) noexcept {
    for (std::size_t i = 0; i < c.slabs; ++i)
        empties_like(*c.at(i)).remove(c.at(i));
    (c.previous != nullptr ? c.previous->next : chunks_) = c.next;
    if (c.next != nullptr)
        c.next->previous = c.previous;
    table_.erase(c);
    chunk_bytes_ -= c.bytes;
    --idle_chunks_;
}

// Upstream may find misuse, and its handler call back: what is given back is known to nobody then.
void slab_source::give_back(chunk* list) noexcept {
    if (chunks_ == nullptr)
        table_.release(upstream_);
    while (list != nullptr) {
        chunk const gone = *list;
        return_carved(upstream_, gone.base, gone.bytes, gone.slab_bytes);
        list = gone.next;
    }
}

void slab_source::release() noexcept {
    chunk* const all = std::exchange(chunks_, nullptr);
    empty_.fill(slab_list{});
    chunk_bytes_ = idle_chunks_ = 0;
    keep_chunks_ = 1;
    regretted_ = 0;
    give_back(all);
}

void slab_source::trim() noexcept {
    chunk* idle = nullptr;
    for (chunk* c = chunks_; c != nullptr;) {
        chunk* const next = c->next;
        if (c->used == 0) {
            unhook(*c);
            c->next = std::exchange(idle, c);
        }
        c = next;
    }
    keep_chunks_ = 1;
    regretted_ = 0;
    give_back(idle);
}

// Merge sort by address; links forward only. No memory: upstream may have none left.
chunk* slab_source::sorted(chunk* list) noexcept {
    if (list == nullptr || list->next == nullptr)
        return list;
    chunk* middle = list;
    for (chunk* end = list->next; end != nullptr && end->next != nullptr; end = end->next->next)
        middle = middle->next;
    chunk* b = sorted(std::exchange(middle->next, nullptr));
    chunk* a = sorted(list);
    chunk* first = nullptr;
    chunk** end = &first;
    while (a != nullptr && b != nullptr) {
        chunk*& lower = std::less<>{}(a->base, b->base) ? a : b;
        *end = std::exchange(lower, lower->next);
        end = &(*end)->next;
    }
    *end = a != nullptr ? a : b;
    return first;
}

void slab_source::link_back() const noexcept {
    chunk* before = nullptr;
    for (chunk* c = chunks_; c != nullptr; before = std::exchange(c, c->next))
        c->previous = before;
}

bool slab_source::check_invariants() const {
    auto const violated = [](char const* what, void const* where) {
        std::fprintf(stderr, "strata: slab source: %s at %p\n", what, where);
        return false;
    };
    std::size_t empties = 0;
    for (slab_list const& list : empty_)
        for (slab const* s = list.front(); s != nullptr; s = s->next, ++empties)
            if (s->state != slab_state::empty || (s->next != nullptr && s->next->previous != s))
                return violated("broken empty list", s->begin);
    std::size_t bytes = 0;
    std::size_t idle = 0;
    for (chunk const* c = chunks_; c != nullptr; c = c->next) {
        std::size_t used = 0;
        for (std::size_t i = 0; i < c->slabs; ++i) {
            slab const* const s = c->at(i);
            for (std::size_t offset = 0; offset < s->bytes; offset += shortest_slab_bytes)
                if (find(s->begin + offset) != s)
                    return violated("slab not found by its address", s->begin);
            if ((s->owner == nullptr) != (s->state == slab_state::empty))
                return violated("an empty slab has an owner, or another has none", s->begin);
            if (s->state != slab_state::empty)
                ++used;
            else
                --empties;
        }
        if (used != c->used)
            return violated("wrong count of used slabs", c->base);
        if (c->next != nullptr && c->next->previous != c)
            return violated("broken list of chunks", c->base);
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
