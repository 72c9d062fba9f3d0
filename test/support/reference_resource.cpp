// SPDX-License-Identifier: BSL-1.0
#include "reference_resource.hpp"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <new>
#include <stdexcept>
#include <tuple>
#include <utility>

#include <strata/detail/bits.hpp>
#include <strata/detail/return_upstream.hpp>

namespace strata::test {

namespace {

std::size_t rounded(std::size_t bytes) noexcept {
    return detail::align_up(std::max<std::size_t>(bytes, 1), 16);
}

std::byte* writable(std::byte const* p) noexcept {
    return const_cast<std::byte*>(p);
}

// The entry at or before p; end() where there is none.
template <class Map>
auto at_or_before(Map const& map, std::byte const* p) {
    auto const after = map.upper_bound(p);
    return after == map.begin() ? map.end() : std::prev(after);
}

} // namespace

reference_resource::reference_resource(std::pmr::memory_resource* upstream, fault broken)
    : broken_{broken}, served_{upstream} {
    if (is(fault::takes_chunk_in_constructor))
        take_chunk();
}

reference_resource::~reference_resource() {
    try {
        if (is(fault::stops_destroying_at_a_leak) && !live_.empty())
            report(misuse_kind::leak, live_.begin()->first, 1, 1);
        release();
    } catch (...) {
    }
}

// --- allocate ---

void* reference_resource::do_allocate(std::size_t bytes, std::size_t alignment) {
    if (is(fault::asks_upstream_for_the_impossible) && bytes > detail::max_request_bytes)
        return upstream_resource()->allocate(1, 1);
    if (is(fault::aligns_to_what_cannot_be) && !detail::is_power_of_two(alignment))
        alignment = granule;
    if (!carves(bytes, alignment))
        return serve(bytes, alignment);
    if (!detail::is_power_of_two(alignment))
        throw std::invalid_argument{"strata: an alignment must be a power of two"};
    if (is(fault::reuses_address_for_zero_bytes) && bytes == 0)
        for (auto const& [p, asked] : live_)
            if (asked.bytes == 0)
                return writable(p);
    if (is(fault::books_before_upstream_answers))
        requested_bytes_ += bytes;

    std::size_t const wanted = is(fault::aligns_to_16_only) ? granule : alignment;
    std::byte const* p =
        is(fault::never_reuses) && freed_ ? nullptr : carve(rounded(bytes), wanted);
    freed_ = false;
    if (p == nullptr) {
        take_chunk();
        p = carve(rounded(bytes), wanted);
    }
    if (is(fault::writes_into_live_block))
        for (auto const& [other, asked] : live_)
            std::fill_n(writable(other), std::min<std::size_t>(asked.bytes, 1), std::byte{0xee});
    if (is(fault::hands_out_twice) && live_.size() % 8 == 7)
        add_free(p, rounded(bytes));
    live_[p] = request{bytes, alignment};
    if (!is(fault::books_before_upstream_answers))
        requested_bytes_ += bytes;
    return writable(p);
}

void* reference_resource::serve(std::size_t bytes, std::size_t alignment) {
    try {
        return served_.allocate(bytes, alignment);
    } catch (...) {
        if (is(fault::renames_upstreams_exception))
            throw std::bad_alloc{};
        throw;
    }
}

// First fit; what lies before and behind stays free.
std::byte const* reference_resource::carve(std::size_t size, std::size_t alignment) {
    for (auto const& [begin, bytes] : free_) {
        std::size_t const skipped =
            detail::align_up(detail::address_of(begin), alignment) - detail::address_of(begin);
        if (skipped + size > bytes)
            continue;
        std::byte const* const p = begin + skipped;
        std::size_t const behind = bytes - skipped - size;
        std::byte const* const front = begin;
        free_.erase(front);
        if (skipped != 0)
            free_[front] = skipped;
        if (behind != 0)
            free_[p + size] = behind;
        return p;
    }
    return nullptr;
}

void reference_resource::take_chunk() {
    void* const p = upstream_resource()->allocate(chunk_bytes, chunk_bytes);
    chunks_.insert(detail::as_bytes(p));
    add_free(detail::as_bytes(p) + chunk_overhead, chunk_bytes - chunk_overhead);
}

// Merges with the neighbours in the same chunk.
void reference_resource::add_free(std::byte const* p, std::size_t size) {
    auto const behind = free_.find(p + size);
    if (behind != free_.end() && chunk_of(p + size) == chunk_of(p)) {
        size += behind->second;
        free_.erase(behind);
    }
    auto const before = at_or_before(free_, p);
    if (before != free_.end() && before->first + before->second == p &&
        chunk_of(before->first) == chunk_of(p))
        free_[before->first] += size;
    else
        free_[p] = size;
}

// --- deallocate ---

std::optional<misuse_kind> reference_resource::do_diagnose(void const* p, std::size_t bytes,
                                                           std::size_t alignment) const {
    auto const* const at = detail::as_bytes(p);
    if (chunk_of(p) == nullptr) {
        auto const wrong = served_.diagnose(p, bytes, alignment);
        if (is(fault::calls_foreign_double_free) && wrong == misuse_kind::foreign_pointer)
            return misuse_kind::double_free;
        return wrong;
    }
    if (at < chunk_of(p) + chunk_overhead)
        return misuse_kind::foreign_pointer;
    auto const found = at_or_before(live_, at);
    bool const inside = found != live_.end() && at < found->first + rounded(found->second.bytes);
    if (!inside && is(fault::calls_free_memory_foreign))
        return misuse_kind::foreign_pointer;
    if (!inside)
        return detail::is_aligned(p, granule) ? misuse_kind::double_free
                                              : misuse_kind::misaligned_pointer;
    if (found->first != at)
        return is(fault::calls_interior_double_free) ? misuse_kind::double_free
                                                     : misuse_kind::misaligned_pointer;
    if (rounded(found->second.bytes) != rounded(bytes) && !is(fault::accepts_wrong_size))
        return misuse_kind::size_mismatch;
    if (found->second.alignment != alignment && !is(fault::accepts_wrong_alignment))
        return misuse_kind::alignment_mismatch;
    return std::nullopt;
}

std::optional<misuse_kind> reference_resource::do_try_deallocate(void* p, std::size_t bytes,
                                                                 std::size_t alignment) {
    auto const wrong = do_diagnose(p, bytes, alignment);
    if (wrong == misuse_kind::double_free && is(fault::accepts_double_free))
        return std::nullopt;
    if (wrong == misuse_kind::double_free && is(fault::diagnoses_in_another_way))
        return misuse_kind::foreign_pointer;
    if (wrong == misuse_kind::foreign_pointer && is(fault::passes_foreign_pointer_upstream))
        upstream_resource()->deallocate(p, bytes, alignment);
    if (wrong == misuse_kind::size_mismatch && is(fault::books_misuse_before_reporting))
        requested_bytes_ -= std::min(requested_bytes_, bytes);
    if (wrong == misuse_kind::double_free && is(fault::loses_block_on_double_free) &&
        free_.size() > 1)
        free_.erase(std::prev(free_.end()));
    if (wrong)
        return wrong;
    freed_ = true;
    if (is(fault::frees_with_upstreams_help))
        upstream_resource()->deallocate(upstream_resource()->allocate(64), 64);
    if (chunk_of(p) == nullptr)
        return served_.deallocate(p, bytes, alignment);
    auto const found = live_.find(detail::as_bytes(p));
    std::size_t const size = rounded(found->second.bytes);
    requested_bytes_ -= found->second.bytes;
    live_.erase(found);
    add_free(detail::as_bytes(p), size);
    return std::nullopt;
}

void reference_resource::do_deallocate(void* p, std::size_t bytes, std::size_t alignment) {
    if (p == nullptr && !is(fault::reports_null))
        return;
    auto const wrong =
        p == nullptr ? misuse_kind::foreign_pointer : do_try_deallocate(p, bytes, alignment);
    if (!wrong)
        return;
    auto const [live, free] = std::pair{live_, free_};
    if (is(fault::reports_twice))
        report(*wrong, p, bytes, alignment);
    report(*wrong, p, is(fault::reports_other_bytes) ? bytes + 1 : bytes, alignment);
    if (is(fault::restores_books_after_reporting))
        std::tie(live_, free_) = std::tie(live, free);
}

// --- the rest ---

bool reference_resource::do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                                       std::size_t alignment) {
    auto const found = live_.find(detail::as_bytes(p));
    if (found == live_.end() || !carves(new_bytes, alignment))
        return new_bytes == old_bytes;
    std::size_t const held = rounded(found->second.bytes);
    std::size_t const size = rounded(new_bytes);
    if (size > held) {
        auto const behind = free_.find(found->first + held);
        bool const fits = behind != free_.end() && chunk_of(behind->first) == chunk_of(p) &&
                          behind->second >= size - held;
        if (!fits)
            return is(fault::claims_resize_without_room);
        std::size_t const left = behind->second - (size - held);
        free_.erase(behind);
        if (left != 0)
            free_[found->first + size] = left;
    }
    requested_bytes_ += new_bytes - found->second.bytes;
    found->second.bytes = new_bytes;
    if (size < held)
        add_free(found->first + size, held - size);
    return true;
}

