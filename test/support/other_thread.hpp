// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <exception>
#include <functional>
#include <semaphore>
#include <thread>
#include <utility>

namespace strata::test {

/// A thread that does what it is told, and lives on.
class other_thread {
  public:
    other_thread() = default;
    other_thread(other_thread const&) = delete;
    other_thread& operator=(other_thread const&) = delete;
    ~other_thread() {
        work_ = nullptr;
        begin_.release();
        thread_.join();
    }

    /// Does it there, and waits until it is done. Throws: what it throws.
    void run(std::function<void()> work) {
        begin(std::move(work));
        end();
    }
    /// The same in two parts.
    void begin(std::function<void()> work) {
        work_ = std::move(work);
        begin_.release();
    }
    void end() {
        end_.acquire();
        if (auto const thrown = std::exchange(thrown_, nullptr))
            std::rethrow_exception(thrown);
    }

  private:
    void obey() {
        for (begin_.acquire(); work_ != nullptr; begin_.acquire()) {
            try {
                work_();
            } catch (...) {
                thrown_ = std::current_exception();
            }
            end_.release();
        }
    }

    std::binary_semaphore begin_{0};
    std::binary_semaphore end_{0};
    std::function<void()> work_;
    std::exception_ptr thrown_;
    std::thread thread_{[this] { obey(); }};
};

} // namespace strata::test
