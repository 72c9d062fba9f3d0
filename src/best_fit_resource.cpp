// SPDX-License-Identifier: BSL-1.0
#include <strata/best_fit_resource.hpp>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <utility>

namespace strata {

namespace {

constexpr std::size_t region_alignment = 64;

// Bits for granules 0 … granules + 1, in pairs of 64-bit words.
constexpr std::size_t bit_pairs(std::size_t granules) noexcept {
    return (granules + 2 + 63) / 64;
}
constexpr std::size_t bits_bytes(std::size_t granules) noexcept {
    return bit_pairs(granules) * 16;
}

// The lowest or highest set bit at or above, or at or below, bit g % 64 of a word.
constexpr std::uint64_t from_bit(std::uint64_t word, std::size_t g) noexcept {
    return word >> g % 64 << g % 64;
}
constexpr std::uint64_t up_to_bit(std::uint64_t word, std::size_t g) noexcept {
    return word << (63 - g % 64) >> (63 - g % 64);
}

// A block may be better aligned than it was asked to be.
bool aligned_to(void const* p, std::size_t alignment) noexcept {
    return detail::is_aligned(p, std::max(alignment, detail::best_fit_index::granule_bytes));
}

} // namespace

// --- the region ---

best_fit_resource::best_fit_resource(std::size_t bytes, std::pmr::memory_resource* upstream)
    : served_{upstream} {
    if (bytes == 0 || bytes > most_granules * granule_bytes)
        throw std::invalid_argument{"strata: a region has 1 byte to 64 GiB"};
    std::size_t const granules = granules_for(bytes);
    region_bytes_ = granules * granule_bytes + bits_bytes(granules);
    owned_ = served_.upstream()->allocate(region_bytes_, region_alignment);
    lay_out(detail::as_bytes(owned_), granules);
}

best_fit_resource::best_fit_resource(void* buffer, std::size_t bytes,
                                     std::pmr::memory_resource* upstream)
    : served_{upstream} {
    assign(buffer, bytes);
}

best_fit_resource::~best_fit_resource() {
    served_.release();
    if (owned_ != nullptr)
        served_.upstream()->deallocate(owned_, region_bytes_, region_alignment);
}

void best_fit_resource::assign(void* buffer, std::size_t bytes) {
    if (stats().live_blocks != 0)
        throw std::invalid_argument{"strata: a region can be replaced only while no block is live"};
    std::size_t const skipped = (0 - detail::address_of(buffer)) % granule_bytes;
    std::size_t const usable = buffer != nullptr && bytes > skipped ? bytes - skipped : 0;
    std::size_t granules = std::min(usable / granule_bytes, most_granules);
    while (granules != 0 && granules * granule_bytes + bits_bytes(granules) > usable)
        granules -= std::max<std::size_t>(1, granules / 128); // the bits are 1/64
    if (granules == 0)
        throw std::invalid_argument{"strata: the buffer is too small to hold a block"};
    while ((granules + 1) * granule_bytes + bits_bytes(granules + 1) <= usable &&
           granules < most_granules)
        ++granules;
    if (owned_ != nullptr)
        served_.upstream()->deallocate(std::exchange(owned_, nullptr), region_bytes_,
                                       region_alignment);
    region_bytes_ = bytes;
    lay_out(detail::as_bytes(buffer) + skipped, granules);
}

void best_fit_resource::lay_out(std::byte* base, std::size_t granules) noexcept {
    base_ = base;
    granules_ = granules;
    bits_ = ::new (base + granules * granule_bytes) bit_words{};
    free_all();
}

void best_fit_resource::free_all() noexcept {
    if (granules_ != 0)
        std::uninitialized_fill_n(bits_, bit_pairs(granules_), bit_words{0, 0});
    index_.reset(base_);
    top_ = 1;
    requested_bytes_ = 0;
}

void best_fit_resource::do_release() {
    free_all();
    served_.release();
}

// Returns: granules of such a block, at least 1; more than any region has for sizes that overflow.
std::size_t best_fit_resource::granules_for(std::size_t bytes) noexcept {
    return bytes <= granule_bytes ? 1 : (bytes - 1) / granule_bytes + 1;
}

// --- allocate: find, cut, mark ---

void* best_fit_resource::do_allocate(std::size_t bytes, std::size_t alignment) {
    std::size_t const size = granules_for(bytes);
    granule block = size <= granules_ ? smallest(static_cast<granule>(size)) : 0;
    granule place = block;
    if (alignment > granule_bytes && block != 0) [[unlikely]] {
        block = smallest_aligned(block, size, alignment);
        place = block + gap_before(block, alignment);
    }
    if (block == 0) [[unlikely]]
        return served_.allocate(bytes, alignment);
    cut(block, place, static_cast<granule>(size));
    flip_live(place);
    requested_bytes_ += bytes;
    return address(place);
}

// Returns: the place of a smallest free block of at least `size` granules, top included; 0: none.
best_fit_resource::granule best_fit_resource::smallest(granule size) const noexcept {
    granule const g = index_.find(size);
    bool const in_top = top_size() >= size && (g == 0 || top_size() < index_.size_at(g));
    return in_top ? top_ : g;
}

// Returns: the smallest block `fitting`, where it happens to have room for an aligned block of
// `size` granules; else the smallest that has it wherever it lies; 0: none.
best_fit_resource::granule
best_fit_resource::smallest_aligned(granule fitting, std::size_t size,
                                    std::size_t alignment) const noexcept {
    if (!detail::is_power_of_two(alignment))
        return 0;
    granule const has = fitting == top_ ? top_size() : index_.size_at(fitting);
    if (size + gap_before(fitting, alignment) <= has)
        return fitting;
    std::size_t const anywhere = size + alignment / granule_bytes - 1;
    return anywhere <= granules_ ? smallest(static_cast<granule>(anywhere)) : 0;
}

// Returns: granules from g to the next that is aligned to `alignment` >= 16 bytes.
best_fit_resource::granule best_fit_resource::gap_before(granule g,
                                                         std::size_t alignment) const noexcept {
    return static_cast<granule>(((0 - detail::address_of(address(g))) & (alignment - 1)) /
                                granule_bytes);
}

// Takes granules [place, place + size) out of the free block at g:
//   │ g …… place │ size │ rest │   both ends stay free
void best_fit_resource::cut(granule g, granule place, granule size) noexcept {
    if (g == top_) {
        top_ = place + size;
    } else {
        granule const last = g + index_.size_at(g);
        index_.remove(g);
        if (granule const rest = last - place - size; rest != 0)
            index_.insert(place + size, rest); // ends where the block ended: its end bit stays
        else
            flip_end(last - 1);
    }
    if (place != g)
        add_free({g, place - g});
}

// Requires: no neighbour is free.
void best_fit_resource::add_free(extent e) noexcept {
    flip_end(e.first + e.size - 1);
    index_.insert(e.first, e.size);
}

void best_fit_resource::take_free(extent e) noexcept {
    index_.remove(e.first);
    flip_end(e.first + e.size - 1);
}

// --- deallocate: check, unmark, merge, insert ---

std::optional<misuse_kind> best_fit_resource::do_try_deallocate(void* p, std::size_t bytes,
                                                                std::size_t alignment) {
    if (!do_owns(p)) [[unlikely]]
        return served_.deallocate(p, bytes, alignment);
    granule const first = granule_of(p);
    std::size_t const size = granules_for(bytes);
    if (offset_of(p) % granule_bytes != 0 || !live(first) || !is_whole_block(first, size))
        [[unlikely]]
        return do_diagnose(p, bytes, alignment);
    flip_live(first);
    requested_bytes_ -= bytes;
    extent const block = merged({first, static_cast<granule>(size)});
    if (block.first + block.size == top_)
        top_ = block.first;
    else
        add_free(block);
    return std::nullopt;
}

void best_fit_resource::do_deallocate(void* p, std::size_t bytes, std::size_t alignment) {
    if (p == nullptr)
        return;
    if (auto const wrong = best_fit_resource::do_try_deallocate(p, bytes, alignment)) [[unlikely]]
        report(*wrong, p, bytes, alignment);
}

// Takes the free neighbours of a block that is becoming free out of the index.
//   │ before │ e │ after │  ──►  one extent; top is left alone
best_fit_resource::extent best_fit_resource::merged(extent e) noexcept {
    if (granule const after = e.first + e.size; after != top_ && !live(after)) {
        extent const neighbour{after, index_.size_at(after)};
        take_free(neighbour);
        e.size += neighbour.size;
    }
    if (ends_free(e.first - 1)) {
        granule const before = index_.size_before(e.first - 1);
        take_free({e.first - before, before});
        e = {e.first - before, e.size + before};
    }
    return e;
}

// Returns: whether the live block at `first` has `size` granules: a block starts behind it, and none
// starts or ends within.
bool best_fit_resource::is_whole_block(granule first, std::size_t size) const noexcept {
    if (size > top_ - std::size_t{first})
        return false;
    auto const next = static_cast<granule>(first + size);
    std::size_t word = first / 64;
    std::uint64_t marks = (bits_[word].live ^ std::uint64_t{1} << first % 64) | bits_[word].end;
    marks = from_bit(marks, first);
    for (; word != (next - 1) / 64; ++word, marks = bits_[word].live | bits_[word].end)
        if (marks != 0)
            return false;
    return up_to_bit(marks, next - 1) == 0 && starts_block(next);
}

// Returns: whether g, which no block lies across if sizes are right, is where one starts. What
// stands at g is believed only if the end bit and the last word of a free block confirm it.
bool best_fit_resource::starts_block(granule g) const noexcept {
    if (g == top_ || live(g))
        return true;
    granule const size = index_.size_at(g);
    if (size == 0 || size >= top_ - g)
        return false;
    granule const last = g + size - 1;
    return ends_free(last) && index_.size_before(last) == size;
}

// --- misuse ---

std::optional<misuse_kind> best_fit_resource::do_diagnose(void const* p, std::size_t bytes,
                                                          std::size_t alignment) const {
    if (!do_owns(p))
        return served_.diagnose(p, bytes, alignment);
    if (auto const wrong = classify(p))
        return wrong;
    if (!is_whole_block(granule_of(p), granules_for(bytes)))
        return misuse_kind::size_mismatch;
    return aligned_to(p, alignment) ? std::nullopt : std::optional{misuse_kind::alignment_mismatch};
}

// Returns: what is wrong with p as a block's address. Complexity: O(granules / 64) at worst.
std::optional<misuse_kind> best_fit_resource::classify(void const* p) const noexcept {
    granule const g = granule_of(p);
    bool const aligned = aligned_to(p, granule_bytes);
    if (aligned && g < top_ && live(g))
        return std::nullopt;
    // The nearest block before p: live, and reaching over it?
    bool inside_live = false;
    if (g < top_ && !ends_free(g)) {
        std::size_t word = g / 64;
        std::uint64_t marks = up_to_bit(bits_[word].live | bits_[word].end, g);
        while (marks == 0 && word-- != 0)
            marks = bits_[word].live | bits_[word].end;
        if (marks != 0) {
            auto const at = static_cast<granule>(word * 64 + 63 -
                                                 static_cast<std::size_t>(std::countl_zero(marks)));
            inside_live = live(at) && g < block_end(at);
        }
    }
    return inside_live || !aligned ? misuse_kind::misaligned_pointer : misuse_kind::double_free;
}

// Returns: where the live block at `first` ends: where the next block starts.
best_fit_resource::granule best_fit_resource::block_end(granule first) const noexcept {
    granule g = first + 1;
    for (std::size_t word = g / 64; word <= end() / 64; ++word) {
        std::uint64_t const from = word == g / 64 ? ~std::uint64_t{0} << g % 64 : ~std::uint64_t{0};
        std::uint64_t const lives = bits_[word].live & from;
        std::uint64_t const ends = bits_[word].end & from;
        if ((lives | ends) == 0)
            continue;
        auto const at = static_cast<granule>(
            word * 64 + static_cast<std::size_t>(std::countr_zero(lives | ends)));
        return live(at) ? at : at + 1 - index_.size_before(at);
    }
    return top_;
}

// --- the rest of the interface ---

bool best_fit_resource::do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                                      std::size_t) {
    if (!do_owns(p))
        return old_bytes == new_bytes;
    std::size_t const old_size = granules_for(old_bytes);
    std::size_t const new_size = granules_for(new_bytes);
    auto const last = static_cast<granule>(granule_of(p) + old_size);
    if (new_size < old_size) {
        auto const freed = static_cast<granule>(old_size - new_size);
        flip_live(last -
                  freed); // as if a block of its own had been freed: what lies before is live
        if (auto const wrong = best_fit_resource::do_try_deallocate(address(last - freed),
                                                                    freed * granule_bytes, 1))
            return false;
        requested_bytes_ += freed * granule_bytes;
    } else if (new_size > old_size) {
        std::size_t const more = new_size - old_size;
        bool const is_top = last == top_;
        if (!is_top && live(last))
            return false;
        if ((is_top ? top_size() : index_.size_at(last)) < more)
            return false;
        cut(last, last, static_cast<granule>(more));
    }
    requested_bytes_ += new_bytes - old_bytes;
    return true;
}

