/*
 * https_server.c - an HTTPS server that gets its own certificates, on one libevent loop.
 *
 *   https_server --directory URL [--ca-file FILE] --agree-terms [--port N] --state DIR NAME...
 *
 * Serves port N (443), at first without a certificate; obtains one for all NAMEs, by tls-alpn-01 on
 * the same port; renews it when the CA says that it is time. A renewal disturbs neither
 * handshakes nor connections. DIR has account.pem, key.pem and chain.pem, which the next start uses
 * again: a restart orders no certificate that is not due.
 *
 *   SIGHUP           renews the certificate now
 *   SIGINT, SIGTERM  end the server
 *
 * Two parts: acme_micro_openssl.h chooses the certificate of each handshake; the driver, one
 * descriptor in the loop, sends the requests to the CA. Everything runs on one thread, which is never
 * blocked. Your server can use the part "certificates" unchanged.
 */
#define _POSIX_C_SOURCE 200809L

#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <signal.h>
#include <time.h>

#define ACME_MICRO_OPENSSL_IMPLEMENTATION
#include "acme_micro_openssl.h"
#include "files.h"
#include "listener.h"
#include "start.h"

static struct event_base *loop;
static int state; /* the directory of keys and certificate */

static acme_status_t complain(const char *what, const acme_error_t *error)
{
    fprintf(stderr, "https_server: %s: %s\n", what, acme_error_message(error));
    return acme_error_status(error);
}

/* --- certificates ----------------------------------------------------------------------------- */

static acme_client_t *client;
static acme_driver_t *driver;
static acme_openssl_store_t *served;
static acme_key_t *key;
static acme_cert_t *cert; /* the certificate in use; NULL: none yet */
static const char *const *names;
static size_t name_count;
static struct event *driver_event, *renewal_timer;
static int renewing, renew_now, stopping;
static const char *directory_url;
static int is_noted; /* whether the state names the CA; otherwise cert may be another CA's */
static size_t failures, renewals; /* numbers in a row */

/* Plans the next renewal: in a second at least, and in twelve hours at most, because someone may set the
 * clock meanwhile. */
static void renew_in(acme_time_t milliseconds)
{
    struct timeval delay = { 12 * 3600, 0 };

    if (milliseconds < 12 * 3600 * 1000)
        delay.tv_sec = milliseconds < 1000 ? 1 : (time_t)(milliseconds / 1000);
    if (renew_now)
        delay.tv_sec = 0;
    event_add(renewal_timer, &delay);
}

static acme_time_t until(acme_time_t moment)
{
    return moment - (acme_time_t)time(NULL) * 1000;
}

/* Lets new handshakes use new_cert from now on. If that fails, returns -1; the old one stays in use. */
static int serve_certificate(acme_cert_t *new_cert)
{
    if (acme_openssl_store_set(served, new_cert, key) != ACME_OK) {
        fputs("https_server: OpenSSL does not take the certificate, or key.pem is another's\n",
              stderr);
        acme_cert_free(new_cert);
        return -1;
    }
    acme_cert_free(cert);
    cert = new_cert;
    printf("serving certificate %s, for %d days\n", acme_cert_serial(cert),
           acme_cert_days_left(cert, 0));
    fflush(stdout);
    return 0;
}

/* Returns the delay from now, when a try has ended, to the next try. */
static acme_time_t next_try(int is_renewed, const acme_error_t *error)
{
    failures = is_renewed ? 0 : failures + 1;
    if (is_renewed)
        renewals++;
    return until(acme_next_try(is_renewed ? renewals : failures, acme_error_is_permanent(error),
                               acme_error_retry_at(error), cert, 0));
}

static void on_publish(acme_op_t *op, void *user)
{
    const acme_challenge_t *challenge;
    const char *failure = NULL;
    size_t i;

    (void)user;
    for (i = 0; !failure && (challenge = acme_op_challenge(op, i)); i++)
        if (acme_openssl_store_challenge_add(served, challenge) != ACME_OK)
            failure = "OpenSSL does not take the challenge's certificate";
    (void)acme_op_published(op, failure);
}

static void on_unpublish(acme_op_t *op, void *user)
{
    const acme_challenge_t *challenge;
    size_t i;

    (void)user;
    for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
        acme_openssl_store_challenge_remove(served, challenge);
}

