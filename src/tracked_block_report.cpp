// SPDX-License-Identifier: BSL-1.0
#include <strata/tracked_block_resource.hpp>

#include <algorithm>
#include <map>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <strata/detail/call_stack.hpp>
#include <strata/detail/guards.hpp>
#include <strata/detail/note.hpp>

namespace strata {

namespace {

constexpr std::size_t most_groups = 20;
constexpr std::size_t most_leak_reports = 1000;

// Live blocks that are alike.
struct group {
    tracked_block first; // the oldest
    std::size_t blocks = 0;
    [[nodiscard]] std::size_t bytes() const noexcept { return blocks * first.bytes; }
};

std::string_view label_of(tracked_block const& b) noexcept {
    return b.label != nullptr ? b.label : "";
}

// Of size, label and call stack.
struct differs {
    bool operator()(tracked_block const& a, tracked_block const& b) const {
        auto const known = [](tracked_block const& of) {
            return std::tuple{of.bytes, label_of(of)};
        };
        if (known(a) != known(b))
            return known(a) < known(b);
        return std::ranges::lexicographical_compare(a.call_stack, b.call_stack, std::less{});
    }
};

// Most bytes first, then the oldest.
std::vector<group> groups_of(tracked_block_resource const& tracked) {
    std::map<tracked_block, std::size_t, differs> blocks;
    tracked.visit_records([&](tracked_block const& b) { ++blocks[b]; });
    std::vector<group> groups;
    for (auto const& [first, count] : blocks)
        groups.push_back({first, count});
    std::ranges::sort(groups, [](group const& a, group const& b) {
        return std::tuple{b.bytes(), a.first.sequence} < std::tuple{a.bytes(), b.first.sequence};
    });
    return groups;
}

void print(std::ostream& out, group const& g) {
    out << "  " << g.bytes() << " bytes in " << g.blocks << " x " << g.first.bytes;
    if (!label_of(g.first).empty())
        out << ", label \"" << label_of(g.first) << '"';
    out << ", first: allocation " << g.first.sequence << " at " << g.first.address << '\n';
    for (void const* const address : g.first.call_stack)
        out << "      " << detail::describe_frame(address) << '\n';
}

void print_totals(std::ostream& out, tracked_block_totals const& totals) {
    out << "so far: " << totals.allocations << " allocations, " << totals.bytes
        << " bytes; by size:";
    for (std::size_t i = 0; i < totals.by_size_log2.size(); ++i)
        if (totals.by_size_log2[i] != 0)
            out << " <=" << (std::uint64_t{1} << i) << ": " << totals.by_size_log2[i];
    out << '\n';
    for (std::size_t i = 0; i < totals.misuses.size(); ++i)
        if (totals.misuses[i] != 0)
            out << "found wrong: " << to_string(static_cast<misuse_kind>(i)) << ", "
                << totals.misuses[i] << '\n';
}

} // namespace

// --- what is live ---

std::ostream& operator<<(std::ostream& out, tracked_block_resource const& tracked) {
    statistics const s = tracked.stats();
    tracked_block_totals const totals = tracked.totals();
    out << tracked.name() << " live: " << s.live_blocks << " blocks, " << s.live_bytes
        << " bytes; peak: " << totals.peak_live_blocks << " blocks, " << s.peak_live_bytes
        << " bytes\n";
    std::vector<group> const groups = groups_of(tracked);
    std::size_t const shown = std::min(groups.size(), most_groups);
    std::for_each_n(groups.begin(), shown, [&](group const& g) { print(out, g); });
    if (shown != groups.size())
        out << "  and " << groups.size() - shown << " smaller groups\n";
    print_totals(out, totals);
    if (groups.empty())
        return out;
    std::uint64_t const sequence = groups.front().first.sequence;
    out << "hint: run again with fail_after(" << sequence - 1 << "): allocation " << sequence
        << " then throws where it is made";
    if (tracked.options().call_stacks == 0)
        out << "; or set call_stacks to see who made it";
    return out << '\n';
}

// --- what is wrong with a call ---

// Where a block comes from, for a report.
void tracked_block_resource::add_origin(detail::note& words, index r) const noexcept {
    auto const& known = records_.facts_of(r);
    words.add("allocation %ju", std::uintmax_t{known.sequence});
    if (known.label != nullptr)
        words.add(", label \"%s\"", known.label);
}

std::optional<misuse_kind> tracked_block_resource::damage_of(index r) const noexcept {
    request const of = request_of(r);
    return detail::damage_of({of.address, of.bytes, of.alignment, r});
}

// Returns: what is wrong with freeing this block with these arguments.
std::optional<misuse_kind> tracked_block_resource::judge(index r, std::size_t bytes,
                                                         std::size_t alignment) const noexcept {
    request const of = request_of(r);
    if (of.bytes == bytes && of.alignment == alignment) {
        auto const damage = damage_of(r);
        if (damage) {
            detail::note& words = detail::begin_note(*damage, of.address);
            detail::describe_damage(words, *damage, {of.address, of.bytes, of.alignment, r});
            words.add("; ");
            add_origin(words, r);
        }
        return damage;
    }
    misuse_kind const wrong =
        of.bytes != bytes ? misuse_kind::size_mismatch : misuse_kind::alignment_mismatch;
    detail::note& words = detail::begin_note(wrong, of.address);
    words.add("it was %zu bytes, alignment %zu; ", of.bytes, of.alignment);
    add_origin(words, r);
    return wrong;
}

// Requires: no live block begins at p.
misuse_kind tracked_block_resource::why_unknown(void const* p) const noexcept {
    if (index const r = covering(p); r != detail::record_list::none) {
        request const of = request_of(r);
        bool const is_inside = detail::offset_between(of.address, p) < of.bytes;
        misuse_kind const wrong =
            is_inside ? misuse_kind::misaligned_pointer : misuse_kind::foreign_pointer;
        detail::note& words = detail::begin_note(wrong, p);
        words.add("it is in %sthe block of %zu bytes at %p; ", is_inside ? "" : "a guard of ",
                  of.bytes, of.address);
        add_origin(words, r);
        return wrong;
    }
    if (reserve_.is_free(p))
        return detail::is_aligned(p, detail::reserve_region::granule)
                   ? misuse_kind::double_free
                   : misuse_kind::misaligned_pointer;
    auto const known = std::min<std::uint64_t>(freed_count_, freed_.size());
    auto const* const end = freed_.data() + known;
    return std::find(freed_.data(), end, p) != end ? misuse_kind::double_free
                                                   : misuse_kind::foreign_pointer;
}

// --- leaks ---

// Blocks are released one by one, each before the next is looked for: a handler may free what it
// hears of.
void tracked_block_resource::report_leaks() noexcept {
    auto const swallow = [](auto const& call) {
        try {
            call();
        } catch (...) { // it has nowhere to go from a destructor
        }
    };
    bool is_reported = false;
    swallow([&] { is_reported = report_leaks_as_one(); });
    if (is_reported)
        return;
    for (std::size_t n = 0; live_blocks() != 0 && n != most_leak_reports; ++n) {
        index const r = records_.first();
        tracked_block const leaked = block_of(r);
        add_origin(detail::begin_note(misuse_kind::leak, leaked.address), r);
        swallow([&] { report(misuse_kind::leak, leaked.address, leaked.bytes, leaked.alignment); });
        if (live_blocks() != 0 && block_of(records_.first()).sequence == leaked.sequence)
            swallow([&] { release_oldest(); });
    }
    if (live_blocks() != 0)
        swallow([&] { report(misuse_kind::leak, nullptr, live_bytes_, 1); });
}

// For people to read, where they do. Returns: whether it was one of their handlers.
bool tracked_block_resource::report_leaks_as_one() {
    misuse_handler const handler = get_misuse_handler();
    if (handler != &report_misuse && handler != &abort_on_misuse)
        return false;
    std::ostringstream text;
    text << '\n' << *this;
    std::string groups = std::move(text).str();
    groups.pop_back(); // the handler ends its line
    tracked_block const oldest = block_of(records_.first());
    handler(
        {misuse_kind::leak, this, oldest.address, live_bytes_, oldest.alignment, groups.c_str()});
    return true;
}

} // namespace strata
