/* A handle that is used after it has been freed, and freed twice. Not one of the tests, for this has to
 * be noticed by the tools: AddressSanitizer and valgrind report it, and this ends with 0 without them.
 *
 *   freed use|twice */
#include "check.h"

static acme_key_t *key;

/* Best effort: the mark of a handle is gone with it, unless malloc() has given its place away. */
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
    key = new_key(); /* malloc() is whole */
    CHECK(acme_key_pem(key) != NULL);
    acme_key_free(key);
}

int main(int argc, char **argv)
{
    key = new_key();
    if (argc > 1 && strcmp(argv[1], "use") == 0)
        f06_used_after_free();
    else
        f06_freed_twice();
    return report("freed");
}
