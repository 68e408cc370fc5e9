/* What a caller can do wrong: a status and a message that names the argument, never a crash. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define ARG ACME_ERR_INVALID_ARGUMENT

static const char *const names[] = { "example.org" };

static acme_client_t *new_client(acme_key_t *key)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;

    options.directory_url = "https://ca.example/directory";
    options.account_key = key;
    OK(acme_client_new(&options, &client));
    return client;
}

/* Memory whose end is the end of what can be read. */
static void *at_the_edge(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page * page;
    char *map = mmap(NULL, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    mprotect(map + pages, page, PROT_NONE);
    return map + pages - size;
}

static void library(void)
{
    uint32_t by_hand = (0u << 16) | (14u << 8) | 1u;

    CHECK(strcmp(acme_version(), "0.14.1") == 0);
    CHECK(acme_version_number() == by_hand && ACME_MICRO_VERSION_NUMBER == by_hand);
    CHECK(acme_features() & ACME_FEATURE_HTTP);
    CHECK(strcmp(acme_strerror(ACME_OK), "success") == 0);
    CHECK(strcmp(acme_strerror(ACME_ERR_CANCELED), "canceled") == 0);
    CHECK(strcmp(acme_strerror(12345), "unknown status") == 0);
}

static void null_pointers(acme_key_t *key, acme_client_t *client, acme_op_t *op)
{
    acme_client_options_t no_url = ACME_CLIENT_OPTIONS_INIT, no_key = ACME_CLIENT_OPTIONS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_key_t *out_key = (acme_key_t *)1;
    acme_csr_t *csr = NULL;
    acme_cert_t *cert = NULL;
    acme_client_t *out_client = (acme_client_t *)1;
    acme_op_t *out_op = (acme_op_t *)1;
    size_t size = 1;

    CHECK_STATUS(acme_key_generate(ACME_KEY_P256, NULL), ARG, "key is NULL");
    CHECK_STATUS(acme_key_parse(NULL, 1, &out_key), ARG, "data is NULL");
    CHECK_STATUS(acme_key_parse("x", 1, NULL), ARG, "key is NULL");
    CHECK_STATUS(acme_key_parse("x", 1, &out_key), ACME_ERR_PARSE, "private key");
    CHECK_STATUS(acme_key_parse_encrypted("x", 1, NULL, &out_key), ARG, "passphrase is NULL");
    CHECK_STATUS(acme_key_from_public(NULL, 0, &out_key), ACME_ERR_PARSE, "public key");
    CHECK(out_key == (acme_key_t *)1); /* outputs are written only on success */
    CHECK_STATUS(acme_csr_create(NULL, names, 1, &csr), ARG, "key is NULL");
    CHECK_STATUS(acme_csr_create(key, NULL, 1, &csr), ARG, "names is NULL");
    CHECK_STATUS(acme_csr_create(key, names, 1, NULL), ARG, "csr is NULL");
    CHECK_STATUS(acme_csr_create(key, names, SIZE_MAX, &csr), ARG, "names");
    CHECK_STATUS(acme_csr_parse("x", 1, NULL), ARG, "csr is NULL");
    CHECK_STATUS(acme_cert_parse(NULL, 1, &cert), ARG, "pem is NULL");
    CHECK_STATUS(acme_cert_parse("x", SIZE_MAX, &cert), ARG, "pem");
    CHECK_STATUS(acme_cert_create_tls_alpn(NULL, NULL, &cert), ARG, "challenge is NULL");
    CHECK_STATUS(acme_client_new(NULL, &out_client), ARG, "options is NULL");
    no_url.account_key = key;
    CHECK_STATUS(acme_client_new(&no_url, &out_client), ARG, "directory_url is NULL");
    CHECK_STATUS(acme_client_new(&no_url, NULL), ARG, "client is NULL");
    no_key.directory_url = "https://ca.example/";
    CHECK_STATUS(acme_client_new(&no_key, &out_client), ARG, "account_key is NULL");
    CHECK(out_client == (acme_client_t *)1);
    CHECK_STATUS(acme_begin_register(NULL, &out_op), ARG, "client is NULL");
    CHECK_STATUS(acme_begin_register(client, NULL), ARG, "op is NULL");
    CHECK_STATUS(acme_begin_find_account(NULL, &out_op), ARG, "client is NULL");
    CHECK_STATUS(acme_begin_update_contacts(client, NULL, 1, &out_op), ARG, "contacts is NULL");
    CHECK_STATUS(acme_begin_key_change(client, NULL, &out_op), ARG, "new_key is NULL");
    CHECK_STATUS(acme_begin_deactivate(NULL, &out_op), ARG, "client is NULL");
    CHECK_STATUS(acme_begin_renewal_info(client, NULL, &out_op), ARG, "cert is NULL");
    CHECK_STATUS(acme_begin_revoke(client, NULL, NULL, 0, &out_op), ARG, "cert is NULL");
    CHECK_STATUS(acme_begin_order(client, NULL, &out_op), ARG, "options is NULL");
    CHECK_STATUS(acme_begin_order(client, &order, &out_op), ARG, "names");
    CHECK(out_op == (acme_op_t *)1);
    CHECK_STATUS(acme_op_poll(NULL, 0), ARG, "op is NULL");
    CHECK_STATUS(acme_op_response_header(NULL, 1, "a", 1, "b", 1), ARG, "op is NULL");
    CHECK_STATUS(acme_op_response_header(op, 1, NULL, 1, "b", 1), ARG, "name is NULL");
    CHECK_STATUS(acme_op_response_body(op, 1, NULL, 1), ARG, "data is NULL");
    CHECK_STATUS(acme_op_response_end(NULL, 1, 200), ARG, "op is NULL");
    CHECK_STATUS(acme_op_response_failed(NULL, 1, NULL), ARG, "op is NULL");
    CHECK_STATUS(acme_op_published(NULL, NULL), ARG, "op is NULL");
    CHECK_STATUS(acme_op_signed(op, 1, NULL, 1), ARG, "signature is NULL");
    CHECK_STATUS(acme_op_sign_failed(NULL, 1, NULL), ARG, "op is NULL");
    CHECK_STATUS(acme_op_send(NULL, 1), ARG, "op is NULL");
    CHECK_STATUS(acme_op_run(NULL, NULL), ARG, "op is NULL");
    CHECK_STATUS(acme_obtain(NULL, &order, NULL, &cert), ARG, "client is NULL");
    CHECK_STATUS(acme_obtain(client, &order, NULL, NULL), ARG, "cert is NULL");

    /* Getters answer NULL or 0, and leave the last error alone. */
    CHECK(!acme_key_pem(NULL) && !acme_key_type(NULL) && !acme_key_thumbprint(NULL));
    CHECK(!acme_csr_der(NULL, &size) && size == 0 && !acme_csr_der(NULL, NULL));
    CHECK(!acme_cert_chain_pem(NULL) && !acme_cert_der(NULL, 0, NULL) && !acme_cert_key(NULL));
    CHECK(!acme_cert_name(NULL, 0) && !acme_cert_not_before(NULL) && !acme_cert_not_after(NULL));
    CHECK(!acme_cert_days_left(NULL, 0) && !acme_cert_serial(NULL) && !acme_cert_ari_id(NULL));
    CHECK(!acme_cert_fingerprint(NULL) && !acme_cert_key_type(NULL));
    CHECK(!acme_client_account_url(NULL) && !acme_client_terms_url(NULL));
    CHECK(!acme_client_profile(NULL, 0) && !acme_client_profile_text(NULL, 0));
    CHECK(!acme_op_request(NULL) && !acme_op_wait_ms(NULL) && !acme_op_challenge(NULL, 0));
    CHECK(!acme_op_error(NULL) && !acme_op_state(NULL) && !acme_op_order_url(NULL));
    CHECK(!acme_op_key(NULL) && !acme_op_take_cert(NULL) && !acme_op_renewal_info(NULL));
    CHECK(!acme_op_sign_request(NULL) && !acme_op_user_data(NULL));
    acme_op_set_user_data(NULL, NULL);
    acme_op_cancel(NULL);
    CHECK(!acme_error_message(NULL) && !acme_error_status(NULL) && !acme_error_url(NULL));
    CHECK(!acme_error_is_permanent(NULL) && !acme_error_retry_at(NULL));
    CHECK(!acme_error_identifier(NULL) && !acme_error_problem_type(NULL));
    CHECK(!acme_error_problem_json(NULL) && !acme_error_subproblem_count(NULL));
    CHECK(!acme_error_subproblem(NULL, 0));
    CHECK(acme_error_status(acme_last_error()) == ARG);
    acme_key_free(NULL);
    acme_csr_free(NULL);
    acme_cert_free(NULL);
    acme_client_free(NULL);
    acme_op_free(NULL);
}

static void options_structs(acme_key_t *key)
{
    struct { acme_client_options_t known; size_t later[2]; } longer = { ACME_CLIENT_OPTIONS_INIT, { 0 } };
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT, *edge;
    acme_client_t *client = NULL;
    static const size_t bad[] = { 1, 8, 12, 5000, SIZE_MAX, 0xaaaaaaaaaaaaaaaa };
    size_t i;

    options.directory_url = "https://ca.example/directory";
    options.account_key = key;
    options.size = 0;
    CHECK_STATUS(acme_client_new(&options, &client), ARG, "_INIT");
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        options.size = bad[i];
        CHECK_STATUS(acme_client_new(&options, &client), ARG, "options->size");
    }
    /* A program built with an older header: what lies behind its struct is never read. */
    options.size = offsetof(acme_client_options_t, account_url);
    edge = at_the_edge(options.size);
    memcpy(edge, &options, options.size);
    OK(acme_client_new(edge, &client));
    acme_client_free(client);
    /* And with a newer one: fine for as long as it asks for nothing new. */
    longer.known = options;
    longer.known.size = sizeof longer;
    OK(acme_client_new(&longer.known, &client));
    acme_client_free(client);
    longer.later[1] = 1;
    CHECK_STATUS(acme_client_new(&longer.known, &client), ACME_ERR_UNSUPPORTED, "option");
    options.size = sizeof options;
    options.terms_agreed = 2;
    CHECK_STATUS(acme_client_new(&options, &client), ARG, "terms_agreed is 2");
    options.terms_agreed = 0;
    options.eab_key_id = "kid";
    CHECK_STATUS(acme_client_new(&options, &client), ARG, "eab");
    options.eab_hmac_key = "not base64!";
    CHECK_STATUS(acme_client_new(&options, &client), ARG, "EAB");
    options.eab_key_id = options.eab_hmac_key = NULL;
    options.ca_file = "/nowhere";
    CHECK_STATUS(acme_client_new(&options, &client), ARG, "ca_file");
    options.ca_file = NULL;
    options.directory_url = "http://ca.example/";
    CHECK_STATUS(acme_client_new(&options, &client), ACME_ERR_POLICY, "https");
    options.directory_url = "\xff";
    CHECK_STATUS(acme_client_new(&options, &client), ARG, "directory_url is not UTF-8");
    CHECK_STATUS(acme_client_new((acme_client_options_t *)((char *)&options + 1), &client), ARG,
                 "not aligned");
}

