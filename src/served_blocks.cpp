// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/served_blocks.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <utility>

#include <boost/unordered/unordered_flat_map.hpp>

#include <strata/detail/annotate.hpp>
#include <strata/detail/bits.hpp>
#include <strata/detail/return_upstream.hpp>

namespace strata::detail {

namespace {

// An allocator over upstream that counts what it holds: the map's share of the footprint.
template <class T>
class counting_allocator {
  public:
    using value_type = T;

    counting_allocator(std::pmr::memory_resource* upstream, std::size_t* held) noexcept
        : upstream_{upstream}, held_{held} {}
    template <class U>
    counting_allocator(counting_allocator<U> const& other) noexcept
        : upstream_{other.upstream_}, held_{other.held_} {}

    T* allocate(std::size_t n) {
        void* const p = upstream_->allocate(n * sizeof(T), alignof(T));
        *held_ += n * sizeof(T);
        return static_cast<T*>(p);
    }
    void deallocate(T* p, std::size_t n) noexcept {
        return_upstream(upstream_, p, n * sizeof(T), alignof(T));
        *held_ -= n * sizeof(T);
    }
    bool operator==(counting_allocator const& other) const noexcept {
        return upstream_ == other.upstream_;
    }

  private:
    template <class>
    friend class counting_allocator;

    std::pmr::memory_resource* upstream_;
    std::size_t* held_;
};

struct request {
    std::size_t bytes;
    std::size_t alignment;
};

// Some upstreams answer requests of 0 bytes with one address for all.
std::size_t upstream_bytes(std::size_t bytes) noexcept {
    return std::max<std::size_t>(bytes, 1);
}

// Of a block of 0 bytes, the one that upstream served is hidden.
void give_back(std::pmr::memory_resource* upstream, void* p, request const& of) noexcept {
    if (of.bytes == 0)
        open(p, upstream_bytes(0));
    return_upstream(upstream, p, upstream_bytes(of.bytes), of.alignment);
}

using address_map =
    boost::unordered_flat_map<void const*, request, boost::hash<void const*>, std::equal_to<>,
                              counting_allocator<std::pair<void const* const, request>>>;

} // namespace

struct served_blocks::book {
    explicit book(std::pmr::memory_resource* upstream)
        : requests{address_map::allocator_type{upstream, &map_bytes}} {}

    // The last freed addresses, so that a second free reads as one and not as a foreign pointer.
    // What is live is looked for first: an address that was served again may stay among them.
    void remember_freed(void const* p) noexcept { freed[next_freed++ % freed.size()] = p; }
    [[nodiscard]] bool was_freed(void const* p) const noexcept {
        return std::find(freed.begin(), freed.end(), p) != freed.end();
    }

