/* A manager that the program polls: its own HTTP client, its own threads, no driver. */
#include "manager.h"

#include <openssl/bio.h>

/* --- an HTTP client of the program ------------------------------------------------------------------------ */

static SSL_CTX *trusted;
static int requests;

/* Passes a response that is complete in memory to the operation. */
static void pass_response(acme_op_t *op, uint64_t id, char *response, size_t size)
{
    char *line = strstr(response, "\r\n"), *body = strstr(response, "\r\n\r\n"), *end, *colon;
    int status = 0;

    if (!body || sscanf(response, "HTTP/%*s %d", &status) != 1) {
        acme_op_response_failed(op, id, "no complete response");
        return;
    }
    for (line += 2; line < body; line = end + 2) {
        end = strstr(line, "\r\n");
        colon = memchr(line, ':', (size_t)(end - line));
        CHECK(colon != NULL);
        OK(acme_op_response_header(op, id, line, (size_t)(colon - line), colon + 1, (size_t)(end - colon - 1)));
    }
    body += 4;
    OK(acme_op_response_body(op, id, body, size - (size_t)(body - response)));
    OK(acme_op_response_end(op, id, status));
}

static void send_request(acme_op_t *op)
{
    static char response[1 << 16];
    const acme_http_request_t *request = acme_op_request(op);
    char host[300] = "", path[1000] = "/";
    size_t i, size = 0;
    BIO *bio = BIO_new_ssl_connect(trusted);
    int got;

    requests++;
    sscanf(request->url, "https://%299[^/]%999s", host, path);
    BIO_set_conn_hostname(bio, host);
    if (BIO_do_connect(bio) <= 0) {
        acme_op_response_failed(op, request->id, "no connection");
        BIO_free_all(bio);
        return;
    }
    BIO_printf(bio, "%s %s HTTP/1.0\r\nHost: %s\r\n", request->method, path, host);
    for (i = 0; i < request->header_count; i++)
        BIO_printf(bio, "%s: %s\r\n", request->headers[i].name, request->headers[i].value);
    if (strcmp(request->method, "POST") == 0)
        BIO_printf(bio, "Content-Length: %d\r\n", (int)request->body_size);
    BIO_printf(bio, "\r\n");
    if (request->body_size > 0)
        BIO_write(bio, request->body, (int)request->body_size);
    while ((got = BIO_read(bio, response + size, (int)(sizeof response - 1 - size))) > 0)
        size += (size_t)got;
    response[size] = 0;
    BIO_free_all(bio);
    pass_response(op, request->id, response, size);
}

/* --- a host ------------------------------------------------------------------------------------------------- */

enum { PLACES = 8 };

struct host {
    acme_manager_t *manager;
    struct seen seen;
    acme_op_t *ops[PLACES];
    int is_waiting[PLACES]; /* has nothing to do but wait */
    int steps, loads, attempts, most, wait_ms; /* steps other than waiting */
    const char *refusal; /* why nothing is published; NULL: everything is */
};

static void on_thread(const acme_event_t *event, void *user)
{
    CHECK(pthread_equal(pthread_self(), host_thread));
    on_event(event, user);
}

static void never(acme_op_t *op, void *user)
{
    (void)op, (void)user;
    CHECK(!"the program sees the steps itself");
}

static void host_of(struct host *host, const acme_client_t *client)
{
    acme_manager_options_t options = ACME_MANAGER_OPTIONS_INIT;

    memset(host, 0, sizeof *host);
    options.client = client;
    options.event = on_thread;
    options.user = &host->seen;
    options.publish = options.unpublish = never;
    OK(acme_manager_new(&options, &host->manager));
}

static void *load(void *manager)
{
    OK(acme_manager_load(manager));
    return NULL;
}

/* Polls the manager until it has nothing more to do now. */
static void poll_manager(struct host *host)
{
    acme_op_t *op;
    pthread_t worker;
    int step, i;

    while ((step = acme_manager_poll(host->manager, &op, &host->wait_ms)) > 0) {
        CHECK((step == ACME_MANAGER_OPERATION) == (op != NULL) && host->wait_ms == 0);
        if (step == ACME_MANAGER_LOAD) {
            host->loads++;
            pthread_create(&worker, NULL, load, host->manager);
            pthread_join(worker, NULL);
            continue;
        }
        for (i = 0; i < PLACES - 1 && host->ops[i]; i++)
            ;
        CHECK(!host->ops[i]);
        host->ops[i] = op;
        host->attempts++;
        host->most = i + 1 > host->most ? i + 1 : host->most;
    }
    CHECK(step == ACME_MANAGER_WAIT && !op && host->wait_ms >= 0 && host->wait_ms <= 300000);
}

