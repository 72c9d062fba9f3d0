// SPDX-License-Identifier: BSL-1.0
#pragma once

// A region of memory carved into blocks without headers, neighbours merged at every free.
//
//   memory   │ a a a │ free      │ b │ c c c │ free      │ top: never used since the last merge │
//   live       1 0 0   0 0 0 0 0   1   1 0 0   0 0 0 0 0   0 …      two bits a granule, kept apart
//   end        0 0 0   0 0 0 0 1   0   0 0 0   0 0 0 0 1   0 …      from the memory
//
// Live blocks have no header: the caller says how large they are. The two bits of a granule lie
// side by side, those of 32 in a word: a block's own and its neighbours' come in one shift, and one
// cache line of bits covers 256 granules. A free block describes itself in its own memory and is
// found by size in the Index. The free tail, `top`, is in no index: a bump pointer.
//
//   I1  live(g): a live block starts at granule g. end(g): a free block, not top, ends with g.
//   I2  where a block ends, the next granule starts a live block (live), top, or a free block
//       (neither), whose size stands in its first word; end and last word lead back to it.
//   I3  no two free blocks are neighbours: after everything was freed, in any order, top is all.
//   I4  granules count from 1; the bits of granule 0 and of the granule where top ends are clear,
//       so that nothing is merged beyond the region.
//
// Index says how free blocks are found, and how wide granules are: best_fit_index, good_fit_index.
// Places says where memory and bits lie: base(), bits(), granules(). A region in which all is zero
// is one in which all is free; it holds no pointer of its own, so an image of it may be copied.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include <strata/detail/bits.hpp>
#include <strata/misuse.hpp>
#include <strata/statistics.hpp>

namespace strata::detail {

/// The marks of 32 granules: from the lowest bit on, live and end of each.
using mark_word = std::uint64_t;

/// Returns: words for the marks of `granules` granules, the 0th, and the one behind the last.
constexpr std::size_t mark_words(std::size_t granules) noexcept {
    return (granules + 2 + 31) / 32;
}

template <class Index, class Places>
class region {
    using words = typename Index::words;
    using granule = typename Index::granule; // how the index counts; here it is std::size_t

  public:
    using places_type = Places;
    static constexpr std::size_t granule_bytes = words::granule_bytes;

    Places places{}; ///< to be changed only while nothing is live, and before free_all()

    [[nodiscard]] std::size_t capacity_bytes() const noexcept {
        return places.granules() * granule_bytes;
    }
    [[nodiscard]] bool holds(void const* p) const noexcept {
        return offset_of(p) < capacity_bytes();
    }

    /// Returns: granules of a block of such a size, at least 1; for sizes that overflow more than
    /// any region has.
    [[nodiscard]] static std::size_t granules_for(std::size_t bytes) noexcept {
        return (bytes - (bytes != 0 ? 1 : 0)) / granule_bytes + 1; // no branch, no overflow
    }

    // The common case, inlined without a call, so that no register is saved: a pair takes 0.8 of the
    // time.

