// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/call_stack.hpp>

#include <cstdint>
#include <cstdio>

#include <dlfcn.h>
#include <link.h>

#include <boost/stacktrace/frame.hpp>
#include <boost/stacktrace/safe_dump_to.hpp>

#include <strata/detail/bits.hpp>

namespace strata::detail {

void capture_call_stack(std::span<void const*> frames) noexcept {
    boost::stacktrace::safe_dump_to(1, frames.data(), frames.size_bytes());
}

// A return address is behind its call: the byte before it is of the line that called. Less where the
// file was loaded, it is what debug information knows.
std::string describe_frame(void const* address) {
    std::string text = boost::stacktrace::to_string(boost::stacktrace::frame{address});
    ::Dl_info file;
    void* map = nullptr;
    if (::dladdr1(address, &file, &map, RTLD_DL_LINKMAP) != 0 && map != nullptr) {
        std::uintptr_t const loaded_at = static_cast<::link_map*>(map)->l_addr;
        char offset[32];
        std::snprintf(offset, sizeof offset, " (0x%jx)",
                      std::uintmax_t{address_of(address) - 1 - loaded_at});
        text += offset;
    }
    return text;
}

} // namespace strata::detail
