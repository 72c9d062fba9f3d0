// SPDX-License-Identifier: BSL-1.0
#include <strata/fixed_block_resource.hpp>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>

#include <strata/detail/annotate.hpp>
#include <strata/detail/return_upstream.hpp>

namespace strata {

using detail::block_region;
using detail::natural_alignment;

namespace {

constexpr std::size_t granule_bytes =
    sizeof(detail::bit_word); // the bits lie behind the last block
constexpr std::size_t most_alignment = std::size_t{1} << 20;
constexpr std::size_t cache_line_bytes = 64;

std::size_t checked_block_bytes(std::size_t block_bytes) {
    if (block_bytes == 0)
        throw std::invalid_argument{"strata: fixed_block_resource: blocks of 0 bytes"};
    if (block_bytes > detail::max_request_bytes)
        throw std::bad_alloc{};
    return detail::align_up(block_bytes, granule_bytes);
}

std::size_t checked_block_count(std::size_t capacity_bytes, std::size_t block_bytes) {
    if (capacity_bytes == 0)
        throw std::invalid_argument{"strata: fixed_block_resource: a capacity of 0 bytes"};
    std::size_t const blocks =
        capacity_bytes / block_bytes + (capacity_bytes % block_bytes != 0 ? 1 : 0);
    // A block and its share of the bits take less than 2 * block_bytes: no product overflows.
    if (blocks > detail::max_request_bytes / 8 / detail::align_up(block_bytes, granule_bytes))
        throw std::bad_alloc{};
    return blocks;
}

} // namespace

fixed_block_resource::fixed_block_resource(std::size_t capacity_bytes, std::size_t block_bytes,
                                           fixed_block_options const& options,
                                           std::pmr::memory_resource* upstream)
    : options_{options}, served_{upstream} {
    std::size_t const stride = checked_block_bytes(block_bytes);
    std::size_t const blocks = checked_block_count(capacity_bytes, block_bytes);
    region_bytes_ = bytes_for(blocks, stride);
    region_alignment_ = std::min(natural_alignment(stride), most_alignment);
    region_ = served_.upstream()->allocate(region_bytes_, region_alignment_);
    if (options_.prefault)
        detail::touch_pages(region_, region_bytes_);
    static_cast<block_region&>(*this) = block_region{region_, blocks, stride};
    detail::carve(region_, region_, hidden_bytes());
}

fixed_block_resource::fixed_block_resource(void* buffer, std::size_t bytes, std::size_t block_bytes,
                                           fixed_block_options const& options,
                                           std::pmr::memory_resource* upstream)
    : region_bytes_{bytes}, options_{options}, served_{upstream} {
    std::size_t const stride =
        checked_block_bytes(std::min(block_bytes, detail::max_request_bytes));
    std::size_t space = bytes;
    void* base = buffer;
    region_alignment_ = std::min(natural_alignment(stride), cache_line_bytes);
    std::size_t const blocks =
        std::align(region_alignment_, 0, base, space) != nullptr ? most_blocks(space, stride) : 0;
    if (buffer == nullptr || blocks == 0)
        throw std::invalid_argument{"strata: fixed_block_resource: a buffer of " +
                                    std::to_string(bytes) + " bytes does not hold one block of " +
                                    std::to_string(block_bytes) + " bytes and its bits"};
    if (options_.prefault)
        detail::touch_pages(buffer, bytes);
    static_cast<block_region&>(*this) = block_region{base, blocks, stride};
    detail::carve(nullptr, base, hidden_bytes());
}

fixed_block_resource::~fixed_block_resource() {
    further_.release(served_.upstream());
    if (region_ != nullptr)
        detail::return_carved(served_.upstream(), region_, region_bytes_, region_alignment_);
    else
        detail::open(base(), hidden_bytes());
}

// What take_one leaves: the last free block of a word, an uncommon alignment, a run, a full region.
void* fixed_block_resource::allocate_slow(std::size_t bytes, std::size_t alignment) {
    void* p = take(bytes, alignment);
    if (p == nullptr) [[unlikely]]
        p = allocate_further(bytes, alignment);
    if (p == nullptr) [[unlikely]]
        return served_.allocate(bytes, alignment);
    requested_bytes_ += bytes;
    return detail::hand_out(p, bytes);
}

// Returns: null where the pool does not grow, or not for this.
void* fixed_block_resource::allocate_further(std::size_t bytes, std::size_t alignment) {
    if (options_.growth == fixed_block_options::fixed)
        return nullptr;
    if (void* const p = further_.take(bytes, alignment))
        return p;
    if (fitting_bytes(bytes, alignment) == 0)
        return nullptr;
    return further_.take_from_new({blocks(), block_bytes(), region_alignment_, options_.prefault},
                                  bytes, alignment, served_.upstream());
}

void fixed_block_resource::deallocate_slow(void* p, std::size_t bytes, std::size_t alignment) {
    if (give_any_one(p, bytes, alignment))
        requested_bytes_ -= bytes;
    else if (p != nullptr)
        if (auto const wrong = do_try_deallocate(p, bytes, alignment))
            report(*wrong, p, bytes, alignment);
}

std::optional<misuse_kind> fixed_block_resource::do_try_deallocate(void* p, std::size_t bytes,
                                                                   std::size_t alignment) {
    block_region* const region = region_of(p);
    if (region == nullptr)
        return served_.deallocate(p, bytes, alignment);
    auto const wrong = region->give(p, bytes, alignment);
    if (!wrong)
        requested_bytes_ -= bytes;
    return wrong;
}

bool fixed_block_resource::do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                                         std::size_t) {
    block_region* const region = region_of(p);
    if (region == nullptr)
        return new_bytes == old_bytes;
    if (!region->resize(p, old_bytes, new_bytes))
        return false;
    requested_bytes_ += new_bytes - old_bytes;
    detail::refit(p, old_bytes, new_bytes);
    return true;
}

