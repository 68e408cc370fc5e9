// Checks that count, for the C++ tests.
#ifndef CHECK_HPP
#define CHECK_HPP

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "acme_micro.hpp"

inline std::atomic<int> passed, failed;
inline const char *current_test = "";

// Counts a check. If it failed, prints the test and the place.
inline void count(bool good, const char *file, int line, const std::string &what)
{
    good ? ++passed : ++failed;
    if (!good)
        std::fprintf(stderr, "%s:%d: %s: check failed: %s\n", file, line, current_test,
                     what.c_str());
}

#define CHECK(...) count(static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__)

inline bool has_text(std::string_view text, std::string_view wanted)
{
    return text.find(wanted) != std::string_view::npos;
}

// The exception that ends a test that cannot continue.
struct test_stopped {};

// Returns the exception that the call throws, and checks its type and its message.
template <typename Expected, typename Call>
Expected thrown(const char *file, int line, std::string_view text, Call call)
{
    std::string found = "nothing was thrown";
    try {
        call();
    } catch (const Expected &error) {
        count(has_text(error.what(), text), file, line, error.what());
        return error;
    } catch (const std::exception &error) {
        found = error.what();
    }
    count(false, file, line, "expected another exception; found: " + found);
    throw test_stopped{};
}

#define THROWS(expected, text, ...) thrown<expected>(__FILE__, __LINE__, text, [&] { __VA_ARGS__; })

struct test {
    std::string name;
    std::function<void()> run;
};

// A test for run_tests(): the call of its function.
#define TEST(...) test{before_parenthesis(#__VA_ARGS__), [&] { __VA_ARGS__; }}

inline std::string before_parenthesis(const std::string &call)
{
    return call.substr(0, call.find('('));
}

// Runs the tests that the program's arguments name, or all. Returns the program's exit status.
inline int run_tests(const char *program, int argc, char **argv, const std::vector<test> &tests)
{
    const std::vector<std::string> wanted(argv + 1, argv + argc);
    for (const std::string &name : wanted)
        if (std::none_of(tests.begin(), tests.end(),
                         [&](const test &each) { return each.name == name; })) {
            std::fprintf(stderr, "%s has no test %s; its tests are:\n", program, name.c_str());
            for (const test &each : tests)
                std::fprintf(stderr, "    %s\n", each.name.c_str());
            return 2;
        }
    for (const test &each : tests) {
        if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), each.name) == wanted.end())
            continue;
        const int before = failed;
        current_test = each.name.c_str();
        try {
            each.run();
        } catch (const test_stopped &) {
        } catch (const std::exception &error) {
            count(false, program, 0, std::string("the test ended with: ") + error.what());
        } catch (...) {
            count(false, program, 0, "the test ended with an exception of another type");
        }
        if (failed > before)
            std::fprintf(stderr, "FAILED: %s; alone: %s %s\n", current_test, argv[0],
                         current_test);
    }
    std::printf("%s: %d passed, %d failed\n", program, passed.load(), failed.load());
    return failed != 0;
}

// Returns an environment variable that tests/pebble/with_pebble.py sets.
inline std::string env(const char *name)
{
    const char *value = std::getenv(name);
    if (!value) {
        std::fprintf(stderr, "%s is not set: run these tests with make test-c, beside Pebble\n",
                     name);
        std::exit(1);
    }
    return value;
}

#endif
