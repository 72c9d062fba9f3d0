// SPDX-License-Identifier: BSL-1.0
#pragma once

// A region of memory carved into blocks without headers, neighbours merged at every free.
//
//   memory   │ a a a │ free      │ b │ c c c │ free      │ top: never used since the last merge │
//   live       1 0 0   0 0 0 0 0   1   1 0 0   0 0 0 0 0   0 …      two bits a granule, kept apart
//   end        0 0 0   0 0 0 0 1   0   0 0 0   0 0 0 0 1   0 …      from the memory
//
// Live blocks have no header: the caller says how large they are. The bits of 64 granules lie in
// one pair of words, so that one cache line of bits covers 256 granules. A free block describes
// itself in its own memory and is found by size in the Index. The free tail, `top`, is in no index:
// a bump pointer.
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
#include <optional>

#include <strata/detail/bits.hpp>
#include <strata/misuse.hpp>
#include <strata/statistics.hpp>

namespace strata::detail {

/// The marks of 64 granules.
struct granule_bits {
    std::uint64_t live;
    std::uint64_t end;
};

/// Returns: pairs of bit words for `granules` granules, the 0th, and the one behind the last.
constexpr std::size_t bit_pairs(std::size_t granules) noexcept {
    return (granules + 2 + 63) / 64;
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

    /// Returns: a block, or null where none fits or the alignment is no power of two.
    /// Complexity: that of Index::find, insert and remove. Inlined by force, as deallocate is: 5 % of
    /// the time, which went into saving the same registers twice.
    [[gnu::always_inline]] void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
        if (alignment > granule_bytes) [[unlikely]]
            return allocate_aligned(bytes, alignment);
        std::size_t const size = granules_for(bytes);
        std::size_t const g = smallest(size);
        if (g == 0) [[unlikely]]
            return nullptr;
        cut(g, size);
        return handed_out(g, bytes);
    }

    /// Frees the block, where these arguments name a live block of the region. Returns: whether they
    /// did; nothing has changed where not. Any p may be passed.
    /// Complexity: as allocate, and O(bytes / 64 granules) to see that no block lies within.
    [[gnu::always_inline]] bool deallocate(void const* p, std::size_t bytes,
                                           std::size_t alignment) noexcept {
        sides open;
        if (!is_live_block(p, bytes, alignment, open)) [[unlikely]]
            return false;
        std::size_t const first = granule_of(p);
        flip_live(first);
        requested_bytes_ -= bytes;
        give(first, first + granules_for(bytes), open);
        return true;
    }
    /// Returns: whether deallocate would free it. Complexity: O(1), O(bytes / 64 granules).
    [[nodiscard]] bool is_live_block(void const* p, std::size_t bytes,
                                     std::size_t alignment) const noexcept {
        sides open;
        return is_live_block(p, bytes, alignment, open);
    }

