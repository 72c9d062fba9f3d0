// SPDX-License-Identifier: BSL-1.0
#pragma once

// What stands before and behind a block, and tells whether somebody wrote past either end.
//
//        ┌──────────┬──────┬──────────────────────┬──────┬──────┐
//        │ word ^ i │ word │ block: what was asked│ word │ word │     8 bytes each
//        └──────────┴──────┴──────────────────────┴──────┴──────┘
//
// i is the index of the block's record; the word is made from it and from what was asked for, so
// that the header checks itself and the size that a free is called with, and a guard that was copied
// along with a block is seen at its new place. No byte of the word is 0, 0xff or text, so that no
// usual stray write goes unseen. 40 bits of it are mixed ones.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include <strata/detail/annotate.hpp>
#include <strata/detail/bits.hpp>
#include <strata/detail/note.hpp>
#include <strata/misuse.hpp>

namespace strata::detail {

inline constexpr std::size_t guard_bytes = 16; // on either side

using guard = std::array<std::uint64_t, 2>;
static_assert(sizeof(guard) == guard_bytes);

/// A block, and the index of its record.
struct guarded {
    void const* block;
    std::size_t bytes;
    std::size_t alignment;
    std::uint64_t index;
};

inline std::uint64_t guard_word(guarded const& of) noexcept {
    std::uint64_t mixed = address_of(of.block) ^ of.index << 32 ^ std::rotl(of.bytes, 18) ^
                          std::rotl(of.alignment, 56);
    mixed *= 0x9e3779b97f4a7c15u; // the golden ratio's bits
    // What differs in the upper bits alone, as two alignments do, is not mixed: so that none of them
    // is masked out there and here.
    mixed ^= mixed >> 29;
    return (mixed & 0x3e3e3e3e3e3e3e3eu) | 0x8181818181818181u;
}

inline guard guard_at(void const* where) noexcept {
    return peek<guard>(where);
}
inline guard guard_before(void const* block) noexcept {
    return guard_at(as_bytes(block) - guard_bytes);
}
inline guard guard_behind(void const* block, std::size_t bytes) noexcept {
    return guard_at(as_bytes(block) + bytes);
}

inline void write_guards(std::byte* block, guarded const& of) noexcept {
    std::uint64_t const word = guard_word(of);
    guard const before{word ^ of.index, word};
    guard const behind{word, word};
    poke(block - guard_bytes, before);
    poke(block + of.bytes, behind);
}

/// Returns: the index that a block's header holds, which may be anything where it was written over.
inline std::uint64_t index_in(guard const& header) noexcept {
    return header[0] ^ header[1];
}

/// Returns: whether both guards are as they were made, where of.index is index_in(header). Reads
/// behind the block only where its header says that it ends there.
inline bool is_intact(guarded const& of, guard const& header) noexcept {
    std::uint64_t const word = guard_word(of);
    if (header[1] != word) // header[0] is this and the index
        return false;
    guard const behind = guard_behind(of.block, of.bytes);
    return ((behind[0] ^ word) | (behind[1] ^ word)) == 0;
}

/// Returns: how a block was damaged, if it was.
std::optional<misuse_kind> damage_of(guarded const& of) noexcept;

/// Adds what was written past the end, or before the start, of a block that was damaged so: how far
/// from the block it reaches, and the bytes in hexadecimal and as text.
void describe_damage(note& words, misuse_kind damage, guarded const& of) noexcept;

} // namespace strata::detail