/* Does one step of an operation; returns 0 if it has ended. */
static int do_step(struct host *host, acme_op_t *op, int *is_waiting)
{
    const acme_challenge_t *challenge;
    int step = acme_op_poll(op, 0);
    size_t i;

    *is_waiting = step == ACME_STEP_WAIT;
    switch (step) {
    case ACME_STEP_REQUEST:
        send_request(op);
        break;
    case ACME_STEP_PUBLISH:
        for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
            CHECK(http_publish(challenge, NULL) == 0);
        OK(acme_op_published(op, host->refusal));
        break;
    case ACME_STEP_UNPUBLISH:
        for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
            CHECK(http_unpublish(challenge, NULL) == 0);
        break;
    case ACME_STEP_STORE:
        OK(acme_op_access_store(op));
        break;
    default:
        return step > 0;
    }
    return 1;
}

/* Does a step of each operation, after the manager has been polled. */
static void turn(struct host *host)
{
    int i, all_wait = 1;

    poll_manager(host);
    for (i = 0; i < PLACES; i++) {
        if (!host->ops[i])
            continue;
        if (!do_step(host, host->ops[i], &host->is_waiting[i])) {
            CHECK(!acme_op_take_cert(host->ops[i]));
            acme_op_free(host->ops[i]);
            host->ops[i] = NULL;
        }
        host->steps += !host->is_waiting[i];
        all_wait &= host->ops[i] && host->is_waiting[i];
    }
    if (all_wait)
        poll(NULL, 0, 10);
}

static void turn_until(struct host *host, int type, int count)
{
    int turns;

    for (turns = 0; host->seen.count[type] < count && turns < 6000; turns++)
        turn(host);
    CHECK(host->seen.count[type] == count);
}

/* --- the life of a certificate -------------------------------------------------------------------------- */

static void lives(void)
{
    acme_store_t *store = NULL;
    acme_client_t *client;
    acme_cert_t *cert;
    struct host host;
    char serial[100];
    int i;

    OK(acme_store_memory(&store));
    client = stored_client(store, env("ACME_DIRECTORY"));
    host_of(&host, client);
    add_name(host.manager, "one.poll.test");
    turn_until(&host, ACME_EVENT_OBTAINED, 1);
    CHECK(host.loads > 0 && host.attempts == 1 && requests > 0 && http_published() == 0);
    cert = acme_manager_cert(host.manager, "one.poll.test");
    verify(cert, "one.poll.test");
    CHECK(strcmp(acme_cert_serial(cert), host.seen.serial) == 0);
    acme_cert_free(cert);
    poll_manager(&host);
    CHECK(host.wait_ms > 0);

    strcpy(serial, host.seen.serial);
    OK(acme_manager_renew(host.manager, "one.poll.test"));
    turn_until(&host, ACME_EVENT_RENEWED, 1);
    CHECK(strcmp(serial, host.seen.serial) != 0 && !host.seen.count[ACME_EVENT_FAILED]);
    strcpy(serial, host.seen.serial);
    acme_manager_free(host.manager);

    /* After a restart it is there, and no request is sent. */
    requests = 0;
    host_of(&host, client);
    add_name(host.manager, "one.poll.test");
    turn_until(&host, ACME_EVENT_LOADED, 1);
    for (i = 0; i < 20; i++)
        turn(&host);
    CHECK(strcmp(serial, host.seen.serial) == 0 && host.attempts == 0 && requests == 0);

    /* Several at the same time. */
    add_name(host.manager, "two.poll.test");
    add_name(host.manager, "three.poll.test");
    add_name(host.manager, "four.poll.test");
    turn_until(&host, ACME_EVENT_OBTAINED, 3);
    CHECK(host.attempts == 3 && host.most == 3 && http_published() == 0);
    acme_manager_free(host.manager);
    acme_client_free(client);
    acme_store_free(store);
}

/* --- on threads ----------------------------------------------------------------------------------------- */

static void *run_attempt(void *op)
{
    acme_run_options_t run = http_run();

    OK(acme_op_run(op, &run));
    acme_op_free(op);
    return NULL;
}

/* The program may also run an operation on a thread of its own; the event comes on the thread that polls. */
static void runs_on_a_thread(void)
{
    acme_store_t *store = NULL;
    acme_client_t *client;
    struct host host;
    pthread_t worker;

    OK(acme_store_memory(&store));
    client = stored_client(store, env("ACME_DIRECTORY"));
    host_of(&host, client);
    add_name(host.manager, "thread.poll.test");
    poll_manager(&host);
    CHECK(host.attempts == 1);
    pthread_create(&worker, NULL, run_attempt, host.ops[0]);
    poll_manager(&host);
    pthread_join(worker, NULL);
    host.ops[0] = NULL;
    poll_manager(&host);
    CHECK(host.attempts == 1 && host.seen.count[ACME_EVENT_OBTAINED] == 1);
    acme_manager_free(host.manager);
    acme_client_free(client);
    acme_store_free(store);
}

