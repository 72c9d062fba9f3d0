// SPDX-License-Identifier: BSL-1.0
#include <strata/tracked_block_resource.hpp>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <utility>

#include <strata/detail/annotate.hpp>
#include <strata/detail/call_stack.hpp>
#include <strata/detail/guards.hpp>
#include <strata/detail/note.hpp>
#include <strata/detail/return_upstream.hpp>

namespace strata {

using detail::as_bytes;
using detail::guard_bytes;
using detail::offset_between;
using detail::record_list;

namespace {

constexpr std::size_t most_call_stacks = 64;
// Scribbled. No guard has either, so that one which is copied past an end is seen.
constexpr int new_byte = 0xaa;
constexpr int freed_byte = 0xdd;

// What is asked of upstream for one block.
struct frame {
    frame(std::size_t block_bytes, std::size_t block_alignment) noexcept
        : alignment{std::max(block_alignment, guard_bytes)},
          bytes{alignment + block_bytes + guard_bytes} {}

    std::size_t alignment; // also the distance from the frame's begin to the block's
    std::size_t bytes;
};

// The same in the reserve, where alignment costs nothing.
constexpr std::size_t reserved_bytes(std::size_t block_bytes) noexcept {
    return guard_bytes + block_bytes + guard_bytes;
}

bool is_damage(misuse_kind wrong) noexcept {
    return wrong == misuse_kind::overrun || wrong == misuse_kind::underrun;
}

// Returns: the smallest n that bytes <= 2^n.
std::size_t size_log2(std::size_t bytes) noexcept {
    return static_cast<std::size_t>(std::bit_width((2 * bytes - (bytes != 0 ? 1 : 0)) | 1)) - 1;
}

} // namespace

tracked_block_resource::tracked_block_resource(tracked_block_options const& options,
                                               std::pmr::memory_resource* upstream)
    : upstream_{upstream != nullptr ? upstream : std::pmr::new_delete_resource()},
      starts_{upstream_},
      budget_bytes_{options.budget_bytes != 0 ? options.budget_bytes : unlimited},
      marks_blocks_{options.call_stacks != 0 || options.scribble || options.log != nullptr},
      scribble_{options.scribble},
      report_leaks_{options.report_leaks},
      log_{options.log},
      call_stacks_{std::min(options.call_stacks, most_call_stacks)},
      reserve_{options.reserve_bytes, upstream_},
      records_{call_stacks_, reserve_.memory(), upstream_} {}

tracked_block_resource::~tracked_block_resource() {
    if (report_leaks_ && live_blocks() != 0)
        report_leaks();
    for (bool done = false; !done;) {
        try {
            do_release(); // a throwing handler leaves one block less
            done = true;
        } catch (...) {
        }
    }
}

tracked_block_options tracked_block_resource::options() const noexcept {
    return {budget_bytes_, reserve_.bytes(), report_leaks_, call_stacks_, scribble_, log_};
}

char const* tracked_block_resource::set_label(char const* label) noexcept {
    return std::exchange(label_, label);
}

void tracked_block_resource::fail_after(std::size_t allocations) noexcept {
    allocations_left_ = allocations;
    injected_failures_ = 0;
}

tracked_block_totals tracked_block_resource::totals() const noexcept {
    tracked_block_totals t = totals_;
    t.deallocations = freed_count_;
    return t;
}

// --- allocate ---

inline void tracked_block_resource::enter(index r, std::byte* block, std::size_t bytes,
                                          std::size_t alignment) noexcept {
    records_.push_back(r, block);
    records_.facts_of(r) = {bytes, alignment, ++totals_.allocations, label_};
    detail::write_guards(block, {block, bytes, alignment, r});
    detail::hide(block - guard_bytes, guard_bytes);
    detail::hide(block + bytes, guard_bytes);
    detail::hand_out(block, bytes);

    live_bytes_ += bytes;
    peak_live_bytes_ = std::max(peak_live_bytes_, live_bytes_);
    totals_.peak_live_blocks = std::max(totals_.peak_live_blocks, live_blocks());
    totals_.bytes += bytes;
    ++totals_.by_size_log2[size_log2(bytes)];
    --allocations_left_; // from `unlimited` it never comes to its end
    if (marks_blocks_) [[unlikely]]
        mark_new(r);
}

void* tracked_block_resource::do_allocate(std::size_t bytes, std::size_t alignment) {
    if (!fits(bytes, alignment) || allocations_left_ == 0) [[unlikely]]
        refuse(bytes, alignment);
    std::byte* block = nullptr;
    index r = record_list::none;
    try {
        frame const f{bytes, alignment};
        block = as_bytes(upstream_->allocate(f.bytes, f.alignment)) + f.alignment;
        if (!records_.has_room() || !starts_.insert_where_room(block)) [[unlikely]]
            make_room(block, bytes, alignment);
        block_bytes_held_ += f.bytes;
        detail::carve(block - f.alignment, block, 0);
        r = records_.take();
    } catch (std::bad_alloc const&) {
        block = take_from_reserve(bytes, alignment, r);
        if (block == nullptr) {
            if (log_ != nullptr)
                std::fprintf(log_, "allocate %zu bytes, alignment %zu: bad_alloc\n", bytes,
                             alignment);
            throw;
        }
    }
    enter(r, block, bytes, alignment);
    return block;
}

// Whether the request is one that can be met, within the budget.
bool tracked_block_resource::fits(std::size_t bytes, std::size_t alignment) const noexcept {
    constexpr std::size_t most = detail::max_request_bytes / 4; // so that a frame is below it, too
    return detail::is_power_of_two(alignment) && (bytes | alignment) <= most &&
           bytes <= budget_bytes_ - live_bytes_;
}

// Requires: it does not fit, or fail_after has come to its end.
void tracked_block_resource::refuse(std::size_t bytes, std::size_t alignment) {
    if (!detail::is_power_of_two(alignment))
        throw std::invalid_argument{"strata: an alignment must be a power of two"};
    bool const injected = fits(bytes, alignment);
    injected_failures_ += injected ? 1u : 0u;
    char const* const why = injected                              ? "by fail_after"
                            : bytes > budget_bytes_ - live_bytes_ ? "over the budget"
                                                                  : "too large";
    if (log_ != nullptr)
        std::fprintf(log_, "allocate %zu bytes, alignment %zu: bad_alloc, %s\n", bytes, alignment,
                     why);
    throw std::bad_alloc{};
}

// Makes sure that there is room for a record, and notes the block's start. Gives the block back to
// upstream, and all else that it took, when upstream throws.
void tracked_block_resource::make_room(std::byte* block, std::size_t bytes, std::size_t alignment) {
    try {
        auto const note_start = [&] { starts_.insert(block); };
        records_.has_room() ? note_start() : records_.grow(note_start);
    } catch (...) {
        frame const f{bytes, alignment};
        detail::return_upstream(upstream_, block - f.alignment, f.bytes, f.alignment);
        throw;
    }
}

// The same without upstream: the block from the low end of the reserve, its record from the high
// end, out of reach of what users overrun. Returns: null where there is no room for both.
std::byte* tracked_block_resource::take_from_reserve(std::size_t bytes, std::size_t alignment,
                                                     index& record) noexcept {
    void* const memory = reserve_.take_low(reserved_bytes(bytes), alignment, guard_bytes);
    if (memory == nullptr)
        return nullptr;
    void* const room = reserve_.take_high(record_list::record_bytes);
    if (room == nullptr) {
        reserve_.put(memory, reserved_bytes(bytes));
        return nullptr;
    }
    record = records_.make_reserved(room);
    reserve_.mark(as_bytes(memory) + guard_bytes);
    return as_bytes(memory) + guard_bytes;
}

// What options ask for beyond the books.
void tracked_block_resource::mark_new(index r) const noexcept {
    if (auto const stack = records_.stack_of(r); !stack.empty())
        detail::capture_call_stack(stack);
    tracked_block const b = block_of(r);
    if (scribble_)
        std::memset(const_cast<void*>(b.address), new_byte, b.bytes);
    if (log_ != nullptr)
        std::fprintf(log_, "allocate %zu bytes, alignment %zu: %p, allocation %ju%s%s\n", b.bytes,
                     b.alignment, b.address, std::uintmax_t{b.sequence},
                     b.label != nullptr ? ", label " : "", b.label != nullptr ? b.label : "");
}

void tracked_block_resource::mark_freed(request const& block) const noexcept {
    if (scribble_)
        std::memset(const_cast<void*>(block.address), freed_byte, block.bytes);
    if (log_ != nullptr)
        std::fprintf(log_, "deallocate %p, %zu bytes, alignment %zu\n", block.address, block.bytes,
                     block.alignment);
}

// --- deallocate ---

// Takes a live block out of the list and the counts.
inline void tracked_block_resource::leave(index r, request const& block) noexcept {
    records_.erase(r);
    detail::take_back(block.address, 0); // its memory is hidden by whoever gets it
    live_bytes_ -= block.bytes;
    freed_[static_cast<std::size_t>(freed_count_++ % freed_.size())] = block.address;
    if (marks_blocks_) [[unlikely]]
        mark_freed(block);
}

// Makes the record spare and gives the block back to upstream.
inline void tracked_block_resource::give_back(index r, request const& block) noexcept {
    frame const f{block.bytes, block.alignment};
    block_bytes_held_ -= f.bytes;
    records_.put(r);
    auto* const memory = as_bytes(const_cast<void*>(block.address)) - f.alignment;
    detail::return_carved(upstream_, memory, f.bytes, f.alignment);
}

// Frees a block from upstream where nothing is wrong. Returns: whether it did.
inline bool tracked_block_resource::free_sound(void* p, std::size_t bytes,
                                               std::size_t alignment) noexcept {
    auto const start = starts_.find(p);
    if (!start) [[unlikely]]
        return false;
    detail::guard const header = detail::guard_before(p);
    std::uint64_t const r = detail::index_in(header);
    if (!records_.holds(r, p) || !detail::is_intact({p, bytes, alignment, r}, header)) [[unlikely]]
        return false;
    request const block{p, bytes, alignment};
    start.clear();
    leave(static_cast<index>(r), block);
    give_back(static_cast<index>(r), block);
    return true;
}

void tracked_block_resource::do_deallocate(void* p, std::size_t bytes, std::size_t alignment) {
    if (p == nullptr || free_sound(p, bytes, alignment))
        return;
    if (auto const wrong = deallocate_slow(p, bytes, alignment))
        report(*wrong, p, bytes, alignment);
}

std::optional<misuse_kind> tracked_block_resource::do_try_deallocate(void* p, std::size_t bytes,
                                                                     std::size_t alignment) {
    return free_sound(p, bytes, alignment) ? std::nullopt : deallocate_slow(p, bytes, alignment);
}

// Blocks from the reserve, damaged ones, and wrong calls.
std::optional<misuse_kind> tracked_block_resource::deallocate_slow(void* p, std::size_t bytes,
                                                                   std::size_t alignment) {
    index const r = find(p);
    auto const wrong = r != record_list::none ? judge(r, bytes, alignment) : why_unknown(p);
    if (wrong) {
        ++totals_.misuses[static_cast<std::size_t>(*wrong)];
        if (log_ != nullptr)
            std::fprintf(log_, "deallocate %p, %zu bytes, alignment %zu: %s\n", p, bytes, alignment,
                         to_string(*wrong));
    }
    if (!wrong)
        retire(r);
    else if (is_damage(*wrong))
        retire_damaged(r, *wrong);
    return wrong;
}

// Both, and out of all other books, for a block from anywhere.
void tracked_block_resource::retire(index r) noexcept {
    request const block = request_of(r);
    leave(r, block);
    if (record_list::is_reserved(r)) {
        auto* const start = as_bytes(const_cast<void*>(block.address));
        reserve_.unmark(start);
        reserve_.put(start - guard_bytes, reserved_bytes(block.bytes));
        reserve_.put(records_.room_of(r), record_list::record_bytes);
        return;
    }
    starts_.erase(block.address);
    give_back(r, block);
}

// The same of a block that judge found damaged. Upstream may find damage in what it gets back, too:
// what it notes must not take the place of what is to be reported of this one.
void tracked_block_resource::retire_damaged(index r, misuse_kind damage) noexcept {
    void const* const p = records_.address_of(r);
    auto const words = detail::take_note(damage, p);
    retire(r);
    if (words)
        detail::begin_note(damage, p) = *words;
}

// --- what is wrong with a call ---

// Returns: the record of the live block that begins at p; none where there is none.
// Complexity: O(1), O(live blocks) where the block's header is damaged.
tracked_block_resource::index tracked_block_resource::find(void const* p) const noexcept {
    if (!starts_.find(p) && !reserve_.is_marked(p))
        return record_list::none;
    std::uint64_t const i = detail::index_in(detail::guard_before(p));
    if (records_.holds(i, p) || records_.holds_reserved(i, p))
        return static_cast<index>(i);
    index r = records_.first();
    while (records_.address_of(r) != p)
        r = records_.next(r);
    return r;
}

// Returns: the live block whose memory p lies in, guards included; none where there is none.
tracked_block_resource::index tracked_block_resource::covering(void const* p) const noexcept {
    index r = records_.first();
    for (; r != record_list::none; r = records_.next(r)) {
        request const of = request_of(r);
        std::size_t const before =
            record_list::is_reserved(r) ? guard_bytes : frame{of.bytes, of.alignment}.alignment;
        if (offset_between(of.address, p) + before < before + of.bytes + guard_bytes)
            break;
    }
    return r;
}

std::optional<misuse_kind> tracked_block_resource::do_diagnose(void const* p, std::size_t bytes,
                                                               std::size_t alignment) const {
    index const r = find(p);
    return r != record_list::none ? judge(r, bytes, alignment) : why_unknown(p);
}

// --- the rest of the interface ---

bool tracked_block_resource::do_try_resize(void*, std::size_t old_bytes, std::size_t new_bytes,
                                           std::size_t) {
    return old_bytes == new_bytes;
}

bool tracked_block_resource::do_owns(void const* p) const {
    return reserve_.contains(p) || starts_.find(p) || covering(p) != record_list::none;
}

// Should the handler throw, the rest is as before.
void tracked_block_resource::do_release() {
    while (records_.first() != record_list::none)
        release_oldest();
    do_trim();
    peak_live_bytes_ = 0;
    totals_ = {};
    freed_count_ = 0;
}

// Reports a damaged block as deallocate would, once it is gone.
void tracked_block_resource::release_oldest() {
    index const r = records_.first();
    request const gone = request_of(r);
    auto const damage = judge(r, gone.bytes, gone.alignment);
    if (!damage)
        return retire(r);
    retire_damaged(r, *damage);
    ++totals_.misuses[static_cast<std::size_t>(*damage)];
    report(*damage, gone.address, gone.bytes, gone.alignment);
}

std::size_t tracked_block_resource::do_trim() {
    if (live_blocks() != reserve_.marks())
        return 0;
    std::size_t const before = records_.held_bytes() + starts_.held_bytes();
    starts_.clear();
    records_.clear();
    return before;
}

statistics tracked_block_resource::do_stats() const {
    statistics s;
    s.live_blocks = live_blocks();
    s.live_bytes = live_bytes_;
    s.requested_bytes = live_bytes_;
    s.peak_live_bytes = peak_live_bytes_;
    s.footprint_bytes = block_bytes_held_ + records_.held_bytes() + starts_.held_bytes() +
                        reserve_.held_bytes(); // I5
    std::size_t longest = 0;
    reserve_.visit_free([&](void const*, std::size_t bytes) {
        ++s.free_blocks;
        s.free_bytes += bytes;
        longest = std::max(longest, bytes);
    });
    constexpr std::size_t cost = reserved_bytes(0) + record_list::record_bytes;
    s.largest_free_bytes = longest - std::min(longest, cost);
    s.overhead_bytes = s.footprint_bytes - s.live_bytes - s.free_bytes;
    return s;
}

void tracked_block_resource::do_visit_blocks(block_visitor f) const {
    walk([&](tracked_block const& b) { f({b.address, b.bytes, true}); });
    reserve_.visit_free([&](void const* p, std::size_t bytes) { f({p, bytes, false}); });
}

tracked_block tracked_block_resource::block_of(index r) const noexcept {
    auto const& known = records_.facts_of(r);
    auto const stack = records_.stack_of(r);
    auto const frames =
        static_cast<std::size_t>(std::find(stack.begin(), stack.end(), nullptr) - stack.begin());
    return {records_.address_of(r), known.bytes, known.alignment,
            known.sequence,         known.label, record_list::is_reserved(r),
            stack.first(frames)};
}

void tracked_block_resource::walk(tracked_block_visitor f) const {
    for (index r = records_.first(); r != record_list::none; r = records_.next(r))
        f(block_of(r));
}

// --- invariants ---

namespace {

bool violated(char const* what, void const* where) {
    std::fprintf(stderr, "strata: tracked_block_resource: %s at %p\n", what, where);
    return false;
}

} // namespace

bool tracked_block_resource::check_record(index r) const {
    request const of = request_of(r);
    bool const in_set = static_cast<bool>(starts_.find(of.address));
    if (record_list::is_reserved(r) ? in_set || !reserve_.is_marked(of.address) : !in_set)
        return violated("a live block's start is not where starts are kept", of.address); // I2
    if (!detail::is_aligned(of.address, of.alignment))
        return violated("misaligned block", of.address);
    if (auto const damage = damage_of(r)) // I3
        return violated(to_string(*damage), of.address);
    return true;
}

bool tracked_block_resource::do_check_invariants() const {
    if (!records_.check_invariants() || !starts_.check_invariants() || !reserve_.check_invariants())
        return false;
    std::size_t blocks = 0;
    std::size_t bytes = 0;
    std::size_t in_frames = 0;
    std::size_t marks = 0;
    std::size_t in_reserve = 0;
    for (index r = records_.first(); r != record_list::none; r = records_.next(r), ++blocks) {
        if (!check_record(r))
            return false;
        request const of = request_of(r);
        bytes += of.bytes;
        if (record_list::is_reserved(r)) {
            ++marks;
            in_reserve +=
                detail::align_up(reserved_bytes(of.bytes), 16) + record_list::record_bytes;
        } else {
            in_frames += frame{of.bytes, of.alignment}.bytes;
        }
    }
    if (blocks != live_blocks() || bytes != live_bytes_ || in_frames != block_bytes_held_)
        return violated("list and counts differ", this);
    if (starts_.size() != blocks - marks || reserve_.marks() != marks)
        return violated("a start is lost", this);
    if (live_bytes_ > budget_bytes_ || live_bytes_ > peak_live_bytes_) // I4
        return violated("live bytes above budget or peak", this);
    reserve_.visit_free([&](void const*, std::size_t free) { in_reserve += free; });
    return in_reserve == reserve_.bytes() ||
           violated("live and free do not fill the reserve", this);
}

} // namespace strata
