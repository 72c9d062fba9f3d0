// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/record_list.hpp>

#include <cstdio>
#include <new>

#include <strata/detail/return_upstream.hpp>

namespace strata::detail {

namespace {

template <class T>
T* objects_at(std::byte* memory) noexcept {
    return static_cast<T*>(static_cast<void*>(memory));
}

} // namespace

void record_list::grow(function_ref<void()> f) {
    index records = 0;
    std::byte* const memory = allocate_larger(records);
    try {
        f();
    } catch (...) {
        return_upstream(upstream_, memory, bytes_for(records), alignof(link));
        throw;
    }
    move_to(memory, records);
}

std::byte* record_list::allocate_larger(index& records) {
    if (capacity_ >= reserved / 2)
        throw std::bad_alloc{};
    try {
        records = std::max(2 * capacity_, first_records);
        return as_bytes(upstream_->allocate(bytes_for(records), alignof(link)));
    } catch (std::bad_alloc const&) {
        records = capacity_ + capacity_ / 8;
        if (records == capacity_)
            throw;
        return as_bytes(upstream_->allocate(bytes_for(records), alignof(link)));
    }
}

void record_list::move_to(std::byte* memory, index records) noexcept {
    auto* const links = objects_at<link>(memory);
    auto* const more = objects_at<facts>(memory + records * sizeof(link));
    auto* const stacks = objects_at<void const*>(memory + records * (sizeof(link) + sizeof(facts)));
    std::copy_n(links_, used_, links);
    std::copy_n(facts_, used_, more);
    std::copy_n(stacks_, used_ * stack_room(), stacks);
    if (capacity_ != 0)
        return_upstream(upstream_, links_, bytes_for(capacity_), alignof(link));
    links_ = links;
    facts_ = more;
    stacks_ = stacks;
    capacity_ = records;
}

void record_list::clear() noexcept {
    if (capacity_ != 0)
        return_upstream(upstream_, links_, bytes_for(capacity_), alignof(link));
    spare_ = none;
    used_ = capacity_ = 0;
}

record_list::index record_list::make_reserved(void* room) noexcept {
    ::new (room) reserved_record{};
    return reserved | static_cast<index>(offset_between(reserve_.data(), room) / reserve_granule);
}

std::span<void const*> record_list::stack_of(index i) const noexcept {
    if (stack_frames_ == 0 || is_reserved(i))
        return {};
    return {stacks_ + i * stack_room(), stack_room()};
}

bool record_list::check_invariants() const {
    auto const violated = [](char const* what, index i) {
        std::fprintf(stderr, "strata: record_list: %s: %zu\n", what, std::size_t{i});
        return false;
    };
    std::size_t seen = 0;
    index before = none;
    for (index i = head_; i != none; before = i, i = next(i)) {
        if (link_of(i).prev != before ||
            (before != none && facts_of(before).sequence >= facts_of(i).sequence))
            return violated("broken list", i);
        seen += is_reserved(i) ? 0u : 1u;
    }
    for (index i = spare_; i != none; i = next(i), ++seen)
        if (address_of(i) != nullptr) // I2
            return violated("a spare record has an address", i);
    return (before == tail_ && seen == used_) || violated("a record is lost before", tail_); // I1
}

} // namespace strata::detail
