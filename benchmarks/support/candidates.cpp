// SPDX-License-Identifier: BSL-1.0
#include "candidates.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <stdexcept>

#include <strata/best_fit_resource.hpp>
#include <strata/dll_arena_resource.hpp>
#include <strata/fixed_block_resource.hpp>
#include <strata/segregated_pool_resource.hpp>
#include <strata/synchronized.hpp>
#include <strata/synchronized_fixed_block_resource.hpp>
#include <strata/synchronized_segregated_pool_resource.hpp>
#include <strata/tracked_block_resource.hpp>

namespace strata::bench {

namespace {

// The least that can be done behind a virtual call: blocks of one size, kept in a list whose links
// lie in the freed blocks; nothing is checked, nothing goes back.
class bare_list final : public std::pmr::memory_resource {
  public:
    bare_list(std::size_t block_bytes, std::pmr::memory_resource* upstream)
        : block_bytes_{whole(block_bytes, 16)}, chunks_{upstream} {}

  private:
    struct link {
        link* next;
    };

    void* do_allocate(std::size_t, std::size_t) override {
        if (free_ == nullptr) [[unlikely]]
            return chunks_.allocate(block_bytes_, 16);
        link* const block = free_;
        free_ = block->next;
        return block;
    }
    void do_deallocate(void* p, std::size_t, std::size_t) override {
        free_ = ::new (p) link{free_};
    }
    bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    link* free_ = nullptr;
    std::size_t block_bytes_;
    std::pmr::monotonic_buffer_resource chunks_;
};

// libstdc++ 12 gives a block of 24 bytes for 24 bytes aligned to 16, and aligns it to 8; asked for
// 32 it is right. Called by its qualified name: one virtual call, as for all.
template <class Pool>
class standard_pool final : public Pool {
  public:
    using Pool::Pool;

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        return Pool::do_allocate(whole(bytes, alignment), alignment);
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        Pool::do_deallocate(p, whole(bytes, alignment), alignment);
    }
};

// What tells live blocks from others where no better is at hand: a map from addresses to what was
// asked for, checked at each free. No guards, no order of allocation.
class map_tracker final : public std::pmr::memory_resource {
  public:
    explicit map_tracker(std::pmr::memory_resource* upstream) : upstream_{upstream} {}
    map_tracker(map_tracker const&) = delete;
    map_tracker& operator=(map_tracker const&) = delete;
    ~map_tracker() override {
        for (auto const& [p, of] : live_)
            upstream_->deallocate(p, of.bytes, of.alignment);
    }

  private:
    struct record {
        std::size_t bytes;
        std::size_t alignment;
        std::uint64_t sequence;
    };

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        void* const p = upstream_->allocate(bytes, alignment);
        live_.emplace(p, record{bytes, alignment, ++sequence_});
        return p;
    }
    void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
        auto const found = live_.find(p);
        if (found == live_.end() || found->second.bytes != bytes ||
            found->second.alignment != alignment) {
            std::fprintf(stderr, "map tracker: a wrong free of %p\n", p);
            return;
        }
        live_.erase(found);
        upstream_->deallocate(p, bytes, alignment);
    }
    bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    std::pmr::memory_resource* upstream_; // held, not owned
    std::map<void*, record> live_;
    std::uint64_t sequence_ = 0;
};

// A pool for small blocks that takes its chunks, and what is too large for it, from one region.
struct pool_on_best_fit {
    pool_on_best_fit(needs const& of, std::pmr::memory_resource* upstream)
        : region{of.region_bytes() + of.region_bytes() / 3, upstream},
          pool{segregated_pool_options{.largest_block_bytes = 32768}, &region} {}
    best_fit_resource region;
    segregated_pool_resource pool;
};

// A pool whose chunks are cut off one after the other, and never go back.
struct pool_on_monotonic {
    explicit pool_on_monotonic(std::pmr::memory_resource* upstream)
        : buffer{upstream}, pool{&buffer} {}
    std::pmr::monotonic_buffer_resource buffer;
    segregated_pool_resource pool;
};

