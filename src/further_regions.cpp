// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/further_regions.hpp>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <new>
#include <utility>

#include <strata/detail/annotate.hpp>
#include <strata/detail/return_upstream.hpp>

namespace strata::detail {

void* further_regions::allocate(std::size_t bytes, std::size_t alignment) {
    for (further* f = first_; f != nullptr; f = f->next)
        if (void* const p = f->region.allocate(bytes, alignment))
            return hand_out(p, bytes);
    bool const has_room =
        bytes <= growth_bytes_ && growth_bytes_ != 0 &&
        (alignment <= outside_places::alignment ||
         alignment <= growth_bytes_ - align_up(bytes, best_fit_region::granule_bytes));
    if (!has_room || !is_power_of_two(alignment) || !grow())
        return served_.allocate(bytes, alignment);
    return hand_out(first_->region.allocate(bytes, alignment), bytes);
}

// Returns: whether upstream had memory for one more; where not, it may still have it for the request.
bool further_regions::grow() {
    std::size_t const head = align_up(sizeof(further) + redzone_bytes, outside_places::alignment);
    std::size_t const granules = best_fit_region::granules_for(growth_bytes_);
    std::size_t const whole =
        head + outside_places::bytes_for(granules, best_fit_region::granule_bytes);
    void* memory = nullptr;
    try {
        memory = upstream()->allocate(whole, outside_places::alignment);
    } catch (std::bad_alloc const&) {
        return false;
    }
    first_ = ::new (memory) further{{}, whole, first_};
    first_->region.places = {as_bytes(memory) + head, granules, best_fit_region::granule_bytes};
    first_->region.defer(deferred_bytes_);
    carve(memory, first_ + 1, head - sizeof(further) + first_->region.places.hidden_bytes());
    return true;
}

further_regions::further* further_regions::region_of(void const* p) const noexcept {
    further* f = first_;
    while (f != nullptr && !f->region.holds(p))
        f = f->next;
    return f;
}

std::optional<misuse_kind> further_regions::deallocate(void* p, std::size_t bytes,
                                                       std::size_t alignment) {
    further* const f = region_of(p);
    if (f == nullptr)
        return served_.deallocate(p, bytes, alignment);
    if (f->region.deallocate(p, bytes, alignment)) {
        take_back(p, best_fit_region::granule_bytes * best_fit_region::granules_for(bytes));
        return std::nullopt;
    }
    return f->region.diagnose(p, bytes, alignment);
}

std::optional<misuse_kind> further_regions::diagnose(void const* p, std::size_t bytes,
                                                     std::size_t alignment) const {
    further const* const f = region_of(p);
    return f != nullptr ? f->region.diagnose(p, bytes, alignment)
                        : served_.diagnose(p, bytes, alignment);
}

bool further_regions::try_resize(void const* p, std::size_t old_bytes,
                                 std::size_t new_bytes) noexcept {
    further* const f = region_of(p);
    return f != nullptr ? f->region.try_resize(p, old_bytes, new_bytes) : old_bytes == new_bytes;
}

// Upstream may find misuse, and its handler call back: what is given back is known to nobody then.
void further_regions::give_back(further* list) const noexcept {
    while (list != nullptr) {
        further* const gone = std::exchange(list, list->next);
        return_carved(upstream(), gone, gone->bytes, outside_places::alignment);
    }
}

void further_regions::release() noexcept {
    further* const all = std::exchange(first_, nullptr);
    served_.release();
    give_back(all);
}

std::size_t further_regions::trim() noexcept {
    std::size_t gone_bytes = 0;
    further* gone = nullptr;
    for (further** at = &first_; *at != nullptr;) {
        further* const f = *at;
        f->region.merge_all();
        if (!f->region.is_one_free_block()) {
            at = &f->next;
            continue;
        }
        gone_bytes += f->bytes;
        *at = f->next;
        f->next = std::exchange(gone, f);
    }
    give_back(gone);
    return gone_bytes + served_.trim();
}

std::size_t further_regions::capacity_bytes() const noexcept {
    std::size_t sum = 0;
    for (further const* f = first_; f != nullptr; f = f->next)
        sum += f->region.capacity_bytes();
    return sum;
}

void further_regions::add_to(statistics& s) const noexcept {
    for (further const* f = first_; f != nullptr; f = f->next) {
        s.footprint_bytes += f->bytes;
        s.overhead_bytes += f->bytes - f->region.capacity_bytes();
        f->region.add_to(s);
    }
    served_.add_to(s);
}

std::pmr::vector<block_info> further_regions::in_address_order() const {
    std::pmr::vector<block_info> all = served_.in_address_order();
    for (further const* f = first_; f != nullptr; f = f->next)
        f->region.visit([&](block_info const& block) { all.push_back(block); });
    std::sort(all.begin(), all.end(), [](block_info const& a, block_info const& b) {
        return std::less<>{}(a.address, b.address);
    });
    return all;
}

bool further_regions::check_invariants() const {
    for (further const* f = first_; f != nullptr; f = f->next)
        if (char const* const broken = f->region.broken_invariant(); broken != nullptr) {
            std::fprintf(stderr, "strata: a further region at %p: %s\n",
                         static_cast<void const*>(f), broken);
            return false;
        }
    return served_.check_invariants();
}

} // namespace strata::detail