    std::size_t map_bytes = 0;  // what `requests` holds from upstream
    std::size_t live_bytes = 0; // sum over `requests`
    address_map requests;
    std::array<void const*, 16> freed{};
    std::size_t next_freed = 0;
};

served_blocks::book& served_blocks::open_book() {
    if (book_ == nullptr)
        book_ = ::new (upstream()->allocate(sizeof(book), alignof(book))) book{upstream()};
    return *book_;
}

void* served_blocks::allocate(std::size_t bytes, std::size_t alignment) {
    if (bytes > max_request_bytes || alignment > max_request_bytes)
        throw std::bad_alloc{};
    if (!is_power_of_two(alignment))
        throw std::invalid_argument{"strata: an alignment must be a power of two"};
    void* const p = upstream()->allocate(upstream_bytes(bytes), alignment);
    try {
        open_book().requests.emplace(p, request{bytes, alignment});
    } catch (...) {
        trim();
        return_upstream(upstream(), p, upstream_bytes(bytes), alignment);
        throw;
    }
    book_->live_bytes += upstream_bytes(bytes);
    if (bytes == 0)
        hide(p, upstream_bytes(0));
    return p;
}

// Returns: what is wrong with the arguments, given where p was found, if anywhere.
template <class Found>
std::optional<misuse_kind> served_blocks::judge(Found const& found, void const* p,
                                                std::size_t bytes, std::size_t alignment) const {
    if (found == book_->requests.end())
        return book_->was_freed(p) ? misuse_kind::double_free : misuse_kind::foreign_pointer;
    if (found->second.bytes != bytes)
        return misuse_kind::size_mismatch;
    if (found->second.alignment != alignment)
        return misuse_kind::alignment_mismatch;
    return std::nullopt;
}

std::optional<misuse_kind> served_blocks::diagnose(void const* p, std::size_t bytes,
                                                   std::size_t alignment) const {
    if (book_ == nullptr)
        return misuse_kind::foreign_pointer;
    return judge(book_->requests.find(p), p, bytes, alignment);
}

std::optional<misuse_kind> served_blocks::deallocate(void* p, std::size_t bytes,
                                                     std::size_t alignment) {
    if (book_ == nullptr)
        return misuse_kind::foreign_pointer;
    auto const found = book_->requests.find(p);
    if (auto const wrong = judge(found, p, bytes, alignment))
        return wrong;
    book_->requests.erase(found);
    book_->live_bytes -= upstream_bytes(bytes);
    book_->remember_freed(p);
    give_back(upstream(), p, {bytes, alignment});
    return std::nullopt;
}

void served_blocks::release() noexcept {
    if (book_ == nullptr)
        return;
    book* const closed = std::exchange(book_, nullptr); // upstream may find misuse, and call back
    for (auto const& [p, request] : closed->requests)
        give_back(upstream(), const_cast<void*>(p), request);
    closed->~book();
    return_upstream(upstream(), closed, sizeof(book), alignof(book));
}

std::size_t served_blocks::trim() noexcept {
    if (book_ == nullptr || !book_->requests.empty())
        return 0;
    std::size_t const held = footprint_bytes();
    release();
    return held;
}

std::size_t served_blocks::blocks() const noexcept {
    return book_ != nullptr ? book_->requests.size() : 0;
}

std::size_t served_blocks::bytes() const noexcept {
    return book_ != nullptr ? book_->live_bytes : 0;
}

std::size_t served_blocks::footprint_bytes() const noexcept {
    return book_ != nullptr ? book_->live_bytes + book_->map_bytes + sizeof(book) : 0;
}

void served_blocks::add_to(statistics& s) const noexcept {
    s.upstream_live_blocks = blocks();
    s.upstream_live_bytes = bytes();
    s.live_blocks += blocks();
    s.live_bytes += bytes();
    s.requested_bytes += bytes();
    s.footprint_bytes += footprint_bytes();
    s.overhead_bytes += footprint_bytes() - bytes();
}

std::pmr::vector<block_info> served_blocks::in_address_order() const {
    std::pmr::vector<block_info> sorted{upstream()};
    if (blocks() == 0)
        return sorted;
    sorted.reserve(blocks());
    for (auto const& [p, request] : book_->requests)
        sorted.push_back({p, upstream_bytes(request.bytes), true});
    std::sort(sorted.begin(), sorted.end(), [](block_info const& a, block_info const& b) {
        return std::less<>{}(a.address, b.address);
    });
    return sorted;
}

bool served_blocks::check_invariants() const {
    if (book_ == nullptr)
        return true;
    std::size_t sum = 0;
    for (auto const& [p, request] : book_->requests) {
        if (!is_aligned(p, request.alignment)) {
            std::fprintf(stderr, "strata: served block %p is misaligned\n", p);
            return false;
        }
        sum += upstream_bytes(request.bytes);
    }
    if (sum != book_->live_bytes)
        std::fprintf(stderr, "strata: served blocks hold %zu bytes, the count says %zu\n", sum,
                     book_->live_bytes);
    return sum == book_->live_bytes;
}

} // namespace strata::detail
