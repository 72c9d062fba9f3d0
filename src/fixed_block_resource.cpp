// SPDX-License-Identifier: BSL-1.0
#include <strata/fixed_block_resource.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>

#include <strata/detail/return_upstream.hpp>

namespace strata {

using detail::bit_word;
using detail::free_bits;
using detail::natural_alignment;

namespace {

constexpr std::size_t granule_bytes = sizeof(bit_word); // the bits lie behind the last block
constexpr std::size_t page_bytes = 4096;
constexpr std::size_t cache_line_bytes = 64;

// One bit more than there are blocks, so that a block can always look at the one behind it.
constexpr std::size_t joined_words(std::size_t blocks) noexcept {
    return blocks / detail::word_bits + 1;
}

constexpr std::size_t bytes_to_hold(std::size_t blocks, std::size_t block_bytes) noexcept {
    return blocks * block_bytes +
           (free_bits::storage_words(blocks) + joined_words(blocks)) * sizeof(bit_word);
}

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

// The most blocks that fit, bits included: by bisection, as the bits come in whole words.
std::size_t most_blocks(std::size_t bytes, std::size_t block_bytes) noexcept {
    std::size_t fits = 0;
    for (std::size_t limit = bytes / block_bytes; fits < limit;) {
        std::size_t const middle = limit - (limit - fits) / 2;
        if (bytes_to_hold(middle, block_bytes) <= bytes)
            fits = middle;
        else
            limit = middle - 1;
    }
    return fits;
}

} // namespace

fixed_block_resource::fixed_block_resource(std::size_t capacity_bytes, std::size_t block_bytes,
                                           std::pmr::memory_resource* upstream)
    : block_bytes_{checked_block_bytes(block_bytes)}, served_{upstream} {
    std::size_t const blocks = checked_block_count(capacity_bytes, block_bytes);
    region_bytes_ = bytes_to_hold(blocks, block_bytes_);
    region_alignment_ = std::min(natural_alignment(block_bytes_), page_bytes);
    region_ = served_.upstream()->allocate(region_bytes_, region_alignment_);
    lay_out(region_, blocks);
}

fixed_block_resource::fixed_block_resource(void* buffer, std::size_t bytes, std::size_t block_bytes,
                                           std::pmr::memory_resource* upstream)
    : block_bytes_{checked_block_bytes(std::min(block_bytes, detail::max_request_bytes))},
      region_bytes_{bytes},
      served_{upstream} {
    std::size_t space = bytes;
    void* base = buffer;
    std::size_t const alignment = std::min(natural_alignment(block_bytes_), cache_line_bytes);
    std::size_t const blocks =
        std::align(alignment, 0, base, space) != nullptr ? most_blocks(space, block_bytes_) : 0;
    if (buffer == nullptr || blocks == 0)
        throw std::invalid_argument{"strata: fixed_block_resource: a buffer of " +
                                    std::to_string(bytes) + " bytes does not hold one block of " +
                                    std::to_string(block_bytes) + " bytes and its bits"};
    lay_out(base, blocks);
}

fixed_block_resource::~fixed_block_resource() {
    if (region_ != nullptr)
        detail::return_upstream(served_.upstream(), region_, region_bytes_, region_alignment_);
}

void fixed_block_resource::lay_out(void* base, std::size_t blocks) {
    base_ = detail::as_bytes(base);
    blocks_ = blocks;
    divide_ = detail::exact_divider{block_bytes_};
    alignment_ = natural_alignment(block_bytes_ | detail::address_of(base));
    common_alignment_ = std::min(alignment_, detail::max_align);
    auto* const words = static_cast<bit_word*>(block_at(blocks));
    free_ = free_bits{words, blocks};
    joined_ = words + free_bits::storage_words(blocks);
    std::uninitialized_fill_n(joined_, joined_words(blocks), bit_word{0});
}

// The last free block of a word, an uncommon alignment, or a run.
void* fixed_block_resource::allocate_slow(std::size_t bytes, std::size_t alignment) {
    bool const is_plain = alignment <= common_alignment_ ||
                          (alignment <= alignment_ && detail::is_power_of_two(alignment));
    if (bytes > block_bytes_ || !is_plain)
        return allocate_run(bytes, alignment);
    void* p = std::exchange(front_, nullptr);
    if (p == nullptr) {
        std::size_t const i = free_.take_lowest();
        if (i == free_bits::none)
            return served_.allocate(bytes, alignment);
        p = block_at(i);
    }
    requested_bytes_ += bytes;
    return p;
}

// find – take – account – return
void* fixed_block_resource::allocate_run(std::size_t bytes, std::size_t alignment) {
    std::size_t const n = blocks_for(bytes);
    auto const where = places_for(alignment);
    if (n > blocks_ || !where)
        return served_.allocate(bytes, alignment);

    drop_front();
    std::size_t const first = free_.find_run(n, *where);
    if (first == free_bits::none)
        return served_.allocate(bytes, alignment);

    free_.take(first, n);
    join(first + 1, n - 1);
    requested_bytes_ += bytes;
    return block_at(first);
}

void fixed_block_resource::deallocate_slow(void* p, std::size_t bytes, std::size_t alignment) {
    if (give_any_block(p, bytes, alignment))
        return;
    if (auto const wrong = deallocate_run(p, bytes, alignment))
        report(*wrong, p, bytes, alignment);
}

std::optional<misuse_kind> fixed_block_resource::try_deallocate_slow(void* p, std::size_t bytes,
                                                                     std::size_t alignment) {
    if (give_any_block(p, bytes, alignment))
        return std::nullopt;
    return deallocate_run(p, bytes, alignment);
}

// give_block, and the blocks that it leaves. False where p is no live block of one.
bool fixed_block_resource::give_any_block(void* p, std::size_t bytes,
                                          std::size_t alignment) noexcept {
    std::size_t const i = index_of(p);
    if (i >= blocks_ || bytes > block_bytes_ || alignment > alignment_ || free_.is_free(i) ||
        p == front_ || is_joined(i) || is_joined(i + 1))
        return false;
    if (detail::address_of(p) < detail::address_of(front_))
        free_.give(index_of(std::exchange(front_, p)));
    else
        free_.give(i);
    requested_bytes_ -= bytes;
    return true;
}

// check – give – account
std::optional<misuse_kind> fixed_block_resource::deallocate_run(void* p, std::size_t bytes,
                                                                std::size_t alignment) {
    if (p == nullptr)
        return std::nullopt;
    if (!do_owns(p))
        return served_.deallocate(p, bytes, alignment);
    if (auto const wrong = do_diagnose(p, bytes, alignment))
        return wrong;

    std::size_t const n = blocks_for(bytes);
    std::size_t const first = index_of(p);
    unjoin(first + 1, n - 1);
    drop_front();
    free_.give(first, n);
    requested_bytes_ -= bytes;
    return std::nullopt;
}

// The front becomes an ordinary free block.
void fixed_block_resource::drop_front() noexcept {
    if (front_ != nullptr)
        free_.give(index_of(std::exchange(front_, nullptr)));
}

// Both ends by bits alone:   │ p   p   p │   │   │  ──►  │ p   p   p   p │   │  or  │ p │   │   │
bool fixed_block_resource::do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                                         std::size_t) {
    if (!do_owns(p))
        return new_bytes == old_bytes;
    std::size_t const first = index_of(p);
    std::size_t const before = blocks_for(old_bytes);
    std::size_t const after = blocks_for(new_bytes);
    if (after > before) {
        drop_front();
        if (!free_.all_free(first + before, after - before))
            return false;
        free_.take(first + before, after - before);
        join(first + before, after - before);
    } else if (after < before) {
        unjoin(first + after, before - after);
        drop_front();
        free_.give(first + after, before - after);
    }
    requested_bytes_ += new_bytes - old_bytes;
    return true;
}