    /// Returns: what allocate would, where that is a small block of a list of one size, or of top;
    /// null where allocate is to be asked. Complexity: O(1).
    [[gnu::always_inline]] void* quick_allocate(std::size_t bytes, std::size_t alignment) noexcept {
        std::size_t const size = granules_for(bytes);
        if (alignment > 2 * granule_bytes || size >= Index::exact_sizes) [[unlikely]]
            return nullptr;
        // Twice the granule is the usual alignment where granules are small: half the places have it.
        auto const lies_askew = [&](std::size_t g) {
            return alignment > granule_bytes &&
                   (alignment != 2 * granule_bytes || !is_aligned(address(g), alignment));
        };
        std::size_t const found = index_.exact().first_from(size);
        if (found >= Index::exact_sizes) [[unlikely]] {
            if (found != Index::lists::bins || top_size() < size)
                return nullptr;
        } else if (top_size() - size >= found - size) { // also where top is too small: it wraps
            std::size_t const g = index_.exact().head(found);
            if (lies_askew(g))
                return nullptr;
            cut(index_.quick(), g, found, size);
            return handed_out(g, bytes);
        }
        std::size_t const g = top();
        if (lies_askew(g))
            return nullptr;
        used_ += size;
        return handed_out(g, bytes);
    }
    enum class freeing { done, merge, ask };
    /// Frees a small block between live ones, or before top. Returns: done; or what is to be called
    /// instead, where nothing has changed: deallocate_merging(), or deallocate(). Complexity: O(1).
    [[gnu::always_inline]] freeing quick_deallocate(void const* p, std::size_t bytes,
                                                    std::size_t alignment) noexcept {
        std::size_t const first = granule_of(p);
        std::size_t const behind = first + granules_for(bytes);
        if (behind - first > window_size || !lies_right(p, behind, alignment)) [[unlikely]]
            return freeing::ask;
        // One window of marks, from the granule before the block to the one behind it.
        mark_word const* const marks = places.bits();
        std::size_t const skip = (first - 1) * 2 % 64;
        mark_word const high = marks[behind / 32] << 1 << (63 - skip);
        mark_word const window = marks[(first - 1) / 32] >> skip | high;
        mark_word const at_behind = mark_word{4} << 2 * (behind - first);
        if ((window & (at_behind - 4)) != 4) [[unlikely]]
            return freeing::ask;
        if ((window & 2) != 0 || ((window & at_behind) == 0 && behind != top()))
            return freeing::merge;
        flip_live(first);
        requested_bytes_ -= bytes;
        if (behind == top()) {
            used_ = first - 1;
        } else {
            flip_end(behind - 1);
            index_.quick().insert(memory(), index(first), index(behind - first));
        }
        return freeing::done;
    }
    /// The rest of quick_deallocate. Requires: that has just answered `merge` to these arguments.
    /// Returns: whether it freed the block; not so where none ends there, the size being wrong.
    bool deallocate_merging(void const* p, std::size_t bytes) noexcept {
        std::size_t const first = granule_of(p);
        std::size_t const behind = first + granules_for(bytes);
        bool const free_before = ends_free(first - 1);
        bool const free_behind = !live(behind);
        if (free_behind && !starts_free(behind)) [[unlikely]]
            return false;
        flip_live(first);
        requested_bytes_ -= bytes;
        run const merged = merged_with(first, behind, free_before, free_behind);
        if (Index::is_quick(merged.behind - merged.first))
            give(index_.quick(), first, behind, free_before, free_behind, merged);
        else
            give(index_, first, behind, free_before, free_behind, merged);
        return true;
    }

    /// Returns: a block, or null where none fits or the alignment is no power of two.
    /// Complexity: that of Index::find, insert and remove.
    void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
        std::size_t const size = granules_for(bytes);
        bool const granular = alignment <= granule_bytes;
        std::size_t const g = granular ? smallest(size) : smallest_aligned(size, alignment);
        if (g == 0)
            return nullptr;
        std::size_t const gap = granular ? 0 : gap_before(g, alignment);
        cut_free(g, gap + size);
        if (gap != 0) { // what lies before the block stays free, too
            flip_end(g + gap - 1);
            index_.insert(memory(), index(g), index(gap));
        }
        return handed_out(g + gap, bytes);
    }

    /// Frees the block, where these arguments name a live block of the region. Returns: whether they
    /// did; nothing has changed where not. Any p may be passed.
    /// Complexity: as allocate, and O(granules / 32) to see that no block lies within.
    bool deallocate(void const* p, std::size_t bytes, std::size_t alignment) noexcept {
        if (!is_live_block(p, bytes, alignment))
            return false;
        std::size_t const first = granule_of(p);
        std::size_t const behind = first + granules_for(bytes);
        flip_live(first);
        requested_bytes_ -= bytes;
        give_any(first, behind, ends_free(first - 1), !live(behind));
        return true;
    }
    /// Returns: whether deallocate would free it. Complexity: O(1), O(granules / 32).
    [[nodiscard]] bool is_live_block(void const* p, std::size_t bytes,
                                     std::size_t alignment) const noexcept {
        std::size_t const first = granule_of(p);
        std::size_t const behind = first + granules_for(bytes);
        return lies_right(p, behind, alignment) && is_whole_block(first, behind);
    }

