// SPDX-License-Identifier: BSL-1.0
#pragma once

// synchronized: any resource behind one lock, and itself a resource.
//
//      threads ──► synchronized ── lock ──► Resource (owned) ──► upstream, under the lock
//                       └── after unlocking ──► misuse handler
//
//   I1  the owned resource is touched only while the lock is held, or by the destructor.
//   I2  the misuse handler runs without the lock and hears of this object, not of the owned one: a
//       handler may allocate from the resource that it hears about. What release or the destructor
//       finds, a leak or a damaged block, the owned resource reports: under the lock, and naming
//       itself. So does what an upstream finds: it is called under the lock.
//
// Cost: one lock and one unlock a call; reallocate and try_resize check their block twice more.
// Upstream is called with the lock held, so it needs no lock of its own unless others use it too.
// Choose it where threads meet rarely; where they allocate all the time, give each its own resource.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <mutex>
#include <optional>
#include <utility>

#include <strata/resource.hpp>

namespace strata {

namespace detail {

/// Returns: "synchronized_" and `name`, cut where it is longer than any name should be.
constexpr std::array<char, 96> synchronized_name(char const* name) noexcept {
    std::array<char, 96> whole{};
    std::size_t used = 0;
    for (char const* part : {"synchronized_", name})
        for (; *part != '\0' && used + 1 < whole.size(); ++part)
            whole[used++] = *part;
    return whole;
}

} // namespace detail

/// `Mutex` is any BasicLockable type that default-constructs: lock() and unlock() are all it needs.
/// Thread safety: every call but construction and destruction, from any number of threads.
template <class Resource, class Mutex = std::mutex>
class synchronized final : public resource {
  public:
    /// Constructs the owned resource from `arguments`.
    template <class... Arguments>
    requires std::constructible_from<Resource, Arguments...>
    explicit synchronized(Arguments&&... arguments)
        : inner_(std::forward<Arguments>(arguments)...) {}

    /// Calls f(Resource&) under the lock: for what Resource alone has, such as assign or options.
    /// f must not call this object. What f does wrong itself is reported under the lock.
    /// Returns: what f returns.
    template <class Function>
    decltype(auto) apply(Function&& f) {
        std::lock_guard const lock{mutex_};
        return std::forward<Function>(f)(inner_);
    }
    template <class Function>
    decltype(auto) apply(Function&& f) const {
        std::lock_guard const lock{mutex_};
        return std::forward<Function>(f)(inner_);
    }

    // std's calls, for holders of the concrete type without a virtual call.
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = detail::max_align) {
        return do_allocate(bytes, alignment);
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment = detail::max_align) {
        do_deallocate(p, bytes, alignment);
    }

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        std::lock_guard const lock{mutex_};
        return inner_.allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        if (p == nullptr)
            return;
        if (auto const wrong = do_try_deallocate(p, bytes, alignment)) [[unlikely]]
            report(*wrong, p, bytes, alignment);
    }
    std::optional<misuse_kind> do_try_deallocate(void* p, std::size_t bytes,
                                                 std::size_t alignment) override {
        std::lock_guard const lock{mutex_};
        return inner_.try_deallocate(p, bytes, alignment);
    }

    void* do_reallocate(void* p, std::size_t old_bytes, std::size_t new_bytes,
                        std::size_t alignment) override {
        return checked(p, old_bytes, alignment, static_cast<void*>(nullptr),
                       [&] { return inner_.reallocate(p, old_bytes, new_bytes, alignment); });
    }
    // The caller's check ran under a lock of its own: since then, a thread that misuses the block
    // may have freed it.
    bool do_try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                       std::size_t alignment) override {
        return checked(p, old_bytes, alignment, false,
                       [&] { return inner_.try_resize(p, old_bytes, new_bytes, alignment); });
    }

    std::optional<misuse_kind> do_diagnose(void const* p, std::size_t bytes,
                                           std::size_t alignment) const override {
        std::lock_guard const lock{mutex_};
        return inner_.diagnose(p, bytes, alignment);
    }
    bool do_owns(void const* p) const override {
        std::lock_guard const lock{mutex_};
        return inner_.owns(p);
    }
    std::size_t do_good_size(std::size_t bytes, std::size_t alignment) const override {
        std::lock_guard const lock{mutex_};
        return inner_.good_size(bytes, alignment);
    }
    void do_release() override {
        std::lock_guard const lock{mutex_};
        inner_.release();
    }
    std::size_t do_trim() override {
        std::lock_guard const lock{mutex_};
        return inner_.trim();
    }
    statistics do_stats() const override {
        std::lock_guard const lock{mutex_};
        return inner_.stats();
    }
    // The visitor runs under the lock and must not call this object.
    void do_visit_blocks(block_visitor f) const override {
        std::lock_guard const lock{mutex_};
        inner_.visit_blocks(f);
    }
    bool do_check_invariants() const override {
        std::lock_guard const lock{mutex_};
        return inner_.check_invariants();
    }
    std::pmr::memory_resource* do_upstream_resource() const override {
        std::lock_guard const lock{mutex_};
        return inner_.upstream_resource();
    }
    char const* do_name() const noexcept override {
        static auto const name = detail::synchronized_name(inner_.name());
        return name.data();
    }

    /// Returns: what `call` returns, in one lock with the check that p is a live block (or null);
    /// `refusal` after a report without the lock where it is not.
    template <class Result, class Call>
    Result checked(void* p, std::size_t bytes, std::size_t alignment, Result refusal, Call call) {
        std::optional<misuse_kind> wrong;
        {
            std::lock_guard const lock{mutex_};
            wrong = inner_.diagnose(p, bytes, alignment);
            if (!wrong)
                return call();
        }
        report(*wrong, p, bytes, alignment);
        return refusal;
    }

    mutable Mutex mutex_; // I1
    Resource inner_;
};

class best_fit_resource;
class tracked_block_resource;
template <std::size_t Bytes, std::unsigned_integral Index>
class basic_dll_arena_resource;

// Behind a std::mutex; who uses one includes the header of its resource, too. The pools of blocks have
// forms of their own: synchronized_segregated_pool_resource, synchronized_fixed_block_resource.
using synchronized_best_fit_resource = synchronized<best_fit_resource>;
using synchronized_dll_arena_resource =
    synchronized<basic_dll_arena_resource<65536, std::uint16_t>>;
using synchronized_tracked_block_resource = synchronized<tracked_block_resource>;

} // namespace strata
