// SPDX-License-Identifier: BSL-1.0
#pragma once

// tracked_block_resource: every live block in a list, a budget, a reserve; for tests and diagnosis.
//
// Each request becomes a block of its own from upstream, with a guard on either side, and a record
// in a doubly linked list: address, bytes, alignment, sequence number, label, call stack.
//
//   head ──► record ⇄ record ⇄ record ◄── tail          in the order of allocation
//              │ ▲
//      address ▼ │ index of the record
//        ┌─────┬────────┬──────────────────────┬───────┐
//        │ pad │ header │ block: what was asked│ guard │   one upstream block, of
//        └─────┴────────┴──────────────────────┴───────┘   max(16, alignment) + bytes + 16
//               16 bytes                        16 bytes
//
// The header is the record's index and a check word over it and what was asked for; the guard
// repeats that word. Records lie apart (detail::record_list): a block that is written past either
// end cannot damage the books, and whatever the damage, everything goes back upstream with the
// triple that it came with. With the links in the header, as is usual, one underrun would lose the
// list.
//
// When upstream throws bad_alloc, the reserve serves, where options ask for one. Unknown pointers
// are told by detail::address_set and the reserve's bits, without reading any memory near them.
//
//   I1  the list holds exactly the live blocks, by rising sequence number.
//   I2  an address is live iff it is in the address set (from upstream) or marked in the reserve.
//   I3  the guards of a live block are as they were made, unless its user wrote outside the block.
//   I4  live bytes <= budget.
//   I5  footprint = blocks with their guards + segments of records + address set + reserve.
//
// Cost: allocate and deallocate O(1) and one upstream call each, amortised a little more for
// records and address set; one served by the reserve O(reserve / 1 KiB). Per block 32 bytes of
// guards (16 + alignment where that is above 16), 48 bytes of record, and 2 % of a dense heap for
// the address set. Not for production hot paths: there the other resources check for less.
//
// What Bloomberg's test allocators offer (P1160's test_resource, bslma::TestAllocator,
// balst::StackTraceTestAllocator), and what it is here:
//
//   deallocate: a foreign pointer is a "mismatch"     told from a double free, a pointer into a block
//   mismatches, bad_deallocate_params, bounds_errors  totals().misuses, by kind
//   has_errors, has_allocations, status               totals().all_misuses(), stats().live_blocks
//   no-abort mode, quiet mode                         report_misuse (the default), ignore_misuse;
//                                                     abort_on_misuse is what they do by default
//   verbose mode                                      options.log
//   allocation limit                                  fail_after, never_fail, injected_failures
//   exception_test_loop                               for_each_failure; finds swallowed failures, too
//   test_resource_monitor                             tracked_block_monitor
//   blocks, bytes: in use, max, total                 stats(), totals()
//   last allocated, last deallocated                  the last of visit_records(); options.log
//   print                                             operator<<, grouped
//   leak report and abort in the destructor           grouped report; blocks are reclaimed
//   padding before and behind                         guards, whose damage is shown byte by byte
//   fill of new and freed memory                      options.scribble
//   name of the resource                              label_scope: of what allocates at the time
//   default_resource_guard                            default_resource_scope
//   call stacks of leaks                              options.call_stacks
//   mutex                                             synchronized_tracked_block_resource
//   (none)                                            budget, reserve, sizes, order, invariants
//
// The scopes, the monitor and for_each_failure are in strata/tracked_block_tools.hpp.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iosfwd>
#include <limits>
#include <memory_resource>
#include <numeric>
#include <optional>
#include <span>

#include <strata/detail/address_set.hpp>
#include <strata/detail/function_ref.hpp>
#include <strata/detail/record_list.hpp>
#include <strata/detail/reserve_region.hpp>
#include <strata/resource.hpp>