    /// Requires: holds(p). Returns: why deallocate would not; nothing where it would.
    [[nodiscard]] std::optional<misuse_kind> diagnose(void const* p, std::size_t bytes,
                                                      std::size_t alignment) const noexcept {
        if (!aligned_to(p, granule_bytes) || !live(granule_of(p)))
            return lies_in_live_block(p) || !aligned_to(p, granule_bytes)
                       ? misuse_kind::misaligned_pointer
                       : misuse_kind::double_free;
        if (!is_whole_block(granule_of(p), granule_of(p) + granules_for(bytes)))
            return misuse_kind::size_mismatch;
        return aligned_to(p, alignment) ? std::nullopt
                                        : std::optional{misuse_kind::alignment_mismatch};
    }

    /// Requires: p is a live block of old_bytes. Returns: whether it has new_bytes now.
    bool try_resize(void const* p, std::size_t old_bytes, std::size_t new_bytes) noexcept {
        std::size_t const first = granule_of(p);
        std::size_t const behind = first + granules_for(old_bytes);
        std::size_t const behind_new = first + granules_for(new_bytes);
        if (granules_for(new_bytes) > places.granules())
            return false;
        if (behind_new < behind) {
            give_any(behind_new, behind, false, !live(behind));
        } else if (behind_new > behind) {
            if (live(behind) || free_size_at(behind) < behind_new - behind)
                return false;
            cut_free(behind, behind_new - behind);
        }
        requested_bytes_ += new_bytes - old_bytes;
        return true;
    }

    /// All is merged at once: nothing to do.
    static void merge_all() noexcept {}

    /// Whether nothing is live, and all is merged.
    [[nodiscard]] bool is_one_free_block() const noexcept { return used_ == 0; }

    /// Makes all one free block again.
    void free_all() noexcept {
        if (places.granules() != 0)
            std::fill_n(places.bits(), mark_words(places.granules()), mark_word{0});
        index_ = Index{};
        used_ = 0;
        requested_bytes_ = 0;
    }

    /// Calls f(block_info) for every block in address order.
    template <class Visitor>
    void visit(Visitor const& f) const {
        for (std::size_t g = 1; g < top();) {
            std::size_t const next = live(g) ? block_end(g) : g + memory().size_at(index(g));
            f(block_info{address(g), (next - g) * granule_bytes, live(g)});
            g = next;
        }
        if (top_size() != 0)
            f(block_info{address(top()), top_size() * granule_bytes, false});
    }

    /// Adds what the region knows; its memory and bits are the owner's to count.
    /// Complexity: O(blocks + granules / 32).
    void add_to(statistics& s) const noexcept {
        std::size_t live_blocks = 0;
        std::size_t free_granules = top_size();
        for (std::size_t i = 0; used_ != 0 && i <= top() / 32; ++i) {
            mark_word const marks = places.bits()[i];
            live_blocks += static_cast<std::size_t>(std::popcount(marks & live_marks));
            s.free_blocks += static_cast<std::size_t>(std::popcount(marks & live_marks << 1));
        }
        index_.visit(memory(), index(top()),
                     [&](std::size_t, std::size_t size) { free_granules += size; });
        std::size_t const live_bytes = capacity_bytes() - free_granules * granule_bytes;
        s.live_blocks += live_blocks;
        s.live_bytes += live_bytes;
        s.requested_bytes += std::min(requested_bytes_, live_bytes);
        s.free_blocks += top_size() != 0 ? 1u : 0u;
        s.free_bytes += free_granules * granule_bytes;
        std::size_t const largest = std::max<std::size_t>(index_.largest(memory()), top_size());
        s.largest_free_bytes = std::max(s.largest_free_bytes, largest * granule_bytes);
    }

    /// Walks everything. Returns: what does not hold, in words; null where all does.
    [[nodiscard]] char const* broken_invariant() const noexcept;

