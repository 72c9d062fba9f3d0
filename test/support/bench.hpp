// SPDX-License-Identifier: BSL-1.0
#pragma once

// A fresh resource on the bench, and the ledger: the simple model that it is compared with.
//
//    tested ──► upstream (counts, fails on demand) ──► below, in stacks ──► floor (counts) ──► heap

#include <cstddef>
#include <memory>
#include <memory_resource>
#include <ostream>
#include <string>
#include <vector>

#include <strata/resource.hpp>

#include "counting_upstream.hpp"
#include "expect.hpp"
#include "misuse_recorder.hpp"
#include "subject.hpp"

namespace strata::test {

class bench {
  public:
    /// Makes the subject's resource. Throws: what its constructor throws.
    explicit bench(subject const& s);
    bench(bench const&) = delete;
    bench& operator=(bench const&) = delete;
    ~bench() = default;

    /// Destroys the resource and expects every byte back, all layers in order, nothing unexpected
    /// reported.
    void finish();

    [[nodiscard]] subject const& traits() const noexcept { return subject_; }
    [[nodiscard]] resource& tested() const noexcept { return *tested_; }
    [[nodiscard]] resource* below() const noexcept { return below_.get(); }
    [[nodiscard]] counting_upstream& upstream() noexcept { return *upstream_; }
    [[nodiscard]] counting_upstream& floor() noexcept { return floor_; }
    [[nodiscard]] misuse_recorder& recorder() noexcept { return recorder_; }

  private:
    subject const& subject_;
    misuse_recorder recorder_;
    counting_upstream floor_;
    std::shared_ptr<resource> below_;
    std::unique_ptr<counting_upstream> upstream_;
    std::shared_ptr<resource> tested_;
};

/// What must not change when a call fails or is refused.
struct picture {
    explicit picture(bench& b);
    /// Expects that b looks as it did, invariants included.
    template <class... Words>
    void expect_same(bench& b, Words const&... cause) const {
        std::string const changed = difference(b);
        expect(changed.empty(), changed, "by ", cause...);
    }
    /// Returns: what has changed, in words; nothing where nothing has.
    [[nodiscard]] std::string difference(bench& b) const;

    statistics stats;
    std::vector<block_info> blocks;
    std::size_t upstream_calls; // in both directions, none for what the picture itself costs
};

struct block {
    std::byte* p;
    std::size_t bytes;
    std::size_t alignment;
    unsigned char pattern; // of every byte, each a little different
};
std::ostream& operator<<(std::ostream& out, block const& b);

/// Calls the tested resource and expects what a simple model says: blocks are aligned, do not
/// overlap, and keep their content; the books agree.
class ledger {
  public:
    explicit ledger(bench& b) : bench_{b} {}

    /// Throws: bad_alloc, after it has expected that nothing changed.
    void take(std::size_t bytes, std::size_t alignment = detail::max_align);
    void take_zeroed(std::size_t count, std::size_t bytes,
                     std::size_t alignment = detail::max_align);
    void reallocate(std::size_t i, std::size_t new_bytes);

    /// Returns: what the resource answered.
    bool try_resize(std::size_t i, std::size_t new_bytes);
    void give(std::size_t i);
    void give_all();

    /// As if the resource had been released: forgets all blocks.
    void forget_all() noexcept { blocks_.clear(); }

    void expect_contents() const;
    /// Statistics, walk, ownership and invariants against the model and upstream's count.
    void expect_books() const;

    /// The block is not live any more, though not by give: another call has freed it.
    void forget(std::size_t i) { blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(i)); }

    [[nodiscard]] std::size_t size() const noexcept { return blocks_.size(); }
    /// Returns: what was asked for in all live blocks.
    [[nodiscard]] std::size_t bytes() const noexcept;
    [[nodiscard]] block const& operator[](std::size_t i) const { return blocks_[i]; }
    /// Returns: whether upstream served block i, as its address tells.
    [[nodiscard]] bool is_served(std::size_t i) const {
        return !bench_.tested().owns(blocks_[i].p);
    }
    /// Returns: whether the address lies in a live block.
    [[nodiscard]] bool covers(void const* p) const;

  private:
    [[nodiscard]] bool same_books(statistics before, statistics const& after) const;
    template <class Call>
    auto unchanged_on_throw(Call call, char const* what);
    void enter(void* p, std::size_t bytes, std::size_t alignment);
    void expect_room(block const& b) const;
    void fill(block& b);
    void expect_content(block const& b, std::size_t bytes) const;
    void expect_statistics(statistics const& s) const;
    void expect_walk(statistics const& s) const;

    bench& bench_;
    std::vector<block> blocks_;
    unsigned char next_pattern_ = 1;
};

} // namespace strata::test
