// SPDX-License-Identifier: BSL-1.0
#include <cstdint>

#include <strata/dll_arena_resource.hpp>

#include "support/make_subject.hpp"
#include "target.hpp"

namespace strata::test {

namespace {

template <class T>
void special(bench& b, ledger&, choices& drawn) {
    auto const& r = dynamic_cast<T const&>(b.tested());
    expect(r.capacity_bytes() <= r.stats().footprint_bytes, "it has more than it holds");
    auto const copy = r.image(); // of the state alone where the arena lies outside
    expect(copy.broken_invariant() == nullptr, "a copy of the arena is none");
    call_directly<T>(b, drawn);
}

template <class Index>
subject of_index(choices& drawn) {
    using outside = basic_dll_arena_resource<0, Index>;
    subject s = in_a_buffer<outside>("dll_arena_resource in a buffer", drawn_bytes(drawn, 65536));
    s.special = special<outside>;
    return s;
}

template <std::size_t Bytes, class Index>
subject inside() {
    using tiny = basic_dll_arena_resource<Bytes, Index>;
    subject s = arena<tiny>("dll_arena_resource of few bytes");
    s.storage_bytes = sizeof(typename tiny::places_type);
    s.special = special<tiny>;
    return s;
}

} // namespace

subject drawn_subject(choices& drawn) {
    switch (drawn.below(6)) {
    case 0:
        return of_index<std::uint8_t>(drawn);
    case 1:
        return of_index<std::uint16_t>(drawn);
    case 2:
        return of_index<std::uint32_t>(drawn);
    case 3:
        return inside<1000, std::uint8_t>();
    case 4:
        return inside<4096, std::uint16_t>();
    default:
        return inside<65536, std::uint16_t>();
    }
}

} // namespace strata::test
