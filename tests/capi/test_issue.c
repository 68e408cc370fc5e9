/* Certificates from a real CA (Pebble): blocking, and step by step. */
#include "pebble.h"

static acme_run_options_t http01 = ACME_RUN_OPTIONS_INIT;

static void blocking(acme_client_t *client)
{
    const char *two[] = { "one.capi.test", "two.capi.test" };
    const char *wild[] = { "*.wild.capi.test" }, *alpn[] = { "alpn.capi.test" };
    const char *dns01[] = { "dns-01" }, *alpn01[] = { "http-02-that-is-not", "tls-alpn-01" };
    acme_order_options_t order = order_for(two, 2);
    acme_run_options_t run = http01;
    acme_cert_t *cert = NULL;

    OK(acme_obtain(client, &order, &run, &cert));
    verify(cert, "one.capi.test");
    verify(cert, "two.capi.test");
    CHECK(acme_cert_name(cert, 1) && !acme_cert_name(cert, 2));
    CHECK(acme_cert_key(cert) && acme_key_type(acme_cert_key(cert)) == ACME_KEY_P256);
    CHECK(acme_cert_key_type(cert) == ACME_KEY_P256 && acme_cert_days_left(cert, 0) > 1);
    CHECK(strlen(acme_cert_fingerprint(cert)) == 64 && strchr(acme_cert_ari_id(cert), '.'));
    acme_cert_free(cert);
    CHECK(http_published() == 0);
    CHECK(strncmp(acme_client_account_url(client), "https://", 8) == 0);

    order = order_for(wild, 1);
    order.challenge_types = dns01;
    order.challenge_type_count = 1;
    run.publish = dns_publish;
    run.unpublish = dns_unpublish;
    OK(acme_obtain(client, &order, &run, &cert));
    verify(cert, "*.wild.capi.test");
    acme_cert_free(cert);

    order = order_for(alpn, 1);
    order.challenge_types = alpn01 + 1;
    order.challenge_type_count = 1;
    run.publish = alpn_publish;
    run.unpublish = alpn_unpublish;
    OK(acme_obtain(client, &order, &run, &cert));
    verify(cert, "alpn.capi.test");
    acme_cert_free(cert);
}

/* Runs an operation like a server's loop, which never blocks except in acme_op_send(). */
static int drive(acme_op_t *op, int stop_at_order)
{
    for (;;) {
        const acme_challenge_t *challenge;
        struct timespec nap = { 0, 20 * 1000 * 1000 };
        size_t i;
        int step = acme_op_poll(op, 0);

        CHECK(acme_op_state(op) != NULL);
        if (stop_at_order && acme_op_order_url(op))
            return step;
        switch (step) {
        case ACME_STEP_REQUEST:
            OK(acme_op_send(op, acme_op_request(op)->id));
            continue;
        case ACME_STEP_WAIT:
            nanosleep(&nap, NULL);
            continue;
        case ACME_STEP_PUBLISH:
            for (i = 0; (challenge = acme_op_challenge(op, i)); i++) {
                CHECK(strcmp(challenge->type, "http-01") == 0 && !challenge->dns_name);
                http_publish(challenge, NULL);
            }
            OK(acme_op_published(op, NULL));
            continue;
        case ACME_STEP_UNPUBLISH:
            for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
                http_unpublish(challenge, NULL);
            continue;
        default:
            return step;
        }
    }
}

static void step_by_step(acme_key_t *account_key)
{
    const char *names[] = { "steps.capi.test" };
    acme_order_options_t order = order_for(names, 1);
    acme_client_t *client = pebble_client(account_key);
    acme_key_t *key = new_key();
    acme_op_t *op = NULL;
    acme_cert_t *cert;
    char *url;

    order.key = key;
    OK(acme_begin_order(client, &order, &op));
    acme_client_free(client); /* handles may be freed in any order */
    drive(op, 1);
    url = strdup(acme_op_order_url(op));
    acme_op_free(op); /* as after a crash */

    client = pebble_client(account_key);
    order.order_url = url;
    OK(acme_begin_order(client, &order, &op));
    CHECK(strcmp(acme_key_thumbprint(acme_op_key(op)), acme_key_thumbprint(key)) == 0);
    acme_key_free(key);
    CHECK(drive(op, 0) == ACME_STEP_DONE);
    CHECK(strcmp(acme_op_order_url(op), url) == 0);
    cert = acme_op_take_cert(op);
    CHECK(cert && !acme_op_take_cert(op));
    verify(cert, "steps.capi.test");
    acme_op_free(op);
    CHECK(strstr(acme_key_pem(acme_cert_key(cert)), "BEGIN PRIVATE KEY") != NULL);
    acme_cert_free(cert);
    acme_client_free(client);
    free(url);
}

