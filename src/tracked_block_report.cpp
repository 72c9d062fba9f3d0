// SPDX-License-Identifier: BSL-1.0
#include <strata/tracked_block_resource.hpp>

#include <algorithm>
#include <map>
#include <ostream>
#include <string_view>
#include <tuple>
#include <vector>

#include <strata/detail/call_stack.hpp>

namespace strata {

namespace {

constexpr std::size_t most_groups = 20;

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

} // namespace strata
