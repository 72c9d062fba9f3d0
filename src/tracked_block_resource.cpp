// SPDX-License-Identifier: BSL-1.0
#include <strata/tracked_block_resource.hpp>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <limits>
#include <utility>

#include <strata/detail/call_stack.hpp>
#include <strata/detail/return_upstream.hpp>

namespace strata {

using detail::address_of;
using detail::as_bytes;
using detail::offset_between;

/// What is known of a block; apart from the block, so that nothing its user does can damage it.
struct tracked_block_resource::record {
    record* next; // youngest: null. Of a spare record: the next spare one
    record* prev; // oldest: null
    std::byte* address;
    std::size_t bytes;
    std::uint64_t sequence;
    char const* label;
    std::size_t alignment;
    void const** call_stack; // room for call_stacks_ addresses and a null; null: there is no room
};

/// Records from upstream:  segment │ record │ record │ … │ call stack │ call stack │ …
struct alignas(64) tracked_block_resource::segment {
    segment* next;
    std::size_t records;
};

namespace {

constexpr std::size_t guard_bytes = 16;    // behind a block
constexpr std::size_t header_bytes = 16;   // before it
constexpr std::size_t first_records = 15;  // with the segment's own 64 bytes: 1 KiB
constexpr std::size_t most_records = 1023; // 64 KiB
constexpr std::size_t most_call_stacks = 64;
constexpr std::size_t most_leak_reports = 1000;

// What is asked of upstream for one block.
struct frame {
    frame(std::size_t block_bytes, std::size_t block_alignment) noexcept
        : alignment{std::max(block_alignment, header_bytes)},
          bytes{alignment + block_bytes + guard_bytes} {}