/* --- callbacks ---------------------------------------------------------------------------------- */

static acme_op_t *running;
static int misuses;

static int meddle(const acme_challenge_t *challenge, void *user)
{
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;

    misuses += acme_op_poll(running, 0) == ACME_ERR_MISUSE;
    misuses += acme_op_run(running, &run) == ACME_ERR_MISUSE;
    acme_op_free(running); /* refused: the operation is running */
    misuses += acme_error_status(acme_last_error()) == ACME_ERR_MISUSE;
    misuses += acme_op_challenge(running, 0) == challenge; /* other functions work */
    misuses += strcmp(acme_op_state(running), "publish") == 0;
    return http_publish(challenge, user);
}

static int send_with_ours(acme_op_t *op, const acme_http_request_t *request, void *user)
{
    ++*(int *)user;
    return acme_op_send(op, request->id) == ACME_OK ? 0 : 1;
}

static int send_nothing(acme_op_t *op, const acme_http_request_t *request, void *user)
{
    (void)op, (void)request;
    ++*(int *)user;
    return 0;
}

static int publish_fails(const acme_challenge_t *challenge, void *user)
{
    http_publish(challenge, user);
    return 7;
}

static void y04_y05_f11_f12_callbacks(acme_client_t *client)
{
    const char *names[] = { "callback.capi.test" };
    acme_order_options_t order = order_for(names, 1);
    acme_run_options_t run = http01;
    acme_cert_t *cert = NULL;
    int sent = 0;

    OK(acme_begin_order(client, &order, &running));
    run.publish = meddle;
    OK(acme_op_run(running, &run));
    CHECK(misuses == 5);
    acme_op_free(running);
    /* A name without a valid authorization, so that each request of an issuance is sent. */
    names[0] = "own-transport.capi.test";
    run = http01;
    run.send = send_with_ours;
    run.user = &sent;
    OK(acme_obtain(client, &order, &run, &cert));
    CHECK(sent >= 6);
    acme_cert_free(cert);
    cert = NULL;
    sent = 0;
    run.send = send_nothing;
    CHECK_STATUS(acme_obtain(client, &order, &run, &cert), ACME_ERR_TRANSPORT, "no complete response");
    CHECK(sent > 1 && sent < 12 && !cert);
    names[0] = "publish-fails.capi.test";
    run = http01;
    run.publish = publish_fails;
    CHECK_STATUS(acme_obtain(client, &order, &run, &cert), ACME_ERR_HOST, "7");
    CHECK(http_published() == 0);
    run.publish = NULL;
    CHECK_STATUS(acme_obtain(client, &order, &run, &cert), ACME_ERR_HOST, "publish callback");
}

/* --- failures ----------------------------------------------------------------------------------- */

static int publish_nothing(const acme_challenge_t *challenge, void *user)
{
    (void)challenge, (void)user;
    return 0;
}

