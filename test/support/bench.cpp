// SPDX-License-Identifier: BSL-1.0
#include "bench.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>

#include <strata/detail/bits.hpp>

#include "expect.hpp"

namespace strata::test {

namespace {

std::vector<block_info> walk(resource const& r) {
    std::vector<block_info> blocks;
    r.visit_blocks([&](block_info const& b) { blocks.push_back(b); });
    return blocks;
}

bool same(block_info const& a, block_info const& b) {
    return a.address == b.address && a.bytes == b.bytes && a.live == b.live;
}

// Bytes that count up, as blocks are filled with: many at once, since all are looked at often.
constexpr std::size_t page_bytes = 4096;
std::byte const* pattern_from(unsigned char first) {
    static auto const counting = [] {
        std::array<std::byte, page_bytes + 256> all{};
        for (std::size_t i = 0; i < all.size(); ++i)
            all[i] = static_cast<std::byte>(i);
        return all;
    }();
    return counting.data() + first;
}

// Printed only where a promise is broken.
struct figures {
    statistics const& of;
};
std::ostream& operator<<(std::ostream& out, figures const& shown) {
    statistics const& s = shown.of;
    return out << "\n  live " << s.live_blocks << " blocks " << s.live_bytes << " B of "
               << s.requested_bytes << " requested, peak " << s.peak_live_bytes << ", footprint "
               << s.footprint_bytes << ", free " << s.free_blocks << " blocks " << s.free_bytes
               << " B, largest " << s.largest_free_bytes << ", overhead " << s.overhead_bytes
               << ", upstream " << s.upstream_live_blocks << " blocks " << s.upstream_live_bytes
               << " B";
}

} // namespace

std::ostream& operator<<(std::ostream& out, block const& b) {
    return out << "block " << static_cast<void const*>(b.p) << " of " << b.bytes
               << " bytes, alignment " << b.alignment;
}

// --- bench ---

bench::bench(subject const& s)
    : subject_{s},
      below_{s.make_below ? s.make_below(&floor_) : nullptr},
      upstream_{std::make_unique<counting_upstream>(
          below_ ? static_cast<std::pmr::memory_resource*>(below_.get())
                 : std::pmr::new_delete_resource())},
      tested_{s.make(upstream_.get())} {}

void bench::finish() {
    expect(recorder_.take().empty(), "a misuse was reported that was none");
    std::size_t const live = tested_->stats().live_blocks;
    tested_.reset();
    std::size_t leaks = 0;
    for (misuse const& what : recorder_.take()) {
        expect(what.kind == misuse_kind::leak, "the destructor reported ", to_string(what.kind));
        ++leaks;
    }
    expect_equal(leaks, subject_.reports_leaks ? live : 0, "leaks that the destructor reported");
    expect_equal(upstream_->mismatches(), std::size_t{0}, "blocks upstream got back wrongly");
    expect_equal(upstream_->live_bytes(), std::size_t{0}, "bytes upstream did not get back");
    expect(upstream_->settled(), "upstream did not get everything back");
    if (below_ != nullptr) {
        expect(below_->check_invariants(), "the layer below is damaged");
        expect_equal(below_->stats().live_blocks, std::size_t{0}, "live blocks in the layer below");
        below_.reset();
        expect(recorder_.take().empty(), "the layer below reported a misuse");
    }
    expect(floor_.settled(), "the layer below did not give everything back");
}

// --- picture ---

picture::picture(bench& b)
    : stats{b.tested().stats()},
      blocks{walk(b.tested())},
      upstream_calls{b.upstream().allocations() + b.upstream().deallocations()} {}

std::string picture::difference(bench& b) const {
    std::ostringstream text;
    std::size_t const calls = b.upstream().allocations() + b.upstream().deallocations();
    statistics const now = b.tested().stats();
    if (calls != upstream_calls)
        text << calls - upstream_calls << " upstream calls were made, ";
    if (now != stats)
        text << "the statistics changed" << figures{stats} << figures{now} << "\n  ";
    if (!b.tested().check_invariants())
        text << "an invariant was broken, ";
    std::vector<block_info> const seen = walk(b.tested());
    if (!std::equal(seen.begin(), seen.end(), blocks.begin(), blocks.end(), same))
        text << "the blocks changed, ";
    return text.str();
}

// --- ledger ---

// What was free may have been merged meanwhile, where it may.
bool ledger::same_books(statistics before, statistics const& after) const {
    if (bench_.traits().merges_late && after.free_blocks < before.free_blocks) {
        before.free_blocks = after.free_blocks;
        before.largest_free_bytes = std::max(before.largest_free_bytes, after.largest_free_bytes);
    }
    // A slab that became empty is one free block, with what it had beside its blocks.
    std::size_t const gathered = after.free_bytes - before.free_bytes;
    if (bench_.traits().gathers_late && after.free_blocks <= before.free_blocks) {
        before.free_blocks = after.free_blocks;
        before.largest_free_bytes = std::max(before.largest_free_bytes, after.largest_free_bytes);
        before.free_bytes += gathered;
        before.overhead_bytes -= gathered;
    }
    return after == before;
}

// A call that throws must leave everything as it was; what it took from upstream went back.
template <class Call>
auto ledger::unchanged_on_throw(Call call, char const* what) {
    statistics before = bench_.tested().stats();
    std::size_t held = bench_.upstream().live_bytes();
    try {
        return call();
    } catch (...) {
        statistics const after = bench_.tested().stats();
        if (bench_.traits().keeps_cache && after.footprint_bytes > before.footprint_bytes) {
            std::size_t const cache = after.footprint_bytes - before.footprint_bytes;
            before.footprint_bytes += cache;
            before.overhead_bytes += cache;
            held += cache;
        }
        expect(same_books(before, after), "statistics changed by ", what, " that threw",
               figures{before}, figures{after});
        expect_equal(bench_.upstream().live_bytes(), held, "bytes of upstream held after ", what,
                     " that threw");
        expect(bench_.tested().check_invariants(), "an invariant is broken by ", what,
               " that threw");
        expect_contents();
        throw;
    }
}

void ledger::take(std::size_t bytes, std::size_t alignment) {
    enter(
        unchanged_on_throw([&] { return bench_.tested().allocate(bytes, alignment); }, "allocate"),
        bytes, alignment);
}

void ledger::take_zeroed(std::size_t count, std::size_t bytes, std::size_t alignment) {
    void* const p =
        unchanged_on_throw([&] { return bench_.tested().allocate_zeroed(count, bytes, alignment); },
                           "allocate_zeroed");
    auto const* const begin = detail::as_bytes(p);
    expect(std::all_of(begin, begin + count * bytes, [](std::byte b) { return b == std::byte{0}; }),
           "allocate_zeroed left bytes that are not zero");
    enter(p, count * bytes, alignment);
}

void ledger::enter(void* p, std::size_t bytes, std::size_t alignment) {
    expect(p != nullptr, "allocate(", bytes, ", ", alignment, ") returned null");
    expect(detail::is_aligned(p, alignment), "allocate(", bytes, ", ", alignment,
           ") is not aligned: ", p);
    block b{detail::as_bytes(p), bytes, alignment, next_pattern_++};
    expect_room(b);
    fill(b);
    blocks_.push_back(b);
}

// Before a byte is written: the block is the resource's, or upstream's, and nobody else's.
void ledger::expect_room(block const& b) const {
    std::size_t const held = std::max<std::size_t>(b.bytes, 1);
    resource const& r = bench_.tested();
    auto const wrong = r.diagnose(b.p, b.bytes, b.alignment);
    expect(!wrong, b, " is live, but freeing it would be a ", wrong ? to_string(*wrong) : "");
    if (r.owns(b.p))
        expect(r.owns(b.p + held - 1), b, " begins in carved memory and ends outside");
    else
        expect(bench_.upstream().holds(b.p, held, b.alignment), b,
               " is neither carved nor upstream's");
    for (block const& other : blocks_)
        expect(b.p + held <= other.p || other.p + std::max<std::size_t>(other.bytes, 1) <= b.p, b,
               " overlaps ", other);
}

void ledger::fill(block& b) {
    for (std::size_t at = 0; at < b.bytes; at += page_bytes)
        std::memcpy(b.p + at, pattern_from(b.pattern), std::min(b.bytes - at, page_bytes));
}

void ledger::expect_content(block const& b, std::size_t bytes) const {
    bool same_bytes = true;
    for (std::size_t at = 0; at < bytes && same_bytes; at += page_bytes)
        same_bytes =
            std::memcmp(b.p + at, pattern_from(b.pattern), std::min(bytes - at, page_bytes)) == 0;
    for (std::size_t i = 0; !same_bytes && i < bytes; ++i)
        if (b.p[i] != static_cast<std::byte>(b.pattern + i))
            expect(false, "byte ", i, " of ", b, " was changed while it was live");
}

void ledger::reallocate(std::size_t i, std::size_t new_bytes) {
    block b = blocks_[i];
    void* const p = unchanged_on_throw(
        [&] { return bench_.tested().reallocate(b.p, b.bytes, new_bytes, b.alignment); },
        "reallocate");
    expect(p != nullptr, "reallocate of ", b, " to ", new_bytes, " returned null");
    expect(detail::is_aligned(p, b.alignment), "reallocate lost the alignment of ", b);
    blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(i));
    std::size_t const kept = std::min(b.bytes, new_bytes);
    b.p = detail::as_bytes(p);
    b.bytes = new_bytes;
    expect_room(b);
    expect_content(b, kept);
    fill(b);
    blocks_.insert(blocks_.begin() + static_cast<std::ptrdiff_t>(i), b);
}

