// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/free_bits.hpp>

#include <algorithm>
#include <memory>
#include <utility>

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
    : bits_{storage},
      group_log2_{group_log2(words_for_bits(n), most_groups)},
      span_log2_{group_log2(words_for_bits(n), most_spans)},
      spans_{groups_of(words_for_bits(n), most_spans)},
      words_{words_for_bits(n)},
      blocks_{n} {
    std::uninitialized_fill_n(storage, storage_words(n), bit_word{0});
    opened_ = bits_ + words_ + 1;
    longest_ = opened_ + words_for_bits(groups_of(words_, most_groups));
    give_all();
}

void free_bits::give_all() noexcept {
    auto const fill = [](bit_word* to, std::size_t bits) {
        for_each_word(0, bits, [to](std::size_t k, bit_word mask) {
            to[k] = mask;
            return true;
        });
    };
    std::size_t const groups = groups_of(words_, most_groups);
    fill(bits_, blocks_);
    fill(opened_, groups);
    fill(&root_, words_for_bits(groups));
    lowest_ = 0;
    tracks_runs_ = false;
}

std::size_t free_bits::take_lowest() noexcept {
    std::size_t const k = lowest_;
    bit_word const w = bits_[k];
    if (w == 0)
        return none;
    bits_[k] = w & (w - 1);
    if (bits_[k] == 0)
        close(k);
    std::size_t const i = k * word_bits + lowest_bit(w);
    if (tracks_runs_ && (i + 1) % word_bits == 0)
        note_run_at(i + 1); // which began at i
    return i;
}

bit_word free_bits::take_lowest_word(std::size_t& first, std::size_t most) noexcept {
    std::size_t const k = lowest_;
    bit_word const w = bits_[k];
    if (w == 0)
        return 0;
    bit_word rest = w;
    for (; most != 0 && rest != 0; --most)
        rest &= rest - 1;
    bits_[k] = rest;
    if (rest == 0)
        close(k);
    first = k * word_bits;
    if (tracks_runs_ && rest == 0)
        note_run_at(first + word_bits); // which began in this word
    return w & ~rest;
}

// Word k gets its first free block.
void free_bits::open(std::size_t k) noexcept {
    std::size_t const g = k >> group_log2_;
    opened_[g / word_bits] |= bit_of(g);
    root_ |= bit_of(g / word_bits);
    lowest_ = std::min(lowest_, k);
}

// Word k loses its last free block.
void free_bits::close(std::size_t k) noexcept {
    std::size_t const g = k >> group_log2_;
    std::size_t const first = g << group_log2_;
    std::size_t const last = std::min((g + 1) << group_log2_, words_);
    if (first_open_of(first, last) == last) {
        opened_[g / word_bits] &= ~bit_of(g);
        if (opened_[g / word_bits] == 0)
            root_ &= ~bit_of(g / word_bits);
    }
    if (k == lowest_)
        lowest_ = next_open(k + 1);
}

// The lowest word of [first, last) with a free block; `last` where there is none.
std::size_t free_bits::first_open_of(std::size_t first, std::size_t last) const noexcept {
    while (first < last && bits_[first] == 0)
        ++first;
    return first;
}

// The lowest word >= k with a free block; the guard word where there is none.
std::size_t free_bits::next_open(std::size_t k) const noexcept {
    if (k >= words_)
        return words_;
    std::size_t g = (k >> group_log2_) + 1;
    std::size_t const last = std::min(g << group_log2_, words_);
    if (std::size_t const found = first_open_of(k, last); found != last)
        return found;
    if (last == words_)
        return words_;

    bit_word w = opened_[g / word_bits] & (~bit_word{0} << g % word_bits);
    std::size_t r = g / word_bits;
    if (w == 0) {
        bit_word const above = root_ & (~bit_word{1} << r);
        if (above == 0)
            return words_;
        r = lowest_bit(above);
        w = opened_[r];
    }
    g = r * word_bits + lowest_bit(w);
    return first_open_of(g << group_log2_, words_);
}

