/* One client and many threads, one operation and many threads, and signals in the middle. */
#include "pebble.h"

#include <sys/time.h>

static acme_run_options_t http01;
static acme_client_t *client;

/* --- nonces ---------------------------------------------------------------------------------------------- */

enum { NONCES = 1 << 20 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char (*seen)[24];
static int seen_count, seen_twice;

/* Records the nonce of each request, which is in the header of its JWS. */
static void look_at_nonce(const acme_http_request_t *request)
{
    const char *body = (const char *)request->body, *start, *end;
    unsigned char header[1500];
    char *nonce, text[1500];
    unsigned hash = 5381;
    size_t i;
    int size;

    if (request->body_size == 0)
        return;
    start = strstr(body, "\"protected\":\"") + 13;
    end = strchr(start, '"');
    snprintf(text, sizeof text, "%.*s%.*s", (int)(end - start), start,
             (int)(4 - (end - start) % 4) % 4, "===");
    for (i = 0; text[i]; i++)
        text[i] = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
    size = EVP_DecodeBlock(header, (unsigned char *)text, (int)strlen(text));
    header[size > 0 ? size : 0] = 0;
    nonce = strstr((char *)header, "\"nonce\":\"") + 9;
    *strchr(nonce, '"') = 0;
    for (i = 0; nonce[i]; i++)
        hash = hash * 33 + (unsigned char)nonce[i];
    pthread_mutex_lock(&lock);
    CHECK(size > 0 && strlen(nonce) < sizeof *seen);
    for (hash %= NONCES; seen[hash][0]; hash = (hash + 1) % NONCES)
        if (strcmp(seen[hash], nonce) == 0)
            seen_twice++;
    strcpy(seen[hash], nonce);
    seen_count++;
    pthread_mutex_unlock(&lock);
}

static int send_and_look(acme_op_t *op, const acme_http_request_t *request, void *user)
{
    (void)user;
    look_at_nonce(request);
    return acme_op_send(op, request->id) == ACME_OK ? 0 : 1;
}

static int orders, next_order, failures;

static void *obtain_some(void *unused)
{
    (void)unused;
    for (;;) {
        char name[64];
        const char *names[] = { name };
        acme_order_options_t order = order_for(names, 1);
        acme_cert_t *cert = NULL;
        int number = __sync_add_and_fetch(&next_order, 1);

        if (number > orders)
            return NULL;
        sprintf(name, "n%d.threads.test", number);
        if (acme_obtain(client, &order, &http01, &cert) != ACME_OK ||
            strcmp(acme_cert_name(cert, 0), name) != 0) {
            fprintf(stderr, "%s: %s\n", name, acme_error_message(acme_last_error()));
            __sync_add_and_fetch(&failures, 1);
        }
        acme_cert_free(cert);
    }
}

static void y01_one_client_eight_threads_and_many_orders(void)
{
    pthread_t threads[8];
    int i;

    orders = getenv("ACME_TEST_ORDERS") ? atoi(getenv("ACME_TEST_ORDERS"))
             : getenv("ACME_TEST_SLOW") ? 16
                                        : 100;
    seen = calloc(NONCES, sizeof *seen);
    http01.send = send_and_look;
    for (i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, obtain_some, NULL);
    for (i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    http01.send = NULL;
    CHECK(failures == 0 && http_published() == 0);
    CHECK(seen_count > orders * 3 && seen_twice == 0);
    free(seen);
}

/* --- one operation ------------------------------------------------------------------------------------------ */

static acme_op_t *shared;
static int requests, refused, others;

static void *poll_shared(void *unused)
{
    int i;

    (void)unused;
    for (i = 0; i < 300; i++)
        switch (acme_op_poll(shared, 0)) {
        case ACME_STEP_REQUEST: __sync_add_and_fetch(&requests, 1); break;
        case ACME_ERR_MISUSE: __sync_add_and_fetch(&refused, 1); break;
        case ACME_STEP_WAIT: break;
        default: __sync_add_and_fetch(&others, 1);
        }
    return NULL;
}

static void y02_one_operation_polled_by_many_threads(void)
{
    pthread_t threads[4];
    int i;

    OK(acme_begin_register(client, &shared));
    for (i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, poll_shared, NULL);
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK(requests == 1 && others == 0);
    acme_op_free(shared);
}

/* --- canceled by another thread ------------------------------------------------------------------------------ */

static void *cancel_soon(void *op)
{
    struct timespec nap = { 0, rand() % 40 * 1000 * 1000 };

    nanosleep(&nap, NULL);
    acme_op_cancel(op);
    return NULL;
}

static void canceled_by_another_thread(void)
{
    int i, canceled = 0;

    for (i = 0; i < 20; i++) {
        char name[64];
        const char *names[] = { name };
        acme_order_options_t order = order_for(names, 1);
        acme_op_t *op = NULL;
        pthread_t thread;
        int status;

        sprintf(name, "c%d.threads.test", i);
        OK(acme_begin_order(client, &order, &op));
        pthread_create(&thread, NULL, cancel_soon, op);
        status = acme_op_run(op, &http01);
        pthread_join(thread, NULL);
        CHECK(status == ACME_ERR_CANCELED || status == ACME_OK);
        canceled += status == ACME_ERR_CANCELED;
        CHECK(http_published() == 0);
        acme_op_free(op);
    }
    CHECK(canceled > 0);
}

/* --- canceled by a signal -------------------------------------------------------------------------------------- */

#ifndef __SANITIZE_THREAD__ /* which runs signal handlers later */
static acme_op_t *volatile interrupted;
static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    (void)number;
    signals++;
    acme_op_cancel(interrupted);
    acme_op_cancel(NULL);
}

/* The signal may come at any moment, also inside malloc() or under a lock of the library: the handler takes no lock. */
static void y18_canceled_by_signal_handlers_at_any_moment(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { { 0, 0 }, { 0, 0 } };
    sigset_t alarm_only;
    int i, ended = 0;

    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    sigaction(SIGALRM, &action, NULL);
    for (i = 0; i < 300; i++) {
        acme_op_t *op = NULL;
        int step, answers = 0;

        pthread_sigmask(SIG_BLOCK, &alarm_only, NULL);
        OK(acme_begin_register(client, &op));
        interrupted = op;
        setitimer(ITIMER_REAL, &often, NULL);
        pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
        while ((step = acme_op_poll(op, 1000)) >= 0 && answers++ < 1000000)
            if (step == ACME_STEP_REQUEST)
                acme_op_response_failed(op, acme_op_request(op)->id, "not now");
        pthread_sigmask(SIG_BLOCK, &alarm_only, NULL);
        setitimer(ITIMER_REAL, &never, NULL);
        ended += step == ACME_ERR_CANCELED;
        interrupted = NULL;
        acme_op_free(op);
    }
    CHECK(ended == 300 && signals > 0);
}
#endif

int main(int argc, char **argv)
{
    acme_key_t *key = new_key();

    choose_tests(argc, argv);
    client = pebble_client(key);
    http01 = http_run();
    signal(SIGPIPE, SIG_IGN);
    http_start();
    TEST(y02_one_operation_polled_by_many_threads());
    TEST(y01_one_client_eight_threads_and_many_orders());
    TEST(canceled_by_another_thread());
    http_stop();
#ifndef __SANITIZE_THREAD__
    TEST(y18_canceled_by_signal_handlers_at_any_moment());
#endif
    acme_client_free(client);
    acme_key_free(key);
    return report("test_threads");
}
