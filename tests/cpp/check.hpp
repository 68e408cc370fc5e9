// Checks that count, for the C++ tests.
#ifndef CHECK_HPP
#define CHECK_HPP

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>

#include "acme_micro.hpp"

inline int passed, failed;

inline void count(bool good, const char *file, int line, const std::string &what)
{
    good ? ++passed : ++failed;
    if (!good)
        std::fprintf(stderr, "%s:%d: not so: %s\n", file, line, what.c_str());
}

#define CHECK(...) count(static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, #__VA_ARGS__)

inline bool has_text(std::string_view text, std::string_view wanted)
{
    return text.find(wanted) != std::string_view::npos;
}

// What the call throws, which must be an Expected with this text in its message.
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
    std::fprintf(stderr, "%s:%d: instead of the exception: %s\n", file, line, found.c_str());
    std::exit(1);
}

#define THROWS(expected, text, ...) thrown<expected>(__FILE__, __LINE__, text, [&] { __VA_ARGS__; })

inline int report(const char *name)
{
    std::printf("%s: %d passed, %d failed\n", name, passed, failed);
    return failed != 0;
}

// An environment variable that tests/pebble/with_pebble.py sets.
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