static void failures(acme_client_t *client, acme_key_t *key)
{
    const char *nobody[] = { "nobody.capi.test" }, *blocked[] = { "blocked-domain.example" };
    acme_order_options_t order = order_for(nobody, 1);
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_run_options_t run = http01;
    acme_key_t *other = new_key();
    acme_client_t *bad = NULL;
    acme_cert_t *cert = NULL;
    acme_op_t *op = NULL;
    const acme_error_t *error;

    run.publish = run.unpublish = publish_nothing;
    CHECK_STATUS(acme_obtain(client, &order, &run, &cert), ACME_ERR_CHALLENGE, "http-01");
    error = acme_last_error();
    CHECK(strcmp(acme_error_identifier(error), "nobody.capi.test") == 0);
    CHECK(strstr(acme_error_problem_type(error), "urn:ietf:params:acme:error:") != NULL);
    CHECK(strchr(acme_error_problem_json(error), '{') != NULL);

    order = order_for(blocked, 1);
    CHECK_STATUS(acme_obtain(client, &order, &run, &cert), ACME_ERR_ORDER, "rejectedIdentifier");
    CHECK(acme_error_is_permanent(acme_last_error()));

    options.directory_url = env("ACME_DIRECTORY");
    options.ca_file = env("ACME_CA_FILE");
    options.account_key = other;
    OK(acme_client_new(&options, &bad));
    OK(acme_begin_register(bad, &op));
    CHECK_STATUS(acme_op_run(op, NULL), ACME_ERR_TERMS, "terms_agreed");
    CHECK(acme_client_terms_url(bad) && acme_op_error(op));
    acme_op_free(op);
    acme_client_free(bad);
    options.directory_url = "https://127.0.0.1:1/dir";
    options.account_key = key;
    OK(acme_client_new(&options, &bad));
    OK(acme_begin_register(bad, &op));
    CHECK_STATUS(acme_op_run(op, NULL), ACME_ERR_TRANSPORT, "https://127.0.0.1:1/dir");
    acme_op_free(op);
    acme_client_free(bad);
    acme_key_free(other);

    OK(acme_begin_register(client, &op));
    acme_op_cancel(op);
    CHECK(acme_op_poll(op, 0) == ACME_ERR_CANCELED);
    acme_op_free(op);
}

/* --- accounts and renewals ---------------------------------------------------------------------- */

/* Begins an operation, runs it, and checks that it succeeds. */
#define RUN_OP(op, begin)                                                      \
    do {                                                                       \
        OK(begin);                                                             \
        OK(acme_op_run(op, &http01));                                          \
    } while (0)
#define RUN(begin) RUN_OP(op, begin)

static void accounts_and_renewals(void)
{
    const char *names[] = { "renew.capi.test" }, *contacts[] = { "mailto:ops@example.org" };
    acme_order_options_t order = order_for(names, 1);
    acme_key_t *old = new_key(), *new = new_key();
    acme_client_t *client = pebble_client(old);
    acme_cert_t *cert = NULL;
    acme_op_t *op = NULL;
    char *url;

    OK(acme_begin_find_account(client, &op));
    CHECK_STATUS(acme_op_run(op, NULL), ACME_ERR_ACCOUNT, "accountDoesNotExist");
    acme_op_free(op);
    order.profile = "default";
    OK(acme_obtain(client, &order, &http01, &cert));
    CHECK(acme_cert_days_left(cert, 0) > 80);
    CHECK(acme_client_profile(client, 0) && acme_client_profile_text(client, 0));
    url = strdup(acme_client_account_url(client));

    RUN(acme_begin_renewal_info(client, cert, &op));
    CHECK(acme_op_renewal_info(op) && acme_op_renewal_info(op)->from_ca);
    CHECK(acme_op_renewal_info(op)->renew_at >= acme_op_renewal_info(op)->window_start);
    acme_op_free(op);
    order.replaces = cert;
    order.only_if_due = 1;
    RUN(acme_begin_order(client, &order, &op));
    CHECK(acme_op_renewal_info(op) && !acme_op_take_cert(op)); /* not due */
    acme_op_free(op);

    RUN(acme_begin_update_contacts(client, contacts, 1, &op));
    acme_op_free(op);
    RUN(acme_begin_key_change(client, new, &op));
    acme_op_free(op);
    RUN(acme_begin_revoke(client, cert, NULL, ACME_REVOKE_SUPERSEDED, &op));
    acme_op_free(op);
    RUN(acme_begin_revoke(client, cert, acme_cert_key(cert), 0, &op)); /* again: fine */
    acme_op_free(op);
    acme_client_free(client);
    client = pebble_client(new);
    RUN(acme_begin_find_account(client, &op));
    CHECK(strcmp(acme_client_account_url(client), url) == 0);
    acme_op_free(op);
    RUN(acme_begin_deactivate(client, &op));
    acme_op_free(op);
    acme_cert_free(cert);
    acme_client_free(client);
    acme_key_free(old);
    acme_key_free(new);
    free(url);
}

/* --- beyond a first certificate --------------------------------------------------------------- */

/* The calls of dns_publish() and dns_unpublish(): their number, and the last record. */
static int dns_ups, dns_downs, last_persistent;
static char last_dns_name[300], last_dns_value[300];

