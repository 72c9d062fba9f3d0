// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/free_bits.hpp>

#include <algorithm>
#include <memory>

namespace strata::detail {

namespace {

// The bits of w at which n ones in a row start. Each step joins what is known of c ones in a row
// with what is known of the next h <= c. A word that is not full has none of 64 or more.
bit_word starts_of_runs(bit_word w, std::size_t n) noexcept {
    if (n >= word_bits)
        return 0;
    for (std::size_t c = 1; c < n && w != 0;) {
        std::size_t const h = std::min(c, n - c);
        w &= w >> h;
        c += h;
    }
    return w;
}

std::size_t leading_ones(bit_word w) noexcept {
    return static_cast<std::size_t>(std::countl_one(w));
}
std::size_t trailing_ones(bit_word w) noexcept {
    return static_cast<std::size_t>(std::countr_one(w));
}

// The lowest index >= i that is one of `where`.
std::size_t next_place(std::size_t i, free_bits::places where) noexcept {
    return i + ((where.phase - i) & (where.step - 1));
}

// The bits of word k that are among `where`.
bit_word places_in_word(std::size_t k, free_bits::places where) noexcept {
    if (where.step < word_bits) // the same in every word: 0101…, 0001 0001…
        return (~bit_word{0} / mask_of(0, where.step)) << where.phase;
    std::size_t const i = next_place(k * word_bits, where);
    return i / word_bits == k ? bit_of(i) : 0;
}

} // namespace

free_bits::free_bits(bit_word* storage, std::size_t n) noexcept
    : bits_{storage}, words_{words_for_bits(n)}, blocks_{n} {
    std::uninitialized_fill_n(storage, storage_words(n), bit_word{0});
    opened_ = bits_ + words_ + 1;
    regions_ = opened_ + words_for_bits(words_);
    give_all();
}

void free_bits::give_all() noexcept {
    auto const fill = [](bit_word* to, std::size_t bits) {
        for_each_word(0, bits, [to](std::size_t k, bit_word mask) {
            to[k] = mask;
            return true;
        });
    };
    fill(bits_, blocks_);
    fill(opened_, words_);
    fill(regions_, words_for_bits(words_));
    lowest_ = 0;
}

std::size_t free_bits::take_lowest() noexcept {
    std::size_t const k = lowest_;
    bit_word const w = bits_[k];
    if (w == 0)
        return none;
    bits_[k] = w & (w - 1);
    if (bits_[k] == 0)
        close(k);
    return k * word_bits + lowest_bit(w);
}

// Word k gets its first free block.
void free_bits::open(std::size_t k) noexcept {
    opened_[k / word_bits] |= bit_of(k);
    regions_[k / word_bits / word_bits] |= bit_of(k / word_bits);
    lowest_ = std::min(lowest_, k);
}

// Word k loses its last free block.
void free_bits::close(std::size_t k) noexcept {
    std::size_t const g = k / word_bits;
    opened_[g] &= ~bit_of(k);
    if (opened_[g] == 0)
        regions_[g / word_bits] &= ~bit_of(g);
    if (k == lowest_)
        lowest_ = next_open(k + 1);
}

// The lowest word >= k with a free block; the guard word where there is none.
std::size_t free_bits::next_open(std::size_t k) const noexcept {
    if (k >= words_)
        return words_;
    std::size_t const g = k / word_bits;
    if (bit_word const w = opened_[g] & (~bit_word{0} << k % word_bits))
        return g * word_bits + lowest_bit(w);

    std::size_t const groups = words_for_bits(words_);
    bit_word mask = ~bit_word{0} << (g + 1) % word_bits;
    for (std::size_t r = (g + 1) / word_bits; r * word_bits < groups; ++r, mask = ~bit_word{0})
        if (bit_word const w = regions_[r] & mask) {
            std::size_t const open_group = r * word_bits + lowest_bit(w);
            return open_group * word_bits + lowest_bit(opened_[open_group]);
        }
    return words_;
}

void free_bits::take(std::size_t first, std::size_t n) noexcept {
    for_each_word(first, n, [this](std::size_t k, bit_word mask) {
        bits_[k] &= ~mask;
        if (bits_[k] == 0)
            close(k);
        return true;
    });
}

void free_bits::give(std::size_t first, std::size_t n) noexcept {
    for_each_word(first, n, [this](std::size_t k, bit_word mask) {
        if (bits_[k] == 0)
            open(k);
        bits_[k] |= mask;
        return true;
    });
}

bool free_bits::all_free(std::size_t first, std::size_t n) const noexcept {
    return for_each_word(
        first, n, [this](std::size_t k, bit_word mask) { return (bits_[k] & mask) == mask; });
}

// Goes up word by word; `before` is the length of the free run that ends where word k begins. A
// run that fits starts in such a rest or inside word k: the rest first, as it lies lower.
std::size_t free_bits::find_run(std::size_t n, places where) const noexcept {
    std::size_t before = 0;
    for (std::size_t k = lowest_; k < words_; ++k) {
        if (bits_[k] == 0) {
            before = 0;
            k = next_open(k);
            if (k == words_)
                break;
        }
        bit_word const w = bits_[k];
        std::size_t const ones = trailing_ones(w);
        std::size_t const i = next_place(k * word_bits - before, where);
        if (i < k * word_bits + ones && k * word_bits + ones - i >= n)
            return i;
        if (ones == word_bits) {
            before += word_bits;
            continue;
        }
        if (bit_word const starts = starts_of_runs(w, n))
            if (bit_word const fitting = starts & places_in_word(k, where))
                return k * word_bits + lowest_bit(fitting);
        before = leading_ones(w);
    }
    return none;
}

std::size_t free_bits::next_free(std::size_t i) const noexcept {
    std::size_t const k = i / word_bits;
    if (bit_word const w = bits_[k] & (~bit_word{0} << i % word_bits))
        return k * word_bits + lowest_bit(w);
    std::size_t const next = next_open(k + 1);
    return next == words_ ? none : next * word_bits + lowest_bit(bits_[next]);
}

std::size_t free_bits::longest_run() const noexcept {
    std::size_t longest = 0;
    for (std::size_t i = next_free(0); i != none;) {
        std::size_t const length = run_length(i);
        longest = std::max(longest, length);
        i = next_free(i + length);
    }
    return longest;
}

std::size_t free_bits::count() const noexcept {
    std::size_t sum = 0;
    for (std::size_t k = 0; k < words_; ++k)
        sum += static_cast<std::size_t>(std::popcount(bits_[k]));
    return sum;
}

char const* free_bits::broken_invariant() const noexcept {
    // Bit k of `summary` tells of word k below it; there is none for the bits behind the last.
    auto const agree = [](bit_word const* summary, bit_word const* below, std::size_t words) {
        for (std::size_t k = 0; k < words_for_bits(words) * word_bits; ++k)
            if (((summary[k / word_bits] & bit_of(k)) != 0) != (k < words && below[k] != 0))
                return false;
        return true;
    };
    bool const tail_is_clear =
        for_each_word(blocks_, words_ * word_bits - blocks_,
                      [this](std::size_t k, bit_word mask) { return (bits_[k] & mask) == 0; });
    if (!tail_is_clear || bits_[words_] != 0)
        return "I1: a block behind the last is free";
    if (!agree(opened_, bits_, words_) || !agree(regions_, opened_, words_for_bits(words_)))
        return "I2: a word and its summary bit differ";
    std::size_t lowest = 0;
    while (lowest < words_ && bits_[lowest] == 0)
        ++lowest;
    return lowest == lowest_ ? nullptr : "I3: the lowest word with a free block is another";
}

} // namespace strata::detail