bool ledger::try_resize(std::size_t i, std::size_t new_bytes) {
    block b = blocks_[i];
    statistics const before = bench_.tested().stats();
    bool const resized = bench_.tested().try_resize(b.p, b.bytes, new_bytes, b.alignment);
    if (!resized) {
        expect(same_books(before, bench_.tested().stats()),
               "try_resize answered false and changed the books");
        expect(!bench_.tested().diagnose(b.p, b.bytes, b.alignment),
               "try_resize answered false and lost ", b);
        return false;
    }
    blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(i));
    std::size_t const kept = std::min(b.bytes, new_bytes);
    b.bytes = new_bytes;
    expect_room(b);
    expect_content(b, kept);
    fill(b);
    blocks_.insert(blocks_.begin() + static_cast<std::ptrdiff_t>(i), b);
    return true;
}

void ledger::give(std::size_t i) {
    block const b = blocks_[i];
    expect_content(b, b.bytes);
    bench_.tested().deallocate(b.p, b.bytes, b.alignment);
    blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(i));
    for (misuse const& what : bench_.recorder().take())
        expect(false, "freeing ", b, " rightly was reported as ", to_string(what.kind));
}

void ledger::give_all() {
    while (!blocks_.empty())
        give(blocks_.size() - 1);
}

