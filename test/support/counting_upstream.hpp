// SPDX-License-Identifier: BSL-1.0
#pragma once

// The suite's only double: an upstream that knows every block it served, checks the (pointer,
// bytes, alignment) triple of each that comes back, and can fail from the Nth call on or above a
// number of bytes.

#include <cstddef>
#include <limits>
#include <map>
#include <memory_resource>
#include <new>

namespace strata::test {

class counting_upstream final : public std::pmr::memory_resource {
  public:
    explicit counting_upstream(
        std::pmr::memory_resource* source = std::pmr::new_delete_resource()) noexcept
        : source_{source} {}
    counting_upstream(counting_upstream const&) = delete;
    counting_upstream& operator=(counting_upstream const&) = delete;
    ~counting_upstream() override {
        for (auto const& [p, served] : live_)
            source_->deallocate(const_cast<void*>(p), served.bytes, served.alignment);
    }

    /// Lets `calls` more allocations succeed; every one after them throws bad_alloc.
    void fail_after(std::size_t calls) noexcept { calls_left_ = calls; }
    /// Serves what leaves live_bytes() at `bytes` or below; throws bad_alloc for more.
    void hold_at_most(std::size_t bytes) noexcept { most_bytes_ = bytes; }
    void never_fail() noexcept { calls_left_ = most_bytes_ = unlimited; }

    [[nodiscard]] std::size_t allocations() const noexcept { return allocations_; }
    [[nodiscard]] std::size_t deallocations() const noexcept { return deallocations_; }
    [[nodiscard]] std::size_t live_blocks() const noexcept { return live_.size(); }
    [[nodiscard]] std::size_t live_bytes() const noexcept { return live_bytes_; }
    [[nodiscard]] std::size_t peak_bytes() const noexcept { return peak_bytes_; }
    /// Returns: whether a block was served with this triple and has not come back.
    [[nodiscard]] bool holds(void const* p, std::size_t bytes, std::size_t alignment) const {
        auto const found = live_.find(p);
        return found != live_.end() && found->second.bytes == bytes &&
               found->second.alignment == alignment;
    }
    /// Blocks that came back unknown, or with other bytes or alignment than they went out with.
    [[nodiscard]] std::size_t mismatches() const noexcept { return mismatches_; }
    /// All that was served came back, and rightly.
    [[nodiscard]] bool settled() const noexcept { return live_.empty() && mismatches_ == 0; }

  private:
    struct request {
        std::size_t bytes;
        std::size_t alignment;
    };
    static constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (calls_left_ == 0 || bytes > most_bytes_ || live_bytes_ > most_bytes_ - bytes)
            throw std::bad_alloc{};
        void* const p = source_->allocate(bytes, alignment);
        if (calls_left_ != unlimited)
            --calls_left_;
        ++allocations_;
        live_.emplace(p, request{bytes, alignment});
        live_bytes_ += bytes;
        peak_bytes_ = live_bytes_ > peak_bytes_ ? live_bytes_ : peak_bytes_;
        return p;
    }

    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        ++deallocations_;
        auto const found = live_.find(p);
        if (found == live_.end() || found->second.bytes != bytes ||
            found->second.alignment != alignment) {
            ++mismatches_;
            return;
        }
        live_.erase(found);
        live_bytes_ -= bytes;
        source_->deallocate(p, bytes, alignment);
    }

    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    std::pmr::memory_resource* source_; // held, not owned
    std::map<void const*, request> live_;
    std::size_t live_bytes_ = 0;
    std::size_t peak_bytes_ = 0;
    std::size_t allocations_ = 0;
    std::size_t deallocations_ = 0;
    std::size_t mismatches_ = 0;
    std::size_t calls_left_ = unlimited;
    std::size_t most_bytes_ = unlimited;
};

} // namespace strata::test