/* --- failures ------------------------------------------------------------------------------------------- */

static void fails(void)
{
    acme_store_t *store = NULL;
    acme_client_t *client, *nowhere;
    struct host host;
    char text[2000];
    int i;

    OK(acme_store_memory(&store));
    nowhere = stored_client(store, "https://127.0.0.1:1/directory");
    host_of(&host, nowhere);
    add_name(host.manager, "fails.poll.test");
    turn_until(&host, ACME_EVENT_FAILED, 1);
    CHECK(host.seen.status == ACME_ERR_TRANSPORT && strstr(host.seen.message, "no connection"));
    CHECK(host.seen.count[ACME_EVENT_CA_PAUSED] == 1 && host.seen.next_try > (acme_time_t)time(NULL) * 1000);
    poll_manager(&host);
    CHECK(host.wait_ms > 1000);
    acme_manager_free(host.manager);
    acme_client_free(nowhere);

    client = stored_client(store, env("ACME_DIRECTORY"));
    host_of(&host, client);
    host.refusal = "no web server";
    add_name(host.manager, "refused.poll.test");
    turn_until(&host, ACME_EVENT_FAILED, 1);
    CHECK(host.seen.status == ACME_ERR_HOST && strstr(host.seen.message, "no web server"));
    CHECK(http_published() == 0);
    host.refusal = NULL;

    /* A canceled attempt is no failure: it begins anew. */
    add_name(host.manager, "canceled.poll.test");
    poll_manager(&host);
    CHECK(host.attempts == 2 && host.ops[0]);
    acme_op_cancel(host.ops[0]);
    turn_until(&host, ACME_EVENT_OBTAINED, 1);
    CHECK(host.attempts == 3 && host.seen.count[ACME_EVENT_FAILED] == 1);

    /* An attempt that is freed before its end is a failure. */
    add_name(host.manager, "freed.poll.test");
    for (i = 0; i < 6; i++)
        turn(&host);
    CHECK(host.ops[0]);
    acme_op_free(host.ops[0]);
    host.ops[0] = NULL;
    turn_until(&host, ACME_EVENT_FAILED, 2);
    CHECK(host.seen.status == ACME_ERR_HOST && strstr(host.seen.message, "freed the attempt"));
    OK(acme_manager_status(host.manager, "freed.poll.test", keep_text, text));
    CHECK(strstr(text, "\"failures\":1") != NULL);
    OK(acme_manager_renew(host.manager, "freed.poll.test"));
    turn_until(&host, ACME_EVENT_OBTAINED, 2);
    acme_manager_free(host.manager);
    acme_client_free(client);
    acme_store_free(store);
}

/* --- the end ---------------------------------------------------------------------------------------------- */

/* Ends the operations that a freed manager has left: frees them, or cancels them and takes the steps. */
static void end_operations(struct host *host, int cancels)
{
    int i, waits, status;

    for (i = 0; i < PLACES; i++) {
        if (!host->ops[i])
            continue;
        if (cancels) {
            acme_op_cancel(host->ops[i]);
            while (do_step(host, host->ops[i], &waits))
                ;
            status = acme_error_status(acme_op_error(host->ops[i]));
            CHECK(status == ACME_ERR_CANCELED || status == ACME_OK); /* it had all that it needs */
        }
        acme_op_free(host->ops[i]);
        host->ops[i] = NULL;
    }
    if (cancels)
        CHECK(http_published() == 0);
    memset(http_path, 0, sizeof http_path);
}

/* The manager is freed after each number of steps; the next one goes on with the order. */
static void is_freed_at_each_step(void)
{
    acme_store_t *store;
    acme_client_t *client;
    struct host host;
    int steps, was_obtained = 0;

    for (steps = 0; !was_obtained && steps < 60; steps++) {
        OK(acme_store_memory(&store));
        client = stored_client(store, env("ACME_DIRECTORY"));
        host_of(&host, client);
        add_name(host.manager, "freed-early.poll.test");
        while (host.steps < steps && !host.seen.count[ACME_EVENT_OBTAINED])
            turn(&host);
        if (steps > 0)
            poll_manager(&host);
        was_obtained = host.seen.count[ACME_EVENT_OBTAINED];
        acme_manager_free(host.manager);
        end_operations(&host, steps % 2);
        CHECK(!host.seen.count[ACME_EVENT_FAILED]);
        if (steps == 9) {
            host_of(&host, client);
            add_name(host.manager, "freed-early.poll.test");
            turn_until(&host, ACME_EVENT_OBTAINED, 1);
            acme_manager_free(host.manager);
        }
        acme_client_free(client);
        acme_store_free(store);
    }
    CHECK(was_obtained && steps > 12);
}

