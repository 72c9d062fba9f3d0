// SPDX-License-Identifier: BSL-1.0

// foonathan/memory: its pool collection for many sizes, its pool for one.

#include "candidates.hpp"

#ifdef STRATA_WITH_FOONATHAN
#    include <foonathan/memory/memory_pool.hpp>
#    include <foonathan/memory/memory_pool_collection.hpp>
#endif

namespace strata::bench {

#ifdef STRATA_WITH_FOONATHAN
namespace {

namespace fm = foonathan::memory;

constexpr std::size_t block_bytes = 524288; // its arenas' first block; they double
constexpr std::size_t largest_node_bytes = 512;

// foonathan's RawAllocator over a memory_resource.
class raw_upstream {
  public:
    using is_stateful = std::true_type;
    explicit raw_upstream(std::pmr::memory_resource* target) : target_{target} {}

    void* allocate_node(std::size_t bytes, std::size_t alignment) {
        return target_->allocate(bytes, alignment);
    }
    void deallocate_node(void* p, std::size_t bytes, std::size_t alignment) noexcept {
        target_->deallocate(p, bytes, alignment);
    }

  private:
    std::pmr::memory_resource* target_;
};

// Its nodes are aligned to the largest power of two that divides their size, 16 at most: sizes are
// rounded up to the alignment. What is larger than the largest node goes upstream.
class foonathan_collection final : public std::pmr::memory_resource {
  public:
    explicit foonathan_collection(std::pmr::memory_resource* upstream)
        : upstream_{upstream}, pools_{largest_node_bytes, block_bytes, raw_upstream{upstream}} {}

  private:
    static bool pooled(std::size_t bytes, std::size_t alignment) {
        return bytes <= largest_node_bytes && alignment <= 16;
    }
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        return pooled(bytes, alignment) ? pools_.allocate_node(whole(bytes, alignment))
                                        : upstream_->allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        if (pooled(bytes, alignment))
            pools_.deallocate_node(p, whole(bytes, alignment));
        else
            upstream_->deallocate(p, bytes, alignment);
    }
    bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    std::pmr::memory_resource* upstream_;
    fm::memory_pool_collection<fm::node_pool, fm::identity_buckets, raw_upstream> pools_;
};

class foonathan_pool final : public std::pmr::memory_resource {
  public:
    foonathan_pool(std::size_t node_bytes, std::pmr::memory_resource* upstream)
        : pool_{whole(node_bytes, 16), block_bytes, raw_upstream{upstream}} {}

  private:
    void* do_allocate(std::size_t, std::size_t) override { return pool_.allocate_node(); }
    void do_deallocate(void* p, std::size_t, std::size_t) override { pool_.deallocate_node(p); }
    bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    fm::memory_pool<fm::node_pool, raw_upstream> pool_;
};

} // namespace

void add_foonathan(candidates& list, std::vector<std::string>&) {
    using upstream_ptr = std::pmr::memory_resource*;
    list.push_back({.name = "foonathan pools",
                    .about = "memory_pool_collection<node_pool, identity_buckets> to 512 bytes",
                    .make = [](needs const&, upstream_ptr upstream) {
                        return make_resource<foonathan_collection>(upstream);
                    }});
    list.push_back({.name = "foonathan pool",
                    .about = "memory_pool<node_pool> of the one size",
                    .one_size_only = true,
                    .make = [](needs const& of, upstream_ptr upstream) {
                        return make_resource<foonathan_pool>(of.block_bytes, upstream);
                    }});
}
#else
void add_foonathan(candidates&, std::vector<std::string>& missing) {
    missing.push_back("foonathan/memory: not found at configuration");
}
#endif

} // namespace strata::bench