std::size_t best_fit_resource::do_good_size(std::size_t bytes, std::size_t) const {
    std::size_t const size = granules_for(bytes);
    return size <= granules_ ? size * granule_bytes : bytes;
}

void best_fit_resource::do_visit_blocks(block_visitor f) const {
    auto const served = served_.in_address_order();
    auto rest = detail::visit_below(served, granules_ != 0 ? address(1) : nullptr, f);
    for (granule g = 1; granules_ != 0 && g < top_;) {
        granule const next = live(g) ? block_end(g) : g + index_.size_at(g);
        f({address(g), (next - g) * granule_bytes, live(g)});
        g = next;
    }
    if (granules_ != 0 && top_size() != 0)
        f({address(top_), top_size() * granule_bytes, false});
    detail::visit_below(rest, nullptr, f);
}

statistics best_fit_resource::do_stats() const {
    statistics s;
    s.footprint_bytes = region_bytes_;
    if (granules_ != 0) {
        for (std::size_t word = 0; word < bit_pairs(granules_); ++word) {
            s.live_blocks += static_cast<std::size_t>(std::popcount(bits_[word].live));
            s.free_blocks += static_cast<std::size_t>(std::popcount(bits_[word].end));
        }
        index_.check([&](granule, granule size) { s.free_bytes += size * granule_bytes; });
        s.free_blocks += top_size() != 0 ? 1u : 0u;
        s.free_bytes += top_size() * granule_bytes;
        s.largest_free_bytes = std::max(index_.largest(), top_size()) * granule_bytes;
        s.live_bytes = capacity_bytes() - s.free_bytes;
    }
    s.requested_bytes = std::min(requested_bytes_, s.live_bytes);
    s.overhead_bytes = s.footprint_bytes - capacity_bytes();
    served_.add_to(s);
    return s;
}