static void enums_and_texts(acme_key_t *key, acme_client_t *client)
{
    static const int odd[] = { 12345, -1, INT_MIN, 0 };
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    const char *types[] = { "gopher-01" }, *texts[] = { NULL };
    char *endless = at_the_edge(65536);
    acme_key_t *out = NULL;
    acme_op_t *op = NULL;
    acme_csr_t *csr = NULL;
    size_t i;

    for (i = 0; i < sizeof odd / sizeof *odd; i++)
        CHECK_STATUS(acme_key_generate(odd[i], &out), ARG, "ACME_KEY_");
    order.names = names;
    order.name_count = 1;
    order.challenge_types = types;
    order.challenge_type_count = 1;
    CHECK_STATUS(acme_begin_order(client, &order, &op), ARG, "gopher-01");
    order.challenge_type_count = 0;
    order.preferred_chain = "X";
    order.preferred_chain_by = 9;
    CHECK_STATUS(acme_begin_order(client, &order, &op), ARG, "preferred_chain_by");
    order.preferred_chain = NULL;
    order.preferred_chain_by = 0;
    order.not_after = "tomorrow";
    CHECK_STATUS(acme_begin_order(client, &order, &op), ARG, "not_after");
    order.not_after = NULL;
    order.key = key; /* the account's */
    CHECK_STATUS(acme_begin_order(client, &order, &op), ARG, "account's key");
    order.key = NULL;
    order.names = texts;
    CHECK_STATUS(acme_begin_order(client, &order, &op), ARG, "names[0] is NULL");
    texts[0] = "\xc0\xaf";
    CHECK_STATUS(acme_begin_order(client, &order, &op), ARG, "names[0] is not UTF-8");
    memset(endless, 'a', 65536);
    texts[0] = endless;
    CHECK_STATUS(acme_csr_create(key, texts, 1, &csr), ARG, "64 KiB");
}

