// SPDX-License-Identifier: BSL-1.0
#include <strata/tracked_block_resource.hpp>

#include <algorithm>
#include <ostream>
#include <string_view>
#include <vector>

#include <strata/detail/call_stack.hpp>

namespace strata {

namespace {

constexpr std::size_t most_groups = 20;

// Live blocks of one label and one size.
struct group {
    tracked_block first; // the oldest
    std::size_t blocks = 0;

    [[nodiscard]] std::string_view label() const noexcept {
        return first.label != nullptr ? first.label : "";
    }
    [[nodiscard]] std::size_t bytes() const noexcept { return blocks * first.bytes; }
};

std::vector<group> groups_of(tracked_block_resource const& tracked) {
    std::vector<group> blocks; // one each, to begin with
    tracked.visit_records([&](tracked_block const& b) { blocks.push_back({b, 1}); });
    std::stable_sort(blocks.begin(), blocks.end(), [](group const& a, group const& b) {
        return std::pair{a.label(), a.first.bytes} < std::pair{b.label(), b.first.bytes};
    });
    std::vector<group> groups;
    for (group const& b : blocks) {
        if (groups.empty() || groups.back().label() != b.label() ||
            groups.back().first.bytes != b.first.bytes)
            groups.push_back({b.first, 0});
        ++groups.back().blocks;
    }
    std::stable_sort(groups.begin(), groups.end(),
                     [](group const& a, group const& b) { return a.bytes() > b.bytes(); });
    return groups;
}

void print(std::ostream& out, group const& g) {
    out << "  " << g.bytes() << " bytes in " << g.blocks << " x " << g.first.bytes;
    if (!g.label().empty())
        out << ", label \"" << g.label() << '"';
    out << ", first: allocation " << g.first.sequence << " at " << g.first.address << '\n';
    for (void const* const address : g.first.call_stack)
        out << "      " << detail::describe_frame(address) << '\n';
}

} // namespace

std::ostream& operator<<(std::ostream& out, tracked_block_resource const& tracked) {
    statistics const s = tracked.stats();
    tracked_block_totals const totals = tracked.totals();
    out << tracked.name() << " live: " << s.live_blocks << " blocks, " << s.live_bytes
        << " bytes; peak: " << s.peak_live_bytes << " bytes; so far: " << totals.allocations
        << " allocations, " << totals.bytes << " bytes\n";
    std::vector<group> const groups = groups_of(tracked);
    std::size_t const shown = std::min(groups.size(), most_groups);
    std::for_each_n(groups.begin(), shown, [&](group const& g) { print(out, g); });
    if (shown != groups.size())
        out << "  and " << groups.size() - shown << " smaller groups\n";
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
