/* Every argument of every function, wrong in every way that C allows. The function returns a status and sets
 * a message that names the argument; it writes no output and does not crash. Options structs are in
 * test_options.c. */
#include "outputs.h"

#include <limits.h>

#define ARG ACME_ERR_INVALID_ARGUMENT

static const char *const names[] = { "example.org" };
static acme_key_t *key, *second_key;
static acme_csr_t *csr;
static acme_cert_t *cert;
static acme_client_t *client;
static acme_op_t *op;
static acme_driver_t *driver;
static acme_driver_callbacks_t callbacks = ACME_DRIVER_CALLBACKS_INIT;
static acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
static acme_authorize_options_t authorize = ACME_AUTHORIZE_OPTIONS_INIT;
static uint8_t digest[32];
static acme_challenge_t challenge;

/* Whether this output is NULL or unchanged, as it has to be after a failure. */
static int is_cleared(const void *output)
{
    return !output || output == &untouched;
}

static int nothing_was_made(void)
{
    return is_cleared(out_key) && is_cleared(out_csr) && is_cleared(out_cert) &&
           is_cleared(out_client) && is_cleared(out_op) && is_cleared(out_driver);
}

static void never(acme_op_t *it, acme_status_t status, void *user)
{
    (void)it, (void)status, (void)user;
    CHECK(!"an operation is done that has not been added");
}

enum kind { KEY, CSR, CERT, CLIENT, OP, DRIVER, OUT, STRUCT, ARRAY, BYTES, TEXT };
enum { OPTIONAL = 100 };

