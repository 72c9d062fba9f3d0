// SPDX-License-Identifier: BSL-1.0
#pragma once

// dll_arena_resource: 64 KiB inside the object, free chunks in doubly linked lists ("dll") whose
// links are 16-bit indices instead of pointers; constant time; no heap.
//
//   object   │ memory: chunks of 8-byte granules │ bits: 2 a granule │ heads of the lists │
//   free     │ size │ next │ prev │ … │ size │     four indices: 8 bytes, the smallest chunk
//   live     │ what the caller wrote │              no header, no byte besides
//
// A request is cut from a chunk of the first list that surely has one large enough, found by a
// bitmap; a chunk that is freed is merged with its free neighbours: detail/region.hpp, with the
// lists of detail/good_fit_index.hpp. What does not fit is passed upstream one by one.
//
// All state is indices and bits, no pointers: an image of the arena, copied elsewhere, is an arena.
// All zero is an empty arena: a static one is ready before any constructor has run, and touches
// neither heap nor upstream until it is full. It lies in .data, for its vtable pointer is not zero;
// one of Bytes = 0 over static memory keeps that in .bss.
//
// A request goes upstream only when no chunk can hold it: exactly so in an arena of 64 KiB, up to
// the granule's alignment. Elsewhere the last resort, which looks at chunks that may be too small or
// lie askew, ends after 128 of them.
//
// Cost: allocate and deallocate O(1), and 1/32 step for each granule freed. 1/32 of the memory for
// bits, 0.3 KiB for heads. Granules of 4 index widths: 16-bit indices reach 512 KiB, 32-bit ones
// 64 GiB in granules of 16 bytes. The default alignment of allocate(), 16, is twice the default
// granule: containers ask for what their elements need, which fits more tightly and is found sooner.
//
// Measured on 64 KiB: requests that go upstream when more is asked for than there is, in granules of
// 8 bytes, of 16, and of 8 with one list instead of bins (first fit). Below it, time of a pair
//   1900 live of 8 to 64 bytes          9.7 %   14.5 %   18.5 %
//   520 live of 8 to 512 bytes          2.7 %    3.2 %    9.3 %
//   1000 live of 8 to 64, all find room 23 ns    20 ns    34 ns      3000 of 8 to 24: 20, 21, 158 ns
//
// Source: the lists, Masmano et al., "TLSF", 2004; indices and the 64 KiB, the documented allocator.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory_resource>
#include <type_traits>

#include <strata/detail/annotate.hpp>
#include <strata/detail/good_fit_index.hpp>
#include <strata/detail/outside_places.hpp>
#include <strata/detail/region_resource.hpp>

namespace strata {

namespace detail {

/// Memory and bits of a region inside its object.
template <std::size_t Bytes, std::size_t GranuleBytes>
class inside_places {
  public:
    static constexpr bool is_inside = true; ///< its object
    [[nodiscard]] std::byte* base() const noexcept { return const_cast<std::byte*>(memory_.bytes); }
    [[nodiscard]] mark_word* bits() const noexcept { return const_cast<mark_word*>(bits_); }
    [[nodiscard]] static constexpr std::size_t granules() noexcept { return Bytes / GranuleBytes; }
    [[nodiscard]] static constexpr std::size_t hidden_bytes() noexcept { return Bytes; }

  private:
    // Not written by the constructor: that would cost more than most uses of a short-lived arena.
    union alignas(64) untouched {
        constexpr untouched() noexcept : nothing{} {}
        char nothing;
        std::byte bytes[Bytes];
    };

    untouched memory_;
    mark_word bits_[mark_words(Bytes / GranuleBytes)]{};
};

template <std::size_t Bytes, class Index>
using dll_arena_base = region_resource<
    region<good_fit_index<Index>,
           std::conditional_t<Bytes == 0, outside_places,
                              inside_places<Bytes == 0 ? 1 : Bytes, 4 * sizeof(Index)>>>>;

// The one of 64 KiB is the library's: as fast however its user compiles. dll_arena_resource.cpp
extern template class region_resource<
    region<good_fit_index<std::uint16_t>, inside_places<65536, 8>>>;

} // namespace detail

/// An arena of `Bytes` bytes inside the object, or of the caller's memory where Bytes is 0.
template <std::size_t Bytes = 65536, std::unsigned_integral Index = std::uint16_t>
class basic_dll_arena_resource final : public detail::dll_arena_base<Bytes, Index> {
    using base = detail::dll_arena_base<Bytes, Index>;
    static constexpr std::size_t most_granules = std::numeric_limits<Index>::max() - std::size_t{1};
    static_assert(sizeof(Index) <= 4, "granules of more than 16 bytes would waste most blocks");
    static_assert(Bytes / base::granule_bytes <= most_granules, "Index must count all granules");
    static_assert(Bytes % base::granule_bytes == 0, "the arena must be whole granules");

  public:
    /// The arena's state, trivially copyable where Bytes is not 0: a copy of it is an arena with the
    /// same blocks at the same offsets, on which the same calls work.
    using image_type = typename base::region_type;

    /// Null upstream stands for new_delete_resource(). Constant-initialised; touches no memory but
    /// bits and heads.
    constexpr explicit basic_dll_arena_resource(
        std::pmr::memory_resource* upstream = nullptr) noexcept requires(Bytes != 0)
        : base{sizeof(typename base::places_type), upstream} {}

    /// An arena in `buffer`, which may have any alignment, holds the bits too, and must outlive the
    /// resource. What Index cannot count is not used.
    /// Throws: invalid_argument where the buffer is too small to hold a block.
    basic_dll_arena_resource(void* buffer, std::size_t bytes,
                             std::pmr::memory_resource* upstream = nullptr) requires(Bytes == 0)
        : base{bytes, upstream} {
        base::region_.places = {buffer, bytes, base::granule_bytes, most_granules};
        detail::carve(nullptr, base::region_.places.base(), base::region_.places.hidden_bytes());
    }
    ~basic_dll_arena_resource() override { open(); }

    /// Returns: the arena's state at this moment. Whoever copies it reads all of it: from then on
    /// AddressSanitizer and Valgrind see nothing wrong with blocks, until they are free again.
    [[nodiscard]] image_type const& image() const noexcept {
        open(); // for whoever copies it
        return base::region_;
    }

  private:
    void open() const noexcept {
        detail::open(base::region_.places.base(), base::region_.places.hidden_bytes());
    }
    [[nodiscard]] char const* do_name() const noexcept override { return "dll_arena_resource"; }
};

using dll_arena_resource = basic_dll_arena_resource<>;

static_assert(std::is_trivially_copyable_v<dll_arena_resource::image_type>);

} // namespace strata
