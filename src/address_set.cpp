// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/address_set.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <span>

#include <strata/detail/return_upstream.hpp>

namespace strata::detail {

namespace {

template <class Slot>
std::size_t bits_in(Slot const& s) noexcept {
    std::size_t bits = 0;
    for (std::uint64_t const word : s.starts)
        bits += static_cast<std::size_t>(std::popcount(word));
    return bits;
}

} // namespace

constinit address_set::slot address_set::nothing{};

address_set::address_set(std::pmr::memory_resource* upstream) noexcept : upstream_{upstream} {}

void address_set::clear() noexcept {
    if (slots_held_ != 0)
        return_upstream(upstream_, slots_, held_bytes(), alignof(slot));
    slots_ = &nothing;
    mask_ = slots_held_ = slots_used_ = 0;
}

address_set::slot* address_set::add_slot(std::uintptr_t page) {
    if (slots_used_ == slots_held_ / 4 * 3)
        rebuild();
    return place_slot(page);
}

// Requires: the page has no slot, and one is empty.
address_set::slot* address_set::place_slot(std::uintptr_t page) noexcept {
    std::size_t i = home(page);
    while (slots_[i].page != 0)
        i = (i + 1) & mask_;
    slots_[i].page = page;
    ++slots_used_;
    return &slots_[i];
}

// Leaves the pages without blocks behind. At most 3/8 of the new table are used, so that it serves
// for as many new pages again before the next time: O(1) amortised, and it shrinks, too.
void address_set::rebuild() {
    std::span<slot const> const old{slots_, slots_held_};
    auto const in_use = static_cast<std::size_t>(
        std::count_if(old.begin(), old.end(), [](slot const& s) { return bits_in(s) != 0; }));
    std::size_t const wanted = std::max<std::size_t>(16, std::bit_ceil((in_use + 1) * 8 / 3));
    auto* const slots =
        static_cast<slot*>(upstream_->allocate(wanted * sizeof(slot), alignof(slot)));
    std::uninitialized_value_construct_n(slots, wanted);

    slots_ = slots;
    mask_ = wanted - 1;
    slots_held_ = wanted;
    slots_used_ = 0;
    for (slot const& s : old)
        if (bits_in(s) != 0)
            place_slot(s.page)->starts = s.starts;
    if (!old.empty())
        return_upstream(upstream_, const_cast<slot*>(old.data()), old.size_bytes(), alignof(slot));
}

std::size_t address_set::size() const noexcept {
    std::size_t addresses = 0;
    for (slot const& s : std::span{slots_, slots_held_})
        addresses += bits_in(s);
    return addresses;
}

bool address_set::check_invariants() const {
    std::size_t used = 0;
    for (slot const& s : std::span{slots_, slots_held_}) {
        used += s.page != 0 ? 1u : 0u;
        if ((s.page != 0 && slot_of(s.page) != &s) || (s.page == 0 && bits_in(s) != 0)) {
            std::fprintf(stderr, "strata: address_set: a slot of page %zx is misplaced\n",
                         static_cast<std::size_t>(s.page));
            return false;
        }
    }
    if (used != slots_used_ || used > slots_held_ / 4 * 3) {
        std::fprintf(stderr, "strata: address_set: %zu of %zu slots are used, the count says %zu\n",
                     used, slots_held_, slots_used_);
        return false;
    }
    return true;
}

} // namespace strata::detail