static int count_up(const acme_challenge_t *challenge, void *user)
{
    dns_ups++;
    snprintf(last_dns_name, sizeof last_dns_name, "%s", challenge->dns_name);
    snprintf(last_dns_value, sizeof last_dns_value, "%s", challenge->dns_value);
    last_persistent = (int)challenge->persistent;
    return dns_publish(challenge, user);
}

static int count_down(const acme_challenge_t *challenge, void *user)
{
    dns_downs++;
    return dns_unpublish(challenge, user);
}

static void dns_types(acme_client_t *client)
{
    const char *names[] = { "*.types.capi.test" }, *type = "dns-account-01";
    const char *other[] = { "*.stays.capi.test" }; /* Pebble may reuse the first name's authorization */
    acme_order_options_t order = order_for(names, 1);
    acme_run_options_t run = http01;
    acme_cert_t *cert = NULL;

    run.publish = count_up;
    run.unpublish = count_down;
    order.name_challenge_types = &type;
    OK(acme_obtain(client, &order, &run, &cert));
    verify(cert, "*.types.capi.test");
    CHECK(dns_ups == 1 && dns_downs == 1 && last_dns_name[0] == '_' && last_persistent == 0);
    CHECK(strstr(last_dns_name, "._acme-challenge.types.capi.test") == last_dns_name + 17);
    acme_cert_free(cert);

    order.names = other;
    type = "dns-persist-01"; /* a record without a token, with the account's URL; it stays */
    OK(acme_obtain(client, &order, &run, &cert));
    verify(cert, "*.stays.capi.test");
    CHECK(dns_ups == 2 && dns_downs == 1 && last_persistent == 1);
    CHECK(strcmp(last_dns_name, "_validation-persist.stays.capi.test") == 0);
    CHECK(strstr(last_dns_value, acme_client_account_url(client)) != NULL);
    CHECK(strstr(last_dns_value, "; policy=wildcard") != NULL);
    acme_cert_free(cert);
}

static void authorizations_and_orders(void)
{
    acme_key_t *key = new_key();
    acme_client_t *client = pebble_client(key); /* has ordered nothing yet */
    const char *names[] = { "left.capi.test" };
    acme_order_options_t order = order_for(names, 1);
    acme_authorize_options_t ahead = ACME_AUTHORIZE_OPTIONS_INIT;
    acme_op_t *op = NULL, *listing = NULL;
    char *url;

    OK(acme_begin_order(client, &order, &op));
    drive(op, 1);
    url = strdup(acme_op_order_url(op));
    acme_op_free(op);
    RUN_OP(listing, acme_begin_list_orders(client, &listing));
    CHECK(acme_op_url(listing, 0) && strcmp(acme_op_url(listing, 0), url) == 0);
    CHECK(!acme_op_url(listing, 1) && !acme_op_take_cert(listing));
    acme_op_free(listing);
    RUN_OP(op, acme_begin_abandon_order(client, url, &op));
    acme_op_free(op);
    order.order_url = url;
    RUN_OP(op, acme_begin_order(client, &order, &op)); /* the old order is invalid now */
    CHECK(strcmp(acme_op_order_url(op), url) != 0);
    acme_op_free(op);

    ahead.names = names;
    ahead.name_count = 1;
    OK(acme_begin_authorize(client, &ahead, &op));
    CHECK_STATUS(acme_op_run(op, &http01), ACME_ERR_UNSUPPORTED, "newAuthz");
    acme_op_free(op);
    OK(acme_begin_deactivate_authorization(client, url, &op)); /* the URL of an order, not of an authorization */
    CHECK(acme_op_run(op, NULL) != ACME_OK);
    acme_op_free(op);
    free(url);
    acme_client_free(client);
    acme_key_free(key);
}

static int nothing_to_do(const acme_challenge_t *challenge, void *user)
{
    char body[1024];
    const char *path = challenge->http_path;
    acme_client_t *client = user;

    CHECK(acme_client_http01_answer(client, path, strlen(path), body, sizeof body) ==
          strlen(challenge->key_authorization));
    CHECK(memcmp(body, challenge->key_authorization, strlen(challenge->key_authorization)) == 0);
    CHECK(acme_client_http01_answer(client, path, strlen(path), body, 50) == 0); /* no room */
    CHECK(acme_client_http01_answer(client, "/", 1, body, sizeof body) == 0);
    return 0;
}

static int is_gone(const acme_challenge_t *challenge, void *user)
{
    (void)challenge;
    (void)user;
    return 0;
}

