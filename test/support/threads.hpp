// SPDX-License-Identifier: BSL-1.0
#pragma once

// What tests of resources for threads share.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace strata::test {

/// Calls f(0), f(1) … each on a thread of its own, and waits for them.
template <class Function>
void on_threads(std::size_t count, Function const& f) {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < count; ++i)
        threads.emplace_back([&f, i] { f(i); });
    for (std::thread& thread : threads)
        thread.join();
}

// A block filled with a value of its own, which must still be there when it goes.
class filled_block {
  public:
    filled_block() = default;
    filled_block(std::pmr::memory_resource& from, std::size_t bytes, unsigned char value)
        : p_{static_cast<unsigned char*>(from.allocate(bytes))}, bytes_{bytes}, value_{value} {
        std::memset(p_, value, bytes);
    }
    // Returns: whether the content was there.
    bool give_back(std::pmr::memory_resource& to) {
        bool const sound =
            std::all_of(p_, p_ + bytes_, [this](unsigned char byte) { return byte == value_; });
        to.deallocate(std::exchange(p_, nullptr), bytes_);
        return sound;
    }
    [[nodiscard]] bool is_live() const { return p_ != nullptr; }

  private:
    unsigned char* p_ = nullptr;
    std::size_t bytes_ = 0;
    unsigned char value_ = 0;
};

// Replaces blocks at random; leaves none. Returns: whether all content was there.
inline bool churn(std::pmr::memory_resource& in, std::uint64_t seed, int steps,
                  std::size_t most_bytes) {
    std::mt19937_64 random{seed};
    std::vector<filled_block> blocks(300);
    bool sound = true;
    for (int i = 0; i < steps; ++i) {
        filled_block& block = blocks[random() % blocks.size()];
        if (block.is_live())
            sound = block.give_back(in) && sound;
        else
            block = {in, 1 + random() % most_bytes, static_cast<unsigned char>(random())};
        if (random() % 256 == 0)
            std::this_thread::yield();
    }
    for (filled_block& block : blocks)
        if (block.is_live())
            sound = block.give_back(in) && sound;
    return sound;
}

// Blocks on their way from thread to thread.
class belt {
  public:
    void put(filled_block block) {
        std::lock_guard const lock{mutex_};
        blocks_.push_back(block);
    }
    std::optional<filled_block> take() {
        std::lock_guard const lock{mutex_};
        if (blocks_.empty())
            return std::nullopt;
        filled_block const block = blocks_.back();
        blocks_.pop_back();
        return block;
    }

  private:
    std::mutex mutex_;
    std::vector<filled_block> blocks_;
};

} // namespace strata::test
