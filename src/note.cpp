// SPDX-License-Identifier: BSL-1.0
#include <strata/detail/note.hpp>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <utility>

namespace strata::detail {

namespace {

struct kept_note {
    bool is_new = false;
    misuse_kind kind{};
    void const* about = nullptr;
    note words;
};
constinit thread_local kept_note kept;

} // namespace

void note::add(char const* format, ...) noexcept {
    std::va_list arguments;
    va_start(arguments, format);
    int const length =
        std::vsnprintf(text_.data() + used_, text_.size() - used_, format, arguments);
    va_end(arguments);
    used_ = std::min(used_ + static_cast<std::size_t>(std::max(length, 0)), text_.size() - 1);
}

note& begin_note(misuse_kind kind, void const* p) noexcept {
    kept.is_new = true;
    kept.kind = kind;
    kept.about = p;
    kept.words.clear();
    return kept.words;
}

std::optional<note> take_note(misuse_kind kind, void const* p) noexcept {
    if (!std::exchange(kept.is_new, false) || kept.kind != kind || kept.about != p)
        return std::nullopt;
    return kept.words;
}

} // namespace strata::detail
