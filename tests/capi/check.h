/* Checks that count passes and failures, tests by name, and helpers of all C tests. */
#ifndef CHECK_H
#define CHECK_H

#define _DEFAULT_SOURCE /* mmap() with MAP_ANONYMOUS */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "acme_micro.h"

static int passed, failed;
static const char *current_test = "main";

#define CHECK(what)                                                            \
    do {                                                                       \
        if (what)                                                              \
            passed++;                                                          \
        else {                                                                 \
            failed++;                                                          \
            fprintf(stderr, "%s:%d: %s: check failed: %s (last error: %s)\n",  \
                    __FILE__, __LINE__, current_test, #what,                   \
                    acme_last_error() ? acme_error_message(acme_last_error())  \
                                      : "none");                               \
        }                                                                      \
    } while (0)

/* Checks that the call returns this status, and that the last error's message contains this text. */
#define CHECK_STATUS(call, wanted, text)                                       \
    do {                                                                       \
        int status_ = (call);                                                  \
        const char *message_ = acme_error_message(acme_last_error());          \
                                                                               \
        CHECK(status_ == (wanted));                                            \
        CHECK((wanted) == ACME_OK                                              \
                  ? acme_last_error() == NULL                                  \
                  : acme_error_status(acme_last_error()) == (wanted));         \
        CHECK((wanted) == ACME_OK || (message_ && strstr(message_, (text))));  \
    } while (0)

#define OK(call) CHECK_STATUS(call, ACME_OK, "")

/* --- tests by name ------------------------------------------------------------------------------------
 *
 *     int main(int argc, char **argv)
 *     {
 *         choose_tests(argc, argv);
 *         TEST(one_test(client));
 *         return report("test_program");
 *     }
 *
 * The program's arguments name the tests to run; without arguments, all tests run. */

static char **chosen_tests; /* ends with NULL; NULL: all tests */
static const char *this_program;
static int tests_run, failed_before;

static inline void choose_tests(int argc, char **argv)
{
    this_program = argv[0];
    chosen_tests = argc > 1 ? argv + 1 : NULL;
}

/* Whether to run the test of this call, "name(arguments)". */
static inline int test_begins(const char *call)
{
    static char name[120];
    char **each = chosen_tests;

    snprintf(name, sizeof name, "%.*s", (int)strcspn(call, "("), call);
    while (each && *each && strcmp(*each, name) != 0)
        each++;
    if (each && !*each)
        return 0;
    current_test = name;
    failed_before = failed;
    tests_run++;
    return 1;
}

static inline void test_ends(void)
{
    if (failed > failed_before)
        fprintf(stderr, "FAILED: %s; alone: %s %s\n", current_test, this_program, current_test);
    current_test = "main";
}

#define TEST(call)               \
    do {                         \
        if (test_begins(#call)) { \
            call;                \
            test_ends();         \
        }                        \
    } while (0)

/* Prints the counts; returns the program's exit status. */
static inline int report(const char *name)
{
    printf("%s: %d passed, %d failed\n", name, passed, failed);
    if (chosen_tests && tests_run == 0) {
        fprintf(stderr, "%s: no test has such a name; each TEST() in its main() has one\n", name);
        return 2;
    }
    return failed != 0;
}

/* Returns an environment variable that tests/pebble/with_pebble.py sets. */
static inline const char *env(const char *name)
{
    const char *value = getenv(name);

    if (!value) {
        fprintf(stderr, "%s is not set: run these tests with make test-c, beside Pebble\n", name);
        exit(1);
    }
    return value;
}

static inline acme_key_t *new_key(void)
{
    acme_key_t *key = NULL;

    OK(acme_key_generate(ACME_KEY_P256, &key));
    return key;
}

/* Returns memory that ends where an unreadable page begins. */
static inline void *at_the_edge(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page * page;
    char *map = mmap(NULL, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED || mprotect(map + pages, page, PROT_NONE)) {
        perror("at_the_edge");
        exit(1);
    }
    return map + pages - size;
}

#endif
