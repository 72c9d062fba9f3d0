// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/slab.hpp>

#include <memory>

namespace strata::detail {

namespace {

constexpr std::uint64_t no_block_free = 0;

} // namespace

constinit slab const slab::none_ = [] {
    slab s{};
    s.word = const_cast<std::uint64_t*>(&no_block_free);
    return s;
}();

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
    std::uint64_t* const last = std::uninitialized_fill_n(bits(), blocks / 64, ~std::uint64_t{0});
    if (blocks % 64 != 0)
        std::uninitialized_fill_n(last, 1, (std::uint64_t{1} << blocks % 64) - 1);
}

bool slab::turn() noexcept {
    std::uint64_t* at = word;
    for (std::size_t left = words(); left != 0; --left) {
        if (*at != 0) {
            word = at;
            word_begin = begin + static_cast<std::size_t>(at - bits()) * 64 * block_bytes;
            return true;
        }
        at = at + 1 != bits() + words() ? at + 1 : bits();
    }
    return false;
}

} // namespace strata::detail