void* reference_resource::do_reallocate(void* p, std::size_t old_bytes, std::size_t new_bytes,
                                        std::size_t alignment) {
    void* const moved = resource::do_reallocate(p, old_bytes, new_bytes, alignment);
    if (is(fault::reallocate_loses_last_byte) && moved != p && p != nullptr && moved != nullptr &&
        old_bytes > 0 && new_bytes > old_bytes)
        detail::as_bytes(moved)[old_bytes - 1] ^= std::byte{1};
    return moved;
}

std::byte const* reference_resource::chunk_of(void const* p) const {
    auto const found = chunks_.upper_bound(detail::as_bytes(p));
    if (found == chunks_.begin())
        return nullptr;
    std::byte const* const base = *std::prev(found);
    return detail::offset_between(base, p) < chunk_bytes ? base : nullptr;
}

bool reference_resource::do_owns(void const* p) const {
    return chunk_of(p) != nullptr || (is(fault::owns_served_blocks) &&
                                      served_.diagnose(p, 0, 0) == misuse_kind::size_mismatch);
}

std::size_t reference_resource::do_good_size(std::size_t bytes, std::size_t alignment) const {
    if (!carves(bytes, alignment))
        return bytes;
    return rounded(bytes) - (is(fault::good_size_too_small) ? granule / 2 : 0);
}

