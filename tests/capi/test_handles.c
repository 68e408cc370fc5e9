/* Handles: freed in any order, used after free, used before main() and after it, on a small stack, and very
 * many at the same time. */
#include "pebble.h"

#include <malloc.h>
#include <sys/wait.h>

#define ARG ACME_ERR_INVALID_ARGUMENT

static acme_client_t *client_of(acme_key_t *key)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;

    options.directory_url = "https://ca.example/dir";
    options.account_key = key;
    options.terms_agreed = 1;
    OK(acme_client_new(&options, &client));
    return client;
}

/* --- before main() and after it ---------------------------------------------------------------------- */

static int before_main = -1;
static acme_key_t *kept; /* lives from the constructor to the destructor */

__attribute__((constructor)) static void f22_in_a_constructor(void)
{
    acme_key_t *none = NULL;

    before_main = acme_key_generate(ACME_KEY_P256, &kept) == ACME_OK && acme_key_pem(kept) &&
                  acme_key_generate(0, &none) == ARG && acme_last_error() && !none;
}

static void ends_badly_unless(int fine)
{
    if (!fine) {
        fputs("test_handles: the library does not work at exit\n", stderr);
        _exit(1);
    }
}

static void f22_at_exit(void)
{
    acme_client_t *client = NULL;
    acme_op_t *op = NULL;
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;

    options.directory_url = "https://ca.example/dir";
    options.account_key = kept;
    ends_badly_unless(acme_client_new(&options, &client) == ACME_OK);
    ends_badly_unless(acme_begin_register(client, &op) == ACME_OK);
    ends_badly_unless(acme_op_poll(op, 0) == ACME_STEP_REQUEST);
    acme_client_free(client);
    acme_op_free(op);
}

__attribute__((destructor)) static void f22_in_a_destructor(void)
{
    acme_key_t *another = NULL;

    ends_badly_unless(acme_key_pem(kept) != NULL);
    ends_badly_unless(acme_key_generate(ACME_KEY_P256, &another) == ACME_OK);
    ends_badly_unless(acme_key_generate(0, NULL) == ARG);
    acme_key_free(another);
    acme_key_free(kept);
}

/* --- in any order -------------------------------------------------------------------------------------- */

enum { KEY, CERT_KEY, CSR, CERT, CLIENT, OP, OTHER_OP, DRIVER, HANDLES };

static void free_one(void **handles, int which)
{
    switch (which) {
    case KEY: case CERT_KEY: acme_key_free(handles[which]); break;
    case CSR: acme_csr_free(handles[which]); break;
    case CERT: acme_cert_free(handles[which]); break;
    case CLIENT: acme_client_free(handles[which]); break;
    case OP: case OTHER_OP: acme_op_free(handles[which]); break;
    case DRIVER: acme_driver_free(handles[which]); break;
    }
    handles[which] = NULL;
}

/* Checks that every handle that is not freed works. */
static void lives(void **handles)
{
    if (handles[KEY])
        CHECK(acme_key_pem(handles[KEY]) != NULL);
    if (handles[CSR])
        CHECK(acme_csr_der(handles[CSR], NULL) != NULL);
    if (handles[CERT])
        CHECK(acme_cert_key(handles[CERT]) && acme_key_pem(acme_cert_key(handles[CERT])));
    if (handles[CLIENT])
        CHECK(acme_client_account_url(handles[CLIENT]) == NULL);
    if (handles[OP])
        CHECK(acme_op_key(handles[OP]) && acme_key_pem(acme_op_key(handles[OP])));
    if (handles[OP])
        CHECK(acme_op_poll(handles[OP], 1000000) > 0);
    if (handles[OTHER_OP])
        CHECK(acme_op_poll(handles[OTHER_OP], 1000000) > 0);
}

static void y03_freed_in_any_order(void)
{
    static const char *const names[] = { "example.org" };
    unsigned random = 1;
    int round, i, j;

    for (round = 0; round < 40; round++) {
        void *handles[HANDLES] = { NULL };
        int order[HANDLES];
        acme_order_options_t options = ACME_ORDER_OPTIONS_INIT;
        acme_challenge_t challenge = { 0 };
        uint8_t digest[32] = { 0 };

        handles[KEY] = new_key();
        handles[CERT_KEY] = new_key();
        OK(acme_csr_create(handles[CERT_KEY], names, 1, (acme_csr_t **)&handles[CSR]));
        challenge.identifier = names[0];
        challenge.tls_alpn_digest = digest;
        OK(acme_cert_create_tls_alpn(&challenge, handles[CERT_KEY], (acme_cert_t **)&handles[CERT]));
        handles[CLIENT] = client_of(handles[KEY]);
        options.names = names;
        options.name_count = 1;
        options.key = handles[CERT_KEY];
        options.replaces = handles[CERT];
        OK(acme_begin_order(handles[CLIENT], &options, (acme_op_t **)&handles[OP]));
        OK(acme_begin_key_change(handles[CLIENT], handles[CERT_KEY],
                                 (acme_op_t **)&handles[OTHER_OP]));
        OK(acme_driver_new(NULL, (acme_driver_t **)&handles[DRIVER]));
        for (i = 0; i < HANDLES; i++)
            order[i] = i;
        for (i = HANDLES - 1; i > 0; i--) {
            int swap = order[i];

            random = random * 1103515245 + 12345;
            j = (int)(random >> 16) % (i + 1);
            order[i] = order[j];
            order[j] = swap;
        }
        for (i = 0; i < HANDLES; i++) {
            free_one(handles, order[i]);
            lives(handles);
        }
    }
}

