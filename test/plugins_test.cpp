// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE plugins
#include <boost/test/unit_test.hpp>

// Several copies of strata in one process: this program's, and those of plugins, which are the
// arguments behind `--`.

#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <strata/synchronized_segregated_pool_resource.hpp>

#include "support/plugin.hpp"
#include "support/seed.hpp"
#include "support/threads.hpp"

namespace {

// What to do when a thread asks the C library to be told of its end. That takes the loader's lock,
// which a thread has that is loading a library, whose constructors may allocate.
thread_local void (*when_told_of_end)() = nullptr;

} // namespace

extern "C" int __cxa_thread_atexit_impl(void (*function)(void*), void* object, void* library) {
    if (when_told_of_end != nullptr)
        std::exchange(when_told_of_end, nullptr)();
    static auto const real = reinterpret_cast<decltype(&__cxa_thread_atexit_impl)>(
        ::dlsym(RTLD_NEXT, "__cxa_thread_atexit_impl"));
    return real(function, object, library);
}

using strata::test::churn;
using strata::test::is_empty;
using strata::test::on_threads;
using strata::test::plugin_resources;

namespace {

std::vector<std::string> plugin_paths() {
    std::vector<std::string> paths;
    auto const& suite = boost::unit_test::framework::master_test_suite();
    for (int i = 1; i < suite.argc; ++i)
        if (std::string_view const argument = suite.argv[i]; !argument.starts_with("-"))
            paths.emplace_back(argument);
    BOOST_REQUIRE(paths.size() >= 2u);
    return paths;
}

class plugin {
  public:
    explicit plugin(std::string const& path) : handle_{::dlopen(path.c_str(), RTLD_NOW)} {
        if (handle_ == nullptr)
            BOOST_FAIL(::dlerror());
    }
    plugin(plugin const&) = delete;
    plugin& operator=(plugin const&) = delete;
    ~plugin() { ::dlclose(handle_); }

    [[nodiscard]] plugin_resources resources() const {
        using getter = decltype(&strata_plugin_resources);
        return reinterpret_cast<getter>(::dlsym(handle_, "strata_plugin_resources"))();
    }

  private:
    void* handle_;
};

bool is_loaded(std::string const& path) {
    void* const handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
    if (handle != nullptr)
        ::dlclose(handle);
    return handle != nullptr;
}

bool churn_both(plugin_resources const& in, std::uint64_t seed) {
    return churn(*in.pool, seed, 1000, 700) && churn(*in.blocks, seed, 1000, 100);
}

} // namespace

BOOST_AUTO_TEST_SUITE(plugins)

BOOST_AUTO_TEST_CASE(each_copy_has_caches_of_its_own) {
    auto const seed = strata::test::seed("copies");
    strata::synchronized_segregated_pool_resource own;
    std::vector<std::unique_ptr<plugin>> loaded;
    for (std::string const& path : plugin_paths())
        loaded.push_back(std::make_unique<plugin>(path));
    std::atomic<int> unsound{0};
    on_threads(4, [&](std::size_t i) {
        for (int round = 0; round < 10; ++round) {
            for (auto const& one : loaded)
                if (!churn_both(one->resources(), seed + i))
                    ++unsound;
            if (!churn(own, seed + i, 1000, 700))
                ++unsound;
        }
    });
    BOOST_TEST(unsound == 0);
    for (auto const& one : loaded)
        for (strata::resource* const r : {one->resources().pool, one->resources().blocks}) {
            BOOST_TEST(is_empty(*r));
            BOOST_TEST(r->check_invariants());
        }
    BOOST_TEST(is_empty(own));
    BOOST_TEST(own.check_invariants());
}

BOOST_AUTO_TEST_CASE(the_c_library_is_called_under_no_lock_that_another_thread_waits_for) {
    static strata::synchronized_segregated_pool_resource pool;
    static bool told = false;
    ::alarm(60); // else it would wait for ever
    std::thread{[] {
        when_told_of_end = [] {
            told = true;
            std::thread{[] { churn(pool, 1, 1000, 700); }}.join();
        };
        churn(pool, 2, 1000, 700);
    }}.join();
    ::alarm(0);
    BOOST_TEST(told);
}

// What is to be done when they end is in the library.
BOOST_AUTO_TEST_CASE(it_stays_loaded_until_the_last_thread_that_used_it_has_ended) {
    auto const seed = strata::test::seed("closed");
    std::string const path = plugin_paths().front();
    BOOST_REQUIRE(!is_loaded(path));
    for (int round = 0; round < 20; ++round) {
        std::barrier used{5};
        std::atomic<int> unsound{0};
        auto closed = std::make_unique<plugin>(path);
        plugin_resources const in = closed->resources();
        std::vector<std::thread> threads;
        for (std::uint64_t i = 0; i < 4; ++i)
            threads.emplace_back([&, i] {
                if (!churn_both(in, seed + i))
                    ++unsound;
                used.arrive_and_wait(); // is closed
                used.arrive_and_wait();
                if (i % 2 == 0 && !churn_both(in, seed + i)) // the copy is still whole
                    ++unsound;
            });
        used.arrive_and_wait();
        closed.reset();
        BOOST_TEST(is_loaded(path));
        used.arrive_and_wait();
        for (std::thread& thread : threads)
            thread.join();
        BOOST_TEST(unsound == 0);
        plugin{path}; // the C library unloads what nobody needs when something is closed
        BOOST_TEST(!is_loaded(path));
    }
}

BOOST_AUTO_TEST_CASE(opened_and_closed_again_and_again_while_a_thread_lives_on) {
    auto const seed = strata::test::seed("again");
    std::string const path = plugin_paths().back();
    strata::synchronized_segregated_pool_resource own;
    std::atomic<bool> done{false};
    std::atomic<int> unsound{0};
    std::thread other{[&] { // has room for a copy's thread-local data, and then for the next one's
        for (std::uint64_t i = 0; !done; ++i)
            if (!churn(own, seed + i, 500, 700))
                ++unsound;
    }};
    for (int round = 0; round < 100; ++round) {
        plugin const opened{path};
        std::thread{[&] {
            if (!churn_both(opened.resources(), seed))
                ++unsound;
        }}.join();
    }
    done = true;
    other.join();
    BOOST_TEST(unsound == 0);
    BOOST_TEST(!is_loaded(path));
}

#if !defined(__SANITIZE_THREAD__)
BOOST_AUTO_TEST_CASE(a_child_can_be_forked_when_it_is_gone) {
    std::string const path = plugin_paths().front();
    std::thread{[&] { BOOST_TEST(churn_both(plugin{path}.resources(), 1)); }}.join();
    plugin{path};
    BOOST_REQUIRE(!is_loaded(path));
    pid_t const child = ::fork(); // would call what is no longer there
    if (child == 0)
        ::_exit(0);
    int status = 1;
    BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
    BOOST_TEST(status == 0);
}
#endif

BOOST_AUTO_TEST_SUITE_END()