static void on_done(acme_op_t *op, acme_status_t status, void *user)
{
    acme_cert_t *new_cert = acme_op_take_cert(op);
    const acme_renewal_info_t *info = acme_op_renewal_info(op);
    acme_time_t delay;

    (void)user;
    renewing = 0;
    if (new_cert && store(state, "chain.pem", 0644, acme_cert_chain_pem(new_cert)) != 0)
        perror("https_server: chain.pem");
    else if (new_cert && !is_noted)
        is_noted = folder_note_ca(state, directory_url) == 0;
    if (status == ACME_OK && info && !new_cert) {
        failures = renewals = 0;
        delay = until(info->renew_at < info->check_again_at ? info->renew_at
                                                            : info->check_again_at);
    } else {
        const acme_error_t *error = acme_op_error(op);

        if (status != ACME_OK)
            complain(names[0], error);
        /* After a success, too: the next try asks the CA when to renew the new certificate. */
        delay = next_try(new_cert && serve_certificate(new_cert) == 0, error);
    }
    acme_op_free(op);
    if (!stopping)
        renew_in(delay);
}

/* Orders a certificate if the server has none or if its renewal is due; otherwise fetches when it will be
 * due. */
static void renew(evutil_socket_t fd, short events, void *user)
{
    static const char *const types[] = { "tls-alpn-01" };
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_driver_callbacks_t callbacks = ACME_DRIVER_CALLBACKS_INIT;
    acme_op_t *op = NULL;

    (void)fd, (void)events, (void)user;
    if (renewing)
        return; /* on_done() plans the next renewal */
    order.names = names;
    order.name_count = name_count;
    order.challenge_types = types;
    order.challenge_type_count = 1;
    order.key = key;
    order.replaces = is_noted ? cert : NULL;
    order.only_if_due = order.replaces && !renew_now;
    renew_now = 0;
    callbacks.publish = on_publish;
    callbacks.unpublish = on_unpublish;
    callbacks.done = on_done;
    if (acme_begin_order(client, &order, &op) == ACME_OK &&
        acme_driver_add(driver, op, &callbacks) == ACME_OK) {
        renewing = 1;
        return;
    }
    complain(names[0], acme_last_error());
    renew_in(next_try(0, acme_last_error()));
    acme_op_free(op);
}

static void on_driver(evutil_socket_t fd, short events, void *user)
{
    (void)fd, (void)events, (void)user;
    if (acme_driver_dispatch(driver) != ACME_OK)
        complain("driver", acme_last_error());
}

/* Starts the part "certificates". The options are complete except for the account key. */
static int start_certificates(acme_client_options_t *options, SSL_CTX *tls)
{
    acme_key_t *account_key = stored_key(state, "account.pem");
    acme_cert_t *stored = NULL;
    char *chain;
    int ok;

    key = stored_key(state, "key.pem");
    options->account_key = account_key;
    ok = account_key && key;
    if (ok && (acme_client_new(options, &client) != ACME_OK ||
               acme_driver_new(NULL, &driver) != ACME_OK)) {
        complain(options->directory_url, acme_last_error());
        ok = 0;
    }
    acme_key_free(account_key); /* the client keeps the key */
    if (!ok || acme_openssl_store_new(&served) != ACME_OK ||
        acme_openssl_attach(tls, served) != ACME_OK)
        return -1;
    chain = load(state, "chain.pem");
    if (chain && acme_cert_parse(chain, strlen(chain), &stored) == ACME_OK)
        (void)serve_certificate(stored); /* if it fails, a new one is ordered */
    else if (chain)
        complain("chain.pem", acme_last_error());
    free(chain);
    driver_event = event_new(loop, acme_driver_fd(driver), EV_READ | EV_PERSIST, on_driver, NULL);
    renewal_timer = evtimer_new(loop, renew, NULL);
    event_add(driver_event, NULL);
    event_active(renewal_timer, EV_TIMEOUT, 0);
    return 0;
}

/* Cancels an order in progress, which removes its challenges. */
static void stop_certificates(void)
{
    stopping = 1;
    if (driver_event)
        event_free(driver_event);
    acme_driver_free(driver);
    if (renewal_timer)
        event_free(renewal_timer);
    acme_client_free(client);
    acme_openssl_store_free(served);
    acme_cert_free(cert);
    acme_key_free(key);
}

