// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/slab.hpp>

#include <memory>

namespace strata::detail {

slab* slab::none() noexcept {
    struct with_bits {
        slab without_memory{.word = const_cast<std::uint64_t*>(&taken)};
        std::uint64_t taken = all_taken;
    };
    static constinit with_bits const no_slab{};
    return const_cast<slab*>(&no_slab.without_memory);
}

void slab::assign(class_pool& to, std::size_t bytes_each) noexcept {
    owner = &to;
    block_of = exact_divider{bytes_each};
    block_bytes = static_cast<std::uint32_t>(bytes_each);
    blocks = bytes / block_bytes;
    word = bits();
    word_begin = begin;
    count = 0;
    state = slab_state::serving;
    // A slab fresh from its chunk has no bits yet.
    std::uint64_t* const last = std::uninitialized_fill_n(bits(), blocks / 64, std::uint64_t{0});
    if (blocks % 64 != 0)
        std::uninitialized_fill_n(last, 1, all_taken << blocks % 64);
}

bool slab::turn() noexcept {
    std::uint64_t* const end = bits() + words();
    std::uint64_t* at = word;
    do {
        if (*at != all_taken) {
            word_begin = begin + static_cast<std::size_t>(at - bits()) * 64 * block_bytes;
            word = at;
            return true;
        }
        at = at + 1 < end ? at + 1 : bits();
    } while (at != word);
    return false;
}

} // namespace strata::detail