static void wrong_handles(acme_key_t *key, acme_client_t *client, acme_op_t *op)
{
    acme_op_t *out = NULL;
    acme_csr_t *csr = NULL;

    CHECK_STATUS(acme_begin_register((acme_client_t *)key, &out), ACME_ERR_MISUSE, "client");
    CHECK_STATUS(acme_csr_create((acme_key_t *)client, names, 1, &csr), ACME_ERR_MISUSE, "key");
    CHECK_STATUS(acme_op_poll((acme_op_t *)key, 0), ACME_ERR_MISUSE, "another kind");
    CHECK(!acme_key_pem((acme_key_t *)op) && !acme_op_state((acme_op_t *)client));
    acme_cert_free((acme_cert_t *)key); /* left alone */
    CHECK(acme_key_pem(key) != NULL);
    CHECK_STATUS(acme_op_poll((acme_op_t *)((char *)op + 1), 0), ARG, "not a handle");
}

static void calls_out_of_order(acme_op_t *op)
{
    uint64_t id;

    CHECK_STATUS(acme_op_response_end(op, 7, 200), ACME_ERR_MISUSE, "7");
    CHECK_STATUS(acme_op_published(op, NULL), ACME_ERR_MISUSE, "publish");
    CHECK_STATUS(acme_op_signed(op, 7, "x", 1), ACME_ERR_MISUSE, "sign");
    CHECK_STATUS(acme_op_send(op, 7), ACME_ERR_MISUSE, "7");
    CHECK(acme_op_poll(op, 0) == ACME_STEP_REQUEST);
    id = acme_op_request(op)->id;
    CHECK(id && strcmp(acme_op_request(op)->method, "GET") == 0);
    CHECK(strcmp(acme_op_request(op)->host, "ca.example") == 0 && acme_op_request(op)->port == 443);
    CHECK(acme_op_poll(op, 0) == ACME_STEP_WAIT && acme_op_wait_ms(op) > 0);
    CHECK_STATUS(acme_op_response_end(op, id, 0), ARG, "status");
    CHECK_STATUS(acme_op_response_end(op, id, -1), ARG, "status");
    CHECK_STATUS(acme_op_response_end(op, id, 100), ARG, "status");
    OK(acme_op_response_header(op, id, "x", 1, NULL, 0));
    OK(acme_op_response_body(op, id, NULL, 0));
    OK(acme_op_response_body(op, id, "{}", 2));
    OK(acme_op_response_end(op, id, 200));
    CHECK_STATUS(acme_op_response_end(op, id, 200), ACME_ERR_MISUSE, "answered");
    CHECK(acme_op_poll(op, 0) == ACME_ERR_PROTOCOL);
    CHECK(strstr(acme_error_message(acme_op_error(op)), "newNonce") != NULL);
    CHECK(acme_op_poll(op, 0) == ACME_ERR_PROTOCOL); /* the same each time */
    CHECK(strcmp(acme_error_url(acme_op_error(op)), "https://ca.example/directory") == 0);
}

static void *other_thread(void *unused)
{
    (void)unused;
    return (void *)acme_last_error();
}

static void last_error_is_the_threads(void)
{
    acme_key_t *key = NULL;
    void *seen = (void *)1;
    pthread_t thread;

    CHECK_STATUS(acme_key_generate(99, &key), ARG, "99");
    pthread_create(&thread, NULL, other_thread, NULL);
    pthread_join(thread, &seen);
    CHECK(seen == NULL && acme_last_error() != NULL);
    CHECK(acme_error_is_permanent(acme_last_error()));
}

int main(void)
{
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_key_t *key = new_key();
    acme_client_t *client = new_client(key);
    acme_op_t *op = NULL;

    order.names = names;
    order.name_count = 1;
    OK(acme_begin_order(client, &order, &op));
    acme_op_set_user_data(op, &order);
    CHECK(acme_op_user_data(op) == &order);
    library();
    null_pointers(key, client, op);
    options_structs(key);
    enums_and_texts(key, client);
    wrong_handles(key, client, op);
    acme_client_free(client); /* the operation keeps what it needs */
    acme_key_free(key);
    calls_out_of_order(op);
    last_error_is_the_threads();
    acme_op_free(op);
    return report("test_arguments");
}