/* --- the server ------------------------------------------------------------------------------- */

static struct bufferevent *on_connection(struct event_base *base, void *tls)
{
    SSL *ssl = SSL_new(tls);
    struct bufferevent *connection =
        bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                       BEV_OPT_CLOSE_ON_FREE);

    if (connection)
        bufferevent_openssl_set_allow_dirty_shutdown(connection, 1);
    else
        SSL_free(ssl);
    return connection;
}

/* Serves the pages: "/" shows the serial number of the certificate, "/download?N" is N bytes long. */
static void on_request(struct evhttp_request *request, void *user)
{
    static char bytes[64 * 1024];
    const char *path = evhttp_request_get_uri(request);
    struct evbuffer *body = evbuffer_new();
    unsigned long left = 0;

    (void)user;
    if (strcmp(path, "/") == 0) {
        evbuffer_add_printf(body, "certificate %s\n", cert ? acme_cert_serial(cert) : "none");
        evhttp_send_reply(request, HTTP_OK, NULL, body);
    } else if (strncmp(path, "/download?", 10) == 0 &&
               (left = strtoul(path + 10, NULL, 10)) <= 100000000) {
        while (left > 0) {
            size_t part = left < sizeof bytes ? left : sizeof bytes;

            evbuffer_add_reference(body, bytes, part, NULL, NULL);
            left -= part;
        }
        evhttp_send_reply(request, HTTP_OK, NULL, body);
    } else {
        evhttp_send_error(request, HTTP_NOTFOUND, NULL);
    }
    evbuffer_free(body);
}

static void on_signal(evutil_socket_t number, short events, void *user)
{
    (void)events, (void)user;
    if (number != SIGHUP) {
        event_base_loopbreak(loop);
        return;
    }
    renew_now = 1;
    event_active(renewal_timer, EV_TIMEOUT, 0);
}

static int run(acme_client_options_t *options, int port)
{
    static const int numbers[] = { SIGHUP, SIGINT, SIGTERM };
    struct event *signals[3];
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    struct evhttp *http;
    int i, failed, listener;

    loop = event_base_new();
    http = evhttp_new(loop);
    evhttp_set_bevcb(http, on_connection, tls);
    evhttp_set_gencb(http, on_request, NULL);
    evhttp_set_timeout(http, 60);
    for (i = 0; i < 3; i++) {
        signals[i] = evsignal_new(loop, numbers[i], on_signal, NULL);
        event_add(signals[i], NULL);
    }
    listener = listen_on((unsigned short)port);
    failed = listener < 0 || evhttp_accept_socket(http, listener) != 0;
    failed = failed || start_certificates(options, tls) != 0;
    if (!failed)
        event_base_dispatch(loop);
    stop_certificates();
    evhttp_free(http);
    for (i = 0; i < 3; i++)
        event_free(signals[i]);
    event_base_free(loop);
    SSL_CTX_free(tls);
    return failed;
}

int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    const char *state_path = NULL;
    int i, port = 443, failed;

    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--agree-terms") == 0)
            options.terms_agreed = 1;
        else if (i + 1 < argc && strcmp(argv[i], "--directory") == 0)
            options.directory_url = argv[++i];
        else if (i + 1 < argc && strcmp(argv[i], "--ca-file") == 0)
            options.ca_file = argv[++i];
        else if (i + 1 < argc && strcmp(argv[i], "--port") == 0)
            port = atoi(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--state") == 0)
            state_path = argv[++i];
        else
            break;
    }
    if (start(argc, argv) != 0 || i == argc || argv[i][0] == '-' || !options.directory_url || !state_path ||
        port < 1 || port > 65535) {
        fputs("usage: https_server --directory URL [--ca-file FILE] --agree-terms [--port N]\n"
              "       --state DIR NAME...\n", stderr);
        return 2;
    }
    names = (const char *const *)(argv + i);
    name_count = (size_t)(argc - i);
    signal(SIGPIPE, SIG_IGN); /* a client may be gone before the response is sent */
    state = folder_open(state_path, 0700);
    if (state < 0 || folder_lock(state, state_path) != 0)
        return 1;
    directory_url = options.directory_url;
    is_noted = folder_is_for(state, state_path, directory_url);
    if (is_noted < 0)
        return 1;
    failed = run(&options, port);
    close(state);
    return failed;
}
