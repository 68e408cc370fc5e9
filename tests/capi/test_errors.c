/* Error objects: the thread's last error, an operation's error, and the content of a CA's refusal. */
#include "pebble.h"

#include <limits.h>

#define ARG ACME_ERR_INVALID_ARGUMENT
#define URN "urn:ietf:params:acme:error:"

static acme_client_t *new_client(void)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_key_t *key = new_key();
    acme_client_t *client = NULL;

    options.directory_url = "https://ca.example/dir";
    options.account_key = key;
    options.terms_agreed = 1;
    OK(acme_client_new(&options, &client));
    acme_key_free(key);
    return client;
}

static void f21_cleared_by_success_kept_by_the_rest(void)
{
    acme_key_t *key = NULL, *other = NULL;
    acme_client_t *client = new_client();
    const acme_error_t *error;
    acme_op_t *op = NULL;
    char *message;

    CHECK(acme_last_error() == NULL);
    CHECK_STATUS(acme_key_generate(4711, &key), ARG, "type is 4711");
    error = acme_last_error();
    message = strdup(acme_error_message(error));
    /* Functions that return no status, except acme_op_poll(), do not change it. */
    acme_key_free(NULL);
    acme_key_pem(NULL);
    acme_client_account_url(client);
    acme_client_terms_url(client);
    acme_op_state(NULL);
    acme_op_free(NULL);
    acme_op_take_cert(NULL);
    acme_op_cancel(NULL);
    acme_strerror(-1);
    acme_set_log_callback(NULL, NULL, 0);
    CHECK(acme_error_subproblem(error, 0) == NULL && acme_error_url(error) == NULL);
    CHECK(acme_last_error() == error && strcmp(acme_error_message(error), message) == 0);
    free(message);
    /* The next failure replaces it, the next success clears it. */
    CHECK_STATUS(acme_key_parse("", 0, &key), ACME_ERR_PARSE, "private key");
    CHECK(acme_error_is_permanent(acme_last_error()) == 1);
    CHECK(acme_key_generate(ACME_KEY_P256, &key) == ACME_OK && acme_last_error() == NULL);
    CHECK_STATUS(acme_key_generate(0, &other), ARG, "type is 0");
    /* A poll is fallible, too. */
    OK(acme_begin_register(client, &op));
    CHECK_STATUS(acme_key_generate(0, &other), ARG, "type is 0");
    CHECK(acme_op_poll(op, 0) == ACME_STEP_REQUEST && acme_last_error() == NULL);
    acme_op_free(op);
    acme_client_free(client);
    acme_key_free(key);
}

/* --- threads ------------------------------------------------------------------------------------ */

static pthread_barrier_t barrier;

/* Each thread has its own last error, independent of calls on other threads. */
static void *fail_with(void *type)
{
    acme_key_t *key = NULL;
    char wanted[32];
    intptr_t wrong = acme_last_error() != NULL;

    pthread_barrier_wait(&barrier);
    wrong += acme_key_generate(*(int *)type, &key) != ARG;
    pthread_barrier_wait(&barrier);
    snprintf(wanted, sizeof wanted, "type is %d,", *(int *)type);
    wrong += strstr(acme_error_message(acme_last_error()), wanted) == NULL;
    pthread_barrier_wait(&barrier);
    return (void *)wrong; /* the library frees the error when the thread ends */
}

static void f21_one_for_each_thread(void)
{
    int types[] = { 111, 222 };
    pthread_t threads[2];
    acme_key_t *key = NULL;
    void *wrong = (void *)1;
    int i;

    pthread_barrier_init(&barrier, NULL, 2);
    CHECK_STATUS(acme_key_generate(333, &key), ARG, "333");
    for (i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, fail_with, &types[i]);
    for (i = 0; i < 2; i++) {
        pthread_join(threads[i], &wrong);
        CHECK(wrong == NULL);
    }
    CHECK(strstr(acme_error_message(acme_last_error()), "333") != NULL);
    pthread_barrier_destroy(&barrier);
}

/* --- a CA's refusal ----------------------------------------------------------------------------- */

