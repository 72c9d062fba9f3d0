// SPDX-License-Identifier: BSL-1.0
#pragma once

// Boost.Container has a memory_resource of its own; these two adaptors lead from each to the other.
//
//   boost::container::pmr::vector ──► boost_over_std ──► any std::pmr::memory_resource
//   any strata resource ──(upstream)──► std_over_boost ──► boost::container::pmr::synchronized_pool…
//
// boost_over_std passes every call on as it is. std_over_boost must do more, since Boost's pools
// ignore the alignment (1.81), its new_delete_resource knows operator new's alone, and its monotonic
// resource throws: a request above that alignment asks for more bytes and is aligned here.
//
//   raw, from Boost                                                     raw + bytes + surplus
//   │ … │ address of raw │ bytes that the caller gets, aligned │ …      │
//                        p
//
//   I1  Boost gets every (pointer, bytes, alignment) back as it handed it out.
//   I2  Boost never sees an alignment above detail::max_align.
//
// The only header that includes Boost.Container; it needs its library only where the program does.

#include <cstddef>
#include <cstring>
#include <memory_resource>
#include <new>
#include <stdexcept>

#include <boost/container/pmr/memory_resource.hpp>

#include <strata/detail/bits.hpp>

namespace strata {

/// A Boost memory resource whose memory comes from a std one.
/// Thread safety: that of the std one.
class boost_over_std final : public boost::container::pmr::memory_resource {
  public:
    /// Null stands for std::pmr::new_delete_resource().
    explicit boost_over_std(std::pmr::memory_resource* upstream) noexcept
        : upstream_{upstream != nullptr ? upstream : std::pmr::new_delete_resource()} {}
    boost_over_std(boost_over_std const&) = delete;
    boost_over_std& operator=(boost_over_std const&) = delete;

    /// Returns: where memory comes from; never null. Held, not owned.
    [[nodiscard]] std::pmr::memory_resource* upstream_resource() const noexcept {
        return upstream_;
    }

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        return upstream_->allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        upstream_->deallocate(p, bytes, alignment);
    }
    // Equal over equal resources: then each can free what the other handed out.
    bool do_is_equal(boost::container::pmr::memory_resource const& other) const noexcept override {
        auto const* const same = dynamic_cast<boost_over_std const*>(&other);
        return same != nullptr && upstream_->is_equal(*same->upstream_);
    }

    std::pmr::memory_resource* upstream_; // held, not owned
};

/// A std memory resource whose memory comes from a Boost one. Honours every power-of-two alignment,
/// whatever the Boost resource does; above max_align, at the cost of alignment + 8 bytes a block.
/// Thread safety: that of the Boost one.
class std_over_boost final : public std::pmr::memory_resource {
  public:
    /// Requires: `upstream` is not null.
    explicit std_over_boost(boost::container::pmr::memory_resource* upstream) noexcept
        : upstream_{upstream} {}
    std_over_boost(std_over_boost const&) = delete;
    std_over_boost& operator=(std_over_boost const&) = delete;

    /// Returns: where memory comes from. Held, not owned.
    [[nodiscard]] boost::container::pmr::memory_resource* upstream_resource() const noexcept {
        return upstream_;
    }

  private:
    /// Throws: bad_alloc for impossible sizes, invalid_argument for an alignment that is no power
    /// of two, else what the Boost resource throws.
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (bytes > detail::max_request_bytes || alignment > detail::max_request_bytes)
            throw std::bad_alloc{};
        if (!detail::is_power_of_two(alignment))
            throw std::invalid_argument{"strata: an alignment must be a power of two"};
        if (alignment <= detail::max_align)
            return upstream_->allocate(bytes, alignment);
        void* const raw = upstream_->allocate(bytes + surplus(alignment), detail::max_align);
        std::size_t const skipped =
            detail::align_up(detail::address_of(raw) + sizeof raw, alignment) -
            detail::address_of(raw);
        std::byte* const p = detail::as_bytes(raw) + skipped;
        std::memcpy(p - sizeof raw, &raw, sizeof raw);
        return p;
    }

    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        if (alignment <= detail::max_align)
            return upstream_->deallocate(p, bytes, alignment);
        void* raw = nullptr;
        std::memcpy(&raw, detail::as_bytes(p) - sizeof raw, sizeof raw);
        upstream_->deallocate(raw, bytes + surplus(alignment), detail::max_align);
    }

    // Equal over equal resources: then each can free what the other handed out.
    bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        auto const* const same = dynamic_cast<std_over_boost const*>(&other);
        return same != nullptr && upstream_->is_equal(*same->upstream_);
    }

    /// Returns: the bytes that suffice to align and to note raw, wherever raw lies.
    static constexpr std::size_t surplus(std::size_t alignment) noexcept {
        return alignment + sizeof(void*);
    }

    boost::container::pmr::memory_resource* upstream_; // held, not owned
};

} // namespace strata
