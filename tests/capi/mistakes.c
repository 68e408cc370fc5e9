/* Mistakes that a host makes, and that only tools find: AddressSanitizer and valgrind have to report them.
 * Without a tool this program ends with 0. It is not one of the C tests: tests/capi/run runs it with the
 * tools.
 *
 *   mistakes use|twice|write|leave */
#include "check.h"

#include <fcntl.h>

static acme_key_t *key;

/* The library detects a freed handle, because free clears the mark in its memory. This works as long as
 * malloc() has not reused the memory. */
static void f06_used_after_free(void)
{
    acme_csr_t *csr = NULL;
    const char *names[] = { "example.org" };

    acme_key_free(key);
    CHECK(acme_csr_create(key, names, 1, &csr) == ACME_ERR_MISUSE && !csr);
    CHECK(!acme_key_pem(key) && !acme_key_thumbprint(key) && acme_key_type(key) == 0);
}

static void f06_freed_twice(void)
{
    acme_key_free(key);
    acme_key_free(key);
    acme_key_free(key);
    key = new_key(); /* malloc() still works */
    CHECK(acme_key_pem(key) != NULL);
    acme_key_free(key);
}

/* Writes uninitialized bytes to a file. All tests rely on valgrind to find this. */
static void m06_uninitialized_bytes_are_written(void)
{
    int file = open("/dev/null", O_WRONLY);
    char *bytes = malloc(100);

    memcpy(bytes, acme_key_thumbprint(key), 43);
    CHECK(write(file, bytes, 100) == 100);
    free(bytes);
    close(file);
    acme_key_free(key);
}

/* Leaves a handle unfreed, although a pointer to it exists. All tests rely on the tools to find this, too. */
static void m07_a_handle_is_left_within_reach(void)
{
    CHECK(acme_key_pem(key) != NULL);
}

int main(int argc, char **argv)
{
    key = new_key();
    if (argc != 2)
        return 2;
    if (strcmp(argv[1], "use") == 0)
        f06_used_after_free();
    else if (strcmp(argv[1], "twice") == 0)
        f06_freed_twice();
    else if (strcmp(argv[1], "write") == 0)
        m06_uninitialized_bytes_are_written();
    else
        m07_a_handle_is_left_within_reach();
    return report("mistakes");
}
