// SPDX-License-Identifier: BSL-1.0
#pragma once

// segregated_pool_resource: many sizes, each from a pool of its own, in constant time; it grows.
//
// A request is rounded up to a size class. Each class carves its blocks from slabs; a slab knows
// out of band which of its blocks are live, so that live blocks carry no header and every free is
// checked. Requests above the largest class go upstream one by one.
//
//   lookup ──► class of  8 B   slabs with free blocks of that size                class_pool.hpp
//              class of 16 B   …                                                        slab.hpp
//              …
//              slab source: chunks from upstream, slab of an address, empty slabs  slab_source.hpp
//              served blocks: what upstream served one by one                    served_blocks.hpp
//              what only looks at them                                         segregated_base.hpp
//
//   I1  a slab belongs to one class, or is empty and with the slab source.
//
// Cost: allocate and deallocate O(1); overhead 1/64 of a slab for bits and 128 bytes for its record;
// upstream calls: one a chunk, and when the table of slabs grows. Choose it for many blocks of mixed
// small sizes; for one size and a hard bound fixed_block_resource is leaner, for a fixed region
// best_fit_resource packs tighter.
//
// Source: Bonwick, "The slab allocator: an object-caching kernel memory allocator", USENIX 1994.

#include <array>
#include <cstddef>
#include <memory_resource>
#include <optional>

#include <strata/detail/annotate.hpp>
#include <strata/detail/class_pool.hpp>
#include <strata/detail/segregated_base.hpp>

namespace strata {

/// The block sizes that the documented pools have: each twice the one before, 8 to 512 bytes.
inline constexpr std::array<std::size_t, 7> power_of_two_sizes{8, 16, 32, 64, 128, 256, 512};

class segregated_pool_resource final : public detail::segregated_base {
  public:
    /// Null upstream stands for new_delete_resource(). Does not touch upstream.
    /// Throws: invalid_argument when block_sizes or largest_block_bytes are out of range.
    explicit segregated_pool_resource(segregated_pool_options const& options,
                                      std::pmr::memory_resource* upstream = nullptr)
        : segregated_base{options, upstream, detail::slab_source::users::one} {}
    explicit segregated_pool_resource(std::pmr::memory_resource* upstream)
        : segregated_pool_resource(segregated_pool_options{}, upstream) {}
    segregated_pool_resource() : segregated_pool_resource(segregated_pool_options{}) {}
    ~segregated_pool_resource() override = default; // its parts give everything back

    // std's calls, for holders of the concrete type without a virtual call.
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = detail::max_align) {
        return do_allocate(bytes, alignment);
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment = detail::max_align) {
        do_deallocate(p, bytes, alignment);
    }

  private:
    using class_pool = detail::lone_class_pool;
    using slab = detail::slab;

    /// Throws: what upstream throws. Complexity: O(1); upstream calls 0 amortised, at worst one for
    /// each halving of a chunk that upstream has no room for.
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (!classes_.tabulates(bytes, alignment)) [[unlikely]]
            return allocate_large(bytes, alignment);
        std::size_t const c = classes_.of(bytes, alignment);
        void* const p = pools_[c].pop();
        if (p == nullptr) [[unlikely]]
            return allocate_next(bytes, alignment, c);
        bytes_taken_ += bytes;
        return detail::hand_out(p, bytes);
    }

    /// Complexity: O(1) but for chunks that go back upstream.
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        if (!classes_.tabulates(bytes, alignment)) [[unlikely]]
            return deallocate_slow(p, bytes, alignment);
        class_pool& pool = pools_[classes_.of(bytes, alignment)];
        slab* from = nullptr;
        if (pool.is_last(p)) {
            if (!pool.push_last(p)) [[unlikely]]
                return deallocate_slow(p, bytes, alignment);
            detail::take_back(p, classes_.block_bytes(classes_.of(bytes, alignment)));
        } else if (from = source_.table().guess(p);
                   from->owner.load(std::memory_order_relaxed) != &pool || !from->push(p))
            [[unlikely]] {
            return deallocate_slow(p, bytes, alignment);
        }
        bytes_returned_ += bytes;
        if (from != nullptr && from->count == 0) [[unlikely]]
            returned(from);
    }
    std::optional<misuse_kind> do_try_deallocate(void* p, std::size_t bytes,
                                                 std::size_t alignment) override;

    bool do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                       std::size_t alignment) override;
    void do_release() override;
    std::size_t do_trim() override;
    statistics do_stats() const override;
    bool do_check_invariants() const override;
    char const* do_name() const noexcept override { return "segregated_pool_resource"; }

    // Not inlined: what calls them at its end then needs no stack frame.
    [[gnu::noinline]] void* allocate_next(std::size_t bytes, std::size_t alignment, std::size_t c);
    [[gnu::noinline]] void* allocate_large(std::size_t bytes, std::size_t alignment);
    [[gnu::noinline]] void deallocate_slow(void* p, std::size_t bytes, std::size_t alignment);
    [[gnu::noinline]] void returned(slab* s) noexcept;
    bool push(void const* p, class_pool& pool) noexcept;
    void refill(std::size_t c);
    [[nodiscard]] bool check_pool(class_pool const& pool) const;

    static class_pool const& pool_of(slab const& s) noexcept {
        return static_cast<class_pool const&>(*s.owner.load(std::memory_order_relaxed));
    }
    // The bit of a block that waits in its pool says live.
    [[nodiscard]] bool is_live(slab const& s, void const* p) const noexcept override {
        return s.is_live(p) && !pool_of(s).is_free_last(p);
    }
    [[nodiscard]] std::size_t live_in(slab const& s) const noexcept override {
        std::byte const* const waiting = pool_of(s).waiting();
        return s.live() - (waiting != nullptr && s.contains(waiting) ? 1 : 0);
    }

    // [size class]; that of classes_.count() serves no one.
    std::array<class_pool, detail::size_classes::most_classes + 1> pools_;
    // Two sums, since one would be a chain of loads and stores through all calls: of what was asked
    // for in blocks from pools, and of what came back.
    std::size_t bytes_taken_ = 0;
    std::size_t bytes_returned_ = 0;
};

} // namespace strata
