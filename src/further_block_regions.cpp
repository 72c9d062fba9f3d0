// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/further_block_regions.hpp>

#include <algorithm>
#include <functional>
#include <new>
#include <utility>

#include <strata/detail/annotate.hpp>
#include <strata/detail/return_upstream.hpp>

namespace strata::detail {

void touch_pages(void* memory, std::size_t bytes) noexcept {
    constexpr std::size_t page_bytes = 4096;
    auto volatile* const first = as_bytes(memory);
    for (std::size_t at = 0; at < bytes; at += page_bytes)
        first[at] = first[at];
    if (bytes != 0)
        first[bytes - 1] = first[bytes - 1];
}

std::size_t further_block_regions::further::bytes() const noexcept {
    return block_region::bytes_for(region.blocks(), region.block_bytes()) + sizeof(further);
}

void* further_block_regions::take(std::size_t bytes, std::size_t alignment) noexcept {
    if (recent_ != nullptr)
        if (void* const p = recent_->region.take(bytes, alignment))
            return p;
    for (further* f = first_; f != nullptr; f = f->next)
        if (f != recent_)
            if (void* const p = f->region.take(bytes, alignment)) {
                recent_ = f;
                return p;
            }
    return nullptr;
}

void* further_block_regions::take_from_new(geometry const& like, std::size_t bytes,
                                           std::size_t alignment,
                                           std::pmr::memory_resource* upstream) {
    std::size_t const region_bytes = block_region::bytes_for(like.blocks, like.block_bytes);
    std::byte* memory = nullptr;
    try {
        memory = as_bytes(upstream->allocate(region_bytes + sizeof(further), like.alignment));
    } catch (std::bad_alloc const&) {
        return nullptr;
    }
    if (like.prefault)
        touch_pages(memory, region_bytes);
    void* const behind = memory + region_bytes;
    auto* const added = ::new (behind)
        further{block_region{memory, like.blocks, like.block_bytes}, like.alignment, nullptr};
    carve(memory, memory, added->region.hidden_bytes());
    void* const p = added->region.take(bytes, alignment);
    if (p == nullptr) {
        give_back(added, upstream);
        return nullptr;
    }
    added->next = first_;
    first_ = recent_ = added;
    return p;
}

std::size_t further_block_regions::fitting_bytes(std::size_t bytes,
                                                 std::size_t alignment) const noexcept {
    std::size_t fitting = 0;
    for (further const* f = first_; f != nullptr && fitting == 0; f = f->next)
        fitting = f->region.fitting_bytes(bytes, alignment);
    return fitting;
}

block_region* further_block_regions::region_of(void const* p) const noexcept {
    if (recent_ != nullptr && recent_->region.holds(p))
        return &recent_->region;
    further* f = first_;
    while (f != nullptr && !f->region.holds(p))
        f = f->next;
    return f != nullptr ? &f->region : nullptr;
}

block_region const* further_block_regions::next_above(void const* p) const noexcept {
    block_region const* lowest = nullptr;
    for (further const* f = first_; f != nullptr; f = f->next)
        if (std::less<>{}(p, f->region.base()) &&
            (lowest == nullptr || std::less<>{}(f->region.base(), lowest->base())))
            lowest = &f->region;
    return lowest;
}

// Upstream may find misuse, and its handler call back: what is given back is known to nobody then.
void further_block_regions::give_back(further* list, std::pmr::memory_resource* upstream) noexcept {
    while (list != nullptr) {
        further* const gone = std::exchange(list, list->next);
        return_carved(upstream, gone->region.base(), gone->bytes(), gone->alignment);
    }
}

void further_block_regions::release(std::pmr::memory_resource* upstream) noexcept {
    recent_ = nullptr;
    give_back(std::exchange(first_, nullptr), upstream);
}

std::size_t further_block_regions::trim(std::pmr::memory_resource* upstream) noexcept {
    std::size_t gone_bytes = 0;
    further* gone = nullptr;
    for (further** at = &first_; *at != nullptr;) {
        further* const f = *at;
        if (!f->region.is_all_free()) {
            at = &f->next;
            continue;
        }
        gone_bytes += f->bytes();
        *at = f->next;
        f->next = std::exchange(gone, f);
    }
    recent_ = first_;
    give_back(gone, upstream);
    return gone_bytes;
}

void further_block_regions::add_to(statistics& s) const noexcept {
    for (further const* f = first_; f != nullptr; f = f->next) {
        s.footprint_bytes += f->bytes();
        s.overhead_bytes += f->bytes() - f->region.capacity_bytes();
        f->region.add_to(s);
    }
}

char const* further_block_regions::broken_invariant() const noexcept {
    bool has_recent = recent_ == nullptr;
    for (further const* f = first_; f != nullptr; f = f->next) {
        has_recent = has_recent || f == recent_;
        if (char const* const broken = f->region.broken_invariant())
            return broken;
    }
    return has_recent ? nullptr : "the recent region is none of the further ones";
}

} // namespace strata::detail
