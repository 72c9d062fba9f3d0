// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/segregated_base.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <iterator>

namespace strata::detail {

namespace {

std::size_t or_default(std::size_t value, std::size_t fallback) noexcept {
    return value != 0 ? value : fallback;
}

std::size_t largest_of(segregated_pool_options const& options, slab_source::users users) {
    if (options.largest_block_bytes != 0 || options.block_sizes.empty())
        return or_default(options.largest_block_bytes,
                          users == slab_source::users::many ? 2048 : 512);
    return *std::max_element(options.block_sizes.begin(), options.block_sizes.end());
}

slab_source::geometry geometry_of(segregated_pool_options const& options,
                                  std::size_t largest_block) {
    constexpr std::size_t kib = 1024;
    constexpr std::size_t most =
        std::min<std::uint64_t>(std::uint64_t{1} << 32, detail::max_request_bytes);
    auto const in_range = [&](std::size_t value, std::size_t fallback, std::size_t least) {
        return std::clamp(or_default(value, fallback), least, most);
    };
    std::size_t const slab_bytes =
        std::bit_ceil(std::clamp(or_default(options.slab_bytes, 64 * kib),
                                 std::max(4 * kib, 2 * largest_block), 1024 * kib));
    std::size_t const first = in_range(options.first_chunk_bytes, 4 * kib, 4 * kib);
    return {slab_bytes, first, in_range(options.largest_chunk_bytes, 1024 * kib, first)};
}

// The usual ones are made once: pools are made for a moment, too, and a copy takes a tenth of the time.
size_classes classes_for(segregated_pool_options const& options, slab_source::users users) {
    std::size_t const largest = largest_of(options, users);
    if (!options.block_sizes.empty() || largest != 512)
        return {options.block_sizes, largest};
    static size_classes const usual{{}, 512};
    return usual;
}

} // namespace

segregated_base::segregated_base(segregated_pool_options const& options,
                                 std::pmr::memory_resource* upstream, slab_source::users users)
    : classes_{classes_for(options, users)},
      served_{upstream},
      source_{geometry_of(options, classes_.largest()), served_.upstream(), users},
      pass_through_{options.pass_through || std::getenv("STRATA_FORCE_UPSTREAM") != nullptr} {
    if (pass_through_)
        classes_.switch_table_off();
}

segregated_pool_options segregated_base::options() const noexcept {
    auto const& shape = source_.shape();
    return {classes_.block_sizes(),  classes_.largest(),        shape.slab_bytes,
            shape.first_chunk_bytes, shape.largest_chunk_bytes, pass_through_};
}

std::size_t segregated_base::class_of(std::size_t bytes, std::size_t alignment) const noexcept {
    if (classes_.tabulates(bytes, alignment))
        return classes_.of(bytes, alignment);
    return pass_through_ ? classes_.count() : classes_.find(bytes, alignment);
}

std::optional<misuse_kind> segregated_base::do_diagnose(void const* p, std::size_t bytes,
                                                        std::size_t alignment) const {
    slab const* const s = source_.find(p);
    if (s == nullptr)
        return served_.diagnose(p, bytes, alignment);
    std::size_t const offset = offset_between(s->begin, p);
    if (s->owner == nullptr || offset >= s->extent())
        return offset % 8 == 0 ? misuse_kind::double_free : misuse_kind::misaligned_pointer;
    if (offset % s->block_bytes != 0)
        return misuse_kind::misaligned_pointer;
    if (!is_live(*s, p))
        return misuse_kind::double_free;
    auto const is_served_by = [&](std::size_t for_alignment) {
        return class_of(bytes, for_alignment) == s->size_class;
    };
    if (is_served_by(alignment))
        return std::nullopt;
    return is_served_by(8) || is_served_by(16) ? misuse_kind::alignment_mismatch
                                               : misuse_kind::size_mismatch;
}

std::size_t segregated_base::do_good_size(std::size_t bytes, std::size_t alignment) const {
    std::size_t const c = class_of(bytes, alignment);
    return c == classes_.count() ? bytes : classes_.block_bytes(c);
}

// What an empty slab of `bytes` can be cut into, at most; 0 where it is too small for any class.
std::size_t segregated_base::largest_class_within(std::size_t bytes) const noexcept {
    auto const sizes = classes_.block_sizes();
    auto const above = std::upper_bound(sizes.begin(), sizes.end(), bytes);
    return above == sizes.begin() ? 0 : *std::prev(above);
}

statistics segregated_base::do_stats() const {
    statistics s;
    s.footprint_bytes = source_.held_bytes();
    source_.for_each([&](slab const& from) {
        bool const whole = from.owner == nullptr;
        std::size_t const block_bytes = whole ? from.bytes : from.block_bytes;
        std::size_t const live = whole ? 0 : live_in(from);
        std::size_t const free = whole ? 1 : from.blocks - live;
        s.live_blocks += live;
        s.live_bytes += live * block_bytes;
        s.free_blocks += free;
        s.free_bytes += free * block_bytes;
        if (free != 0)
            s.largest_free_bytes = std::max(
                s.largest_free_bytes, whole ? largest_class_within(block_bytes) : block_bytes);
    });
    s.overhead_bytes = s.footprint_bytes - s.live_bytes - s.free_bytes;
    served_.add_to(s);
    return s;
}

void segregated_base::do_visit_blocks(block_visitor f) const {
    auto const served = served_.in_address_order();
    std::span<block_info const> rest = served;
    source_.visit([&](slab const& s) {
        rest = visit_below(rest, s.begin, f);
        if (s.owner == nullptr) {
            f({s.begin, s.bytes, false});
            return;
        }
        for (std::byte const* p = s.begin; p != s.begin + s.extent(); p += s.block_bytes)
            f({p, s.block_bytes, is_live(s, p)});
    });
    visit_below(rest, nullptr, f);
}

} // namespace strata::detail
