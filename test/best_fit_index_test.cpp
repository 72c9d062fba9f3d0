// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE best_fit_index
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <sys/mman.h>

#include <strata/detail/best_fit_index.hpp>

#include "support/seed.hpp"
#include "support/valgrind.hpp"

namespace {

using strata::detail::best_fit_index;
using granule = best_fit_index::granule;

// Memory of which only the granules that an index writes to are ever touched.
class granules {
  public:
    explicit granules(std::size_t n)
        : bytes_{n * best_fit_index::words::granule_bytes},
          memory_{::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)} {
        BOOST_REQUIRE(memory_ != MAP_FAILED);
    }
    granules(granules const&) = delete;
    granules& operator=(granules const&) = delete;
    ~granules() { ::munmap(memory_, bytes_); }

    [[nodiscard]] best_fit_index::words words() const noexcept {
        return {static_cast<std::byte*>(memory_)};
    }

  private:
    std::size_t bytes_;
    void* memory_;
};

// An index, and the simplest thing that does the same.
class pair_of_both {
  public:
    explicit pair_of_both(best_fit_index::words memory) : memory_{memory} {}

    void insert(granule g, granule size) {
        index.insert(memory_, g, size);
        sizes_.insert(size);
        places_[g] = size;
    }
    void remove(granule g) {
        index.remove(memory_, g, places_.at(g));
        sizes_.erase(sizes_.find(places_.at(g)));
        places_.erase(g);
    }
    void replace(granule g, granule instead, granule size) {
        index.replace(memory_, g, places_.at(g), instead, size);
        sizes_.erase(sizes_.find(places_.at(g)));
        sizes_.insert(size);
        places_.erase(g);
        places_[instead] = size;
    }
    // Returns: the place of the first block in [from, to); 0: there is none.
    [[nodiscard]] granule place_in(granule from, granule to) const {
        auto const found = places_.lower_bound(from);
        return found != places_.end() && found->first < to ? found->first : 0;
    }
    [[nodiscard]] granule some_size(std::size_t i) const {
        return std::next(places_.begin(), static_cast<std::ptrdiff_t>(i % places_.size()))->second;
    }
    [[nodiscard]] bool empty() const { return places_.empty(); }

    // Returns: whether the index finds a smallest block of at least `size`, as the model does.
    [[nodiscard]] bool agree_on(granule size) const {
        granule const found = index.find(memory_, size);
        auto const expected = sizes_.lower_bound(size);
        if (expected == sizes_.end())
            return found == 0;
        return places_.contains(found) && places_.at(found) == *expected;
    }
    [[nodiscard]] bool agree_on_all() const {
        std::map<granule, granule> seen;
        bool const sound = index.check(memory_, ~granule{0},
                                       [&](granule g, granule size) { seen.emplace(g, size); });
        granule const most = sizes_.empty() ? 0 : *sizes_.rbegin();
        return sound && seen == places_ && index.largest(memory_) == most;
    }

    best_fit_index index{};

  private:
    best_fit_index::words memory_;
    std::map<granule, granule> places_; // sizes by place
    std::multiset<granule> sizes_;
};

// Sizes where something changes: exact bins to tries, octave to octave, bin to bin.
std::vector<granule> border_sizes(granule most) {
    std::vector<granule> sizes{1, 2, 3, 63, 64, 65, 127, 128};
    for (std::uint64_t octave = 512; octave <= most; octave *= 2)
        for (std::uint64_t bin : {0u, 1u, 15u, 31u})
            for (std::uint64_t size = octave + bin * octave / 32 - 1;
                 size <= octave + bin * octave / 32 + 1; ++size)
                if (size <= most)
                    sizes.push_back(static_cast<granule>(size));
    return sizes;
}

} // namespace

BOOST_AUTO_TEST_SUITE(best_fit_index_promises)

BOOST_AUTO_TEST_CASE(a_block_of_every_size_is_found_by_what_fits_and_by_nothing_larger) {
    constexpr granule most = 40000;
    granules const memory{most};
    best_fit_index index{};
    for (granule size = 1; size <= most; ++size) {
        index.insert(memory.words(), 1, size);
        BOOST_REQUIRE(index.find(memory.words(), 1) == 1u);
        BOOST_REQUIRE(index.find(memory.words(), size) == 1u);
        BOOST_REQUIRE(index.find(memory.words(), size + 1) == 0u);
        BOOST_REQUIRE(index.largest(memory.words()) == size);
        index.remove(memory.words(), 1, size);
        BOOST_REQUIRE(index.find(memory.words(), 1) == 0u);
        BOOST_REQUIRE(index.largest(memory.words()) == 0u);
    }
}

