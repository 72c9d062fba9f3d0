// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/guards.hpp>

#include <span>

namespace strata::detail {

namespace {

using guard_view = std::array<unsigned char, guard_bytes>;

guard_view bytes_of(guard const& words) noexcept {
    guard_view bytes;
    std::memcpy(&bytes, &words, sizeof bytes);
    return bytes;
}

// As they were made.
guard header_of(guarded const& of) noexcept {
    std::uint64_t const word = guard_word(of);
    return {word ^ of.index, word};
}

} // namespace

std::optional<misuse_kind> damage_of(guarded const& of) noexcept {
    guard const header = guard_before(of.block);
    if (header != header_of(of))
        return misuse_kind::underrun;
    return is_intact(of, header) ? std::nullopt : std::optional{misuse_kind::overrun};
}

void describe_damage(note& words, misuse_kind damage, guarded const& of) noexcept {
    bool const is_overrun = damage == misuse_kind::overrun;
    std::uint64_t const word = guard_word(of);
    guard_view const made = bytes_of(is_overrun ? guard{word, word} : header_of(of));
    guard_view const seen =
        bytes_of(is_overrun ? guard_behind(of.block, of.bytes) : guard_before(of.block));
    std::size_t first = 0;
    std::size_t end = guard_bytes;
    while (first != end && seen[first] == made[first])
        ++first;
    while (end != first && seen[end - 1] == made[end - 1])
        --end;

    std::size_t const reach = is_overrun ? end : guard_bytes - first;
    char const* const at_least = reach == guard_bytes ? "at least " : ""; // beyond, nobody looks
    words.add("up to %s%zu %s %s:", at_least, reach, reach == 1 ? "byte" : "bytes",
              is_overrun ? "past its end" : "before its start");
    for (unsigned char const c : std::span{seen}.subspan(first, end - first))
        words.add(" %02x", static_cast<unsigned>(c));
    words.add(" \"");
    for (unsigned char const c : std::span{seen}.subspan(first, end - first))
        words.add("%c", c >= ' ' && c <= '~' ? c : '.');
    words.add("\"");
}

} // namespace strata::detail