/* X(kind, function, argument, a call with P as that argument and nothing else wrong) */
#define ARGUMENTS(X)                                                                            \
    X(OUT, acme_key_generate, key, (ACME_KEY_P256, P))                                          \
    X(BYTES, acme_key_parse, data, (P, 1, &out_key))                                            \
    X(OUT, acme_key_parse, key, ("x", 1, P))                                                    \
    X(BYTES, acme_key_parse_encrypted, data, (P, 1, "x", &out_key))                             \
    X(TEXT, acme_key_parse_encrypted, passphrase, ("x", 1, P, &out_key))                        \
    X(OUT, acme_key_parse_encrypted, key, ("x", 1, "x", P))                                     \
    X(BYTES, acme_key_from_public, data, (P, 1, &out_key))                                      \
    X(OUT, acme_key_from_public, key, ("x", 1, P))                                              \
    X(KEY, acme_csr_create, key, (P, names, 1, &out_csr))                                       \
    X(ARRAY, acme_csr_create, names, (key, P, 1, &out_csr))                                     \
    X(OUT, acme_csr_create, csr, (key, names, 1, P))                                            \
    X(BYTES, acme_csr_parse, data, (P, 1, &out_csr))                                            \
    X(OUT, acme_csr_parse, csr, ("x", 1, P))                                                    \
    X(BYTES, acme_cert_parse, pem, (P, 1, &out_cert))                                           \
    X(OUT, acme_cert_parse, cert, ("x", 1, P))                                                  \
    X(STRUCT, acme_cert_create_tls_alpn, challenge, (P, key, &out_cert))                        \
    X(OPTIONAL + KEY, acme_cert_create_tls_alpn, key, (&challenge, P, &out_cert))               \
    X(OUT, acme_cert_create_tls_alpn, cert, (&challenge, key, P))                               \
    X(STRUCT, acme_client_new, options, (P, &out_client))                                       \
    X(CLIENT, acme_begin_register, client, (P, &out_op))                                        \
    X(OUT, acme_begin_register, op, (client, P))                                                \
    X(CLIENT, acme_begin_find_account, client, (P, &out_op))                                    \
    X(OUT, acme_begin_find_account, op, (client, P))                                            \
    X(CLIENT, acme_begin_update_contacts, client, (P, NULL, 0, &out_op))                        \
    X(ARRAY, acme_begin_update_contacts, contacts, (client, P, 1, &out_op))                     \
    X(OUT, acme_begin_update_contacts, op, (client, NULL, 0, P))                                \
    X(CLIENT, acme_begin_key_change, client, (P, second_key, &out_op))                          \
    X(KEY, acme_begin_key_change, new_key, (client, P, &out_op))                                \
    X(OUT, acme_begin_key_change, op, (client, second_key, P))                                  \
    X(CLIENT, acme_begin_deactivate, client, (P, &out_op))                                      \
    X(OUT, acme_begin_deactivate, op, (client, P))                                              \
    X(CLIENT, acme_begin_renewal_info, client, (P, cert, &out_op))                              \
    X(CERT, acme_begin_renewal_info, cert, (client, P, &out_op))                                \
    X(OUT, acme_begin_renewal_info, op, (client, cert, P))                                      \
    X(CLIENT, acme_begin_revoke, client, (P, cert, NULL, 0, &out_op))                           \
    X(CERT, acme_begin_revoke, cert, (client, P, NULL, 0, &out_op))                             \
    X(OPTIONAL + KEY, acme_begin_revoke, key, (client, cert, P, 0, &out_op))                    \
    X(OUT, acme_begin_revoke, op, (client, cert, NULL, 0, P))                                   \
    X(CLIENT, acme_begin_order, client, (P, &order, &out_op))                                   \
    X(STRUCT, acme_begin_order, options, (client, P, &out_op))                                  \
    X(OUT, acme_begin_order, op, (client, &order, P))                                           \
    X(CLIENT, acme_begin_authorize, client, (P, &authorize, &out_op))                           \
    X(STRUCT, acme_begin_authorize, options, (client, P, &out_op))                              \
    X(OUT, acme_begin_authorize, op, (client, &authorize, P))                                   \
    X(CLIENT, acme_begin_deactivate_authorization, client, (P, "x", &out_op))                   \
    X(TEXT, acme_begin_deactivate_authorization, authorization_url, (client, P, &out_op))       \
    X(OUT, acme_begin_deactivate_authorization, op, (client, "x", P))                           \
    X(CLIENT, acme_begin_abandon_order, client, (P, "x", &out_op))                              \
    X(TEXT, acme_begin_abandon_order, order_url, (client, P, &out_op))                          \
    X(OUT, acme_begin_abandon_order, op, (client, "x", P))                                      \
    X(CLIENT, acme_begin_list_orders, client, (P, &out_op))                                     \
    X(OUT, acme_begin_list_orders, op, (client, P))                                             \
    X(OP, acme_op_poll, op, (P, 0))                                                             \
    X(OP, acme_op_response_header, op, (P, 1, "a", 1, "b", 1))                                  \
    X(BYTES, acme_op_response_header, name, (op, 1, P, 1, "b", 1))                              \
    X(BYTES, acme_op_response_header, value, (op, 1, "a", 1, P, 1))                             \
    X(OP, acme_op_response_body, op, (P, 1, "x", 1))                                            \
    X(BYTES, acme_op_response_body, data, (op, 1, P, 1))                                        \
    X(OP, acme_op_response_end, op, (P, 1, 200))                                                \
    X(OP, acme_op_response_failed, op, (P, 1, "x"))                                             \
    X(OPTIONAL + TEXT, acme_op_response_failed, why, (op, 1, P))                                \
    X(OP, acme_op_respond_with, op, (P, &challenge, "{}", 2))                                   \
    X(STRUCT, acme_op_respond_with, challenge, (op, P, "{}", 2))                                \
    X(BYTES, acme_op_respond_with, json, (op, &challenge, P, 1))                                \
    X(OP, acme_op_published, op, (P, NULL))                                                     \
    X(OPTIONAL + TEXT, acme_op_published, failure, (op, P))                                     \
    X(OP, acme_op_signed, op, (P, 1, "x", 1))                                                   \
    X(BYTES, acme_op_signed, signature, (op, 1, P, 1))                                          \
    X(OP, acme_op_sign_failed, op, (P, 1, "x"))                                                 \
    X(OPTIONAL + TEXT, acme_op_sign_failed, why, (op, 1, P))                                    \
    X(OP, acme_op_send, op, (P, 1))                                                             \
    X(OP, acme_op_run, op, (P, NULL))                                                           \
    X(OPTIONAL + STRUCT, acme_op_run, options, (op, P))                                         \
    X(CLIENT, acme_obtain, client, (P, &order, NULL, &out_cert))                                \
    X(STRUCT, acme_obtain, order, (client, P, NULL, &out_cert))                                 \
    X(OPTIONAL + STRUCT, acme_obtain, run, (client, &order, P, &out_cert))                      \
    X(OUT, acme_obtain, cert, (client, &order, NULL, P))                                        \
    X(OPTIONAL + STRUCT, acme_driver_new, options, (P, &out_driver))                            \
    X(OUT, acme_driver_new, driver, (NULL, P))                                                  \
    X(DRIVER, acme_driver_add, driver, (P, op, &callbacks))                                     \
    X(OP, acme_driver_add, op, (driver, P, &callbacks))                                         \
    X(STRUCT, acme_driver_add, callbacks, (driver, op, P))                                      \
    X(DRIVER, acme_driver_dispatch, driver, (P))