// Blocks of the one size where there is one, else runs of 64 bytes.
template <class Resource>
resource_ptr make_fixed_block(needs const& of, std::pmr::memory_resource* upstream) {
    return of.block_bytes != 0
               ? make_resource<Resource>(of.region_bytes(), of.block_bytes, upstream)
               : make_resource<Resource>(of.region_of_64_bytes(), std::size_t{64}, upstream);
}

} // namespace

void add_standard(candidates& list) {
    using upstream_ptr = std::pmr::memory_resource*;
    list.push_back({.name = "bare list",
                    .about = "one size, a LIFO list, no checks: the floor under a virtual call",
                    .side = side::reference,
                    .one_size_only = true,
                    .make = [](needs const& of, upstream_ptr upstream) {
                        return make_resource<bare_list>(of.block_bytes, upstream);
                    }});
    list.push_back({.name = "std monotonic",
                    .about = "std::pmr::monotonic_buffer_resource: frees nothing until the end",
                    .side = side::reference,
                    .frees = false,
                    .make = [](needs const&, upstream_ptr upstream) {
                        return make_resource<std::pmr::monotonic_buffer_resource>(upstream);
                    }});
    list.push_back({.name = "new_delete",
                    .about = "std::pmr::new_delete_resource(), over the C library's malloc",
                    .thread_safe = true,
                    .make = [](needs const&, upstream_ptr upstream) {
                        return resource_ptr{resource_ptr{}, upstream};
                    }});
    list.push_back({.name = "std unsync pool",
                    .about = "std::pmr::unsynchronized_pool_resource, default options",
                    .make = [](needs const&, upstream_ptr upstream) {
                        return make_resource<standard_pool<std::pmr::unsynchronized_pool_resource>>(
                            upstream);
                    }});
    list.push_back({.name = "std sync pool",
                    .about = "std::pmr::synchronized_pool_resource, default options",
                    .thread_safe = true,
                    .is_locked = true,
                    .make = [](needs const&, upstream_ptr upstream) {
                        return make_resource<standard_pool<std::pmr::synchronized_pool_resource>>(
                            upstream);
                    }});
    list.push_back({.name = "map tracker",
                    .about = "new_delete, and a std::map from addresses to sizes, checked at frees",
                    .upstream_tells = false, // of the map's nodes
                    .make = [](needs const&, upstream_ptr upstream) {
                        return make_resource<map_tracker>(upstream);
                    }});
}

