// SPDX-License-Identifier: BSL-1.0
#include <strata/misuse.hpp>

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include <strata/resource.hpp>

namespace strata {

namespace {

std::atomic<misuse_handler> installed{report_misuse};

// What the caller can do about it, after the colon.
char const* advice(misuse_kind kind) noexcept {
    switch (kind) {
    case misuse_kind::double_free:
        return "this block has been freed already";
    case misuse_kind::foreign_pointer:
        return "this resource did not hand it out, or has given it back to upstream since";
    case misuse_kind::misaligned_pointer:
        return "it lies in this resource's memory, but no block starts there";
    case misuse_kind::size_mismatch:
        return "free a block with the size that it was allocated with";
    case misuse_kind::alignment_mismatch:
        return "free a block with the alignment that it was allocated with";
    case misuse_kind::overrun:
        return "bytes behind the block were overwritten";
    case misuse_kind::underrun:
        return "bytes before the block were overwritten";
    case misuse_kind::leak:
        return "still live when its resource was destroyed";
    }
    return "";
}

} // namespace

char const* to_string(misuse_kind kind) noexcept {
    switch (kind) {
    case misuse_kind::double_free:
        return "double free";
    case misuse_kind::foreign_pointer:
        return "foreign pointer";
    case misuse_kind::misaligned_pointer:
        return "misaligned pointer";
    case misuse_kind::size_mismatch:
        return "size mismatch";
    case misuse_kind::alignment_mismatch:
        return "alignment mismatch";
    case misuse_kind::overrun:
        return "overrun";
    case misuse_kind::underrun:
        return "underrun";
    case misuse_kind::leak:
        return "leak";
    }
    return "unknown misuse";
}

misuse_handler set_misuse_handler(misuse_handler handler) noexcept {
    return installed.exchange(handler != nullptr ? handler : report_misuse);
}

misuse_handler get_misuse_handler() noexcept {
    return installed.load();
}

void report_misuse(misuse const& what) {
    // One call, under the stream's lock and without memory from anywhere: reports from several
    // threads do not mix, and reporting does not allocate.
    std::fprintf(stderr, "strata: %s: %p (%zu bytes, alignment %zu) at %s %p: %s%s%s\n",
                 to_string(what.kind), what.address, what.bytes, what.alignment,
                 what.where != nullptr ? what.where->name() : "no resource",
                 static_cast<void const*>(what.where), advice(what.kind),
                 what.detail != nullptr ? "; " : "", what.detail != nullptr ? what.detail : "");
}

void abort_on_misuse(misuse const& what) {
    report_misuse(what);
    std::abort();
}

void ignore_misuse(misuse const&) {}

} // namespace strata
