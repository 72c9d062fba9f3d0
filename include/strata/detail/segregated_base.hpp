// SPDX-License-Identifier: BSL-1.0
#pragma once

// What the segregated pool of one thread and that of many have in common: size classes, where slabs
// come from, what upstream serves; and all that only looks at slabs. Who derives has the class pools.
//
//   I1  an address belongs to the slab that the slab source finds for it, or to the served blocks,
//       or to nobody. A slab is looked at only after it was found so, the blocks never.

#include <cstddef>
#include <memory_resource>
#include <optional>
#include <span>

#include <strata/detail/served_blocks.hpp>
#include <strata/detail/size_classes.hpp>
#include <strata/detail/slab.hpp>
#include <strata/detail/slab_source.hpp>
#include <strata/resource.hpp>

namespace strata {

/// All sizes in bytes; 0 means the default.
struct segregated_pool_options {
    /// Sizes of the classes, 1 to 32768 each, rounded up to multiples of 8 (above 1 KiB of 128), 64
    /// at most with largest_block_bytes, which is one of them. Those above it are left out. Empty: a
    /// list with at most 20 % internal fragmentation above 64 bytes. Read by the constructor, not
    /// kept.
    std::span<std::size_t const> block_sizes{};
    /// Larger requests go upstream. Default 512, of a pool for threads 2048, since upstream is behind
    /// a lock; or the largest of block_sizes. At most 32 KiB.
    std::size_t largest_block_bytes = 0;
    /// Of the largest slabs; a class begins with smaller ones. Rounded up to a power of two of 4 KiB
    /// to 1 MiB that holds two of the largest blocks. Default 64 KiB.
    std::size_t slab_bytes = 0;
    /// Default 4 KiB, which is the least; at most 4 GiB.
    std::size_t first_chunk_bytes = 0;
    /// Default 1 MiB; at least first_chunk_bytes, at most 4 GiB. A chunk has room for two slabs,
    /// whatever this says.
    std::size_t largest_chunk_bytes = 0;
    /// Sends every request upstream, for hunting with other tools: the manager is off. The
    /// environment variable STRATA_FORCE_UPSTREAM does the same for all pools of a program.
    bool pass_through = false;
};

namespace detail {

class segregated_base : public resource {
  public:
    /// Returns: the options in effect; block_sizes points into this resource.
    [[nodiscard]] segregated_pool_options options() const noexcept;

  protected:
    /// Null upstream stands for new_delete_resource(). Does not touch upstream.
    /// Throws: invalid_argument when block_sizes or largest_block_bytes are out of range.
    segregated_base(segregated_pool_options const& options, std::pmr::memory_resource* upstream,
                    slab_source::users users);

    /// Returns: the class that serves such a request; classes_.count() when upstream does.
    [[nodiscard]] std::size_t class_of(std::size_t bytes, std::size_t alignment) const noexcept;

    std::optional<misuse_kind> do_diagnose(void const* p, std::size_t bytes,
                                           std::size_t alignment) const override;
    bool do_owns(void const* p) const override { return source_.find(p) != nullptr; }
    std::size_t do_good_size(std::size_t bytes, std::size_t alignment) const override;
    statistics do_stats() const override; // but for requested_bytes of blocks from slabs
    void do_visit_blocks(block_visitor f) const override;
    std::pmr::memory_resource* do_upstream_resource() const override { return served_.upstream(); }

    size_classes classes_;
    served_blocks served_;
    slab_source source_;
    bool pass_through_;

  private:
    // Of a slab that is not empty. p begins one of its blocks.
    [[nodiscard]] virtual bool is_live(slab const& s, void const* p) const noexcept = 0;
    [[nodiscard]] virtual std::size_t live_in(slab const& s) const noexcept = 0;

    [[nodiscard]] std::size_t largest_class_within(std::size_t bytes) const noexcept;
};

} // namespace detail
} // namespace strata