void add_strata(candidates& list) {
    using upstream_ptr = std::pmr::memory_resource*;
    list.push_back({.name = "segregated_pool",
                    .about = "default options: to 512 bytes, larger ones upstream",
                    .side = side::strata,
                    .make = [](needs const&, upstream_ptr upstream) {
                        return make_resource<segregated_pool_resource>(upstream);
                    }});
    list.push_back({.name = "segregated_pool 32K",
                    .about = "largest_block_bytes = 32 KiB, larger ones upstream",
                    .side = side::strata,
                    .make = [](needs const&, upstream_ptr upstream) {
                        return make_resource<segregated_pool_resource>(
                            segregated_pool_options{.largest_block_bytes = 32768}, upstream);
                    }});
    list.push_back({.name = "segregated_pool/best_fit",
                    .about = "to 32 KiB, its chunks and larger blocks from best_fit, 1/2 over the "
                             "need",
                    .side = side::strata,
                    .make = [](needs const& of, upstream_ptr upstream) {
                        auto both = std::make_shared<pool_on_best_fit>(of, upstream);
                        return resource_ptr{both, &both->pool};
                    }});
    list.push_back({.name = "segregated_pool/monotonic",
                    .about = "default options, over std's monotonic buffer",
                    .side = side::strata,
                    .make = [](needs const&, upstream_ptr upstream) {
                        auto both = std::make_shared<pool_on_monotonic>(upstream);
                        return resource_ptr{both, &both->pool};
                    }});
    list.push_back({.name = "best_fit",
                    .about = "one region, 1/8 over the need",
                    .side = side::strata,
                    .packs_a_region = true,
                    .make = [](needs const& of, upstream_ptr upstream) {
                        return make_resource<best_fit_resource>(of.region_bytes(), upstream);
                    }});
    list.push_back({.name = "best_fit deferring",
                    .about = "as best_fit, 256 KiB at most wait to be merged",
                    .side = side::strata,
                    .packs_a_region = true,
                    .make = [](needs const& of, upstream_ptr upstream) {
                        return make_resource<best_fit_resource>(
                            of.region_bytes(), best_fit_options{.deferred_bytes = 256 * 1024},
                            upstream);
                    }});
    list.push_back({.name = "fixed_block",
                    .about = "blocks of the one size, else runs of 64 bytes; 1/8 over the need",
                    .side = side::strata,
                    .make = make_fixed_block<fixed_block_resource>});
    list.push_back({.name = "dll_arena",
                    .about = "64 KiB inside the object, what does not fit upstream",
                    .side = side::strata,
                    .upstream_tells = false,
                    .make = [](needs const&, upstream_ptr upstream) {
                        return make_resource<dll_arena_resource>(upstream);
                    }});
    list.push_back({.name = "tracked_block",
                    .about = "no budget, no reserve, no call stacks; over new_delete",
                    .side = side::strata,
                    .make = [](needs const&, upstream_ptr upstream) {
                        return make_resource<tracked_block_resource>(upstream);
                    }});
    list.push_back({.name = "sync best_fit",
                    .about = "synchronized_best_fit_resource, as best_fit",
                    .side = side::strata,
                    .thread_safe = true,
                    .is_locked = true,
                    .make = [](needs const& of, upstream_ptr upstream) {
                        return make_resource<synchronized_best_fit_resource>(of.region_bytes(),
                                                                             upstream);
                    }});
    list.push_back({.name = "sync fixed_block",
                    .about = "synchronized_fixed_block_resource, as fixed_block",
                    .side = side::strata,
                    .thread_safe = true,
                    .make = make_fixed_block<synchronized_fixed_block_resource>});
    list.push_back({.name = "sync segregated_pool",
                    .about = "synchronized_segregated_pool_resource, default options",
                    .side = side::strata,
                    .thread_safe = true,
                    .make = [](needs const&, upstream_ptr upstream) {
                        return make_resource<synchronized_segregated_pool_resource>(upstream);
                    }});
}

namespace {

// Whether the name holds one of the texts between commas.
bool is_named(candidate const& one, std::string const& texts) {
    std::size_t begin = 0;
    for (std::size_t end = 0; end != texts.npos; begin = end + 1) {
        end = texts.find(',', begin);
        if (one.name.find(texts.substr(begin, end - begin)) != one.name.npos)
            return true;
    }
    return false;
}

} // namespace

candidates select(std::string const& name_parts) {
    candidates all;
    std::vector<std::string> missing;
    add_standard(all);
    add_strata(all);
    add_boost(all, missing);
    add_foonathan(all, missing);
    add_mallocs(all, missing);
    for (std::string const& reason : missing)
        std::fprintf(stderr, "without %s\n", reason.c_str());
    std::erase_if(all, [&](candidate const& one) { return !is_named(one, name_parts); });
    if (all.empty())
        throw std::runtime_error{"no candidate's name holds \"" + name_parts + "\""};
    std::ranges::stable_sort(all, {}, [](candidate const& one) { return one.side; });
    return all;
}

void add_prefaulted(candidates& to) {
    auto const plain = std::ranges::find(to, "fixed_block", &candidate::name);
    if (plain == to.end())
        return;
    to.insert(plain + 1, {.name = "fixed_block prefault",
                          .about = "as fixed_block, its pages touched in the constructor",
                          .side = side::strata,
                          .make = [](needs const& of, std::pmr::memory_resource* upstream) {
                              return make_resource<fixed_block_resource>(
                                  of.region_bytes(), of.block_bytes,
                                  fixed_block_options{.prefault = true}, upstream);
                          }});
}

void list(candidates const& who) {
    for (candidate const& one : who)
        std::printf("%-22s%s\n", one.name.c_str(), one.about.c_str());
}

} // namespace strata::bench