void ledger::expect_contents() const {
    for (block const& b : blocks_)
        expect_content(b, b.bytes);
}

std::size_t ledger::bytes() const noexcept {
    return std::accumulate(blocks_.begin(), blocks_.end(), std::size_t{0},
                           [](std::size_t sum, block const& b) { return sum + b.bytes; });
}

bool ledger::covers(void const* p) const {
    return std::any_of(blocks_.begin(), blocks_.end(), [&](block const& b) {
        return detail::offset_between(b.p, p) < std::max<std::size_t>(b.bytes, 1);
    });
}

void ledger::expect_books() const {
    expect(bench_.tested().check_invariants(), "an invariant is broken");
    statistics const s = bench_.tested().stats();
    expect_statistics(s);
    expect_walk(s);
}

void ledger::expect_statistics(statistics const& s) const {
    figures const all{s};
    expect_equal(s.footprint_bytes, s.live_bytes + s.free_bytes + s.overhead_bytes,
                 "footprint against live + free + overhead", all);
    expect_equal(s.footprint_bytes, bench_.upstream().live_bytes() + bench_.traits().storage_bytes,
                 "footprint against what upstream counts", all);
    expect_equal(s.live_blocks, blocks_.size(), "live blocks", all);

    std::size_t requested = 0;
    std::size_t empty = 0; // blocks of 0 bytes, which upstream is asked for as 1
    std::size_t served = 0;
    std::size_t served_bytes = 0;
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
        requested += blocks_[i].bytes;
        empty += blocks_[i].bytes == 0 ? 1u : 0u;
        served += is_served(i) ? 1u : 0u;
        served_bytes += is_served(i) ? std::max<std::size_t>(blocks_[i].bytes, 1) : 0;
    }
    expect(s.requested_bytes >= requested && s.requested_bytes <= requested + empty,
           "requested bytes: ", s.requested_bytes, ", expected ", requested, all);
    expect(s.requested_bytes <= s.live_bytes, "more bytes requested than live", all);
    expect_equal(s.upstream_live_blocks, served, "live blocks of upstream", all);
    expect_equal(s.upstream_live_bytes, served_bytes, "live bytes of upstream", all);
    expect(s.peak_live_bytes == 0 || s.peak_live_bytes >= s.live_bytes, "peak below live", all);
    expect(s.largest_free_bytes <= s.free_bytes, "largest free above all free", all);
    expect(s.utilization() >= 0 && s.utilization() <= 1, "utilization", all);
    expect(s.internal_fragmentation() >= 0 && s.internal_fragmentation() <= 1,
           "internal fragmentation", all);
    expect(s.external_fragmentation() >= 0 && s.external_fragmentation() <= 1,
           "external fragmentation", all);
}