/* X(kind, function, a call with P as the handle): returns NULL or 0 if P is not such a handle */
#define GETTERS(X)                                                                              \
    X(KEY, acme_key_pem, (P)) X(KEY, acme_key_type, (P)) X(KEY, acme_key_thumbprint, (P))       \
    X(CSR, acme_csr_der, (P, NULL))                                                             \
    X(CERT, acme_cert_chain_pem, (P)) X(CERT, acme_cert_der, (P, 0, NULL))                      \
    X(CERT, acme_cert_is_for, (P, NULL))                                                        \
    X(CERT, acme_cert_key, (P)) X(CERT, acme_cert_name, (P, 0)) X(CERT, acme_cert_serial, (P))  \
    X(CERT, acme_cert_fingerprint, (P)) X(CERT, acme_cert_key_type, (P))                        \
    X(CERT, acme_cert_ari_id, (P)) X(CERT, acme_cert_not_before, (P))                           \
    X(CERT, acme_cert_not_after, (P)) X(CERT, acme_cert_days_left, (P, 0))                      \
    X(CLIENT, acme_client_account_url, (P)) X(CLIENT, acme_client_terms_url, (P))               \
    X(CLIENT, acme_client_profile, (P, 0)) X(CLIENT, acme_client_profile_text, (P, 0))          \
    X(OP, acme_op_request, (P)) X(OP, acme_op_wait_ms, (P)) X(OP, acme_op_challenge, (P, 0))    \
    X(OP, acme_op_error, (P)) X(OP, acme_op_state, (P)) X(OP, acme_op_order_url, (P))           \
    X(OP, acme_op_key, (P)) X(OP, acme_op_sign_request, (P)) X(OP, acme_op_take_cert, (P))      \
    X(OP, acme_op_renewal_info, (P)) X(OP, acme_op_user_data, (P)) X(OP, acme_op_url, (P, 0))    \
    X(DRIVER, acme_driver_count, (P))

#define TRY(kind, function, argument, call)                                                     \
    static int try_##function##_##argument(void *P) { return function call; }