/* Runs a registration until the CA refuses newAccount. */
static acme_op_t *refuse(acme_client_t *client, int http_status, const char *name,
                         const char *value, const char *problem, int wanted)
{
    acme_op_t *op = NULL;
    int step;

    OK(acme_begin_register(client, &op));
    while ((step = acme_op_poll(op, 1000000)) > 0) {
        CHECK(step == ACME_STEP_REQUEST);
        if (step != ACME_STEP_REQUEST)
            break;
        if (strstr(acme_op_request(op)->url, "/dir"))
            feed(op, 200, NULL, NULL, DIRECTORY);
        else if (strstr(acme_op_request(op)->url, "/nonce"))
            feed(op, 204, NULL, NULL, "");
        else
            feed(op, http_status, name, value, problem);
    }
    CHECK(step == wanted);
    CHECK(acme_error_status(acme_op_error(op)) == wanted);
    return op;
}

static void refusals(void)
{
    acme_client_t *client = new_client();
    const acme_error_t *error, *sub;
    acme_key_t *key = NULL;
    acme_op_t *op;

    op = refuse(client, 429, "Retry-After", "3600",
                "{\"type\":\"" URN "rateLimited\",\"detail\":\"too many\"}", ACME_ERR_RATE_LIMITED);
    /* The thread's last error is a copy of the operation's error, which outlives it. */
    error = acme_last_error();
    CHECK(error != acme_op_error(op));
    CHECK(strcmp(acme_error_message(error), acme_error_message(acme_op_error(op))) == 0);
    OK(acme_key_generate(ACME_KEY_P256, &key));
    error = acme_op_error(op);
    CHECK(strstr(acme_error_message(error), "rateLimited: too many") != NULL);
    CHECK(strstr(acme_error_message(error), "https://ca.example/account") != NULL);
    CHECK(strcmp(acme_error_url(error), "https://ca.example/account") == 0);
    CHECK(strcmp(acme_error_problem_type(error), URN "rateLimited") == 0);
    CHECK(strstr(acme_error_problem_json(error), "\"detail\":\"too many\"") != NULL);
    CHECK(acme_error_retry_at(error) == 1000000 + 3600 * 1000);
    CHECK(acme_error_is_permanent(error) == 0 && acme_error_identifier(error) == NULL);
    CHECK(acme_error_subproblem_count(error) == 0 && !acme_error_subproblem(error, 0));
    CHECK(acme_op_poll(op, 0) == ACME_ERR_RATE_LIMITED && acme_op_error(op) == error);
    acme_op_free(op);
    acme_key_free(key);

    op = refuse(client, 400, NULL, NULL,
                "{\"type\":\"" URN "rejectedIdentifier\",\"detail\":\"a\\u0000b\\nc\\u001b[31m\","
                "\"subproblems\":[{\"type\":\"" URN "caa\",\"detail\":\"no\",\"identifier\":"
                "{\"type\":\"dns\",\"value\":\"one.example\"}},{\"type\":\"" URN "malformed\","
                "\"identifier\":{\"type\":\"dns\",\"value\":\"two.example\"}}]}",
                ACME_ERR_ORDER);
    error = acme_op_error(op);
    CHECK(acme_error_is_permanent(error) == 1 && acme_error_retry_at(error) == 0);
    CHECK(!strpbrk(acme_error_message(error), "\n\033")); /* one line, without escape sequences */
    CHECK(acme_error_subproblem_count(error) == 2 && !acme_error_subproblem(error, 2));
    CHECK(!acme_error_subproblem(error, SIZE_MAX));
    sub = acme_error_subproblem(error, 0);
    CHECK(strcmp(acme_error_identifier(sub), "one.example") == 0);
    CHECK(strcmp(acme_error_problem_type(sub), URN "caa") == 0);
    CHECK(strcmp(acme_error_message(sub), "caa: no") == 0);
    CHECK(acme_error_is_permanent(sub) == 0 && acme_error_status(sub) == ACME_ERR_PROBLEM);
    CHECK(strchr(acme_error_problem_json(sub), '{') != NULL && !acme_error_subproblem_count(sub));
    sub = acme_error_subproblem(error, 1);
    CHECK(strcmp(acme_error_identifier(sub), "two.example") == 0);
    CHECK(acme_error_is_permanent(sub) == 1);
    acme_op_free(op);

    op = refuse(client, 403, NULL, NULL, "{\"type\":\"" URN "userActionRequired\"}",
                ACME_ERR_TERMS);
    CHECK(acme_error_is_permanent(acme_op_error(op)) == 1);
    acme_op_free(op);
    op = refuse(client, 403, NULL, NULL, "{\"type\":\"" URN "externalAccountRequired\"}",
                ACME_ERR_EAB_REQUIRED);
    acme_op_free(op);
    op = refuse(client, 403, NULL, NULL, "<html>no</html>", ACME_ERR_PROBLEM);
    CHECK(strstr(acme_error_message(acme_op_error(op)), "403") != NULL);
    CHECK(!acme_error_problem_type(acme_op_error(op)));
    CHECK(!acme_error_problem_json(acme_op_error(op)));
    acme_op_free(op);
    acme_client_free(client);
}