/* A job that is not carried out does no harm. */
static void is_freed_before_it_loads(void)
{
    acme_store_t *store = NULL;
    acme_client_t *client;
    struct host host;
    acme_op_t *op;

    OK(acme_store_memory(&store));
    client = stored_client(store, env("ACME_DIRECTORY"));
    host_of(&host, client);
    add_name(host.manager, "unread.poll.test");
    CHECK(acme_manager_poll(host.manager, &op, &host.wait_ms) == ACME_MANAGER_LOAD);
    while (acme_manager_poll(host.manager, &op, &host.wait_ms) == ACME_MANAGER_LOAD)
        ;
    CHECK(!op && host.wait_ms > 0);
    acme_manager_free(host.manager);
    acme_client_free(client);
    acme_store_free(store);
}

/* --- misuse ----------------------------------------------------------------------------------------------- */

static acme_manager_t *calling;
static int misuses;

static void meddle(const acme_event_t *event, void *user)
{
    acme_op_t *op = user;
    int wait_ms;

    (void)event;
    misuses += acme_manager_poll(calling, &op, &wait_ms) == ACME_ERR_MISUSE && !op;
    misuses += acme_manager_run(calling) == ACME_ERR_MISUSE;
    acme_manager_free(calling);
    misuses += acme_error_status(acme_last_error()) == ACME_ERR_MISUSE;
}

static void misuse(void)
{
    acme_manager_options_t options = ACME_MANAGER_OPTIONS_INIT;
    acme_driver_t *driver = driver_with(0, 0);
    acme_store_t *store = NULL;
    acme_client_t *client;
    acme_op_t *op = (acme_op_t *)&misuses;
    struct host host;
    int wait_ms = 7, turns;

    OK(acme_store_memory(&store));
    client = stored_client(store, "https://127.0.0.1:1/directory");
    host_of(&host, client);
    CHECK_STATUS(acme_manager_poll(NULL, &op, &wait_ms), ACME_ERR_INVALID_ARGUMENT, "manager is NULL");
    CHECK(!op && wait_ms == 7);
    CHECK_STATUS(acme_manager_poll(host.manager, NULL, &wait_ms), ACME_ERR_INVALID_ARGUMENT, "op is NULL");
    CHECK_STATUS(acme_manager_poll(host.manager, &op, NULL), ACME_ERR_INVALID_ARGUMENT, "wait_ms is NULL");
    CHECK_STATUS(acme_manager_load(NULL), ACME_ERR_INVALID_ARGUMENT, "manager is NULL");
    CHECK_STATUS(acme_manager_load(host.manager), ACME_ERR_MISUSE, "has not asked");
    poll_manager(&host);
    CHECK_STATUS(acme_manager_start(host.manager, driver), ACME_ERR_MISUSE, "acme_manager_poll()");
    CHECK_STATUS(acme_manager_run(host.manager), ACME_ERR_MISUSE, "acme_manager_poll()");
    acme_manager_free(host.manager);

    host_of(&host, client);
    OK(acme_manager_start(host.manager, driver));
    CHECK_STATUS(acme_manager_poll(host.manager, &op, &wait_ms), ACME_ERR_MISUSE, "a driver already");
    acme_manager_free(host.manager);

    memset(&host, 0, sizeof host);
    options.client = client;
    options.event = meddle;
    OK(acme_manager_new(&options, &host.manager));
    calling = host.manager;
    add_name(host.manager, "misuse.poll.test");
    for (turns = 0; misuses == 0 && turns < 6000; turns++)
        turn(&host);
    CHECK(misuses > 0 && misuses % 3 == 0);
    acme_manager_free(host.manager);
    acme_driver_free(driver);
    acme_client_free(client);
    acme_store_free(store);
}

int main(void)
{
    host_start();
    trusted = SSL_CTX_new(TLS_client_method());
    CHECK(SSL_CTX_load_verify_locations(trusted, env("ACME_CA_FILE"), NULL) == 1);
    SSL_CTX_set_verify(trusted, SSL_VERIFY_PEER, NULL);
    lives();
    runs_on_a_thread();
    fails();
    is_freed_at_each_step();
    is_freed_before_it_loads();
    misuse();
    SSL_CTX_free(trusted);
    http_stop();
    return report("test_manager_poll");
}
