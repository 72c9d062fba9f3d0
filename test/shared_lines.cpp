// SPDX-License-Identifier: BSL-1.0

// To be run by shared_lines.py: two threads use a resource in turns, never at the same time, and say
// when, so that a trace of all loads and stores tells which lines of memory both of them touch.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <thread>
#include <utility>

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <valgrind/valgrind.h>

#include <strata/synchronized_fixed_block_resource.hpp>
#include <strata/synchronized_segregated_pool_resource.hpp>

namespace {

// The mutexes that a thread has locked in its turn, and how often.
struct locked {
    void* mutex;
    unsigned times;
};
thread_local std::array<locked, 256> locks_taken{};
int (*real_lock)(pthread_mutex_t*) = nullptr;

} // namespace

extern "C" int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
    locked* here = locks_taken.data();
    while (here->mutex != nullptr && here->mutex != mutex)
        ++here;
    *here = {mutex, here->times + 1};
    if (real_lock == nullptr)
        real_lock =
            reinterpret_cast<int (*)(pthread_mutex_t*)>(::dlsym(RTLD_NEXT, "pthread_mutex_lock"));
    return real_lock(mutex);
}

namespace {

// Says what is where, for those who read of shared lines.
class telling_upstream final : public std::pmr::memory_resource {
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        void* const p = std::pmr::new_delete_resource()->allocate(bytes, alignment);
        VALGRIND_PRINTF("@range upstream-%zu %p %zu\n", bytes, p, bytes);
        return p;
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
    }
    bool do_is_equal(memory_resource const& other) const noexcept override {
        return this == &other;
    }
};

struct block {
    void* p;
    std::size_t bytes;
};

constexpr std::size_t live = 512;

// What a thread has of its own, in lines of its own.
struct alignas(64) worker {
    std::array<block, live> blocks{};
    std::uint64_t state = 0;
    sem_t turn{};

    std::size_t random(std::size_t below) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return static_cast<std::size_t>(state >> 33) % below;
    }
};

class experiment {
  public:
    experiment(char const* name, std::pmr::memory_resource& memory, std::size_t object_bytes)
        : name_{name}, memory_{memory} {
        VALGRIND_PRINTF("@range object %p %zu\n", static_cast<void*>(&memory), object_bytes);
        VALGRIND_PRINTF("@range program %p %zu\n", static_cast<void*>(&workers_), sizeof workers_);
        for (std::size_t i = 0; i < 2; ++i) {
            workers_[i].state = i;
            sem_init(&workers_[i].turn, 0, 0);
        }
    }

    /// `turn(worker, which one)` by each of two threads in turn. Returns: what it adds up to.
    template <class Turn>
    void run(int rounds, Turn const& turn) {
        std::array<std::thread, 2> threads;
        for (std::size_t i = 0; i < 2; ++i)
            threads[i] = std::thread{[&, i] { work(i, rounds, turn); }};
        sem_post(&workers_[0].turn);
        for (std::thread& thread : threads)
            thread.join();
    }

    void allocate(block& one, std::size_t bytes) { one = {memory_.allocate(bytes, 8), bytes}; }
    void deallocate(block& one) { memory_.deallocate(one.p, one.bytes, 8); }
    worker& other(std::size_t i) { return workers_[1 - i]; }

  private:
    // The first half of the rounds is the way to a steady state.
    template <class Turn>
    void work(std::size_t i, int rounds, Turn const& turn) {
        worker& own = workers_[i];
        for (int round = 0; round < rounds; ++round) {
            sem_wait(&own.turn);
            bool const counts = round >= rounds / 2;
            if (counts)
                VALGRIND_PRINTF("@begin %s %zu\n", name_, i);
            locks_taken.fill({});
            std::size_t const ops = turn(own, i);
            if (counts)
                VALGRIND_PRINTF("@end %zu\n", ops);
            for (locked const& one : locks_taken)
                if (counts && one.times != 0)
                    VALGRIND_PRINTF("@locks %s %zu %p %u\n", name_, i, one.mutex, one.times);
            sem_post(&workers_[1 - i].turn);
        }
    }

    char const* name_;
    std::pmr::memory_resource& memory_;
    std::array<worker, 2> workers_;
};

template <class Resource>
void try_all(std::array<char const*, 4> names, Resource& memory, std::size_t most_bytes) {
    auto const size = [most_bytes](worker& own) { return 8 + own.random(most_bytes - 7); };
    {
        experiment pairs{names[0], memory, sizeof memory};
        pairs.run(6, [&](worker& own, std::size_t) {
            for (int i = 0; i < 200; ++i) {
                pairs.allocate(own.blocks[0], size(own));
                pairs.deallocate(own.blocks[0]);
            }
            return std::size_t{400};
        });
    }
    {
        // A random quarter goes and comes again, so that magazines are filled and emptied.
        experiment tide{names[1], memory, sizeof memory};
        tide.run(8, [&](worker& own, std::size_t) {
            std::array<std::size_t, live / 4> gone{};
            for (block& one : own.blocks)
                if (one.p == nullptr)
                    tide.allocate(one, size(own));
            for (std::size_t& i : gone) {
                do
                    i = own.random(live);
                while (own.blocks[i].p == nullptr);
                tide.deallocate(own.blocks[i]);
                own.blocks[i].p = nullptr;
            }
            for (std::size_t const i : gone)
                tide.allocate(own.blocks[i], own.blocks[i].bytes);
            return 2 * gone.size();
        });
    }
    {
        experiment churn{names[2], memory, sizeof memory};
        churn.run(8, [&](worker& own, std::size_t) {
            for (block& one : own.blocks)
                if (one.p == nullptr)
                    churn.allocate(one, size(own));
            for (int i = 0; i < 500; ++i) {
                block& one = own.blocks[own.random(live)];
                churn.deallocate(one);
                churn.allocate(one, size(own));
            }
            return std::size_t{1000};
        });
    }
    {
        experiment handed{names[3], memory, sizeof memory};
        handed.run(8, [&](worker& own, std::size_t i) {
            for (block& one : i == 0 ? own.blocks : handed.other(i).blocks)
                if (i == 0)
                    handed.allocate(one, size(own));
                else
                    handed.deallocate(one);
            return live;
        });
    }
}

} // namespace

int main() {
    telling_upstream upstream;
    strata::synchronized_segregated_pool_resource pool{&upstream};
    try_all({"pool:pairs", "pool:tide", "pool:churn", "pool:handed-over"}, pool, 512);
    strata::synchronized_fixed_block_resource blocks{4096 * 64, 64, &upstream};
    try_all({"fixed:pairs", "fixed:tide", "fixed:churn", "fixed:handed-over"}, blocks, 64);
}