static void many_subproblems(void)
{
    acme_client_t *client = new_client();
    char *problem = malloc(200 * 80 + 200);
    int i, length;
    acme_op_t *op;

    length = sprintf(problem, "{\"type\":\"" URN "malformed\",\"subproblems\":[");
    for (i = 0; i < 200; i++)
        length += sprintf(problem + length, "%s{\"type\":\"" URN "dns\"}", i ? "," : "");
    sprintf(problem + length, "]}");
    op = refuse(client, 400, NULL, NULL, problem, ACME_ERR_PROBLEM);
    CHECK(acme_error_subproblem_count(acme_op_error(op)) == 100);
    CHECK(acme_error_subproblem(acme_op_error(op), 99) != NULL);
    CHECK(acme_error_subproblem(acme_op_error(op), 100) == NULL);
    CHECK(strlen(acme_error_message(acme_op_error(op))) < 4096);
    acme_op_free(op);
    acme_client_free(client);
    free(problem);
}

/* The delays for a program that keeps a certificate fresh. */
static void r14_when_to_try_again(void)
{
    const acme_time_t now = 1795530245000, minute = 60000, day = 24 * 60 * minute;
    const struct {
        size_t tries;
        acme_time_t least;
    } steps[] = {
        { 0, 60000 }, { 1, 60000 }, { 2, 600000 }, { 3, 6000000 }, { 4, 86400000 },
        { 1000, 86400000 }, { SIZE_MAX, 86400000 },
    };
    size_t i;

    for (i = 0; i < sizeof steps / sizeof *steps; i++) {
        acme_time_t next = acme_next_try(steps[i].tries, 0, 0, NULL, now);

        CHECK(next >= now + steps[i].least && next < now + steps[i].least * 3 / 2);
    }
    CHECK(acme_next_try(1, 1, 0, NULL, now) >= now + day);
    CHECK(acme_next_try(1, 0, now + 3 * day, NULL, now) == now + 3 * day);
    CHECK(acme_next_try(1, 0, now - day, NULL, now) >= now + minute);
    /* 0 is the system clock. */
    CHECK(acme_next_try(1, 0, 0, NULL, 0) > acme_next_try(1, 0, 0, NULL, 1) + day);
    CHECK(acme_next_try(9, 1, INT64_MAX, NULL, INT64_MAX) == INT64_MAX);
    CHECK(acme_next_try(9, 1, INT64_MIN, NULL, INT64_MIN) > INT64_MIN);
}

/* Returns a certificate that is valid from this time on, for this number of seconds. */
static acme_cert_t *cert_from(acme_time_t from, long lifetime)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *pem = BIO_new(BIO_s_mem());
    X509 *made = X509_new();
    acme_cert_t *cert = NULL;
    char *text;
    long size;

    ASN1_TIME_set(X509_getm_notBefore(made), (time_t)(from / 1000));
    ASN1_TIME_set(X509_getm_notAfter(made), (time_t)(from / 1000 + lifetime));
    X509_set_pubkey(made, key);
    X509_sign(made, key, EVP_sha256());
    PEM_write_bio_X509(pem, made);
    size = BIO_get_mem_data(pem, &text);
    OK(acme_cert_parse(text, (size_t)size, &cert));
    BIO_free(pem);
    X509_free(made);
    EVP_PKEY_free(key);
    return cert;
}

