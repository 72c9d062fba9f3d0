// SPDX-License-Identifier: BSL-1.0
#pragma once

// Two ways to see how much memory a resource holds: what it has taken from upstream, and what the
// operating system has given the whole process.

#include <atomic>
#include <cstddef>
#include <memory_resource>

namespace strata::trace {

/// An upstream that counts the bytes it has out, and their high-water mark.
/// Thread safety: as its own upstream's.
class footprint_meter final : public std::pmr::memory_resource {
  public:
    /// `upstream` is held, not owned.
    explicit footprint_meter(
        std::pmr::memory_resource* upstream = std::pmr::new_delete_resource()) noexcept
        : upstream_{upstream} {}

    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_.load(); }
    [[nodiscard]] std::size_t peak_bytes() const noexcept { return peak_bytes_.load(); }

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override;
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override;
    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    std::pmr::memory_resource* upstream_;
    std::atomic<std::size_t> bytes_ = 0;
    std::atomic<std::size_t> peak_bytes_ = 0;
};

/// Returns: bytes of memory without a file behind it that this process has resident at this moment,
/// by a walk over its page tables; 0 where /proc does not tell.
[[nodiscard]] std::size_t resident_anonymous_bytes();

} // namespace strata::trace
