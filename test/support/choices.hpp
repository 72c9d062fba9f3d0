// SPDX-License-Identifier: BSL-1.0
#pragma once

// Where a drawn program gets its choices from: an engine with a seed, or the bytes of a fuzzer.

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>

namespace strata::test {

class choices {
  public:
    choices(choices const&) = delete;
    choices& operator=(choices const&) = delete;
    virtual ~choices() = default;

    /// Returns: a number below n. Requires: 0 < n <= 2^32.
    std::size_t below(std::size_t n) { return do_below(n); }
    bool one_in(std::size_t n) { return below(n) == 0; }

  protected:
    choices() = default;

  private:
    virtual std::size_t do_below(std::size_t n) = 0;
};

/// Drawn at random.
class random_choices final : public choices {
  public:
    explicit random_choices(std::uint64_t seed) : engine_{seed} {}

  private:
    std::size_t do_below(std::size_t n) override { return engine_() % n; }

    std::mt19937_64 engine_;
};

/// Read from bytes, no more of them for a choice than it needs: a fuzzer that changes one byte
/// changes one choice. Where they have ended each choice is 0.
class byte_choices final : public choices {
  public:
    explicit byte_choices(std::span<std::uint8_t const> bytes) : left_{bytes} {}

    [[nodiscard]] bool are_over() const noexcept { return left_.empty(); }

  private:
    std::size_t do_below(std::size_t n) override {
        std::size_t drawn = 0;
        for (std::size_t most = n - 1; most != 0 && !left_.empty(); most >>= 8) {
            drawn = drawn << 8 | left_.front();
            left_ = left_.subspan(1);
        }
        return drawn % n;
    }

    std::span<std::uint8_t const> left_;
};

} // namespace strata::test