void reference_resource::give_back(std::byte const* chunk, std::size_t alignment) {
    if (is(fault::heeds_upstreams_complaints))
        upstream_resource()->deallocate(writable(chunk), chunk_bytes, alignment);
    else
        detail::return_upstream(upstream_resource(), writable(chunk), chunk_bytes, alignment);
}

void reference_resource::do_release() {
    if (is(fault::releases_with_upstreams_help))
        upstream_resource()->deallocate(upstream_resource()->allocate(64), 64);
    bool const leak = is(fault::release_leaks_a_chunk) && chunks_.size() > 1;
    auto const alignment = is(fault::returns_other_alignment) ? chunk_bytes / 2 : chunk_bytes;
    for (std::byte const* chunk : chunks_)
        if (!leak || chunk != *chunks_.begin())
            give_back(chunk, alignment);
    chunks_.clear();
    live_.clear();
    free_.clear();
    if (!is(fault::release_forgets_a_counter))
        requested_bytes_ = 0;
    served_.release();
}

std::size_t reference_resource::do_trim() {
    std::size_t returned = served_.trim();
    if (is(fault::trim_keeps_chunks))
        return returned;
    for (auto it = chunks_.begin(); it != chunks_.end();) {
        auto const whole = free_.find(*it + chunk_overhead);
        if (whole == free_.end() || whole->second != chunk_bytes - chunk_overhead) {
            ++it;
            continue;
        }
        free_.erase(whole);
        give_back(*it, chunk_bytes);
        it = chunks_.erase(it);
        returned += is(fault::trim_miscounts) ? chunk_bytes - 1 : chunk_bytes;
    }
    return returned;
}

statistics reference_resource::do_stats() const {
    statistics s;
    for (auto const& [p, asked] : live_)
        s.live_bytes += rounded(asked.bytes);
    for (auto const& [p, bytes] : free_) {
        s.free_bytes += bytes;
        s.largest_free_bytes = std::max(s.largest_free_bytes, bytes);
    }
    if (!is(fault::overstates_largest_free))
        s.largest_free_bytes = std::min(s.largest_free_bytes, largest_bytes);
    s.live_blocks = live_.size();
    s.requested_bytes = requested_bytes_;
    s.free_blocks = free_.size();
    s.overhead_bytes = is(fault::forgets_overhead) ? 0 : chunks_.size() * chunk_overhead;
    s.footprint_bytes = s.live_bytes + s.free_bytes + s.overhead_bytes;
    served_.add_to(s);
    if (is(fault::overstates_peak))
        s.peak_live_bytes = s.live_bytes + 1;
    return s;
}

void reference_resource::do_visit_blocks(block_visitor f) const {
    std::map<void const*, block_info> blocks;
    for (auto const& [p, asked] : live_)
        blocks[p] = {p, rounded(asked.bytes), true};
    for (auto const& [p, bytes] : free_)
        blocks[p] = {p, bytes, false};
    for (block_info const& block : served_.in_address_order())
        blocks[block.address] = block;
    if (is(fault::walk_omits_a_free_block) && free_.size() > 1)
        blocks.erase(free_.begin()->first);
    if (is(fault::walk_is_out_of_order))
        for (auto it = blocks.rbegin(); it != blocks.rend(); ++it)
            f(it->second);
    else
        for (auto const& [p, block] : blocks)
            f(block);
}

bool reference_resource::do_check_invariants() const {
    free_map blocks = free_;
    for (auto const& [p, asked] : live_)
        blocks[p] = rounded(asked.bytes);
    std::byte const* end = nullptr; // of the block before
    std::size_t bytes = 0;
    bool fine = true;
    for (auto const& [p, size] : blocks) {
        fine = fine && chunk_of(p) != nullptr && p >= end;
        end = p + size;
        bytes += size;
    }
    fine = fine && bytes == chunks_.size() * (chunk_bytes - chunk_overhead);
    if (!fine)
        std::fputs("strata: reference: the blocks do not tile the chunks\n", stderr);
    return fine && served_.check_invariants();
}

} // namespace strata::test
