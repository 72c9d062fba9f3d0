// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/block_region.hpp>

#include <memory>

#include <strata/detail/annotate.hpp>

namespace strata::detail {

namespace {

// One bit more than there are blocks, so that a block can always look at the one behind it.
constexpr std::size_t joined_words(std::size_t blocks) noexcept {
    return blocks / word_bits + 1;
}

} // namespace

std::size_t block_region::bytes_for(std::size_t blocks, std::size_t block_bytes) noexcept {
    return blocks * block_bytes + redzone_bytes +
           (free_bits::storage_words(blocks) + joined_words(blocks)) * sizeof(bit_word);
}

// By bisection, as the bits come in whole words.
std::size_t block_region::most_blocks(std::size_t bytes, std::size_t block_bytes) noexcept {
    std::size_t fits = 0;
    for (std::size_t limit = bytes / block_bytes; fits < limit;) {
        std::size_t const middle = limit - (limit - fits) / 2;
        if (bytes_for(middle, block_bytes) <= bytes)
            fits = middle;
        else
            limit = middle - 1;
    }
    return fits;
}

block_region::block_region(void* base, std::size_t blocks, std::size_t block_bytes) noexcept
    : base_{as_bytes(base)},
      divide_{block_bytes},
      block_bytes_{block_bytes},
      blocks_{blocks},
      alignment_{natural_alignment(block_bytes | address_of(base))},
      common_alignment_{std::min(alignment_, max_align)},
      singles_{blocks} {
    void* const behind = base_ + hidden_bytes();
    auto* const words = static_cast<bit_word*>(behind);
    free_ = free_bits{words, blocks};
    joined_ = words + free_bits::storage_words(blocks);
    std::uninitialized_fill_n(joined_, joined_words(blocks), bit_word{0});
}

std::size_t block_region::hidden_bytes() const noexcept {
    return capacity_bytes() + redzone_bytes;
}

// The last free block of a word, an uncommon alignment, or a run.
void* block_region::take(std::size_t bytes, std::size_t alignment) noexcept {
    bool const is_plain =
        alignment <= common_alignment_ || (alignment <= alignment_ && is_power_of_two(alignment));
    if (bytes > block_bytes_ || !is_plain)
        return take_run(bytes, alignment);
    if (front_ != nullptr)
        return last_ = std::exchange(front_, nullptr);
    std::size_t const i = free_.take_lowest();
    if (i == free_bits::none)
        return nullptr;
    return last_ = block_at(i);
}

// find – take – return
void* block_region::take_run(std::size_t bytes, std::size_t alignment) noexcept {
    std::size_t const n = blocks_for(bytes);
    auto const where = places_for(alignment);
    if (n > blocks_ || !where)
        return nullptr;

    track_runs();
    drop_front();
    std::size_t const first = free_.find_run(n, *where);
    if (first == free_bits::none)
        return nullptr;

    free_.take(first, n);
    join(first + 1, n - 1);
    return block_at(first);
}

bool block_region::give_any_one(void* p, std::size_t bytes, std::size_t alignment) noexcept {
    std::size_t const i = index_of(p);
    if (i >= blocks_ || bytes > block_bytes_ || alignment > alignment_ || free_.is_free(i) ||
        p == front_ || is_near_run(i))
        return false;
    take_back(p, block_bytes_);
    if (front_ == nullptr && address_of(p) <= std::max(edge_, address_of(last_)))
        set_front(p);
    else if (address_of(p) < address_of(front_))
        put(std::exchange(front_, p));
    else
        put(p);
    return true;
}

// The block at p becomes an ordinary free block.
void block_region::put(void const* p) noexcept {
    free_.give(index_of(p));
    edge_ = std::min(edge_, address_of(p));
}

// Returns: whether block i is joined, or the one behind it.
bool block_region::is_near_run(std::size_t i) const noexcept {
    std::size_t const at = i % word_bits;
    bit_word const here = joined_[i / word_bits] >> at;
    return (here & 3) != 0 || (at == word_bits - 1 && is_joined(i + 1));
}

// check – give
std::optional<misuse_kind> block_region::give(void* p, std::size_t bytes,
                                              std::size_t alignment) noexcept {
    if (give_any_one(p, bytes, alignment))
        return std::nullopt;
    if (auto const wrong = judge(p, bytes, alignment))
        return wrong;

    std::size_t const n = blocks_for(bytes);
    std::size_t const first = index_of(p);
    unjoin(first + 1, n - 1);
    drop_front();
    take_back(p, n * block_bytes_);
    free_.give(first, n);
    return std::nullopt;
}

void block_region::drop_front() noexcept {
    if (front_ != nullptr)
        put(std::exchange(front_, nullptr));
    last_ = nullptr;
    edge_ = 0;
}

void block_region::track_runs() noexcept {
    free_.track_runs();
    singles_ = 0;
}

// Both ends by bits alone:   │ p   p   p │   │   │  ──►  │ p   p   p   p │   │  or  │ p │   │   │
bool block_region::resize(void const* p, std::size_t old_bytes, std::size_t new_bytes) noexcept {
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
    return true;
}

std::optional<misuse_kind> block_region::judge(void const* p, std::size_t bytes,
                                               std::size_t alignment) const noexcept {
    std::size_t const i = index_of(p);
    if (i >= blocks_ || is_joined(i))
        return misuse_kind::misaligned_pointer;
    if (is_free(i))
        return misuse_kind::double_free;
    if (blocks_at(i) != blocks_for(bytes))
        return misuse_kind::size_mismatch;
    bool const has_alignment =
        alignment <= alignment_ || (is_power_of_two(alignment) && is_aligned(p, alignment));
    if (!has_alignment)
        return misuse_kind::alignment_mismatch;
    return std::nullopt;
}

std::size_t block_region::fitting_bytes(std::size_t bytes, std::size_t alignment) const noexcept {
    std::size_t const n = blocks_for(bytes);
    auto const where = places_for(alignment);
    return n > blocks_ || !where || where->phase > blocks_ - n ? 0 : n * block_bytes_;
}

void block_region::give_all() noexcept {
    free_.give_all();
    std::fill_n(joined_, joined_words(blocks_), bit_word{0});
    joined_blocks_ = 0;
    front_ = last_ = nullptr;
    edge_ = 0;
    singles_ = blocks_;
    hide(base_, capacity_bytes());
}

bool block_region::is_all_free() const noexcept {
    return joined_blocks_ == 0 && free_.count() + (front_ != nullptr ? 1 : 0) == blocks_;
}

void block_region::add_to(statistics& s) const noexcept {
    std::size_t const free = free_.count() + (front_ != nullptr ? 1 : 0);
    std::size_t longest = free_.longest_run();
    if (front_ != nullptr)
        longest = std::max(longest, 1 + free_.run_length(index_of(front_) + 1));
    s.free_blocks += free;
    s.free_bytes += free * block_bytes_;
    s.live_blocks += blocks_ - free - joined_blocks_;
    s.live_bytes += (blocks_ - free) * block_bytes_;
    s.largest_free_bytes = std::max(s.largest_free_bytes, longest * block_bytes_);
}

char const* block_region::broken_invariant() const noexcept {
    if (char const* const broken = free_.broken_invariant())
        return broken;
    std::size_t joined = 0;
    for (std::size_t i = 0; i < joined_words(blocks_) * word_bits; ++i) {
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
    } else if (last_ != nullptr &&
               (judge(last_, 0, 1) || !free_.none_free_up_to(index_of(last_)))) {
        return "I3: the last block is no live one, or not below all free ones";
    }
    if (std::size_t const lowest = free_.next_free(0);
        lowest != free_bits::none && address_of(block_at(lowest)) < edge_)
        return "I3: a block below the edge is free";
    if (!is_aligned(base_, alignment_) || block_bytes_ % alignment_ != 0)
        return "I4: a block is not aligned";
    if (singles_ != (free_.tracks_runs() ? 0 : blocks_) || (joined_blocks_ != 0 && singles_ != 0))
        return "I5: there are runs, and they are not tracked";
    return nullptr;
}

void block_region::join(std::size_t first, std::size_t blocks) noexcept {
    track_runs();
    joined_blocks_ += blocks;
    for_each_word(first, blocks, [this](std::size_t k, bit_word mask) {
        joined_[k] |= mask;
        return true;
    });
}

void block_region::unjoin(std::size_t first, std::size_t blocks) noexcept {
    joined_blocks_ -= blocks;
    for_each_word(first, blocks, [this](std::size_t k, bit_word mask) {
        joined_[k] &= ~mask;
        return true;
    });
}

std::size_t block_region::blocks_for(std::size_t bytes) const noexcept {
    return bytes / block_bytes_ + (bytes % block_bytes_ != 0 || bytes == 0 ? 1 : 0);
}

// Requires: block i is live.
std::size_t block_region::blocks_at(std::size_t i) const noexcept {
    return 1 + ones_from(joined_, i + 1); // the bit behind the last block is clear
}

// The blocks whose address is a multiple of `alignment`; none where there cannot be any.
// With block_bytes = odd * 2^k and a base that is a multiple of 2^k, block i is aligned iff
//      base / 2^k + i * odd = 0   mod  alignment / 2^k.
std::optional<free_bits::places> block_region::places_for(std::size_t alignment) const noexcept {
    if (alignment <= common_alignment_)
        return free_bits::places{};
    if (!is_power_of_two(alignment))
        return std::nullopt;
    if (alignment <= alignment_)
        return free_bits::places{};
    if (alignment_ != natural_alignment(block_bytes_))
        return std::nullopt;
    std::size_t const step = alignment / alignment_;
    std::size_t const phase = (0 - address_of(base_) / alignment_) * divide_.inverse();
    return free_bits::places{step, phase & (step - 1)};
}

} // namespace strata::detail
