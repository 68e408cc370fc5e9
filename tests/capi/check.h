/* Checks that count, and helpers that the C tests share. */
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

#define CHECK(what)                                                            \
    do {                                                                       \
        if (what)                                                              \
            passed++;                                                          \
        else {                                                                 \
            failed++;                                                          \
            fprintf(stderr, "%s:%d: not so: %s (last error: %s)\n", __FILE__,  \
                    __LINE__, #what,                                           \
                    acme_last_error() ? acme_error_message(acme_last_error())  \
                                      : "none");                               \
        }                                                                      \
    } while (0)

/* The call gives this status, and the last error's message has this text in it. */
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

static inline int report(const char *name)
{
    printf("%s: %d passed, %d failed\n", name, passed, failed);
    return failed != 0;
}

/* An environment variable that tests/pebble/with_pebble.py sets. */
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

/* Memory whose end is the end of what can be read. */
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
