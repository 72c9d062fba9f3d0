// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/slab.hpp>

#include <cstring>
#include <memory>
#include <utility>

#include <strata/detail/class_pool.hpp>
#include <strata/detail/rare_path.hpp>

namespace strata::detail {

namespace {

constexpr std::uint64_t no_block_free = 0;

} // namespace

constinit slab const slab::none_ = [] {
    slab s{};
    s.word = const_cast<std::uint64_t*>(&no_block_free);
    return s;
}();

void slab::assign(class_pool& to, std::size_t to_class, std::size_t bytes_each,
                  marks_kept with) noexcept {
    bool const marked = with != marks_kept::none;
    owner = &to;
    size_class = static_cast<std::uint8_t>(to_class);
    block_of = exact_divider{bytes_each};
    block_bytes = static_cast<std::uint32_t>(bytes_each);
    blocks = bytes / (block_bytes + (marked ? 1 : 0));
    marks = nullptr;
    if (marked)
        marks = static_cast<std::uint8_t*>(std::memset(begin + bytes - blocks, 0, blocks));
    word = bits();
    word_begin = begin;
    count = 0;
    state = slab_state::serving;
    // A slab fresh from its chunk has no bits yet.
    std::uint64_t* const last = std::uninitialized_fill_n(bits(), blocks / 64, ~std::uint64_t{0});
    if (blocks % 64 != 0)
        std::uninitialized_fill_n(last, 1, (std::uint64_t{1} << blocks % 64) - 1);
}

bool class_pool::advance() noexcept {
    if (current->turn())
        return true;
    slab* const next = serving.pop();
    if (next != nullptr)
        install(next);
    return next != nullptr;
}

void class_pool::install(slab* fresh) noexcept {
    fresh->turn();
    if (slab* const full = std::exchange(current, fresh); full != slab::none()) {
        rare_path("slab: full");
        full->state = slab_state::full;
        full->count = 1; // the first block that returns makes it serve again
    }
}

bool class_pool::returned_last(slab* s) noexcept {
    if (s->state == slab_state::full) {
        rare_path("slab: serves again");
        s->state = slab_state::serving;
        s->count = s->blocks - 1;
        serving.push_back(s); // by the time it is taken, more of its blocks may have returned
    }
    if (s->count != 0 || s == current)
        return false;
    rare_path("slab: empty again");
    serving.remove(s);
    return true;
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
