// SPDX-License-Identifier: BSL-1.0
#include "latency.hpp"

#include <new>

#include <sys/mman.h>

namespace strata::bench {

operation_times::operation_times(std::size_t most_operations) : most_{most_operations} {
    void* const memory =
        ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        throw std::bad_alloc{};
    shared_ = static_cast<book*>(memory); // zeroed by the system
}

operation_times::~operation_times() {
    ::munmap(shared_, bytes());
}

std::size_t operation_times::bytes() const {
    return sizeof(book) + most_ * sizeof(float);
}

percentiles operation_times::sorted() const {
    std::span const all{shared_->least, shared_->noted};
    if (all.empty())
        return {};
    std::ranges::sort(all);
    auto const at = [&](double part) {
        return double{all[static_cast<std::size_t>(part * static_cast<double>(all.size() - 1))]};
    };
    return {at(0.5), at(0.99), at(0.999), double{all.back()}};
}

} // namespace strata::bench