BOOST_AUTO_TEST_CASE(of_any_three_sizes_at_a_border_the_smallest_that_fits_is_found) {
    constexpr granule most = 4096;
    granules const memory{std::size_t{3} * (most + 1)};
    auto const sizes = border_sizes(most);
    for (granule const a : sizes)
        for (granule const b : sizes)
            for (granule const c : {a, b, granule{512}, granule{1055}, most}) {
                pair_of_both both{memory.words()};
                both.insert(1, a);
                both.insert(1 + most, b);
                both.insert(1 + 2 * most, c);
                bool agreed = both.agree_on_all();
                for (granule const size : {a, b, c})
                    agreed = agreed && both.agree_on(size - (size > 1 ? 1 : 0)) &&
                             both.agree_on(size) && both.agree_on(size + 1);
                both.remove(1 + most);
                BOOST_REQUIRE((agreed && both.agree_on(b) && both.agree_on_all()));
            }
}

BOOST_AUTO_TEST_CASE(sizes_up_to_64_gib,
                     *boost::unit_test::enable_if<sizeof(void*) == 8>() *
                         boost::unit_test::precondition(strata::test::is_without_valgrind)) {
    constexpr granule most = 0xffff'ff80;
    granules const memory{most};
    for (granule const size : border_sizes(most)) {
        pair_of_both both{memory.words()};
        both.insert(1, size);
        bool agreed = both.agree_on(size) && both.agree_on_all();
        if (size < most)
            agreed = agreed && both.agree_on(size + 1);
        both.remove(1);
        BOOST_REQUIRE((agreed && both.agree_on_all()));
    }
}

// Sizes of one bin differ in their open bits only: its trie becomes as deep and as wide as it can.
BOOST_AUTO_TEST_CASE(random_blocks_are_found_as_in_a_sorted_set) {
    std::mt19937_64 random{strata::test::seed("best_fit_index model")};
    auto const below = [&](std::uint64_t n) { return static_cast<granule>(random() % n); };
    constexpr granule most = 1 << 17;
    constexpr granule places = 600;
    constexpr granule apart = most + 16; // a block may start up to 15 granules late
    granules const memory{std::size_t{places} * apart + 1};
    // one trie; one trie, each size many times; many tries; exact bins and tries
    std::pair<granule, granule> const ranges[] = {
        {65536, 2048}, {33000, 40}, {512, most - 512}, {1, 2000}};
    for (auto const& [least, width] : ranges) {
        pair_of_both both{memory.words()};
        for (int step = 0; step < 20000; ++step) {
            granule const g = 1 + below(places) * apart;
            granule const held = both.place_in(g, g + 16);
            if (held != 0 && below(2) == 0) // as when a block is carved, or grows
                both.replace(held, below(2) == 0 ? held : g + below(16), least + below(width));
            else if (held != 0)
                both.remove(held);
            else if (step / 4000 % 2 == 0 || below(3) == 0)
                both.insert(g, least + below(width));
            granule const near = both.empty() ? least : both.some_size(random());
            BOOST_REQUIRE(both.agree_on(near));
            BOOST_REQUIRE(both.agree_on(near + 1));
            BOOST_REQUIRE(both.agree_on(least + below(width)));
            if (step % 64 == 0)
                BOOST_REQUIRE(both.agree_on_all());
        }
    }
}

BOOST_AUTO_TEST_CASE(check_finds_a_block_that_lies_astray) {
    constexpr granule most = 4096;
    granules const memory{std::size_t{3} * most + 1};
    auto const words = memory.words();
    constexpr std::size_t word_child = 3; // as the header draws it
    granule const root = 1;
    granule const smaller = root + most;
    granule const larger = smaller + most;
    best_fit_index index{};
    index.insert(words, root, 2056); // one bin: 2048 to 2111 granules
    index.insert(words, smaller, 2050);
    index.insert(words, larger, 2100);
    auto const sound = [&] { return index.check(words, ~granule{0}, [](granule, granule) {}); };
    BOOST_TEST(sound());
    words.set(root, word_child + 0, larger); // in the right bin, on the wrong side
    words.set(root, word_child + 1, smaller);
    BOOST_TEST(!sound());
    words.set(root, word_child + 0, smaller);
    words.set(root, word_child + 1, larger);
    BOOST_TEST(sound());
    words.set_size(larger, 2200); // in the wrong bin
    BOOST_TEST(!sound());
}

BOOST_AUTO_TEST_SUITE_END()