std::optional<misuse_kind> fixed_block_resource::do_diagnose(void const* p, std::size_t bytes,
                                                             std::size_t alignment) const {
    block_region const* const region = region_of(p);
    return region != nullptr ? region->judge(p, bytes, alignment)
                             : served_.diagnose(p, bytes, alignment);
}

block_region* fixed_block_resource::region_of(void const* p) noexcept {
    return holds(p) ? this : further_.region_of(p);
}
block_region const* fixed_block_resource::region_of(void const* p) const noexcept {
    return holds(p) ? this : further_.region_of(p);
}

bool fixed_block_resource::do_owns(void const* p) const {
    return region_of(p) != nullptr;
}

std::size_t fixed_block_resource::do_good_size(std::size_t bytes, std::size_t alignment) const {
    std::size_t fitting = fitting_bytes(bytes, alignment);
    if (fitting == 0) // by its alignment it may fit in another
        fitting = further_.fitting_bytes(bytes, alignment);
    return fitting != 0 ? fitting : bytes;
}

void fixed_block_resource::do_release() {
    served_.release();
    further_.release(served_.upstream());
    give_all();
    requested_bytes_ = {};
}

std::size_t fixed_block_resource::do_trim() {
    std::size_t const gone = further_.trim(served_.upstream());
    return gone + served_.trim();
}

statistics fixed_block_resource::do_stats() const {
    statistics s;
    add_to(s);
    s.footprint_bytes = region_bytes_;
    s.overhead_bytes = region_bytes_ - capacity_bytes();
    further_.add_to(s);
    s.requested_bytes = std::min<std::size_t>(requested_bytes_, s.live_bytes);
    served_.add_to(s);
    return s;
}

// The region with the lowest address above `above`, or null.
block_region const* fixed_block_resource::next_region(void const* above) const noexcept {
    block_region const* const next = further_.next_above(above);
    bool const is_this =
        std::less<>{}(above, base()) && (next == nullptr || std::less<>{}(base(), next->base()));
    return is_this ? this : next;
}

void fixed_block_resource::do_visit_blocks(block_visitor f) const {
    auto const served = served_.in_address_order();
    std::span rest{served};
    for (auto const* region = next_region(nullptr); region != nullptr;
         region = next_region(region->base())) {
        rest = detail::visit_below(rest, region->base(), f);
        region->visit(f);
    }
    detail::visit_below(rest, nullptr, f);
}

bool fixed_block_resource::do_check_invariants() const {
    char const* broken = block_region::broken_invariant();
    if (broken == nullptr)
        broken = further_.broken_invariant();
    if (broken != nullptr)
        std::fprintf(stderr, "strata: fixed_block_resource %p: %s\n",
                     static_cast<void const*>(this), broken);
    return broken == nullptr && served_.check_invariants();
}

std::pmr::memory_resource* fixed_block_resource::do_upstream_resource() const {
    return served_.upstream();
}

char const* fixed_block_resource::do_name() const noexcept {
    return "fixed_block_resource";
}

} // namespace strata