std::optional<misuse_kind> fixed_block_resource::do_diagnose(void const* p, std::size_t bytes,
                                                             std::size_t alignment) const {
    if (!do_owns(p))
        return served_.diagnose(p, bytes, alignment);
    std::size_t const i = index_of(p);
    if (i >= blocks_ || is_joined(i))
        return misuse_kind::misaligned_pointer;
    if (is_free(i))
        return misuse_kind::double_free;
    if (blocks_at(i) != blocks_for(bytes))
        return misuse_kind::size_mismatch;
    bool const has_alignment = alignment <= alignment_ || (detail::is_power_of_two(alignment) &&
                                                           detail::is_aligned(p, alignment));
    if (!has_alignment)
        return misuse_kind::alignment_mismatch;
    return std::nullopt;
}

bool fixed_block_resource::do_owns(void const* p) const {
    return detail::offset_between(base_, p) < blocks_ * block_bytes_;
}

std::size_t fixed_block_resource::do_good_size(std::size_t bytes, std::size_t alignment) const {
    std::size_t const n = blocks_for(bytes);
    auto const where = places_for(alignment);
    if (n > blocks_ || !where || where->phase > blocks_ - n)
        return bytes;
    return n * block_bytes_;
}

void fixed_block_resource::do_release() {
    served_.release();
    free_.give_all();
    std::fill_n(joined_, joined_words(blocks_), bit_word{0});
    joined_blocks_ = 0;
    front_ = nullptr;
    requested_bytes_ = 0;
}

std::size_t fixed_block_resource::do_trim() {
    return served_.trim();
}