  protected:
    /// A live block's request is now `new_bytes`, in as many granules.
    void rebook(std::size_t bytes, std::size_t new_bytes) noexcept {
        requested_bytes_ += new_bytes - bytes;
    }
    [[nodiscard]] std::size_t granule_of(void const* p) const noexcept {
        return offset_of(p) / granule_bytes + 1;
    }
    [[nodiscard]] std::byte* address(std::size_t g) const noexcept {
        return places.base() + (g - 1) * granule_bytes;
    }

  private:
    // --- find, cut ---

    // Returns: the place of the free block that the Index chooses for `size` granules, or top, where
    // that is smaller; 0: none.
    [[nodiscard]] std::size_t smallest(std::size_t size) const noexcept {
        if (size > places.granules())
            return 0;
        std::size_t const g = index_.find(memory(), index(size));
        if (top_size() >= size && (g == 0 || top_size() < memory().size_at(index(g))))
            return top();
        return g != 0 ? g : index_.find_elsewhere(memory(), index(size), [&](granule other) {
            return memory().size_at(other) >= size;
        });
    }

    // Returns: the smallest, where it happens to have room for an aligned block; else one that has it
    // wherever it lies; else any that has it; 0: none.
    [[nodiscard]] std::size_t smallest_aligned(std::size_t size,
                                               std::size_t alignment) const noexcept {
        if (!is_power_of_two(alignment) || alignment > max_request_bytes)
            return 0;
        auto const fits = [&](std::size_t g) {
            return size + gap_before(g, alignment) <= free_size_at(g);
        };
        std::size_t const fitting = smallest(size);
        if (fitting == 0 || fits(fitting))
            return fitting;
        if (std::size_t const g = smallest(size + alignment / granule_bytes - 1); g != 0)
            return g;
        return fits(top()) ? top() : index_.find_elsewhere(memory(), index(size), fits);
    }

    // Returns: granules from g to the next that is so aligned.
    [[nodiscard]] std::size_t gap_before(std::size_t g, std::size_t alignment) const noexcept {
        return ((0 - address_of(address(g))) & (alignment - 1)) / granule_bytes;
    }

    // Takes granules [g, g + size) out of the free block of `have` at g, which is in `lists`; the rest
    // stays free, and so does the end bit:   │ size │ rest  …  │
    template <class Lists>
    [[gnu::always_inline]] void cut(Lists& lists, std::size_t g, std::size_t have,
                                    std::size_t size) noexcept {
        if (have != size) {
            lists.replace(memory(), index(g), index(have), index(g + size), index(have - size));
        } else {
            lists.remove(memory(), index(g), index(have));
            flip_end(g + size - 1);
        }
    }

    // The same of any free block, top included.
    void cut_free(std::size_t g, std::size_t size) noexcept {
        if (g == top())
            used_ += size;
        else
            cut(index_, g, memory().size_at(index(g)), size);
    }

    void* handed_out(std::size_t g, std::size_t bytes) noexcept {
        flip_live(g);
        requested_bytes_ += bytes;
        return address(g);
    }

    // --- merge, insert ---

    struct run {
        std::size_t first, behind; // granules [first, behind)
    };
    // Returns: [first, behind) with the free blocks on its open sides, without top.
    [[nodiscard, gnu::always_inline]] run merged_with(std::size_t first, std::size_t behind,
                                                      bool free_before,
                                                      bool free_behind) const noexcept {
        return {free_before ? first - memory().size_before(index(first - 1)) : first,
                free_behind && behind != top() ? behind + memory().size_at(index(behind)) : behind};
    }