static void the_client_answers(acme_client_t *client)
{
    const char *names[] = { "answer.capi.test", "two.answer.capi.test" };
    acme_order_options_t order = order_for(names, 2);
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
    acme_cert_t *cert = NULL;
    char body[1024];
    const char *path = "/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    const char *thumb = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";

    run.publish = nothing_to_do;
    run.unpublish = is_gone;
    run.user = client;
    pthread_mutex_lock(&http_lock);
    http_asks = client;
    pthread_mutex_unlock(&http_lock);
    OK(acme_obtain(client, &order, &run, &cert));
    verify(cert, "answer.capi.test");
    acme_cert_free(cert);
    pthread_mutex_lock(&http_lock);
    http_asks = NULL;
    pthread_mutex_unlock(&http_lock);
    /* This path has no published challenge, so only the function with the thumbprint responds. */
    CHECK(acme_client_http01_answer(client, path, strlen(path), body, sizeof body) == 0);
    CHECK(acme_http01_answer(thumb, path, strlen(path), body, sizeof body) == 87);
    CHECK(memcmp(body, "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0.", 44) == 0);
    CHECK(memcmp(body + 44, thumb, 43) == 0);
    CHECK(acme_http01_answer(thumb, path, strlen(path) - 1, body, 86) == 86);
    CHECK(acme_http01_answer(thumb, path, strlen(path), body, 86) == 0);
    CHECK(acme_http01_answer("thumb", path, strlen(path), body, sizeof body) == 0);
}

static void agreed_terms(void)
{
    acme_key_t *key = new_key();
    acme_client_options_t options = pebble_options(key);
    acme_client_t *client = NULL;
    acme_op_t *op = NULL;
    char *terms;

    options.terms_agreed = 0;
    options.agreed_terms_url = "https://ca.example/terms-2020";
    OK(acme_client_new(&options, &client));
    OK(acme_begin_register(client, &op));
    CHECK_STATUS(acme_op_run(op, NULL), ACME_ERR_TERMS, "terms-2020");
    acme_op_free(op);
    terms = strdup(acme_client_terms_url(client));
    acme_client_free(client);
    options.agreed_terms_url = terms;
    OK(acme_client_new(&options, &client));
    RUN_OP(op, acme_begin_register(client, &op));
    acme_op_free(op);
    acme_client_free(client);
    acme_key_free(key);
    free(terms);
}

/* --- threads ------------------------------------------------------------------------------------ */

static void *obtain_two(void *argument)
{
    static int number;
    acme_client_t *client = argument;
    char name[64];
    const char *names[] = { name };
    acme_order_options_t order = order_for(names, 1);
    int i;

    for (i = 0; i < 2; i++) {
        acme_cert_t *cert = NULL;

        sprintf(name, "t%d.capi.test", __sync_add_and_fetch(&number, 1));
        if (acme_obtain(client, &order, &http01, &cert) != ACME_OK) {
            fprintf(stderr, "%s\n", acme_error_message(acme_last_error()));
            return argument;
        }
        acme_cert_free(cert);
    }
    return NULL;
}

static void threads_share_a_client(acme_client_t *client)
{
    pthread_t threads[4];
    void *failure;
    int i;

    for (i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, obtain_two, client);
    for (i = 0; i < 4; i++) {
        pthread_join(threads[i], &failure);
        CHECK(failure == NULL);
    }
    CHECK(http_published() == 0);
}

int main(int argc, char **argv)
{
    acme_key_t *key = new_key();
    acme_client_t *client = pebble_client(key);

    choose_tests(argc, argv);
    http01.publish = http_publish;
    http01.unpublish = http_unpublish;
    signal(SIGPIPE, SIG_IGN); /* the test's OpenSSL may write to a socket that Pebble has closed */
    http_start();
    TEST(blocking(client));
    TEST(step_by_step(key));
    TEST(y04_y05_f11_f12_callbacks(client));
    TEST(failures(client, key));
    if (pebble_is_new("accounts_and_renewals"))
        TEST(accounts_and_renewals());
    if (pebble_is_new("dns_types"))
        TEST(dns_types(client));
    TEST(authorizations_and_orders());
    TEST(agreed_terms());
    TEST(the_client_answers(client));
    TEST(threads_share_a_client(client));
    http_stop();
    acme_client_free(client);
    acme_key_free(key);
    return report("test_issue");
}
