// SPDX-License-Identifier: BSL-1.0
#pragma once

// Collects what the misuse handler hears while it is in scope.

#include <vector>

#include <strata/misuse.hpp>

namespace strata::test {

class misuse_recorder {
  public:
    misuse_recorder() : before_{set_misuse_handler(&misuse_recorder::record)} { heard().clear(); }
    misuse_recorder(misuse_recorder const&) = delete;
    misuse_recorder& operator=(misuse_recorder const&) = delete;
    ~misuse_recorder() { set_misuse_handler(before_); }

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

    misuse_handler before_;
};

} // namespace strata::test