    // Makes [first, behind), in which nothing is marked, free: with the free blocks beside it, or
    // with top, it becomes one.
    //   │ free │ first … │ live    the end mark moves    │ free          │ live
    //   │ live │ first … │ free    it stays              │ live │ free
    //   │ live │ first … │ top     there is none         │ live │ top
    // It branches on marks, not on sizes: those are known sooner.
    template <class Lists>
    [[gnu::always_inline]] void give(Lists& lists, std::size_t first, std::size_t behind,
                                     bool free_before, bool free_behind, run merged) noexcept {
        granule const size_before = index(first - merged.first);
        granule const size_behind = index(merged.behind - behind);
        granule const size = index(merged.behind - merged.first);
        if (free_before)
            flip_end(first - 1);
        if (behind == top()) {
            if (free_before)
                lists.remove(memory(), index(merged.first), size_before);
            used_ = merged.first - 1;
            return;
        }
        if (!free_behind)
            flip_end(behind - 1);
        if (free_before && free_behind)
            lists.remove(memory(), index(behind), size_behind);
        if (free_before)
            lists.replace(memory(), index(merged.first), size_before, index(merged.first), size);
        else if (free_behind)
            lists.replace(memory(), index(behind), size_behind, index(first), size);
        else
            lists.insert(memory(), index(first), size);
    }
    [[gnu::noinline]] void give_any(std::size_t first, std::size_t behind, bool free_before,
                                    bool free_behind) noexcept {
        give(index_, first, behind, free_before, free_behind,
             merged_with(first, behind, free_before, free_behind));
    }

    // --- check ---

    // Returns: whether a live block starts at `first`, and no other block starts or ends before
    // `behind`.
    [[nodiscard]] bool is_marked_as_one(std::size_t first, std::size_t behind) const noexcept {
        mark_word const* const marks = places.bits();
        std::size_t const low = first / 32;
        std::size_t const high = (behind - 1) / 32;
        mark_word const at_low = (marks[low] ^ mark(first)) & (0 - mark(first));
        mark_word const not_behind = ~mark_word{0} >> (62 - (behind - 1) % 32 * 2);
        if (low == high)
            return (at_low & not_behind) == 0;
        if ((at_low | (marks[high] & not_behind)) != 0)
            return false;
        // The words between are all 0 if the first is, and each is equal to the next.
        mark_word const* const between = marks + low + 1;
        std::size_t const n = high - low - 1;
        return n == 0 || (between[0] == 0 &&
                          std::memcmp(between, between + 1, (n - 1) * sizeof(mark_word)) == 0);
    }

    // Returns: whether a free block starts at g, where no live one does. What stands there may be a
    // user's: it is believed only if the end bit and the last word of a free block confirm it.
    [[nodiscard, gnu::always_inline]] bool starts_free(std::size_t g) const noexcept {
        if (g == top())
            return true;
        std::size_t const size = memory().size_at(index(g));
        if (size == 0 || size >= top() - g)
            return false;
        std::size_t const last = g + size - 1;
        return ends_free(last) && memory().size_before(index(last)) == size;
    }

    // Returns: whether the granules [first, behind) are one live block.
    [[nodiscard]] bool is_whole_block(std::size_t first, std::size_t behind) const noexcept {
        return behind <= top() && is_marked_as_one(first, behind) &&
               (live(behind) || starts_free(behind));
    }
    // Returns: whether a block at p could end before `behind`, and be so aligned.
    [[nodiscard]] bool lies_right(void const* p, std::size_t behind,
                                  std::size_t alignment) const noexcept {
        return behind <= top() && aligned_to(p, alignment); // nothing is held behind top
    }

    // Returns: whether p lies in a live block: the nearest mark before it is one's start, and it
    // reaches that far. Complexity: O(granules / 32).
    [[nodiscard]] bool lies_in_live_block(void const* p) const noexcept {
        std::size_t const g = granule_of(p);
        if (g >= top() || ends_free(g))
            return false;
        std::size_t i = g / 32;
        mark_word marks = places.bits()[i] & (mark(g) | (mark(g) - 1));
        while (marks == 0 && i-- != 0)
            marks = places.bits()[i];
        if (marks == 0)
            return false;
        std::size_t const at = i * 32 + static_cast<std::size_t>(std::bit_width(marks) - 1) / 2;
        return live(at) && g < block_end(at);
    }