void free_bits::take(std::size_t first, std::size_t n) noexcept {
    for_each_word(first, n, [this](std::size_t k, bit_word mask) {
        bits_[k] &= ~mask;
        if (bits_[k] == 0)
            close(k);
        return true;
    });
    if (tracks_runs_)
        note_run_at(first + n); // what is left of the run
}

void free_bits::give(std::size_t first, std::size_t n) noexcept {
    for_each_word(first, n, [this](std::size_t k, bit_word mask) {
        if (bits_[k] == 0)
            open(k);
        bits_[k] |= mask;
        return true;
    });
    if (tracks_runs_)
        note_run_around(first);
}

bool free_bits::all_free(std::size_t first, std::size_t n) const noexcept {
    return for_each_word(
        first, n, [this](std::size_t k, bit_word mask) { return (bits_[k] & mask) == mask; });
}

std::size_t free_bits::find_run(std::size_t n, places where) noexcept {
    track_runs();
    std::size_t const code = code_of(n);
    for (std::size_t s = next_span(lowest_ >> span_log2_, code); s != none;
         s = next_span(s + 1, code))
        if (std::size_t const i = find_run_in(s, n, where); i != none)
            return i;
    return none;
}

// Goes up word by word; `before` is the length of the free run that ends where word k begins. A
// run that fits starts in such a rest or inside word k: the rest first, as it lies lower. The last
// run that starts in the span is followed to its end. What began before the span is too short, or
// was looked at with the span before.
std::size_t free_bits::find_run_in(std::size_t span, std::size_t n, places where) noexcept {
    std::size_t const last = std::min((span + 1) << span_log2_, words_);
    std::size_t before = 0;
    std::size_t longest_seen = 0;
    for (std::size_t k = span << span_log2_; k < last || before != 0; ++k) {
        if (bits_[k] == 0) {
            before = 0;
            k = next_open(k);
            if (k >= last)
                break;
        }
        bit_word const w = bits_[k];
        std::size_t const ones = trailing_ones(w);
        std::size_t const i = next_place(k * word_bits - before, where);
        if (i < k * word_bits + ones && k * word_bits + ones - i >= n)
            return i;
        longest_seen = std::max(longest_seen, before + ones);
        if (ones == word_bits) {
            before += word_bits;
            continue;
        }
        if (k >= last)
            break;
        if (bit_word const starts = starts_of_runs(w, n))
            if (bit_word const fitting = starts & places_in_word(k, where))
                return k * word_bits + lowest_bit(fitting);
        before = leading_ones(w);
    }
    // Runs inside a word are shorter than one; longest_seen is the longest of the others.
    std::size_t const most = where.step == 1 && n < word_bits ? n - 1 : word_bits - 1;
    set_longest(span, std::min(longest(span), code_of(std::max(longest_seen, most))));
    return none;
}

// Nothing is known of any span.
void free_bits::track_runs() noexcept {
    if (std::exchange(tracks_runs_, true))
        return;
    std::fill_n(longest_, words_for_spans(spans_), bit_word{0});
    for (std::size_t s = 0; s < spans_; ++s)
        set_longest(s, code_of(any_length));
}

std::size_t free_bits::longest(std::size_t span) const noexcept {
    return longest_[span / spans_in_word] >> span % spans_in_word * 8 & 0xFF;
}
void free_bits::set_longest(std::size_t span, std::size_t code) noexcept {
    std::size_t const shift = span % spans_in_word * 8;
    bit_word& w = longest_[span / spans_in_word];
    w = (w & ~(bit_word{0xFF} << shift)) | bit_word{code} << shift;
}

// The lowest span >= `span` whose code is as high as this, or none. In eight sums at once a byte's
// high bit says that it is.
std::size_t free_bits::next_span(std::size_t span, std::size_t code) const noexcept {
    static_assert(code_of(any_length) < 0x80);
    constexpr bit_word each = 0x0101'0101'0101'0101;
    bit_word mask = ~bit_word{0} << span % spans_in_word * 8;
    for (std::size_t k = span / spans_in_word; k < words_for_spans(spans_);
         ++k, mask = ~bit_word{0})
        if (bit_word const enough = (longest_[k] + each * (0x80 - code)) & each * 0x80 & mask)
            return k * spans_in_word + lowest_bit(enough) / 8;
    return none;
}