namespace strata {

namespace detail {
class note;
}

struct tracked_block_options {
    /// The most bytes that may be live at once, as asked for; a request past it throws bad_alloc.
    /// reallocate moves: the old block and the new one must both fit. 0: unlimited.
    std::size_t budget_bytes = 0;
    /// Set aside by the constructor, rounded up to 16; serves when upstream throws bad_alloc. A
    /// block from it costs 80 bytes besides its own, rounded up to 16. 0: none.
    std::size_t reserve_bytes = 0;
    /// The destructor reports what is still live, then gives it back all the same.
    bool report_leaks = true;
    /// Frames of the call stack to keep with each block, 64 at most. 0: none. One stack costs
    /// microseconds. Blocks from the reserve have none. Reports name functions that the program
    /// exports: link it with -rdynamic. `addr2line -Cfie FILE PLACE` names them all, and their
    /// lines, where the program was compiled with -g; PLACE is what reports have in brackets.
    std::size_t call_stacks = 0;
    /// Fills new blocks with 0xaa and freed ones with 0xdd, so that who reads them sees nonsense.
    bool scribble = false;
    /// Where each allocation and each free is written as a line, also one that throws bad_alloc or
    /// is misuse. Null: nowhere. Held, not owned.
    std::FILE* log = nullptr;
};

/// What is known of a live block.
struct tracked_block {
    void const* address;
    std::size_t bytes;      ///< as asked for
    std::size_t alignment;  ///< as asked for
    std::uint64_t sequence; ///< 1 for the first allocation, and so on
    char const* label;      ///< the label that was set at that time; null: none. Held, not owned
    bool from_reserve;
    std::span<void const* const> call_stack; ///< return addresses, innermost first
};

/// What was allocated since construction or release, freed blocks included.
struct tracked_block_totals {
    std::uint64_t allocations = 0;   ///< that succeeded
    std::uint64_t deallocations = 0; ///< that succeeded
    std::uint64_t bytes = 0;         ///< of all allocations, as asked for
    /// [i]: allocations of at most 2^i bytes, and more than 2^(i-1); [0]: of 0 and 1 byte.
    std::array<std::uint64_t, 64> by_size_log2{};
    std::size_t peak_live_blocks = 0;
    /// [kind]: what deallocate, try_deallocate and release found wrong. What try_resize and
    /// reallocate refuse is reported, and not counted.
    std::array<std::uint64_t, static_cast<std::size_t>(misuse_kind::leak) + 1> misuses{};

    [[nodiscard]] std::uint64_t misuses_of(misuse_kind kind) const noexcept {
        return misuses[static_cast<std::size_t>(kind)];
    }
    [[nodiscard]] std::uint64_t all_misuses() const noexcept {
        return std::accumulate(misuses.begin(), misuses.end(), std::uint64_t{0});
    }
    bool operator==(tracked_block_totals const&) const = default;
};

/// Called with every live block in turn; must not call the resource that is being walked.
using tracked_block_visitor = detail::function_ref<void(tracked_block const&)>;

class tracked_block_resource final : public resource {
  public:
    static constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

    /// Null upstream stands for new_delete_resource(). Calls upstream once when a reserve is asked
    /// for, else not at all. Throws: what upstream throws then.
    explicit tracked_block_resource(tracked_block_options const& options,
                                    std::pmr::memory_resource* upstream = nullptr);
    explicit tracked_block_resource(std::pmr::memory_resource* upstream)
        : tracked_block_resource(tracked_block_options{}, upstream) {}
    tracked_block_resource() : tracked_block_resource(tracked_block_options{}) {}

    /// Reports what is live, where report_leaks says so, and releases it. report_misuse and
    /// abort_on_misuse get one leak, with what operator<< writes as its detail. Other handlers get
    /// every live block as a leak, oldest first: the first 1000 one by one, what remains as one with
    /// a null address and the sum of the bytes. Swallows what the handler throws.
    ~tracked_block_resource() override;

    /// Returns: the options in effect: budget_bytes is `unlimited` where 0 was given.
    [[nodiscard]] tracked_block_options options() const noexcept;

    // std's calls, for holders of the concrete type without a virtual call.
    //   A second free reads as one while the first is among the last 1024, then as a foreign pointer.
    //   deallocate checks bytes and alignment against the record, exactly. A block that was
    //   overrun or underrun is reported as such *and is freed*: the call itself was right. So with
    //   try_deallocate, too: overrun and underrun are its answers of a block that was freed.
    //   reallocate and try_resize report such a block and leave it as it is. They never resize in
    //   place: what keeps the old pointer is then found.
    //   release forgets totals and peaks; it keeps label and fail_after, and the reserve. Blocks
    //   that were overrun or underrun are reported there, too, and in the destructor.
    //   trim gives records and address set back where no block from upstream is live.
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = detail::max_align) {
        return do_allocate(bytes, alignment);
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment = detail::max_align) {
        do_deallocate(p, bytes, alignment);
    }

    /// Sets the label of blocks allocated from now on; null: none. Held, not owned: it must outlive
    /// the blocks. See label_scope. Returns: the label before.
    char const* set_label(char const* label) noexcept;

    /// Lets `allocations` more succeed; every one after them throws bad_alloc.
    void fail_after(std::size_t allocations) noexcept;
    /// Ends fail_after.
    void never_fail() noexcept { fail_after(unlimited); }
    /// Returns: the allocations that fail_after has made fail since it was called last.
    [[nodiscard]] std::size_t injected_failures() const noexcept { return injected_failures_; }

    /// Returns: what was allocated since construction or release.
    [[nodiscard]] tracked_block_totals totals() const noexcept;

    /// Calls f(tracked_block const&) for every live block, in the order of allocation. (visit_blocks
    /// uses this order as well, then shows what is free in the reserve.)
    template <class Visitor>
    void visit_records(Visitor&& f) const {
        walk(tracked_block_visitor{f});
    }