    // Returns: where the live block at `first` ends: where the next one starts.
    [[nodiscard]] std::size_t block_end(std::size_t first) const noexcept {
        mark_word mask = 0 - mark(first + 1);
        for (std::size_t i = (first + 1) / 32; i <= top() / 32; ++i, mask = ~mark_word{0}) {
            mark_word const marks = places.bits()[i] & mask;
            if (marks == 0)
                continue;
            std::size_t const at = i * 32 + lowest_bit(marks) / 2;
            return live(at) ? at : at + 1 - memory().size_before(index(at));
        }
        return top();
    }

    // --- the parts ---

    [[nodiscard]] words memory() const noexcept { return words{places.base()}; }
    [[nodiscard]] static granule index(std::size_t g) noexcept { return static_cast<granule>(g); }

    [[nodiscard]] std::size_t offset_of(void const* p) const noexcept {
        return offset_between(places.base(), p);
    }
    // A block may be better aligned than it was asked to be.
    [[nodiscard]] static bool aligned_to(void const* p, std::size_t alignment) noexcept {
        return is_aligned(p, alignment) && is_aligned(p, granule_bytes);
    }

    [[nodiscard]] std::size_t top() const noexcept { return used_ + 1; }
    [[nodiscard]] std::size_t top_size() const noexcept { return places.granules() - used_; }
    [[nodiscard]] std::size_t free_size_at(std::size_t g) const noexcept {
        return g == top() ? top_size() : memory().size_at(index(g));
    }

    // Their marks, those of the granule before them and of the one behind fill a word.
    static constexpr std::size_t window_size = 30;
    static constexpr mark_word live_marks = 0x5555'5555'5555'5555;
    // The live mark of granule g, in its word; the end mark is the next bit.
    [[nodiscard]] static mark_word mark(std::size_t g) noexcept {
        return mark_word{1} << g * 2 % 64;
    }

    [[nodiscard]] bool live(std::size_t g) const noexcept {
        return (places.bits()[g / 32] & mark(g)) != 0;
    }
    [[nodiscard]] bool ends_free(std::size_t g) const noexcept {
        return (places.bits()[g / 32] & mark(g) << 1) != 0;
    }
    void flip_live(std::size_t g) noexcept { places.bits()[g / 32] ^= mark(g); }
    void flip_end(std::size_t g) noexcept { places.bits()[g / 32] ^= mark(g) << 1; }

    std::size_t used_ = 0;            // granules before top
    std::size_t requested_bytes_ = 0; // of live blocks; drifts with wrong sizes that round alike
    Index index_{};
};

template <class Index, class Places>
char const* region<Index, Places>::broken_invariant() const noexcept {
    if (used_ > places.granules())
        return "top lies outside the region";
    std::size_t indexed = 0;
    bool described = true;
    bool const linked = index_.check(memory(), index(top()), [&](std::size_t g, std::size_t size) {
        ++indexed;
        described = described && g != 0 && size != 0 && g + size < top() && !live(g) &&
                    ends_free(g + size - 1) && memory().size_before(index(g + size - 1)) == size;
    });
    if (!linked || !described)
        return linked ? "a free block is described wrongly" : "the index is broken";
    bool before_free = false;
    std::size_t blocks = 0; // a mark each: live, or end
    std::size_t marks = 0;
    for (std::size_t g = 1; g < top();) {
        bool const is_live = live(g);
        std::size_t const next = is_live ? block_end(g) : g + memory().size_at(index(g));
        if (next <= g || next > top())
            return "a block ends before it starts, or in top";
        if (is_live ? !is_whole_block(g, next) : before_free || !starts_free(g))
            return is_live ? "a live block has marks within" : "two free blocks are neighbours";
        if (!is_live && indexed-- == 0)
            return "a free block is not in the index";
        ++blocks;
        before_free = !is_live;
        g = next;
    }
    for (std::size_t i = 0; places.granules() != 0 && i < mark_words(places.granules()); ++i)
        marks += static_cast<std::size_t>(std::popcount(places.bits()[i]));
    if (marks != blocks)
        return "there are marks within free blocks, or outside";
    if (before_free)
        return "a free block borders on top";
    return indexed == 0 ? nullptr : "the index has blocks that are not there";
}

} // namespace strata::detail