// The number of free blocks in front of block i without a gap: the exact one, or any_length at least.
std::size_t free_bits::some_before(std::size_t i) const noexcept {
    std::size_t k = i / word_bits;
    std::size_t const at = i % word_bits;
    std::size_t sum = at == 0 ? 0 : leading_ones(bits_[k] << (word_bits - at));
    for (std::size_t border = at; sum == border && k != 0 && sum < any_length; border += word_bits)
        sum += leading_ones(bits_[--k]);
    return sum;
}
// The same of block i and those behind it. i may be n.
std::size_t free_bits::some_from(std::size_t i) const noexcept {
    std::size_t k = i / word_bits;
    std::size_t border = word_bits - i % word_bits;
    std::size_t sum = trailing_ones(bits_[k] >> i % word_bits);
    for (; sum == border && sum < any_length; border += word_bits)
        sum += trailing_ones(bits_[++k]);
    return sum;
}

// Requires: block i is free. Where any_length are free in front of it, the run was as long before.
void free_bits::note_run_around(std::size_t i) noexcept {
    std::size_t const at = i % word_bits;
    bit_word const w = bits_[i / word_bits];
    std::size_t const up_to = leading_ones(w << (word_bits - 1 - at)); // block i included
    std::size_t const from = trailing_ones(w >> at);
    if (up_to <= at && from < word_bits - at) // most do not touch another word
        note_run(i + 1 - up_to, up_to + from - 1);
    else if (std::size_t const before = some_before(i); before < any_length)
        note_run(i - before, before + some_from(i));
}
// Block i, which may be n, is now the first of a run, if it is free.
void free_bits::note_run_at(std::size_t i) noexcept {
    if (std::size_t const length = some_from(i); length != 0)
        note_run(i, length);
}
void free_bits::note_run(std::size_t first, std::size_t length) noexcept {
    std::size_t const s = first / word_bits >> span_log2_;
    if (std::size_t const code = code_of(length); code > longest(s))
        set_longest(s, code);
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
    bool const tail_is_clear =
        for_each_word(blocks_, words_ * word_bits - blocks_,
                      [this](std::size_t k, bit_word mask) { return (bits_[k] & mask) == 0; });
    if (!tail_is_clear || bits_[words_] != 0)
        return "I1: a block behind the last is free";

    std::size_t const groups = groups_of(words_, most_groups);
    bit_word root = 0;
    for (std::size_t g = 0; g < words_for_bits(groups) * word_bits; ++g) {
        std::size_t const first = std::min(g << group_log2_, words_);
        std::size_t const last = std::min((g + 1) << group_log2_, words_);
        bool const has_free = first_open_of(first, last) != last;
        if (((opened_[g / word_bits] & bit_of(g)) != 0) != has_free)
            return "I2: a group and its summary bit differ";
        if (has_free)
            root |= bit_of(g / word_bits);
    }
    if (root != root_)
        return "I2: the root is wrong";
    if (first_open_of(0, words_) != lowest_)
        return "I3: the lowest word with a free block is another";
    return longest_holds() ? nullptr : "I4: a run is longer than its span says";
}

bool free_bits::longest_holds() const noexcept {
    for (std::size_t s = 0; tracks_runs_ && s < words_for_spans(spans_) * spans_in_word; ++s)
        if (longest(s) > (s < spans_ ? code_of(any_length) : 0))
            return false;
    for (std::size_t i = next_free(0); tracks_runs_ && i != none;) {
        std::size_t const length = run_length(i);
        if (longest(i / word_bits >> span_log2_) < code_of(length))
            return false;
        i = next_free(i + length);
    }
    return true;
}

} // namespace strata::detail
