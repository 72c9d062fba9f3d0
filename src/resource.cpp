// SPDX-License-Identifier: BSL-1.0
#include <strata/resource.hpp>

#include <algorithm>
#include <cstring>
#include <new>

#include <strata/detail/annotate.hpp>
#include <strata/detail/note.hpp>

namespace strata {

#if defined(STRATA_POISON)
extern char const detail::library_poisons = 1; // here, for every program takes this file
#endif

void resource::report(misuse_kind kind, void const* p, std::size_t bytes,
                      std::size_t alignment) const {
    auto const words = detail::take_note(kind, p);
    get_misuse_handler()(misuse{kind, this, p, bytes, alignment, words ? words->text() : nullptr});
}

void resource::do_deallocate(void* p, std::size_t bytes, std::size_t alignment) {
    if (auto const wrong = try_deallocate(p, bytes, alignment))
        report(*wrong, p, bytes, alignment);
}

bool resource::try_resize(void* p, std::size_t old_bytes, std::size_t new_bytes,
                          std::size_t alignment) {
    if (auto const wrong = diagnose(p, old_bytes, alignment)) {
        report(*wrong, p, old_bytes, alignment);
        return false;
    }
    return p != nullptr && do_try_resize(p, old_bytes, new_bytes, alignment);
}

void* resource::do_reallocate(void* p, std::size_t old_bytes, std::size_t new_bytes,
                              std::size_t alignment) {
    if (p == nullptr)
        return allocate(new_bytes, alignment);
    if (auto const wrong = do_diagnose(p, old_bytes, alignment)) {
        report(*wrong, p, old_bytes, alignment);
        return nullptr;
    }
    if (do_try_resize(p, old_bytes, new_bytes, alignment))
        return p;
    void* const moved = allocate(new_bytes, alignment);
    std::memcpy(moved, p, std::min(old_bytes, new_bytes));
    deallocate(p, old_bytes, alignment);
    return moved;
}

void* resource::allocate_zeroed(std::size_t count, std::size_t bytes, std::size_t alignment) {
    if (bytes != 0 && count > detail::max_request_bytes / bytes)
        throw std::bad_alloc{};
    void* const p = allocate(count * bytes, alignment);
    return std::memset(p, 0, count * bytes);
}

} // namespace strata