    /// Requires: holds(p). Returns: why deallocate would not; nothing where it would.
    [[nodiscard]] std::optional<misuse_kind> diagnose(void const* p, std::size_t bytes,
                                                      std::size_t alignment) const noexcept {
        if (!aligned_to(p, granule_bytes) || !live(granule_of(p)))
            return lies_in_live_block(p) || !aligned_to(p, granule_bytes)
                       ? misuse_kind::misaligned_pointer
                       : misuse_kind::double_free;
        if (!is_whole_block(granule_of(p), granules_for(bytes)))
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
            give(behind_new, behind, {true, false, !live(behind)});
        } else if (behind_new > behind) {
            if (live(behind) || free_size_at(behind) < behind_new - behind)
                return false;
            cut(behind, behind_new - behind);
        }
        requested_bytes_ += new_bytes - old_bytes;
        return true;
    }

    /// All is merged at once: nothing to do.
    static void merge() noexcept {}

    /// Whether nothing is live, and all is merged.
    [[nodiscard]] bool is_one_free_block() const noexcept { return used_ == 0; }

    /// Makes all one free block again.
    void free_all() noexcept {
        if (places.granules() != 0)
            std::fill_n(places.bits(), bit_pairs(places.granules()), granule_bits{0, 0});
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
    /// Complexity: O(blocks + granules / 64).
    void add_to(statistics& s) const noexcept {
        std::size_t live_blocks = 0;
        std::size_t free_granules = top_size();
        for (std::size_t i = 0; used_ != 0 && i <= top() / 64; ++i) {
            live_blocks += static_cast<std::size_t>(std::popcount(places.bits()[i].live));
            s.free_blocks += static_cast<std::size_t>(std::popcount(places.bits()[i].end));
        }
        index_.check(memory(), [&](std::size_t, std::size_t size) { free_granules += size; });
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

    // Takes granules [g, g + size) out of the free block at g; the rest stays free, and so does the
    // end bit:   │ size │ rest  …  │
    void cut(std::size_t g, std::size_t size) noexcept {
        if (g == top()) {
            used_ = g + size - 1;
            return;
        }
        std::size_t const rest = memory().size_at(index(g)) - size;
        index_.remove(memory(), index(g));
        if (rest != 0)
            index_.insert(memory(), index(g + size), index(rest));
        else
            flip_end(g + size - 1);
    }

    // Of a block that is better aligned than granules are, what lies before it stays free, too.
    [[gnu::noinline]] void* allocate_aligned(std::size_t bytes, std::size_t alignment) noexcept {
        std::size_t const size = granules_for(bytes);
        std::size_t const g = smallest_aligned(size, alignment);
        if (g == 0)
            return nullptr;
        std::size_t const gap = gap_before(g, alignment);
        cut(g, gap + size);
        if (gap != 0) {
            flip_end(g + gap - 1);
            index_.insert(memory(), index(g), index(gap));
        }
        return handed_out(g + gap, bytes);
    }

    void* handed_out(std::size_t g, std::size_t bytes) noexcept {
        flip_live(g);
        requested_bytes_ += bytes;
        return address(g);
    }

    // --- merge, insert ---

    // What the marks say of the granules [first, behind).
    struct sides {
        bool of_live_block; // they are one, unless it goes on behind: see starts_free
        bool before;        // a free block ends before them
        bool behind;        // no live block starts behind them
    };

    [[gnu::always_inline]] bool is_live_block(void const* p, std::size_t bytes,
                                              std::size_t alignment, sides& open) const noexcept {
        std::size_t const first = granule_of(p);
        std::size_t const behind = first + granules_for(bytes);
        if (!holds(p) || !aligned_to(p, alignment) || behind > top()) [[unlikely]]
            return false;
        open = sides_of(first, behind);
        return open.of_live_block && (!open.behind || starts_free(behind));
    }

    [[nodiscard]] sides sides_of(std::size_t first, std::size_t behind) const noexcept {
        if (behind - first > 62) [[unlikely]]
            return {is_marked_as_one(first, behind), ends_free(first - 1), !live(behind)};
        // One window of marks from the granule before the block to the one behind it.
        granule_bits const& low = places.bits()[(first - 1) / 64];
        granule_bits const& high = places.bits()[behind / 64];
        std::size_t const skip = (first - 1) % 64;
        std::uint64_t const live = low.live >> skip | high.live << 1 << (63 - skip);
        std::uint64_t const end = low.end >> skip | high.end << 1 << (63 - skip);
        std::uint64_t const at_behind = std::uint64_t{2} << (behind - first);
        std::uint64_t const within = at_behind - 2;
        return {(live & within) == 2 && (end & within) == 0, (end & 1) != 0,
                (live & at_behind) == 0};
    }

    // Makes [first, behind), in which nothing is marked, free: with a free block before it and one
    // behind it, or top, it becomes one.
    //   │ free │ first … │ live    the end mark moves    │ free          │ live
    //   │ live │ first … │ free    it stays              │ live │ free
    //   │ live │ first … │ top     there is none         │ live │ top
    [[gnu::always_inline]] void give(std::size_t first, std::size_t behind, sides open) noexcept {
        std::size_t end = behind;
        if (!open.behind) {
            flip_end(behind - 1);
        } else if (behind != top()) {
            end += memory().size_at(index(behind));
            index_.remove(memory(), index(behind));
        }
        if (open.before) {
            flip_end(first - 1);
            first -= memory().size_before(index(first - 1));
            index_.remove(memory(), index(first));
        }
        if (end == top())
            used_ = first - 1;
        else
            index_.insert(memory(), index(first), index(end - first));
    }

    // --- check ---

    // Returns: whether a live block starts at `first`, and no other block starts or ends before
    // `behind`. Reads all marks before it answers, several at a time: a wrong size is rare.
    [[nodiscard]] bool is_marked_as_one(std::size_t first, std::size_t behind) const noexcept {
        if (!live(first))
            return false;
        granule_bits const* const bits = places.bits();
        std::size_t const low = first / 64;
        std::size_t const high = (behind - 1) / 64;
        std::uint64_t const own = std::uint64_t{1} << first % 64;
        std::uint64_t const not_before = 0 - own;
        std::uint64_t const not_behind = ~std::uint64_t{0} >> (63 - (behind - 1) % 64);
        std::uint64_t const at_low = ((bits[low].live ^ own) | bits[low].end) & not_before;
        if (low == high)
            return (at_low & not_behind) == 0;
        std::uint64_t marks = at_low | ((bits[high].live | bits[high].end) & not_behind);
        for (std::size_t i = low + 1; i != high; ++i)
            marks |= bits[i].live | bits[i].end;
        return marks == 0;
    }

    // Returns: whether a free block starts at g, where no live one does. What stands there may be a
    // user's: it is believed only if the end bit and the last word of a free block confirm it.
    [[nodiscard]] bool starts_free(std::size_t g) const noexcept {
        if (g == top())
            return true;
        std::size_t const size = memory().size_at(index(g));
        if (size == 0 || size >= top() - g)
            return false;
        std::size_t const last = g + size - 1;
        return ends_free(last) && memory().size_before(index(last)) == size;
    }

    // Returns: whether the granules from `first` on are one live block of `size`.
    [[nodiscard]] bool is_whole_block(std::size_t first, std::size_t size) const noexcept {
        std::size_t const behind = first + size;
        return behind <= top() && is_marked_as_one(first, behind) &&
               (live(behind) || starts_free(behind));
    }

    // Returns: whether p lies in a live block: the nearest mark before it is one's start, and it
    // reaches that far. Complexity: O(granules / 64).
    [[nodiscard]] bool lies_in_live_block(void const* p) const noexcept {
        std::size_t const g = granule_of(p);
        if (g >= top() || ends_free(g))
            return false;
        std::size_t i = g / 64;
        std::uint64_t const shift = 63 - g % 64;
        std::uint64_t marks = (places.bits()[i].live | places.bits()[i].end) << shift >> shift;
        while (marks == 0 && i-- != 0)
            marks = places.bits()[i].live | places.bits()[i].end;
        if (marks == 0)
            return false;
        std::size_t const at = i * 64 + static_cast<std::size_t>(std::bit_width(marks) - 1);
        return live(at) && g < block_end(at);
    }

    // Returns: where the live block at `first` ends: where the next one starts.
    [[nodiscard]] std::size_t block_end(std::size_t first) const noexcept {
        std::uint64_t mask = ~std::uint64_t{0} << (first + 1) % 64;
        for (std::size_t i = (first + 1) / 64; i <= top() / 64; ++i, mask = ~std::uint64_t{0}) {
            std::uint64_t const marks = (places.bits()[i].live | places.bits()[i].end) & mask;
            if (marks == 0)
                continue;
            std::size_t const at = i * 64 + static_cast<std::size_t>(std::countr_zero(marks));
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
        return is_aligned(p, std::max(alignment, granule_bytes));
    }

    [[nodiscard]] std::size_t top() const noexcept { return used_ + 1; }
    [[nodiscard]] std::size_t top_size() const noexcept { return places.granules() - used_; }
    [[nodiscard]] std::size_t free_size_at(std::size_t g) const noexcept {
        return g == top() ? top_size() : memory().size_at(index(g));
    }

    [[nodiscard]] bool live(std::size_t g) const noexcept {
        return (places.bits()[g / 64].live >> g % 64 & 1) != 0;
    }
    [[nodiscard]] bool ends_free(std::size_t g) const noexcept {
        return (places.bits()[g / 64].end >> g % 64 & 1) != 0;
    }
    void flip_live(std::size_t g) noexcept {
        places.bits()[g / 64].live ^= std::uint64_t{1} << g % 64;
    }
    void flip_end(std::size_t g) noexcept {
        places.bits()[g / 64].end ^= std::uint64_t{1} << g % 64;
    }

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
    bool const linked = index_.check(memory(), [&](std::size_t g, std::size_t size) {
        ++indexed;
        described = described && g != 0 && size != 0 && g + size < top() && !live(g) &&
                    ends_free(g + size - 1) && memory().size_before(index(g + size - 1)) == size;
    });
    if (!linked || !described)
        return linked ? "a free block is described wrongly" : "the index is broken";
    bool before_free = false;
    for (std::size_t g = 1; g < top();) {
        bool const is_live = live(g);
        std::size_t const next = is_live ? block_end(g) : g + memory().size_at(index(g));
        if (next <= g || next > top())
            return "a block ends before it starts, or in top";
        if (is_live ? !is_whole_block(g, next - g) : before_free || !starts_free(g))
            return is_live ? "a live block has marks within" : "two free blocks are neighbours";
        if (!is_live && indexed-- == 0)
            return "a free block is not in the index";
        before_free = !is_live;
        g = next;
    }
    if (before_free)
        return "a free block borders on top";
    return indexed == 0 ? nullptr : "the index has blocks that are not there";
}

} // namespace strata::detail
