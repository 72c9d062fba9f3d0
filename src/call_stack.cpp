// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/call_stack.hpp>

#include <boost/stacktrace/frame.hpp>
#include <boost/stacktrace/safe_dump_to.hpp>

namespace strata::detail {

void capture_call_stack(std::span<void const*> frames) noexcept {
    boost::stacktrace::safe_dump_to(1, frames.data(), frames.size_bytes());
}

std::string describe_frame(void const* address) {
    return boost::stacktrace::to_string(boost::stacktrace::frame{address});
}

} // namespace strata::detail