// The walk shows the model's blocks, each once, and the statistics are its sums.
void ledger::expect_walk(statistics const& s) const {
    std::vector<block_info> seen = walk(bench_.tested());
    auto const by_address = [](block_info const& a, block_info const& b) {
        return std::less<>{}(a.address, b.address);
    };
    if (!bench_.traits().visits_by_age)
        expect(std::is_sorted(seen.begin(), seen.end(), by_address),
               "visit_blocks is not in address order");
    std::sort(seen.begin(), seen.end(), by_address);
    for (std::size_t i = 1; i < seen.size(); ++i)
        expect(detail::offset_between(seen[i - 1].address, seen[i].address) >= seen[i - 1].bytes,
               "visit_blocks shows overlapping blocks at ", seen[i - 1].address);

    std::size_t live_bytes = 0;
    std::size_t free_bytes = 0;
    std::size_t free_blocks = 0;
    std::size_t largest = 0;
    std::size_t run = 0;       // bytes of free blocks that end at
    void const* end = nullptr; // this address
    std::vector<block_info> live;
    for (block_info const& b : seen) {
        (b.live ? live_bytes : free_bytes) += b.bytes;
        if (b.live) {
            live.push_back(b);
            continue;
        }
        ++free_blocks;
        run = b.address == end ? run + b.bytes : b.bytes;
        end = detail::as_bytes(b.address) + b.bytes;
        largest = std::max(largest, run);
    }
    expect_equal(live_bytes, s.live_bytes, "live bytes of the walk");
    expect_equal(free_bytes, s.free_bytes, "free bytes of the walk");
    expect_equal(free_blocks, s.free_blocks, "free blocks of the walk");
    expect(s.largest_free_bytes <= largest, "no free memory of the walk has the ",
           s.largest_free_bytes, " bytes of the largest");

    std::vector<block> model = blocks_;
    std::sort(model.begin(), model.end(),
              [](block const& a, block const& b) { return std::less<>{}(a.p, b.p); });
    expect_equal(live.size(), model.size(), "live blocks of the walk");
    for (std::size_t i = 0; i < model.size(); ++i) {
        expect(live[i].address == model[i].p, "visit_blocks does not show ", model[i]);
        expect(live[i].bytes >= model[i].bytes, "visit_blocks shows only ", live[i].bytes,
               " bytes of ", model[i]);
    }
}

} // namespace strata::test
