// SPDX-License-Identifier: BSL-1.0
#pragma once

// Allocation traces: what a real program asked of its heap, read from a file and asked again of any
// resource.
//
// A trace is text, `.rep`, or the same compressed with xz, `.rep.xz`. Four header lines, one whole
// number each: the peak of live bytes (a hint), the number of ids, the number of ops, the weight
// (always 1). Then one op a line:
//
//      a ID SIZE              allocate SIZE >= 1 bytes, aligned to 16
//      a ID SIZE ALIGNMENT    at a multiple of ALIGNMENT, a power of two over 16
//      r ID SIZE              reallocate; the alignment is 16 from then on
//      f ID                   free
//
// Ids count up from 0 in the order of their `a` lines; each is allocated once and freed at most
// once. What read() accepts is right: replay() need not check anything.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iosfwd>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace strata::trace {

/// A file that is no trace. what() reads "NAME:LINE: what is wrong there".
class format_error : public std::runtime_error {
  public:
    format_error(std::string const& name, std::size_t line, std::string const& what);
    /// Returns: the line that is wrong, from 1; 0 where the file as a whole is.
    [[nodiscard]] std::size_t line() const noexcept { return line_; }

  private:
    std::size_t line_;
};

enum class verb : std::uint8_t { allocate, reallocate, free };

/// One line of a trace.
struct op {
    std::uint64_t bytes; ///< asked for; of a free: what the block has
    std::uint32_t id;
    verb what;
    std::uint8_t alignment_log2; ///< of the block: log2(bytes)

    [[nodiscard]] std::size_t alignment() const noexcept {
        return std::size_t{1} << alignment_log2;
    }
};
static_assert(sizeof(op) == 16, "a replay streams through millions of ops");

/// What a trace without an alignment promises of every block.
inline constexpr std::size_t plain_alignment = 16;

struct trace {
    std::string name; ///< the file's name without .rep or .rep.xz
    std::size_t peak_live_bytes =
        0; ///< high-water mark of the bytes asked for, counted, not hinted
    std::size_t peak_live_blocks = 0;
    std::size_t peak_op = 0; ///< the op after which peak_live_bytes are live first
    std::size_t ids = 0;
    std::vector<op> ops;
};

/// Reads a `.rep` or `.rep.xz` file; which of the two, its first bytes tell.
/// Throws: format_error, std::system_error when the file cannot be read.
[[nodiscard]] trace read(std::filesystem::path const& path);

/// Reads the text of a trace; `name` is for messages and becomes the trace's name.
[[nodiscard]] trace read(std::istream& text, std::string const& name);

/// Returns: the high-water mark of live bytes, each block rounded up to whole granules: what a
/// region carved into granules needs at least.
[[nodiscard]] std::size_t peak_live_bytes(trace const& of, std::size_t granule_bytes);

/// The live blocks of a replay, by id. To be made before any clock is started.
class block_table {
  public:
    explicit block_table(trace const& of) : slots_(of.ids) {}

    struct slot {
        void* p = nullptr; ///< null: not live
        std::uint64_t bytes : 56 = 0;
        std::uint64_t alignment_log2 : 8 = 0;
        [[nodiscard]] std::size_t alignment() const noexcept {
            return std::size_t{1} << alignment_log2;
        }
    };

    slot& operator[](std::uint32_t id) noexcept { return slots_[id]; }
    [[nodiscard]] std::vector<slot>& slots() noexcept { return slots_; }

  private:
    std::vector<slot> slots_;
};

/// Writes a byte in each of a block's pages and its last one: the least that makes it resident.
struct touch_pages {
    void operator()(void* p, std::size_t bytes) const noexcept {
        constexpr std::size_t page_bytes = 4096;
        auto volatile* const block = static_cast<unsigned char volatile*>(p);
        for (std::size_t at = 0; at < bytes; at += page_bytes)
            block[at] = 1;
        block[bytes - 1] = 1;
    }
};

/// Returns: the block's content in a block of `bytes`; `block` itself is no more.
template <class Memory>
void* reallocate(Memory& memory, block_table::slot const& block, std::size_t bytes,
                 std::size_t alignment) {
    if constexpr (requires { memory.reallocate(block.p, bytes, alignment, bytes, alignment); }) {
        return memory.reallocate(block.p, block.bytes, block.alignment(), bytes, alignment);
    } else {
        void* const p = memory.allocate(bytes, alignment);
        std::memcpy(p, block.p, std::min<std::size_t>(bytes, block.bytes));
        memory.deallocate(block.p, block.bytes, block.alignment());
        return p;
    }
}

/// Asks `memory` for what the trace asked for, op by op, and calls touch(p, bytes) for every block
/// and after_op(index) after every op. `memory` is anything with allocate(bytes, alignment) and
/// deallocate(p, bytes, alignment), as std::pmr::memory_resource. Reallocations move, since that
/// interface has no other way, unless `memory` has
/// reallocate(p, bytes, alignment, new_bytes, new_alignment), too. Blocks that the trace leaves live
/// stay live in `blocks`.
/// Throws: what memory throws; `blocks` tells what is live then.
template <class Memory, class Touch, class AfterOp>
void replay(trace const& of, Memory& memory, block_table& blocks, Touch touch, AfterOp after_op) {
    auto const begin = [&](block_table::slot& block, void* p, op const& step) {
        block.p = p;
        block.bytes = step.bytes & ((std::uint64_t{1} << 56) - 1);
        block.alignment_log2 = step.alignment_log2;
    };
    std::size_t index = 0;
    for (op const& step : of.ops) {
        block_table::slot& block = blocks[step.id];
        switch (step.what) {
        case verb::allocate: {
            void* const p = memory.allocate(step.bytes, step.alignment());
            touch(p, step.bytes);
            begin(block, p, step);
            break;
        }
        case verb::reallocate: {
            void* const p = reallocate(memory, block, step.bytes, step.alignment());
            touch(p, step.bytes);
            begin(block, p, step);
            break;
        }
        case verb::free:
            memory.deallocate(block.p, block.bytes, block.alignment());
            block.p = nullptr;
            break;
        }
        after_op(index++);
    }
}

template <class Memory>
void replay(trace const& of, Memory& memory, block_table& blocks) {
    replay(of, memory, blocks, touch_pages{}, [](std::size_t) {});
}

/// Frees what a replay left live, in the order of ids.
template <class Memory>
void free_rest(block_table& blocks, Memory& memory) {
    for (block_table::slot& block : blocks.slots()) {
        if (block.p != nullptr)
            memory.deallocate(block.p, block.bytes, block.alignment());
        block.p = nullptr;
    }
}

} // namespace strata::trace