  private:
    using index = detail::record_list::index; // of a record
    struct request {
        void const* address;
        std::size_t bytes;
        std::size_t alignment;
    };

    /// Throws: bad_alloc past the budget, by fail_after, or when neither upstream nor the reserve
    /// can serve; invalid_argument for an alignment that is no power of two; what upstream throws.
    void* do_allocate(std::size_t bytes, std::size_t alignment) override;
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override;
    std::optional<misuse_kind> do_try_deallocate(void* p, std::size_t bytes,
                                                 std::size_t alignment) override;
    bool do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                       std::size_t alignment) override;
    std::optional<misuse_kind> do_diagnose(void const* p, std::size_t bytes,
                                           std::size_t alignment) const override;
    /// Whether p lies in a live block, its guards included, or in the reserve.
    /// Complexity: O(1) for the start of a live block and in the reserve, else O(live blocks).
    bool do_owns(void const* p) const override;
    std::size_t do_good_size(std::size_t bytes, std::size_t) const override { return bytes; }
    void do_release() override;
    std::size_t do_trim() override;
    statistics do_stats() const override;
    void do_visit_blocks(block_visitor f) const override;
    bool do_check_invariants() const override;
    std::pmr::memory_resource* do_upstream_resource() const override { return upstream_; }
    char const* do_name() const noexcept override { return "tracked_block_resource"; }

    [[nodiscard]] bool fits(std::size_t bytes, std::size_t alignment) const noexcept;
    [[noreturn]] void refuse(std::size_t bytes, std::size_t alignment);
    void make_room(std::byte* block, std::size_t bytes, std::size_t alignment);
    std::byte* take_from_reserve(std::size_t bytes, std::size_t alignment, index& record) noexcept;
    void enter(index r, std::byte* block, std::size_t bytes, std::size_t alignment) noexcept;
    void mark_new(index r) const noexcept;
    void mark_freed(request const& block) const noexcept;

    bool free_sound(void* p, std::size_t bytes, std::size_t alignment) noexcept;
    std::optional<misuse_kind> deallocate_slow(void* p, std::size_t bytes, std::size_t alignment);
    void leave(index r, request const& block) noexcept;
    void give_back(index r, request const& block) noexcept;
    void retire(index r) noexcept;
    void retire_damaged(index r, misuse_kind damage) noexcept;

    [[nodiscard]] request request_of(index r) const noexcept {
        auto const& known = records_.facts_of(r);
        return {records_.address_of(r), known.bytes, known.alignment};
    }
    [[nodiscard]] index find(void const* p) const noexcept;
    [[nodiscard]] std::optional<misuse_kind> judge(index r, std::size_t bytes,
                                                   std::size_t alignment) const noexcept;
    [[nodiscard]] misuse_kind why_unknown(void const* p) const noexcept;
    [[nodiscard]] index covering(void const* p) const noexcept;
    void add_origin(detail::note& words, index r) const noexcept;

    [[nodiscard]] std::size_t live_blocks() const noexcept {
        return static_cast<std::size_t>(totals_.allocations - freed_count_);
    }
    [[nodiscard]] std::optional<misuse_kind> damage_of(index r) const noexcept;
    [[nodiscard]] tracked_block block_of(index r) const noexcept;
    void walk(tracked_block_visitor f) const;
    void report_leaks() noexcept;
    [[nodiscard]] bool report_leaks_as_one();
    void release_oldest();
    [[nodiscard]] bool check_record(index r) const;

    std::pmr::memory_resource* upstream_; // held, not owned
    detail::address_set starts_;          // I2
    std::size_t budget_bytes_;
    std::size_t live_bytes_ = 0;
    std::size_t peak_live_bytes_ = 0;
    std::size_t allocations_left_ = unlimited; // by fail_after
    std::size_t block_bytes_held_ = 0;         // blocks with their guards, from upstream
    char const* label_ = nullptr;              // held, not owned
    bool marks_blocks_;                        // call stacks, scribble or log are asked for
    bool scribble_;
    bool report_leaks_;
    std::FILE* log_; // held, not owned
    std::size_t call_stacks_;
    std::size_t injected_failures_ = 0;
    tracked_block_totals totals_; // its deallocations are not kept: freed_count_
    detail::reserve_region reserve_;
    detail::record_list records_; // I1

    std::uint64_t freed_count_ = 0; // deallocations
    // The latest of them, so that a second free reads as one and not as a foreign pointer: a ring, of
    // which only the first freed_count_ have been written.
    std::array<void const*, 1024> freed_;
};

/// Writes what is live for people to read: groups by size, label and call stack, most bytes first,
/// the first 20 of them, with a hint how to find where they come from; and what was allocated so
/// far, by size. Allocates from the program's heap.
std::ostream& operator<<(std::ostream& out, tracked_block_resource const& tracked);

} // namespace strata