// --- invariants ---

// Returns: what does not hold, in words; null where all does.
char const* best_fit_resource::broken_invariant() const {
    if (granules_ == 0)
        return top_ == 1 ? nullptr : "there is no region, but blocks";
    if (top_ < 1 || top_ > end())
        return "top lies outside the region";
    std::size_t indexed = 0;
    bool described = true;
    bool const linked = index_.check([&](granule g, granule size) {
        ++indexed;
        described = described && size != 0 && g >= 1 && g + size < top_ && !live(g) &&
                    ends_free(g + size - 1) && index_.size_before(g + size - 1) == size;
    });
    if (!linked || !described)
        return linked ? "a free block is described wrongly" : "the index is broken";
    bool before_free = false;
    for (granule g = 1; g < top_;) {
        bool const is_live = live(g);
        if (!is_live && before_free)
            return "two free blocks are neighbours";
        granule const next = is_live ? block_end(g) : g + index_.size_at(g);
        if (next <= g || next > top_)
            return "a block ends before it starts, or in top";
        if (!is_live && (indexed-- == 0 || !ends_free(next - 1)))
            return "a free block is not in the index";
        if (is_live && !is_whole_block(g, next - g))
            return "a live block has marks within";
        before_free = !is_live;
        g = next;
    }
    if (before_free && top_ != end() + 1)
        return "a free block borders on top";
    return indexed == 0 ? nullptr : "the index has blocks that are not there";
}

bool best_fit_resource::do_check_invariants() const {
    char const* const broken = broken_invariant();
    if (broken != nullptr)
        std::fprintf(stderr, "strata: best_fit_resource %p: %s\n", static_cast<void const*>(this),
                     broken);
    return broken == nullptr && served_.check_invariants();
}

} // namespace strata
