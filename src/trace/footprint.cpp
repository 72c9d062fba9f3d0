// SPDX-License-Identifier: BSL-1.0
#include "footprint.hpp"

#include <array>
#include <charconv>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

namespace strata::trace {

void* footprint_meter::do_allocate(std::size_t bytes, std::size_t alignment) {
    void* const p = upstream_->allocate(bytes, alignment);
    std::size_t const now = bytes_.fetch_add(bytes) + bytes;
    std::size_t peak = peak_bytes_.load();
    while (now > peak && !peak_bytes_.compare_exchange_weak(peak, now)) {
    }
    return p;
}

void footprint_meter::do_deallocate(void* p, std::size_t bytes, std::size_t alignment) {
    bytes_.fetch_sub(bytes);
    upstream_->deallocate(p, bytes, alignment);
}

// smaps_rollup rather than status or statm: those read counters that each processor keeps for
// itself and adds up late, and are wrong by hundreds of KiB. No heap is used, since it may be the
// thing that is measured.
std::size_t resident_anonymous_bytes() {
    std::array<char, 4096> text;
    int const file = ::open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ::ssize_t const length = ::read(file, text.data(), text.size());
    ::close(file);
    if (length <= 0)
        return 0;
    std::string_view const all{text.data(), static_cast<std::size_t>(length)};
    constexpr std::string_view key = "\nAnonymous:";
    std::size_t const at = all.find(key);
    std::size_t const digits =
        all.find_first_of("0123456789", at == all.npos ? at : at + key.size());
    if (digits == all.npos)
        return 0;
    std::size_t kib = 0;
    std::from_chars(all.data() + digits, all.data() + all.size(), kib);
    return kib * 1024;
}

} // namespace strata::trace