statistics fixed_block_resource::do_stats() const {
    statistics s;
    s.free_blocks = free_.count() + (front_ != nullptr ? 1 : 0);
    s.free_bytes = s.free_blocks * block_bytes_;
    s.live_blocks = blocks_ - s.free_blocks - joined_blocks_;
    s.live_bytes = (blocks_ - s.free_blocks) * block_bytes_;
    s.requested_bytes = std::min(requested_bytes_, s.live_bytes);
    std::size_t longest = free_.longest_run();
    if (front_ != nullptr)
        longest = std::max(longest, 1 + free_.run_length(index_of(front_) + 1));
    s.largest_free_bytes = longest * block_bytes_;
    s.footprint_bytes = region_bytes_;
    s.overhead_bytes = region_bytes_ - blocks_ * block_bytes_;
    served_.add_to(s);
    return s;
}

void fixed_block_resource::do_visit_blocks(block_visitor f) const {
    auto const served = served_.in_address_order();
    auto const above = detail::visit_below(std::span{served}, base_, f);
    for (std::size_t i = 0; i < blocks_;) {
        bool const live = !is_free(i);
        std::size_t const n = live ? blocks_at(i) : 1;
        f({block_at(i), n * block_bytes_, live});
        i += n;
    }
    detail::visit_below(above, nullptr, f);
}

bool fixed_block_resource::do_check_invariants() const {
    char const* const broken = broken_invariant();
    if (broken != nullptr)
        std::fprintf(stderr, "strata: fixed_block_resource %p: %s\n",
                     static_cast<void const*>(this), broken);
    return broken == nullptr && served_.check_invariants();
}

char const* fixed_block_resource::broken_invariant() const noexcept {
    if (char const* const broken = free_.broken_invariant())
        return broken;
    std::size_t joined = 0;
    for (std::size_t i = 0; i < joined_words(blocks_) * detail::word_bits; ++i) {
        if (!is_joined(i))
            continue;
        ++joined;
        if (i == 0 || i >= blocks_ || is_free(i) || is_free(i - 1))
            return "I1: a block is joined to one that is free or does not exist";
    }
    if (joined != joined_blocks_)
        return "I2: the count of joined blocks is wrong";
    if (front_ != nullptr) {
        std::size_t const i = index_of(front_);
        if (i >= blocks_ || free_.is_free(i) || is_joined(i) || !free_.none_free_up_to(i))
            return "I3: the front is no block, is noted twice, or is not the lowest";
    }
    if (!detail::is_aligned(base_, alignment_) || block_bytes_ % alignment_ != 0)
        return "I4: a block is not aligned";
    return nullptr;
}

std::pmr::memory_resource* fixed_block_resource::do_upstream_resource() const {
    return served_.upstream();
}

char const* fixed_block_resource::do_name() const noexcept {
    return "fixed_block_resource";
}

void fixed_block_resource::join(std::size_t first, std::size_t blocks) noexcept {
    joined_blocks_ += blocks;
    detail::for_each_word(first, blocks, [this](std::size_t k, bit_word mask) {
        joined_[k] |= mask;
        return true;
    });
}

void fixed_block_resource::unjoin(std::size_t first, std::size_t blocks) noexcept {
    joined_blocks_ -= blocks;
    detail::for_each_word(first, blocks, [this](std::size_t k, bit_word mask) {
        joined_[k] &= ~mask;
        return true;
    });
}

std::size_t fixed_block_resource::blocks_for(std::size_t bytes) const noexcept {
    return bytes / block_bytes_ + (bytes % block_bytes_ != 0 || bytes == 0 ? 1 : 0);
}

// Requires: block i is live.
std::size_t fixed_block_resource::blocks_at(std::size_t i) const noexcept {
    return 1 + detail::ones_from(joined_, i + 1); // the bit behind the last block is clear
}

bool fixed_block_resource::is_free(std::size_t i) const noexcept {
    return free_.is_free(i) || (front_ != nullptr && index_of(front_) == i);
}

// The blocks whose address is a multiple of `alignment`; none where there cannot be any.
// With block_bytes = odd * 2^k and a base that is a multiple of 2^k, block i is aligned iff
//      base / 2^k + i * odd = 0   mod  alignment / 2^k.
std::optional<free_bits::places>
fixed_block_resource::places_for(std::size_t alignment) const noexcept {
    if (alignment <= common_alignment_)
        return free_bits::places{};
    if (!detail::is_power_of_two(alignment))
        return std::nullopt;
    if (alignment <= alignment_)
        return free_bits::places{};
    if (alignment_ != natural_alignment(block_bytes_))
        return std::nullopt;
    std::size_t const step = alignment / alignment_;
    std::size_t const phase = (0 - detail::address_of(base_) / alignment_) * divide_.inverse();
    return free_bits::places{step, phase & (step - 1)};
}

} // namespace strata
