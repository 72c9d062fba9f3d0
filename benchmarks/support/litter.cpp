// SPDX-License-Identifier: BSL-1.0
#include "litter.hpp"

#include <cmath>
#include <cstring>
#include <random>

namespace strata::bench {

litter::litter(candidate const& who, needs const& need, std::size_t blocks) {
    // Not owned: it lives as long as the program.
    heaps_.push_back({resource_ptr{resource_ptr{}, std::pmr::new_delete_resource()}, {}});
    if (who.has_own_heap)
        heaps_.push_back({who.make(need, std::pmr::new_delete_resource()), {}});
    for (heap& one : heaps_) {
        std::mt19937_64 random{1};
        std::uniform_real_distribution<double> log2_bytes{4, 11};
        auto const take = [&] {
            auto const bytes = static_cast<std::size_t>(std::exp2(log2_bytes(random)));
            void* const p = one.memory->allocate(bytes);
            std::memset(p, 1, bytes);
            return block{p, bytes};
        };
        for (std::size_t i = 0; i < blocks; ++i)
            one.live.push_back(take());
        for (std::size_t i = 0; i < blocks; ++i) {
            block& old = one.live[random() % blocks];
            one.memory->deallocate(old.p, old.bytes);
            old = take();
        }
        for (std::size_t i = 0; i < blocks / 2; ++i) {
            std::swap(one.live[random() % one.live.size()], one.live.back());
            one.memory->deallocate(one.live.back().p, one.live.back().bytes);
            one.live.pop_back();
        }
    }
}

litter::~litter() {
    for (heap& one : heaps_)
        for (block const& left : one.live)
            one.memory->deallocate(left.p, left.bytes);
}

} // namespace strata::bench