#define LIST(kind, function, argument, call)                                                    \
    { kind, #function, #argument, try_##function##_##argument },
#define TRY_GETTER(kind, function, call)                                                        \
    static int try_##function(void *P) { return function call != 0; }
#define LIST_GETTER(kind, function, call) { kind, #function, "", try_##function },

ARGUMENTS(TRY)
GETTERS(TRY_GETTER)

struct position {
    int kind;
    const char *function, *argument;
    int (*try)(void *);
};

static const struct position arguments[] = { ARGUMENTS(LIST) };
static const struct position getters[] = { GETTERS(LIST_GETTER) };
#define COUNT(array) (sizeof(array) / sizeof *(array))

static void refuse(const struct position *at, void *bad, int status, const char *why)
{
    int given = (touch_outputs(), at->try(bad));
    const char *message = acme_error_message(acme_last_error());

    CHECK(nothing_was_made());
    CHECK(given == status && acme_error_status(acme_last_error()) == status);
    CHECK(message && strstr(message, at->argument) && strstr(message, why));
    if (given != status || !message || !strstr(message, at->argument) || !strstr(message, why))
        fprintf(stderr, "    that was %s of %s\n", at->argument, at->function);
}

static void f01_f02_f03_f05_f18_every_argument(void)
{
    void *handles[] = { key, csr, cert, client, op, driver };
    char *endless = at_the_edge(65536);
    size_t i, other;

    memset(endless, 'a', 65536); /* no NUL up to an unreadable page */
    for (i = 0; i < COUNT(arguments); i++) {
        const struct position *at = &arguments[i];
        int kind = at->kind % OPTIONAL;

        if (at->kind < OPTIONAL)
            refuse(at, NULL, ARG, "NULL");
        if (kind <= DRIVER) {
            for (other = 0; other < COUNT(handles); other++)
                if ((int)other != kind)
                    refuse(at, handles[other], ACME_ERR_MISUSE, "another kind");
            refuse(at, (char *)handles[kind] + 1, ARG, "not a handle");
        }
        if (kind == OUT || kind == STRUCT || kind == ARRAY)
            refuse(at, (char *)&challenge + 1, ARG, "not aligned");
        if (kind == TEXT) {
            refuse(at, endless, ARG, "64 KiB");
            refuse(at, "\xff", ARG, "UTF-8");
            refuse(at, "\xc0\xaf", ARG, "UTF-8");     /* overlong */
            refuse(at, "\xed\xa0\x80", ARG, "UTF-8"); /* surrogate */
            refuse(at, "x\xe2\x82", ARG, "UTF-8");    /* cut off */
        }
    }
}

static void f01_f05_every_getter(void)
{
    void *handles[] = { key, csr, cert, client, op, driver };
    size_t i, other, size = 1;

    CHECK_STATUS(acme_key_generate(0, &out_key), ARG, "type");
    for (i = 0; i < COUNT(getters); i++) {
        CHECK(getters[i].try(NULL) == 0);
        for (other = 0; other < COUNT(handles); other++)
            if ((int)other != getters[i].kind) {
                CHECK(getters[i].try(handles[other]) == 0);
            }
        CHECK(getters[i].try((char *)handles[getters[i].kind] + 1) == 0);
    }
    CHECK(!acme_csr_der(NULL, &size) && size == 0);
    size = 1;
    CHECK(!acme_cert_der(NULL, 0, &size) && size == 0);
    size = 1;
    CHECK(!acme_cert_der(cert, 1, &size) && size == 0 && !acme_cert_name(cert, SIZE_MAX));
    CHECK(acme_cert_der(cert, 0, &size) && size > 100 && !acme_cert_der(cert, SIZE_MAX, NULL));
    CHECK(!acme_op_challenge(op, 0) && !acme_client_profile(client, SIZE_MAX));

    CHECK(acme_error_status(NULL) == ACME_OK && !acme_error_message(NULL));
    CHECK(!acme_error_is_permanent(NULL) && !acme_error_retry_at(NULL) && !acme_error_url(NULL));
    CHECK(!acme_error_identifier(NULL) && !acme_error_problem_type(NULL));
    CHECK(!acme_error_problem_json(NULL) && !acme_error_subproblem_count(NULL));
    CHECK(!acme_error_subproblem(NULL, 0) && !acme_error_help_url(NULL));

    /* Functions without a result do nothing. */
    acme_op_set_user_data(NULL, &size);
    acme_op_set_user_data((acme_op_t *)key, &size);
    acme_op_cancel(NULL);
    acme_op_cancel((acme_op_t *)client);
    CHECK(acme_error_status(acme_last_error()) == ARG); /* still the error from before */
}

/* acme_http01_answer() writes to the caller's buffer: the whole text if it fits, otherwise nothing. */
static void f10_an_answer_fits_or_nothing_is_written(void)
{
    static const char thumbprint[] = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
    static const char path[] = "/.well-known/acme-challenge/aaaaaaaaaaaaaaaaaaaaaaaa";
    char body[64], odd[] = "/.well-known/acme-challenge/\xff";
    size_t path_size = sizeof path - 1, wanted = 24 + 1 + 43, room;

    for (room = 0; room <= wanted + 1; room++) {
        char *edge = at_the_edge(room);
        size_t size, i;

        memset(edge, '~', room);
        size = acme_http01_answer(thumbprint, path, path_size, edge, room);
        CHECK(size == (room < wanted ? 0 : wanted));
        for (i = size; i < room; i++)
            CHECK(edge[i] == '~');
    }
    CHECK(!acme_http01_answer(NULL, "x", 1, body, 64) && !acme_http01_answer("x", NULL, 1, body, 64));
    CHECK(!acme_http01_answer("\xff", "x", 1, body, 64));
    CHECK(!acme_http01_answer("x", odd, sizeof odd - 1, body, 64));
    CHECK(!acme_http01_answer("x", "x", SIZE_MAX, body, 64));
    CHECK(!acme_http01_answer(thumbprint, path, path_size, NULL, 99));
    CHECK(!acme_client_http01_answer(NULL, "x", 1, body, 64));
    CHECK(!acme_client_http01_answer((acme_client_t *)key, "x", 1, body, 64));
}

static void f05_every_free_leaves_other_kinds_alone(void)
{
    void *handles[] = { key, csr, cert, client, op, driver, NULL };
    size_t i;

    for (i = 0; i < COUNT(handles); i++) {
        if (i != KEY) acme_key_free(handles[i]);
        if (i != CSR) acme_csr_free(handles[i]);
        if (i != CERT) acme_cert_free(handles[i]);
        if (i != CLIENT) acme_client_free(handles[i]);
        if (i != OP) acme_op_free(handles[i]);
        if (i != DRIVER) acme_driver_free(handles[i]);
    }
    CHECK(acme_key_pem(key) && acme_csr_der(csr, NULL) && acme_cert_chain_pem(cert));
    CHECK(strcmp(acme_op_state(op), "new") == 0);
    CHECK(acme_driver_fd(driver) > 0 && acme_driver_fd(NULL) == -1);
    CHECK(acme_driver_fd((acme_driver_t *)op) == -1);
}

static void f04_f09_numbers(void)
{
    static const int odd[] = { 12345, -1, INT_MIN, INT_MAX, 7 };
    size_t i;

    for (i = 0; i < COUNT(odd); i++) {
        CHECK_STATUS(acme_key_generate(odd[i], &out_key), ARG, "ACME_KEY_");
        CHECK_STATUS(acme_begin_revoke(client, cert, NULL, odd[i], &out_op), ARG, "ACME_REVOKE_");
    }
    CHECK_STATUS(acme_csr_create(key, names, SIZE_MAX, &out_csr), ARG, "names");
    CHECK_STATUS(acme_csr_create(key, names, SIZE_MAX / 8 + 1, &out_csr), ARG, "names");
    CHECK_STATUS(acme_csr_create(key, names, 0, &out_csr), ARG, "name");
    CHECK_STATUS(acme_begin_update_contacts(client, names, SIZE_MAX, &out_op), ARG, "contacts");
    CHECK_STATUS(acme_key_parse("x", SIZE_MAX, &out_key), ARG, "data");
    CHECK_STATUS(acme_key_parse("x", (size_t)1 << 40, &out_key), ARG, "data");
    CHECK_STATUS(acme_key_parse_encrypted("x", SIZE_MAX, "x", &out_key), ARG, "data");
    CHECK_STATUS(acme_key_from_public("x", SIZE_MAX, &out_key), ARG, "data");
    CHECK_STATUS(acme_csr_parse("x", SIZE_MAX, &out_csr), ARG, "data");
    CHECK_STATUS(acme_cert_parse("x", SIZE_MAX, &out_cert), ARG, "pem");
    CHECK_STATUS(acme_op_response_header(op, 1, "x", SIZE_MAX, "x", 1), ARG, "name");
    CHECK_STATUS(acme_op_response_header(op, 1, "x", 1, "x", SIZE_MAX), ARG, "value");
    CHECK_STATUS(acme_op_response_body(op, 1, "x", SIZE_MAX), ARG, "data");
    CHECK_STATUS(acme_op_signed(op, 1, "x", SIZE_MAX), ARG, "signature");
    /* An empty input is refused, at NULL or at any other address. */
    CHECK_STATUS(acme_key_parse(NULL, 0, &out_key), ACME_ERR_PARSE, "key");
    CHECK_STATUS(acme_key_parse((void *)1, 0, &out_key), ACME_ERR_PARSE, "key");
    CHECK_STATUS(acme_cert_parse(NULL, 0, &out_cert), ACME_ERR_PARSE, "certificate");
    CHECK_STATUS(acme_csr_parse(NULL, 0, &out_csr), ACME_ERR_PARSE, "request");
    CHECK(nothing_was_made());
}

/* Checks the members of a challenge that a program has filled in by itself. */
static void challenges(void)
{
    acme_challenge_t bad = challenge;

    bad.identifier = NULL;
    CHECK_STATUS(acme_cert_create_tls_alpn(&bad, NULL, &out_cert), ARG, "challenge->identifier");
    bad.identifier = "\xff";
    CHECK_STATUS(acme_cert_create_tls_alpn(&bad, NULL, &out_cert), ARG, "challenge->identifier");
    bad = challenge;
    bad.tls_alpn_digest = NULL; /* as in a challenge of http-01 */
    CHECK_STATUS(acme_cert_create_tls_alpn(&bad, NULL, &out_cert), ARG, "tls_alpn_digest");
    CHECK_STATUS(acme_op_respond_with(op, &challenge, "{}", 2), ACME_ERR_MISUSE, "right now");
    CHECK_STATUS(acme_begin_abandon_order(client, "https://elsewhere.example/1", &out_op), ARG,
                 "order_url");
    CHECK(nothing_was_made());
}

int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;

    choose_tests(argc, argv);
    order.names = names;
    order.name_count = 1;
    authorize.names = names;
    authorize.name_count = 1;
    challenge.identifier = "example.org";
    challenge.tls_alpn_digest = digest;
    key = new_key();
    second_key = new_key();
    options.directory_url = "https://ca.example/directory";
    options.account_key = key;
    OK(acme_client_new(&options, &client));
    OK(acme_csr_create(second_key, names, 1, &csr));
    OK(acme_cert_create_tls_alpn(&challenge, NULL, &cert));
    OK(acme_begin_order(client, &order, &op));
    OK(acme_driver_new(NULL, &driver));
    callbacks.done = never;
    touch_outputs();
    TEST(f01_f02_f03_f05_f18_every_argument());
    TEST(f01_f05_every_getter());
    TEST(f05_every_free_leaves_other_kinds_alone());
    TEST(f04_f09_numbers());
    TEST(f10_an_answer_fits_or_nothing_is_written());
    TEST(challenges());
    acme_driver_free(driver);
    acme_op_free(op);
    acme_client_free(client);
    acme_cert_free(cert);
    acme_csr_free(csr);
    acme_key_free(second_key);
    acme_key_free(key);
    return report("test_arguments");
}
