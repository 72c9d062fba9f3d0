// SPDX-License-Identifier: BSL-1.0

// Boost's two pools and Boost.Interprocess's best fit. Each is held by value and called by its
// qualified name, so that it costs one virtual call as all others do, not two.

#include "candidates.hpp"

#include <boost/interprocess/mem_algo/rbtree_best_fit.hpp>
#include <boost/interprocess/sync/mutex_family.hpp>

#ifdef STRATA_WITH_BOOST_CONTAINER
#    include <boost/container/pmr/synchronized_pool_resource.hpp>
#    include <boost/container/pmr/unsynchronized_pool_resource.hpp>
#endif

namespace strata::bench {

namespace {

#ifdef STRATA_WITH_BOOST_CONTAINER
namespace boost_pmr = boost::container::pmr;

// What Boost's pools take their chunks from.
class boost_upstream final : public boost_pmr::memory_resource {
  public:
    explicit boost_upstream(std::pmr::memory_resource* target) : target_{target} {}

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        return target_->allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        target_->deallocate(p, bytes, alignment);
    }
    bool do_is_equal(boost_pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    std::pmr::memory_resource* target_;
};

// They refuse alignments over 16, which go to upstream here.
template <class Pool>
class boost_pool final : public std::pmr::memory_resource {
  public:
    explicit boost_pool(std::pmr::memory_resource* upstream)
        : upstream_{upstream}, boost_upstream_{upstream}, pool_{&boost_upstream_} {}

  private:
    struct open_pool : Pool {
        using Pool::Pool;
        void* take(std::size_t bytes, std::size_t alignment) {
            return Pool::do_allocate(bytes, alignment);
        }
        void give(void* p, std::size_t bytes, std::size_t alignment) {
            Pool::do_deallocate(p, bytes, alignment);
        }
    };

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        return alignment <= boost_pmr::memory_resource::max_align
                   ? pool_.take(bytes, alignment)
                   : upstream_->allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        if (alignment <= boost_pmr::memory_resource::max_align)
            pool_.give(p, bytes, alignment);
        else
            upstream_->deallocate(p, bytes, alignment);
    }
    bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    std::pmr::memory_resource* upstream_;
    boost_upstream boost_upstream_;
    open_pool pool_;
};
#endif

// Boost's rbtree_best_fit, which lives inside the memory that it manages; requests that no longer
// fit go to upstream.
class interprocess_best_fit final : public std::pmr::memory_resource {
  public:
    interprocess_best_fit(std::size_t bytes, std::pmr::memory_resource* upstream)
        : upstream_{upstream},
          bytes_{bytes},
          region_{upstream->allocate(bytes, 64)},
          heap_{::new (region_) algorithm{bytes, 0}} {}
    interprocess_best_fit(interprocess_best_fit const&) = delete;
    interprocess_best_fit& operator=(interprocess_best_fit const&) = delete;
    ~interprocess_best_fit() override {
        heap_->~algorithm();
        upstream_->deallocate(region_, bytes_, 64);
    }

  private:
    using algorithm = boost::interprocess::rbtree_best_fit<boost::interprocess::null_mutex_family>;

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        void* const p =
            alignment <= 16 ? heap_->allocate(bytes) : heap_->allocate_aligned(bytes, alignment);
        return p != nullptr ? p : upstream_->allocate(bytes, alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        if (detail::offset_between(region_, p) < bytes_)
            heap_->deallocate(p);
        else
            upstream_->deallocate(p, bytes, alignment);
    }
    bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    std::pmr::memory_resource* upstream_;
    std::size_t bytes_;
    void* region_;
    algorithm* heap_;
};

} // namespace

void add_boost(candidates& list, [[maybe_unused]] std::vector<std::string>& missing) {
    using upstream_ptr = std::pmr::memory_resource*;
#ifdef STRATA_WITH_BOOST_CONTAINER
    list.push_back({.name = "Boost unsync pool",
                    .about = "boost::container::pmr::unsynchronized_pool_resource",
                    .make = [](needs const&, upstream_ptr upstream) {
                        return make_resource<boost_pool<boost_pmr::unsynchronized_pool_resource>>(
                            upstream);
                    }});
    list.push_back({.name = "Boost sync pool",
                    .about = "boost::container::pmr::synchronized_pool_resource",
                    .thread_safe = true,
                    .is_locked = true,
                    .make = [](needs const&, upstream_ptr upstream) {
                        return make_resource<boost_pool<boost_pmr::synchronized_pool_resource>>(
                            upstream);
                    }});
#else
    missing.push_back("Boost's pools: libboost_container was not found at configuration");
#endif
    list.push_back({.name = "Boost best fit",
                    .about = "Boost.Interprocess rbtree_best_fit in a region 1/8 over the need",
                    .packs_a_region = true,
                    .make = [](needs const& of, upstream_ptr upstream) {
                        return make_resource<interprocess_best_fit>(of.region_bytes(), upstream);
                    }});
}

} // namespace strata::bench
