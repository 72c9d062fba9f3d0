// SPDX-License-Identifier: BSL-1.0
#pragma once

// What tests of resources for threads share.

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include <strata/detail/segregated_base.hpp>
#include <strata/misuse.hpp>
#include <strata/resource.hpp>

#include "misuse_recorder.hpp"

namespace strata::test {

/// Slabs of four blocks of 1000 bytes, eight of 500, a thread's first of half as many: so small that they
/// are emptied and filled all the time.
inline constexpr segregated_pool_options tiny{
    .largest_block_bytes = 1024, .slab_bytes = 4096, .largest_chunk_bytes = 16384};

/// Calls f(0), f(1) … each on a thread of its own, and waits for them.
template <class Function>
void on_threads(std::size_t count, Function const& f) {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < count; ++i)
        threads.emplace_back([&f, i] { f(i); });
    for (std::thread& thread : threads)
        thread.join();
}

/// Takes a block, frees it on another thread in ways that are wrong, once as it should, then twice more,
/// and what no resource served. Returns: what was reported of each, in words; nothing of the right one.
inline std::vector<std::string> freed_wrongly(resource& r, std::size_t bytes) {
    misuse_recorder recorder;
    std::vector<std::string> heard;
    auto const note = [&] {
        std::string& words = heard.emplace_back();
        for (misuse const& what : recorder.take())
            words += what.where == &r ? to_string(what.kind) : "of another resource";
    };
    auto const free_elsewhere = [&](void* p, std::size_t with_bytes) {
        std::thread{[&] { r.deallocate(p, with_bytes); }}.join();
        note();
    };
    auto* const p = static_cast<std::byte*>(r.allocate(bytes));
    free_elsewhere(p + 1, bytes);
    free_elsewhere(p, bytes + 3000);
    free_elsewhere(p, bytes);
    r.deallocate(p, bytes);
    note();
    free_elsewhere(p, bytes);
    int foreign = 0;
    free_elsewhere(&foreign, sizeof foreign);
    return heard;
}
inline std::vector<std::string> const reported_of_freed_wrongly{
    "misaligned pointer", "size mismatch", "", "double free", "double free", "foreign pointer"};

/// A block filled with a value of its own, which must still be there when it goes.
class filled_block {
  public:
    filled_block() = default;
    filled_block(std::pmr::memory_resource& from, std::size_t bytes, unsigned char value)
        : p_{static_cast<unsigned char*>(from.allocate(bytes))}, bytes_{bytes}, value_{value} {
        std::memset(p_, value, bytes);
    }
    /// Returns: whether the content was there.
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

/// Replaces blocks at random; leaves none. Returns: whether all content was there.
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

/// Blocks on their way from thread to thread.
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

/// Four threads allocate, four others free. Returns: whether all content was there.
inline bool producers_and_consumers(std::pmr::memory_resource& in, std::uint64_t seed,
                                    std::size_t most_bytes) {
    belt between;
    std::atomic<int> unsound{0};
    std::atomic<int> producing{4};
    on_threads(8, [&](std::size_t i) {
        std::mt19937_64 random{seed + i};
        if (i < 4) {
            for (int k = 0; k < 10'000; ++k)
                between.put({in, 1 + random() % most_bytes, static_cast<unsigned char>(random())});
            --producing;
            return;
        }
        for (;;) {
            bool const is_last = producing == 0;
            auto block = between.take();
            if (block && !block->give_back(in))
                ++unsound;
            if (!block && is_last)
                return;
            if (!block)
                std::this_thread::yield();
        }
    });
    return unsound == 0;
}

/// Asks for all there is to ask while two threads work. Returns: whether all was as it should be.
inline bool answers_while_threads_work(resource& of, std::uint64_t seed) {
    std::atomic<int> working{2};
    std::atomic<int> unsound{0};
    void* const own = of.allocate(60); // before there is no room left
    on_threads(3, [&](std::size_t i) {
        if (i < 2) {
            if (!churn(of, seed + i, 25'000, 1500))
                ++unsound;
            --working;
            return;
        }
        while (working != 0) {
            auto const s = of.stats();
            std::size_t blocks = 0;
            of.visit_blocks([&](block_info const&) { ++blocks; });
            if (s.live_blocks == 0 || blocks == 0 || !of.owns(own) || of.diagnose(own, 60, 16))
                ++unsound;
        }
    });
    of.deallocate(own, 60);
    return unsound == 0;
}

/// Returns: what f() says in a child process, within 20 s.
template <class Function>
bool is_sound_in_a_child(Function const& f) {
    pid_t const child = ::fork();
    if (child == 0) {
        ::alarm(20); // a lock that nobody holds would never be let go
        ::_exit(f() ? 0 : 1);
    }
    int status = 1;
    while (::waitpid(child, &status, 0) == -1 && errno == EINTR) { // a fuzzer's clock
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// Forks again and again while another thread works. Returns: whether each child worked and ended.
inline bool children_can_use(resource& of, std::uint64_t seed) {
    std::atomic<bool> done{false};
    std::thread other{[&] {
        for (std::uint64_t i = 0; !done; ++i)
            churn(of, seed + i, 1000, 1000);
    }};
    bool sound = true;
    for (int i = 0; i < 30; ++i)
        sound = is_sound_in_a_child([&] { return churn(of, seed, 5000, 1000); }) && sound;
    done = true;
    other.join();
    return sound;
}

/// Whether the user has nothing of it.
inline bool is_empty(resource const& of) {
    auto const s = of.stats();
    return s.live_blocks == 0 && s.live_bytes == 0 && s.requested_bytes == 0;
}

} // namespace strata::test
