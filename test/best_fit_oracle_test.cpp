// SPDX-License-Identifier: BSL-1.0

// best_fit_resource takes the smallest free block that fits, every time: a model of the free memory
// says so for every request of real programs. STRATA_TRACES names a directory with other traces.

#define BOOST_TEST_MODULE best_fit_oracle
#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <vector>

#include <strata/best_fit_resource.hpp>

#include "trace/trace.hpp"

namespace {

constexpr std::size_t granule = 16;

// The free blocks of a region by place, merged with their neighbours, and their sizes.
class free_memory {
  public:
    explicit free_memory(std::size_t bytes) { add(0, bytes); }

    /// Returns: whether offset is the front of a smallest block of at least `bytes`.
    [[nodiscard]] bool is_smallest(std::size_t offset, std::size_t bytes) const {
        auto const at = blocks_.find(offset);
        auto const smallest = sizes_.lower_bound(bytes);
        return at != blocks_.end() && smallest != sizes_.end() && at->second == *smallest;
    }

    /// Returns: whether [offset, offset + bytes) was free.
    bool take(std::size_t offset, std::size_t bytes) {
        auto at = blocks_.upper_bound(offset);
        if (at == blocks_.begin())
            return false;
        auto const [first, size] = *--at;
        if (first + size < offset + bytes)
            return false;
        remove(at);
        if (first != offset)
            add(first, offset - first);
        if (first + size != offset + bytes)
            add(offset + bytes, first + size - offset - bytes);
        return true;
    }

    void give(std::size_t offset, std::size_t bytes) {
        auto next = blocks_.lower_bound(offset);
        if (next != blocks_.end() && next->first == offset + bytes) {
            bytes += next->second;
            next = remove(next);
        }
        if (next != blocks_.begin()) {
            auto const before = std::prev(next);
            if (before->first + before->second == offset) {
                offset = before->first;
                bytes += before->second;
                remove(before);
            }
        }
        add(offset, bytes);
    }

    [[nodiscard]] bool fits(std::size_t bytes) const {
        return sizes_.lower_bound(bytes) != sizes_.end();
    }
    [[nodiscard]] std::size_t blocks() const { return blocks_.size(); }

  private:
    using places = std::map<std::size_t, std::size_t>;

    void add(std::size_t offset, std::size_t bytes) {
        blocks_.emplace(offset, bytes);
        sizes_.insert(bytes);
    }
    places::iterator remove(places::iterator block) {
        sizes_.erase(sizes_.find(block->second));
        return blocks_.erase(block);
    }

    places blocks_;
    std::multiset<std::size_t> sizes_;
};

// Passes calls on, and asks the model about each.
class judged {
  public:
    judged(strata::best_fit_resource& region, std::size_t bytes) : region_{region}, free_{bytes} {
        region_.visit_blocks([&](strata::block_info const& whole) {
            base_ = static_cast<std::byte const*>(whole.address);
        });
    }

    void* allocate(std::size_t bytes, std::size_t alignment) {
        void* const p = region_.allocate(bytes, alignment);
        if (region_.owns(p)) {
            std::size_t const size = region_.good_size(bytes);
            BOOST_REQUIRE(alignment > granule || free_.is_smallest(offset_of(p), size));
            BOOST_REQUIRE(free_.take(offset_of(p), size));
            ++inside_;
        } else { // no block is sure to have room for it
            BOOST_REQUIRE(!free_.fits(region_.good_size(bytes) + alignment - granule));
        }
        return p;
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment) {
        if (region_.owns(p))
            free_.give(offset_of(p), region_.good_size(bytes));
        region_.deallocate(p, bytes, alignment);
    }

    [[nodiscard]] std::size_t inside() const { return inside_; }
    [[nodiscard]] std::size_t free_blocks() const { return free_.blocks(); }

  private:
    [[nodiscard]] std::size_t offset_of(void const* p) const {
        return static_cast<std::size_t>(static_cast<std::byte const*>(p) - base_);
    }

    strata::best_fit_resource& region_;
    free_memory free_;
    std::byte const* base_ = nullptr;
    std::size_t inside_ = 0;
};

std::filesystem::path traces() {
    char const* const others = std::getenv("STRATA_TRACES");
    return others != nullptr ? others : STRATA_TRACE_DIRECTORY;
}

} // namespace

BOOST_AUTO_TEST_SUITE(best_fit_oracle)

BOOST_AUTO_TEST_CASE(every_request_of_real_programs_gets_the_smallest_block_that_fits) {
    std::size_t replayed = 0;
    for (auto const& file : std::filesystem::directory_iterator{traces()}) {
        if (file.path().extension() != ".xz")
            continue;
        auto const of = strata::trace::read(file.path());
        // What fits just so, and what does not.
        for (std::size_t sixteenths : {18u, 15u}) {
            std::size_t const bytes = of.peak_live_bytes / 16 * sixteenths / granule * granule;
            strata::best_fit_resource region{bytes};
            judged through{region, bytes};
            strata::trace::block_table blocks{of};
            strata::trace::replay(of, through, blocks);
            BOOST_TEST(region.check_invariants());
            BOOST_TEST(region.stats().free_blocks == through.free_blocks());
            strata::trace::free_rest(blocks, through);
            BOOST_TEST(through.free_blocks() == 1u);
            BOOST_TEST(region.stats().free_blocks == 1u);
            BOOST_TEST_MESSAGE(of.name << ", " << bytes << " bytes: " << through.inside()
                                       << " requests inside");
            ++replayed;
        }
    }
    BOOST_TEST(replayed >= 2u);
}

BOOST_AUTO_TEST_SUITE_END()
