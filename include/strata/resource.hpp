// SPDX-License-Identifier: BSL-1.0
#pragma once

// The interface that all of strata shares: std::pmr::memory_resource, and what it lacks.
//
//      container ── allocate(bytes, alignment) ──►  resource  ── chunks ──►  upstream
//
// The caller of std::pmr passes (p, bytes, alignment) to deallocate, so no live block needs a
// header: what must be known of a block is kept out of band, and every block that comes back is
// checked against it before anything changes.
//
// Public calls are not virtual, the do_ functions behind them are, as in std. A resource cannot be
// copied or moved and is equal to itself alone. It is for one thread at a time, unless its name
// begins with synchronized_.

#include <cstddef>
#include <memory_resource>
#include <optional>

#include <strata/detail/bits.hpp>
#include <strata/detail/function_ref.hpp>
#include <strata/misuse.hpp>
#include <strata/statistics.hpp>

namespace strata {

/// Called with every block in turn; must not call the resource that is being walked.
using block_visitor = detail::function_ref<void(block_info const&)>;

class resource : public std::pmr::memory_resource {
  public:
    resource(resource const&) = delete;
    resource& operator=(resource const&) = delete;

    // allocate(bytes, alignment) and deallocate(p, bytes, alignment) are std's:
    //   allocate accepts any power-of-two alignment; 0 bytes gives a distinct pointer. Throws
    //   bad_alloc when neither this resource nor upstream can serve, or whatever upstream throws;
    //   invalid_argument for an alignment above 16 that is no power of two (one below may be
    //   taken for 8); strong guarantee: nothing has changed then.
    //   deallocate ignores null; a call that names no live block goes to the misuse handler and
    //   changes nothing.

    /// std's call without std's precondition that p is not null.
    void deallocate(void* p, std::size_t bytes, std::size_t alignment = detail::max_align) {
        do_deallocate(p, bytes, alignment);
    }

    /// Grows or shrinks a block, in place where it can, else by moving it; contents are kept up to
    /// the smaller size. Null `p` allocates. A size of 0 keeps a (small) block that must be freed.
    /// Returns: the block; null when the misuse handler was called because p, old_bytes and
    /// alignment name no live block.
    /// Throws: as allocate; the old block is then intact.
    /// Complexity: as try_resize, or as allocate + O(bytes) + deallocate.
    void* reallocate(void* p, std::size_t old_bytes, std::size_t new_bytes,
                     std::size_t alignment = detail::max_align) {
        return do_reallocate(p, old_bytes, new_bytes, alignment);
    }

    /// Changes a block's size where it stands; from then on its size is new_bytes.
    /// Returns: whether it did; false leaves the block as it was. Never moves, never throws (but
    /// for what a misuse handler throws: bad arguments are reported, and answer false).
    bool try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                    std::size_t alignment = detail::max_align);

    /// calloc: a block for `count` objects of `bytes` bytes, all zero; a block of count * bytes
    /// to deallocate. Throws: as allocate, and bad_alloc when the product overflows.
    [[nodiscard]] void* allocate_zeroed(std::size_t count, std::size_t bytes,
                                        std::size_t alignment = detail::max_align);

    /// deallocate for those who handle misuse themselves.
    /// Returns: what deallocate would have reported, nothing when the block was freed.
    std::optional<misuse_kind> try_deallocate(void* p, std::size_t bytes,
                                              std::size_t alignment = detail::max_align) {
        return p == nullptr ? std::nullopt : do_try_deallocate(p, bytes, alignment);
    }

    /// Returns: what deallocate would report of these arguments; nothing when they name a live
    /// block (or null). Never reads the memory at p.
    [[nodiscard]] std::optional<misuse_kind> diagnose(void const* p, std::size_t bytes,
                                                      std::size_t alignment) const {
        return p == nullptr ? std::nullopt : do_diagnose(p, bytes, alignment);
    }

    /// Returns: whether p lies inside memory that this resource carves itself: not in a block that
    /// upstream served for it. Any address may be asked for; it is not read.
    [[nodiscard]] bool owns(void const* p) const { return do_owns(p); }

    /// Returns: the size of the block that such a request gets where this resource has room for it,
    /// at least `bytes`. Upstream serves no more than is asked for: ask for good_size to use it all.
    [[nodiscard]] std::size_t good_size(std::size_t bytes,
                                        std::size_t alignment = detail::max_align) const {
        return do_good_size(bytes, alignment);
    }

    /// Takes every block back, live ones included, and returns all memory upstream with the
    /// (pointer, bytes, alignment) that it came with. The resource is then as new: what its
    /// constructor took from upstream, it keeps.
    void release() { do_release(); }

    /// Returns memory that holds no live block upstream. Returns: the bytes that went.
    std::size_t trim() { return do_trim(); }

    /// Returns: where the memory is. Complexity: may walk all blocks.
    [[nodiscard]] statistics stats() const { return do_stats(); }

    /// Calls f(block_info const&) for every block, live or free, in address order (tracked blocks:
    /// in the order of allocation). Throws: what f throws; bad_alloc, since it needs memory from
    /// upstream where blocks lie outside the first region. Complexity: O(blocks).
    template <class Visitor>
    void visit_blocks(Visitor&& f) const {
        do_visit_blocks(block_visitor{f});
    }

    /// Walks every structure and compares. For tests and bug hunts.
    /// Returns: whether all invariants hold; if not, stderr has a line that says which does not.
    bool check_invariants() const { return do_check_invariants(); }

    /// Returns: where memory comes from; never null. Held, not owned.
    [[nodiscard]] std::pmr::memory_resource* upstream_resource() const {
        return do_upstream_resource();
    }

    /// Returns: the type's name, as reports and tables print it.
    [[nodiscard]] char const* name() const noexcept { return do_name(); }

  protected:
    resource() = default;

    /// Hands a misuse of this resource to the handler.
    void report(misuse_kind kind, void const* p, std::size_t bytes, std::size_t alignment) const;

    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override;
    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept final {
        return this == &other;
    }

    /// Common part of reallocate; synchronized wraps it in its lock.
    virtual void* do_reallocate(void* p, std::size_t old_bytes, std::size_t new_bytes,
                                std::size_t alignment);

  private:
    // p is never null.

    /// Requires: p, old_bytes and alignment name a live block (checked before).
    virtual bool do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                               std::size_t alignment) = 0;
    virtual std::optional<misuse_kind> do_try_deallocate(void* p, std::size_t bytes,
                                                         std::size_t alignment) = 0;
    [[nodiscard]] virtual std::optional<misuse_kind> do_diagnose(void const* p, std::size_t bytes,
                                                                 std::size_t alignment) const = 0;
    [[nodiscard]] virtual bool do_owns(void const* p) const = 0;
    [[nodiscard]] virtual std::size_t do_good_size(std::size_t bytes,
                                                   std::size_t alignment) const = 0;
    virtual void do_release() = 0;
    virtual std::size_t do_trim() = 0;
    [[nodiscard]] virtual statistics do_stats() const = 0;
    virtual void do_visit_blocks(block_visitor f) const = 0;
    [[nodiscard]] virtual bool do_check_invariants() const = 0;
    [[nodiscard]] virtual std::pmr::memory_resource* do_upstream_resource() const = 0;
    [[nodiscard]] virtual char const* do_name() const noexcept = 0;
};

} // namespace strata
