// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <cstddef>
#include <optional>

#include <strata/misuse.hpp>

namespace strata::detail {

/// Words for a report, put together without memory from anywhere; cut where they are too many.
class note {
  public:
    [[gnu::format(printf, 2, 3)]] void add(char const* format, ...) noexcept;
    void clear() noexcept { used_ = 0, text_[0] = '\0'; }
    [[nodiscard]] char const* text() const noexcept { return text_.data(); }

  private:
    std::array<char, 384> text_{};
    std::size_t used_ = 0;
};

/// This thread's note about what is wrong with p, for the next report of it. That may be made by
/// another resource than the one that knows: by one that holds it behind a lock.
/// Returns: an empty one, to be filled.
note& begin_note(misuse_kind kind, void const* p) noexcept;
/// Returns: the note; nothing where there is none of that. There is none from then on. A copy: what
/// runs next, a handler or upstream, may find something wrong, too, and make one of its own.
std::optional<note> take_note(misuse_kind kind, void const* p) noexcept;

} // namespace strata::detail