    std::size_t alignment; // also the distance from the frame's begin to the block's
    std::size_t bytes;
};

// What guards a block, before it and behind. No byte of it is 0, 0xff or text, so that no usual
// stray write goes unseen; and it belongs to one block, so that a copy of too many bytes, guard
// included, is seen, too.
std::uint64_t guard_word(void const* block, void const* record) noexcept {
    // Turned, since blocks and records often lie at equal distances, and would cancel out.
    std::uint64_t const both = address_of(block) ^ std::rotl(std::uint64_t{address_of(record)}, 32);
    std::uint64_t mixed = both * 0x9e3779b97f4a7c15u; // the golden ratio's bits
    mixed ^= mixed >> 32;
    return (mixed & 0x3e3e3e3e3e3e3e3eu) | 0x8181818181818181u;
}

// The last bytes before a block.
struct header {
    void* record;
    std::uint64_t check; // over the above, and the block's address
};
static_assert(sizeof(header) == header_bytes);

using guard = std::array<std::uint64_t, 2>;
static_assert(sizeof(guard) == guard_bytes);

void write_guards(std::byte* block, std::size_t bytes, void* record) noexcept {
    std::uint64_t const word = guard_word(block, record);
    header const before{record, word};
    guard const behind{word, word};
    std::memcpy(block - header_bytes, &before, sizeof before);
    std::memcpy(block + bytes, &behind, sizeof behind);
}

template <class Record>
bool end_is_intact(Record const& r) noexcept {
    guard seen;
    std::memcpy(&seen, r.address + r.bytes, sizeof seen);
    std::uint64_t const word = guard_word(r.address, &r);
    return ((seen[0] ^ word) | (seen[1] ^ word)) == 0;
}

// Requires: a live block begins at p. Returns: what its header says, null where it is damaged.
template <class Record>
Record* sealed_record(void const* p) noexcept {
    header seen;
    std::memcpy(&seen, as_bytes(p) - header_bytes, sizeof seen);
    if (seen.check != guard_word(p, seen.record))
        return nullptr;
    auto* const r = static_cast<Record*>(seen.record);
    return r->address == p ? r : nullptr;
}

// Returns: how a block was damaged, if it was.
template <class Record>
std::optional<misuse_kind> damage_of(Record const& r) noexcept {
    if (sealed_record<Record>(r.address) != &r)
        return misuse_kind::underrun;
    if (!end_is_intact(r))
        return misuse_kind::overrun;
    return std::nullopt;
}

// Returns: what is wrong with freeing this block with these arguments.
template <class Record>
std::optional<misuse_kind> judge(Record const& r, std::size_t bytes,
                                 std::size_t alignment) noexcept {
    if (r.bytes != bytes)
        return misuse_kind::size_mismatch;
    if (r.alignment != alignment)
        return misuse_kind::alignment_mismatch;
    return damage_of(r);
}

bool is_damage(misuse_kind wrong) noexcept {
    return wrong == misuse_kind::overrun || wrong == misuse_kind::underrun;
}

std::size_t size_log2(std::size_t bytes) noexcept {
    return static_cast<std::size_t>(std::bit_width(bytes - (bytes != 0 ? 1 : 0)));
}

} // namespace

tracked_block_resource::tracked_block_resource(tracked_block_options const& options,
                                               std::pmr::memory_resource* upstream)
    : upstream_{upstream != nullptr ? upstream : std::pmr::new_delete_resource()},
      starts_{upstream_},
      budget_bytes_{options.budget_bytes != 0 ? options.budget_bytes : unlimited},
      call_stacks_{std::min(options.call_stacks, most_call_stacks)},
      report_leaks_{options.report_leaks},
      reserve_{options.reserve_bytes, upstream_} {}

tracked_block_resource::~tracked_block_resource() {
    if (report_leaks_)
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
    return {budget_bytes_, reserve_.bytes(), report_leaks_, call_stacks_};
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

void* tracked_block_resource::do_allocate(std::size_t bytes, std::size_t alignment) {
    if (!fits(bytes, alignment) || allocations_left_ == 0) [[unlikely]]
        refuse(bytes, alignment);
    record* r = nullptr;
    try {
        frame const f{bytes, alignment};
        std::byte* const block = as_bytes(upstream_->allocate(f.bytes, f.alignment)) + f.alignment;
        if (spare_ == nullptr || !starts_.insert_where_room(block)) [[unlikely]]
            make_room(block, bytes, alignment);
        held_bytes_ += f.bytes;
        r = std::exchange(spare_, spare_->next);
        r->address = block;
    } catch (std::bad_alloc const&) {
        r = from_reserve(bytes, alignment);
        if (r == nullptr)
            throw;
    }
    enter(*r, bytes, alignment);
    return r->address;
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
    if (fits(bytes, alignment))
        ++injected_failures_;
    throw std::bad_alloc{};
}

// Makes sure that there is a spare record, and notes the block's start. Gives the block back to
// upstream, and all else that it took, when upstream throws.
void tracked_block_resource::make_room(std::byte* block, std::size_t bytes, std::size_t alignment) {
    bool const grows = spare_ == nullptr;
    try {
        if (grows)
            add_segment();
        starts_.insert(block);
    } catch (...) {
        if (grows && spare_ != nullptr)
            drop_segment();
        frame const f{bytes, alignment};
        detail::return_upstream(upstream_, block - f.alignment, f.bytes, f.alignment);
        throw;
    }
}

// The same without upstream: the block from the low end of the reserve, its record from the high
// end, out of reach of what users overrun.
tracked_block_resource::record*
tracked_block_resource::from_reserve(std::size_t bytes, std::size_t alignment) noexcept {
    std::size_t const frame_bytes = header_bytes + bytes + guard_bytes;
    void* const memory = reserve_.take_low(frame_bytes, alignment, header_bytes);
    if (memory == nullptr)
        return nullptr;
    void* const room = reserve_.take_high(sizeof(record));
    if (room == nullptr) {
        reserve_.put(memory, frame_bytes);
        return nullptr;
    }
    auto* const r = ::new (room) record{};
    r->address = as_bytes(memory) + header_bytes;
    reserve_.mark(r->address);
    return r;
}

void tracked_block_resource::enter(record& r, std::size_t bytes, std::size_t alignment) noexcept {
    r.bytes = bytes;
    r.sequence = ++totals_.allocations;
    r.label = label_;
    r.alignment = alignment;
    write_guards(r.address, bytes, &r);
    if (r.call_stack != nullptr) [[unlikely]]
        detail::capture_call_stack({r.call_stack, call_stacks_ + 1});

    r.next = nullptr;
    r.prev = tail_;
    (tail_ != nullptr ? tail_->next : head_) = &r;
    tail_ = &r;

    live_bytes_ += bytes;
    peak_live_bytes_ = std::max(peak_live_bytes_, live_bytes_);
    totals_.bytes += bytes;
    ++totals_.by_size_log2[size_log2(bytes)];
    if (allocations_left_ != unlimited)
        --allocations_left_;
}

std::size_t tracked_block_resource::segment_bytes(std::size_t records) const noexcept {
    std::size_t const stack_bytes = call_stacks_ != 0 ? (call_stacks_ + 1) * sizeof(void*) : 0;
    return sizeof(segment) + records * (sizeof(record) + stack_bytes);
}

// Requires: no record is spare.
void tracked_block_resource::add_segment() {
    static_assert(sizeof(void*) != 8 || sizeof(record) == sizeof(segment),
                  "a record shares its cache line with no other");
    std::size_t const records =
        segments_ != nullptr ? std::min(2 * segments_->records + 1, most_records) : first_records;
    void* const memory = upstream_->allocate(segment_bytes(records), alignof(segment));
    held_bytes_ += segment_bytes(records);
    segments_ = ::new (memory) segment{segments_, records};

    std::byte* const first = as_bytes(memory) + sizeof(segment);
    std::byte* const stacks = first + records * sizeof(record);
    std::size_t const stack_bytes = (call_stacks_ + 1) * sizeof(void*);
    for (std::size_t i = records; i-- > 0;) { // so that they are taken in address order
        void const** room = nullptr;
        if (call_stacks_ != 0)
            room = ::new (stacks + i * stack_bytes) void const* {nullptr};
        spare_ = ::new (first + i * sizeof(record)) record{spare_, {}, {}, {}, {}, {}, {}, room};
    }
}

// Requires: no record of the latest segment is in use, and those of all others are.
void tracked_block_resource::drop_segment() noexcept {
    spare_ = nullptr;
    segment* const s = std::exchange(segments_, segments_->next);
    held_bytes_ -= segment_bytes(s->records);
    detail::return_upstream(upstream_, s, segment_bytes(s->records), alignof(segment));
}

// --- deallocate ---

std::optional<misuse_kind> tracked_block_resource::do_try_deallocate(void* p, std::size_t bytes,
                                                                     std::size_t alignment) {
    if (auto const start = starts_.find(p)) [[likely]] {
        record* const r = sealed_record<record>(p);
        if (r != nullptr && r->bytes == bytes && r->alignment == alignment && end_is_intact(*r))
            [[likely]] {
            start.clear();
            leave(*r);
            give_back(*r);
            return std::nullopt;
        }
    }
    return deallocate_slow(p, bytes, alignment);
}

// Blocks from the reserve, damaged ones, and wrong calls.
std::optional<misuse_kind> tracked_block_resource::deallocate_slow(void* p, std::size_t bytes,
                                                                   std::size_t alignment) {
    record* const r = find(p);
    if (r == nullptr)
        return why_unknown(p);
    auto const wrong = judge(*r, bytes, alignment);
    if (wrong && !is_damage(*wrong))
        return wrong;
    retire(*r);
    return wrong;
}

// Takes a live block out of all books and gives its memory back.
void tracked_block_resource::retire(record& r) noexcept {
    leave(r);
    if (reserve_.contains(r.address)) {
        std::size_t const frame_bytes = header_bytes + r.bytes + guard_bytes;
        reserve_.unmark(r.address);
        reserve_.put(r.address - header_bytes, frame_bytes);
        reserve_.put(&r, sizeof r);
        return;
    }
    starts_.erase(r.address);
    give_back(r);
}

// Takes a live block out of the list and the counts.
void tracked_block_resource::leave(record& r) noexcept {
    (r.prev != nullptr ? r.prev->next : head_) = r.next;
    (r.next != nullptr ? r.next->prev : tail_) = r.prev;
    live_bytes_ -= r.bytes;
    freed_[freed_count_++ % freed_.size()] = r.address;
}

// Makes the record spare and gives the block back to upstream.
void tracked_block_resource::give_back(record& r) noexcept {
    frame const f{r.bytes, r.alignment};
    held_bytes_ -= f.bytes;
    r.next = std::exchange(spare_, &r);
    detail::return_upstream(upstream_, r.address - f.alignment, f.bytes, f.alignment);
}

// Returns: the record of the live block that begins at p; null where there is none.
// Complexity: O(1), O(live blocks) where the block's header is damaged.
tracked_block_resource::record* tracked_block_resource::find(void const* p) const noexcept {
    if (!starts_.find(p) && !reserve_.is_marked(p))
        return nullptr;
    record* r = sealed_record<record>(p);
    if (r == nullptr)
        for (r = head_; r->address != p;)
            r = r->next;
    return r;
}

// Returns: the live block whose memory p lies in, guards included; null where there is none.
tracked_block_resource::record const*
tracked_block_resource::covering(void const* p) const noexcept {
    for (record const* r = head_; r != nullptr; r = r->next) {
        std::size_t const before =
            reserve_.contains(r->address) ? header_bytes : frame{r->bytes, r->alignment}.alignment;
        if (offset_between(r->address - before, p) < before + r->bytes + guard_bytes)
            return r;
    }
    return nullptr;
}

// Requires: no live block begins at p.
misuse_kind tracked_block_resource::why_unknown(void const* p) const noexcept {
    if (record const* const r = covering(p))
        return offset_between(r->address, p) < r->bytes ? misuse_kind::misaligned_pointer
                                                        : misuse_kind::foreign_pointer;
    if (reserve_.is_free(p))
        return detail::is_aligned(p, detail::reserve_region::granule)
                   ? misuse_kind::double_free
                   : misuse_kind::misaligned_pointer;
    auto const known = std::min<std::uint64_t>(freed_count_, freed_.size());
    auto const* const end = freed_.data() + known;
    return std::find(freed_.data(), end, p) != end ? misuse_kind::double_free
                                                   : misuse_kind::foreign_pointer;
}

std::optional<misuse_kind> tracked_block_resource::do_diagnose(void const* p, std::size_t bytes,
                                                               std::size_t alignment) const {
    record const* const r = find(p);
    return r != nullptr ? judge(*r, bytes, alignment) : why_unknown(p);
}

// --- the rest of the interface ---

bool tracked_block_resource::do_try_resize(void*, std::size_t old_bytes, std::size_t new_bytes,
                                           std::size_t) {
    return old_bytes == new_bytes;
}

bool tracked_block_resource::do_owns(void const* p) const {
    return reserve_.contains(p) || starts_.find(p) || covering(p) != nullptr;
}

// Should the handler throw, the rest is as before.
void tracked_block_resource::do_release() {
    while (head_ != nullptr)
        release_oldest();
    do_trim();
    peak_live_bytes_ = 0;
    totals_ = {};
    freed_count_ = 0;
}

// Reports a damaged block as deallocate would, once it is gone.
void tracked_block_resource::release_oldest() {
    record const gone = *head_;
    auto const damage = damage_of(*head_);
    retire(*head_);
    if (damage)
        report(*damage, gone.address, gone.bytes, gone.alignment);
}

std::size_t tracked_block_resource::do_trim() {
    if (live_blocks() != reserve_.marks())
        return 0;
    std::size_t const before = held_bytes_ + starts_.held_bytes();
    starts_.clear();
    while (segments_ != nullptr)
        drop_segment();
    return before;
}

statistics tracked_block_resource::do_stats() const {
    statistics s;
    s.live_blocks = live_blocks();
    s.live_bytes = live_bytes_;
    s.requested_bytes = live_bytes_;
    s.peak_live_bytes = peak_live_bytes_;
    s.footprint_bytes = held_bytes_ + starts_.held_bytes() + reserve_.held_bytes();
    std::size_t longest = 0;
    reserve_.visit_free([&](void const*, std::size_t bytes) {
        ++s.free_blocks;
        s.free_bytes += bytes;
        longest = std::max(longest, bytes);
    });
    constexpr std::size_t cost = header_bytes + guard_bytes + sizeof(record);
    s.largest_free_bytes = longest - std::min(longest, cost);
    s.overhead_bytes = s.footprint_bytes - s.live_bytes - s.free_bytes;
    return s;
}

void tracked_block_resource::do_visit_blocks(block_visitor f) const {
    for (record const* r = head_; r != nullptr; r = r->next)
        f({r->address, r->bytes, true});
    reserve_.visit_free([&](void const* p, std::size_t bytes) { f({p, bytes, false}); });
}

void tracked_block_resource::walk(tracked_block_visitor f) const {
    for (record const* r = head_; r != nullptr; r = r->next) {
        std::size_t frames = 0;
        while (r->call_stack != nullptr && r->call_stack[frames] != nullptr)
            ++frames;
        f({r->address,
           r->bytes,
           r->alignment,
           r->sequence,
           r->label,
           reserve_.contains(r->address),
           {r->call_stack, frames}});
    }
}

// Each is released before the next is looked for: a handler may free what it hears of.
void tracked_block_resource::report_leaks() noexcept {
    auto const swallow = [](auto const& call) {
        try {
            call();
        } catch (...) { // it has nowhere to go from a destructor
        }
    };
    for (std::size_t n = 0; head_ != nullptr && n != most_leak_reports; ++n) {
        record const leaked = *head_;
        swallow([&] { report(misuse_kind::leak, leaked.address, leaked.bytes, leaked.alignment); });
        if (head_ != nullptr && head_->sequence == leaked.sequence)
            swallow([&] { release_oldest(); });
    }
    if (head_ != nullptr)
        swallow([&] { report(misuse_kind::leak, nullptr, live_bytes_, 1); });
}

// --- invariants ---

namespace {

bool violated(char const* what, void const* where) {
    std::fprintf(stderr, "strata: tracked_block_resource: %s at %p\n", what, where);
    return false;
}

} // namespace

bool tracked_block_resource::check_record(record const& r) const {
    bool const in_set = static_cast<bool>(starts_.find(r.address));
    if (reserve_.contains(r.address) ? in_set || !reserve_.is_marked(r.address) : !in_set)
        return violated("a live block's start is not where starts are kept", r.address); // I2
    if (!detail::is_aligned(r.address, r.alignment))
        return violated("misaligned block", r.address);
    if (auto const damage = damage_of(r)) // I3
        return violated(to_string(*damage), r.address);
    return true;
}

// I1, and the counts.
bool tracked_block_resource::check_list() const {
    std::size_t blocks = 0;
    std::size_t bytes = 0;
    std::size_t held = 0;
    std::size_t in_reserve = 0;
    record const* before = nullptr;
    for (record const* r = head_; r != nullptr; before = r, r = r->next) {
        if (r->prev != before || (before != nullptr && before->sequence >= r->sequence))
            return violated("broken list", r->address);
        if (!check_record(*r))
            return false;
        ++blocks;
        bytes += r->bytes;
        bool const is_reserved = reserve_.contains(r->address);
        in_reserve += is_reserved ? 1u : 0u;
        held += is_reserved ? 0 : frame{r->bytes, r->alignment}.bytes;
    }
    std::size_t spare = 0;
    for (record const* r = spare_; r != nullptr; r = r->next)
        ++spare;
    for (segment const* s = segments_; s != nullptr; s = s->next) {
        held += segment_bytes(s->records);
        spare -= s->records;
    }
    if (before != tail_ || blocks != live_blocks() || bytes != live_bytes_ || held != held_bytes_)
        return violated("list and counts differ", this);
    if (blocks - in_reserve + spare != 0 || starts_.size() != blocks - in_reserve ||
        reserve_.marks() != in_reserve)
        return violated("a record or a start is lost", this);
    return true;
}

bool tracked_block_resource::do_check_invariants() const {
    if (!starts_.check_invariants() || !reserve_.check_invariants() || !check_list())
        return false;
    if (live_bytes_ > budget_bytes_ || live_bytes_ > peak_live_bytes_) // I4
        return violated("live bytes above budget or peak", this);
    std::size_t in_reserve = 0;
    for (record const* r = head_; r != nullptr; r = r->next)
        if (reserve_.contains(r->address))
            in_reserve += detail::align_up(header_bytes + r->bytes + guard_bytes, 16) + sizeof *r;
    reserve_.visit_free([&](void const*, std::size_t bytes) { in_reserve += bytes; });
    if (in_reserve != reserve_.bytes())
        return violated("live and free do not fill the reserve", this);
    return true;
}

} // namespace strata
