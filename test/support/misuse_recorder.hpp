// SPDX-License-Identifier: BSL-1.0
#pragma once

// A misuse handler while it is in scope, and one that collects what it hears.

#include <vector>

#include <strata/misuse.hpp>

namespace strata::test {

class handler_scope {
  public:
    explicit handler_scope(misuse_handler handler) : before_{set_misuse_handler(handler)} {}
    handler_scope(handler_scope const&) = delete;
    handler_scope& operator=(handler_scope const&) = delete;
    ~handler_scope() { set_misuse_handler(before_); }

  private:
    misuse_handler before_;
};

class misuse_recorder {
  public:
    misuse_recorder() { heard().clear(); }

    /// Every misuse since construction or the last call, oldest first.
    std::vector<misuse> take() {
        std::vector<misuse> taken;
        taken.swap(heard());
        return taken;
    }

  private:
    static std::vector<misuse>& heard() {
        static std::vector<misuse> list;
        return list;
    }
    static void record(misuse const& what) { heard().push_back(what); }

    handler_scope const recording_{&misuse_recorder::record};
};

} // namespace strata::test