/* --- on a small stack ------------------------------------------------------------------------------------- */

static void *with_little_stack(void *unused)
{
    static const char *const names[] = { "example.org" };
    acme_key_t *key = new_key(), *parsed = NULL;
    acme_client_t *client = client_of(key);
    acme_csr_t *csr = NULL;
    acme_cert_t *cert = NULL;
    acme_op_t *op = NULL;
    char *deep = malloc(1000001);
    size_t i;
    int kind, step;

    (void)unused;
    OK(acme_csr_create(key, names, 1, &csr));
    acme_csr_free(csr);
    OK(acme_key_parse(acme_key_pem(key), strlen(acme_key_pem(key)), &parsed));
    acme_key_free(parsed);
    for (kind = 0; kind < 3; kind++) { /* deeply nested JSON: lists, objects, both */
        for (i = 0; i < 1000000; i++)
            deep[i] = kind == 0 ? '[' : "{\"a\":["[i % (kind == 1 ? 5 : 6)];
        deep[1000000] = 0;
        OK(acme_begin_register(client, &op));
        CHECK(acme_op_poll(op, 1000) == ACME_STEP_REQUEST);
        feed(op, kind == 2 ? 400 : 200, "Content-Type", "application/problem+json", deep);
        while ((step = acme_op_poll(op, 1000)) > 0 && step != ACME_STEP_WAIT)
            feed(op, 200, NULL, NULL, deep);
        CHECK(step == ACME_ERR_PROTOCOL || step == ACME_ERR_PROBLEM || step == ACME_STEP_WAIT);
        acme_op_free(op);
        CHECK(acme_cert_parse(deep, 1000000, &cert) == ACME_ERR_PARSE);
        CHECK(acme_csr_parse(deep, 1000000, &csr) == ACME_ERR_PARSE);
    }
    free(deep);
    acme_client_free(client);
    acme_key_free(key);
    return NULL;
}

static void f17_on_a_stack_of_64_kib(void)
{
#ifdef __SANITIZE_ADDRESS__
    size_t size = 1024 * 1024; /* AddressSanitizer's stack frames are larger */
#else
    size_t size = 64 * 1024;
#endif
    pthread_attr_t small;
    pthread_t thread;

    pthread_attr_init(&small);
    CHECK(pthread_attr_setstacksize(&small, size) == 0);
    CHECK(pthread_create(&thread, &small, with_little_stack, NULL) == 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&small);
}

/* --- very many ------------------------------------------------------------------------------------------- */

/* Responds to the operation's request like a CA that has every account. */
static void answer(acme_op_t *op)
{
    const char *url = acme_op_request(op)->url;

    if (strstr(url, "/dir"))
        feed(op, 200, NULL, NULL, DIRECTORY);
    else if (strstr(url, "/nonce"))
        feed(op, 204, NULL, NULL, "");
    else
        feed(op, 200, "Location", "https://ca.example/account/1", "{\"status\":\"valid\"}");
}

static void interleave(int clients, int each)
{
    int count = clients * each, left = count, i;
    acme_op_t **ops = calloc((size_t)count, sizeof *ops);
    acme_client_t **owners = calloc((size_t)clients, sizeof *owners);
    unsigned random = 7;

    for (i = 0; i < clients; i++) {
        acme_key_t *key = new_key();

        owners[i] = client_of(key);
        acme_key_free(key);
    }
    for (i = 0; i < count; i++)
        OK(acme_begin_register(owners[i % clients], &ops[i]));
    for (i = 0; i < clients; i++)
        acme_client_free(owners[i]); /* their operations keep them alive */
    while (left > 0) {
        random = random * 1103515245 + 12345;
        for (i = (int)(random >> 8) % count; !ops[i]; i = (i + 1) % count)
            ;
        switch (acme_op_poll(ops[i], 1000000)) {
        case ACME_STEP_REQUEST:
            answer(ops[i]);
            break;
        case ACME_STEP_WAIT: /* for another operation of its client */
            break;
        case ACME_STEP_DONE:
            acme_op_free(ops[i]);
            ops[i] = NULL;
            left--;
            break;
        default:
            CHECK(!"an operation goes well");
            left = 0;
        }
    }
    free(ops);
    free(owners);
}

static size_t heap(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static void y12_handles_and_operations_interleaved_at_random(void)
{
    int many = getenv("ACME_TEST_SLOW") ? 10 : 100; /* tests/capi/run sets it for valgrind */
    size_t before;
    int i;

    for (i = 0; i < 4; i++)
        interleave(many, many); /* fill the caches of OpenSSL and malloc() first */
    before = heap();
    interleave(many, many);
    /* malloc() keeps lists of free pieces by size; they are smaller than this. Under valgrind the heap is 0. */
    CHECK(heap() <= before + 64 * 1024);
}

int main(int argc, char **argv)
{
    choose_tests(argc, argv);
    CHECK(before_main == 1);
    CHECK(atexit(f22_at_exit) == 0);
    TEST(y03_freed_in_any_order());
    TEST(f17_on_a_stack_of_64_kib());
    TEST(y12_handles_and_operations_interleaved_at_random());
    return report("test_handles");
}