/* The remaining lifetime of the certificate also decides. */
static void r15_when_to_try_again_with_a_certificate(void)
{
    const acme_time_t from = 1795530245000, second = 1000, hour = 3600 * second;
    const struct {
        long lifetime;
        acme_time_t age;
        size_t tries;
        acme_time_t least, most;
    } cases[] = {
        { 300, 0, 1, 60 * second, 90 * second }, /* tries is 1 after a success */
        { 300, 0, 4, 112 * second, 156 * second },
        { 300, 200 * second, 4, 37 * second, 50 * second },
        { 300, 299 * second, 4, 30 * second, 40 * second },
        { 300, 300 * second, 4, 45 * second, 60 * second },
        { 86400, 0, 4, 9 * hour, 13 * hour },
        { 86400, 20 * hour, 4, 90 * 60 * second, 2 * hour },
        { 86400, 25 * hour, 4, 135 * 60 * second, 3 * hour },
        { 90 * 86400, 65 * 24 * hour, 4, 24 * hour, 36 * hour },
        { 90 * 86400, 91 * 24 * hour, 4, 24 * hour, 36 * hour },
    };
    acme_cert_t *cert;
    acme_key_t *key = new_key();
    size_t i;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        acme_time_t now = from + cases[i].age, next;

        cert = cert_from(from, cases[i].lifetime);
        next = acme_next_try(cases[i].tries, 0, 0, cert, now);
        CHECK(next >= now + cases[i].least && next <= now + cases[i].most);
        if (cases[i].tries == 4) {
            next = acme_next_try(1, 1, 0, cert, now);
            CHECK(next >= now + cases[i].least && next <= now + cases[i].most);
        }
        CHECK(acme_next_try(1, 0, now + 48 * hour, cert, now) == now + 48 * hour);
        CHECK(acme_next_try(4, 1, 0, cert, INT64_MAX) == INT64_MAX);
        CHECK(acme_next_try(4, 1, 0, cert, INT64_MIN) > INT64_MIN);
        acme_cert_free(cert);
    }
    /* A handle of another kind counts as no certificate. */
    CHECK(acme_next_try(1, 1, 0, (const acme_cert_t *)key, from) >= from + 24 * hour);
    acme_key_free(key);
}

/* --- wrong input of a host ------------------------------------------------------------------------ */

static acme_op_t *asking(acme_client_t *client, uint64_t *id)
{
    acme_op_t *op = NULL;

    OK(acme_begin_register(client, &op));
    CHECK(acme_op_poll(op, 1000) == ACME_STEP_REQUEST);
    *id = acme_op_request(op)->id;
    return op;
}

/* Checks that the operation continues after wrong calls. */
static void goes_on(acme_op_t *op)
{
    feed(op, 200, NULL, NULL, DIRECTORY);
    CHECK(acme_op_poll(op, 1000) == ACME_STEP_REQUEST);
    CHECK(strcmp(acme_op_request(op)->url, "https://ca.example/nonce") == 0);
    acme_op_free(op);
}

