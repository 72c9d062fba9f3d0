// SPDX-License-Identifier: BSL-1.0
#pragma once

// Who is measured: strata's resources and their peers, all called through the same interface,
// std::pmr::memory_resource, so that each pays one virtual call.

#include <cstddef>
#include <functional>
#include <memory>
#include <memory_resource>
#include <string>
#include <vector>

#include <strata/detail/bits.hpp>

namespace strata::bench {

/// What a workload says of itself to those who must know beforehand.
struct needs {
    std::size_t peak_requested_bytes = 0; ///< the most that is live, as asked for
    std::size_t peak_live_bytes = 0;      ///< the same, each block rounded up to 16 bytes
    std::size_t peak_in_64_bytes = 0;     ///< the same, each block rounded up to 64 bytes
    std::size_t block_bytes = 0;          ///< the one size that is asked for; 0: many sizes
    bool threads = false;                 ///< several threads share the resource
    std::size_t set_region_bytes = 0;     ///< not 0: what region_bytes() is to say

    /// Returns: bytes of a region that a careful user would choose: an eighth more than is needed.
    [[nodiscard]] std::size_t region_bytes() const {
        return set_region_bytes != 0 ? set_region_bytes : room(peak_live_bytes);
    }
    [[nodiscard]] std::size_t region_of_64_bytes() const { return room(peak_in_64_bytes); }

  private:
    static std::size_t room(std::size_t live_bytes) { return live_bytes + live_bytes / 8 + 65536; }
};

enum class side {
    reference, ///< no rival: it cannot do what the others do, and shows what that costs
    strata,
    peer,
};

/// What a peer is as well, where it has a realloc; strata::resource has one of its own.
class reallocating {
  public:
    /// Alignments are 16 at most.
    virtual void* reallocate(void* p, std::size_t bytes, std::size_t new_bytes) = 0;

  protected:
    ~reallocating() = default;
};

/// Owns whatever stands behind the resource.
using resource_ptr = std::shared_ptr<std::pmr::memory_resource>;

struct candidate {
    std::string name;
    std::string about; ///< how it is set up, for --list
    bench::side side = side::peer;
    bool thread_safe = false;
    bool is_locked = false;      ///< one of the others, behind a lock
    bool one_size_only = false;  ///< serves workloads of one size alone
    bool frees = true;           ///< false: memory that comes back is not used again
    bool packs_a_region = false; ///< all lies in region_bytes(), what does not fit in `upstream`
    bool has_own_heap = false;   ///< its memory comes from a heap of its own
    bool upstream_tells = true;  ///< all its memory comes from `upstream`, which can count it
    /// Makes one, over `upstream` where it takes memory from one.
    std::function<resource_ptr(needs const&, std::pmr::memory_resource* upstream)> make;

    [[nodiscard]] bool suits(needs const& of) const {
        return (thread_safe || !of.threads) && (!one_size_only || of.block_bytes != 0);
    }
};

using candidates = std::vector<candidate>;

/// Owns a Resource and presents it as what it is: no call is passed on.
template <class Resource, class... Arguments>
resource_ptr make_resource(Arguments&&... arguments) {
    return std::make_shared<Resource>(std::forward<Arguments>(arguments)...);
}

/// Returns: bytes rounded up to a multiple of the alignment, 0 too: what some peers must be asked
/// for to align a block as they should.
constexpr std::size_t whole(std::size_t bytes, std::size_t alignment) {
    return bytes == 0 ? alignment : detail::align_up(bytes, alignment);
}

// Each appends what there is to `list`, and a line for what there is not to `missing`.
void add_strata(candidates& list);
void add_standard(candidates& list);
void add_boost(candidates& list, std::vector<std::string>& missing);
void add_foonathan(candidates& list, std::vector<std::string>& missing);
void add_mallocs(candidates& list, std::vector<std::string>& missing);

/// Returns: those whose name holds one of the `name_parts`, which commas part; references first,
/// strata's next. Says on stderr which peers are not there. Throws: runtime_error when no name does.
[[nodiscard]] candidates select(std::string const& name_parts);

/// Puts fixed_block with its pages touched in the constructor behind fixed_block, where that is one
/// of them: for those who time the first use of memory.
void add_prefaulted(candidates& to);

/// Writes their names and how they are set up to stdout.
void list(candidates const& who);

/// The libraries that add_mallocs loads keep thread-local data, for which the C library leaves
/// little room; starts the program anew with more. To be called first in main.
void make_room_for_thread_locals(char** argv);

} // namespace strata::bench