static void f13_calls_out_of_order(void)
{
    acme_client_t *client = new_client();
    acme_op_t *op = NULL;
    uint64_t id, ids[] = { 0, 1, UINT64_MAX, 0 };
    int i, many = getenv("ACME_TEST_SLOW") ? 1000 : 1000000, wrong = 0;
    size_t n;

    OK(acme_begin_register(client, &op));
    CHECK(acme_op_response_end(op, 1, 200) == ACME_ERR_MISUSE); /* no request waits */
    acme_op_free(op);
    op = asking(client, &id);
    ids[3] = id + 1;
    for (n = 0; n < 4; n++) {
        if (ids[n] == id)
            continue;
        CHECK(acme_op_response_header(op, ids[n], "a", 1, "b", 1) == ACME_ERR_MISUSE);
        CHECK(acme_op_response_body(op, ids[n], "x", 1) == ACME_ERR_MISUSE);
        CHECK(acme_op_response_end(op, ids[n], 200) == ACME_ERR_MISUSE);
        CHECK(acme_op_response_failed(op, ids[n], "x") == ACME_ERR_MISUSE);
        CHECK(acme_op_send(op, ids[n]) == ACME_ERR_MISUSE);
        CHECK(acme_op_signed(op, ids[n], "x", 1) == ACME_ERR_MISUSE);
        CHECK(acme_op_sign_failed(op, ids[n], "x") == ACME_ERR_MISUSE);
    }
    CHECK(acme_op_published(op, NULL) == ACME_ERR_MISUSE);
    CHECK(acme_op_published(op, "x") == ACME_ERR_MISUSE);
    CHECK(!acme_op_take_cert(op) && !acme_op_challenge(op, 0) && !acme_op_sign_request(op));
    for (i = 0; i < many; i++) /* an empty body part, a million times */
        wrong += acme_op_response_body(op, id, NULL, 0) != ACME_OK;
    CHECK(wrong == 0);
    goes_on(op);

    op = asking(client, &id);
    feed(op, 200, NULL, NULL, DIRECTORY);
    CHECK(acme_op_response_body(op, id, "x", 1) == ACME_ERR_MISUSE); /* after the end of the response */
    CHECK(acme_op_response_end(op, id, 200) == ACME_ERR_MISUSE);
    CHECK(acme_op_response_failed(op, id, NULL) == ACME_ERR_MISUSE);
    CHECK(acme_op_poll(op, 1000) == ACME_STEP_REQUEST);
    acme_op_free(op);
    acme_client_free(client);
}

static void f14_headers_and_statuses_that_are_none(void)
{
    static const int statuses[] = { 0, -1, 99, 100, 199, 600, 1000, 65736, INT_MIN, INT_MAX };
    static const char *const texts[] = { "", "a\0b", "a\r\nInjected: yes", "\xff", ":", " " };
    static const size_t sizes[] = { 0, 3, 16, 1, 1, 1 };
    acme_client_t *client = new_client();
    char *long_text = malloc(1 << 20);
    uint64_t id;
    acme_op_t *op = asking(client, &id);
    size_t i, j, taken = 0;
    int status = ACME_OK;

    for (i = 0; i < sizeof statuses / sizeof *statuses; i++)
        CHECK_STATUS(acme_op_response_end(op, id, statuses[i]), ARG, "status");
    for (i = 0; i < 6; i++)
        for (j = 0; j < 6; j++)
            OK(acme_op_response_header(op, id, texts[i], sizes[i], texts[j], sizes[j]));
    goes_on(op); /* the library ignores unknown header fields */

    memset(long_text, 'a', 1 << 20);
    op = asking(client, &id);
    CHECK_STATUS(acme_op_response_header(op, id, "Link", 4, long_text, 1 << 20),
                 ACME_ERR_PROTOCOL, "header");
    CHECK(acme_op_poll(op, 1000) == ACME_ERR_PROTOCOL);
    acme_op_free(op);
    op = asking(client, &id);
    while (taken < 100000 && (status = acme_op_response_header(op, id, "x", 1, "y", 1)) == ACME_OK)
        taken++;
    CHECK(status == ACME_ERR_PROTOCOL && taken >= 100 && taken < 1000);
    acme_op_free(op);

    /* A header field that the library uses is checked. */
    for (i = 0; i < 6; i++) {
        op = asking(client, &id);
        OK(acme_op_response_header(op, id, "Replay-Nonce", 12, texts[i], sizes[i]));
        OK(acme_op_response_body(op, id, DIRECTORY, strlen(DIRECTORY)));
        OK(acme_op_response_end(op, id, 200));
        CHECK(acme_op_poll(op, 1000) == ACME_STEP_REQUEST);
        CHECK(strcmp(acme_op_request(op)->url, "https://ca.example/nonce") == 0); /* the nonce is not used */
        acme_op_free(op);
    }
    free(long_text);
    acme_client_free(client);
}

int main(int argc, char **argv)
{
    choose_tests(argc, argv);
    TEST(f21_cleared_by_success_kept_by_the_rest());
    TEST(f21_one_for_each_thread());
    TEST(refusals());
    TEST(many_subproblems());
    TEST(r14_when_to_try_again());
    TEST(r15_when_to_try_again_with_a_certificate());
    TEST(f13_calls_out_of_order());
    TEST(f14_headers_and_statuses_that_are_none());
    return report("test_errors");
}
