/*
 * https_server.c - an HTTPS server that gets its own certificates, on one libevent loop.
 *
 *   https_server --directory URL [--ca-file FILE] --agree-terms [--port N] --state DIR NAME...
 *
 * Serves port N (443), at first without a certificate; obtains one for all NAMEs, by tls-alpn-01 on
 * the same port; renews it when the CA says that it is time. A renewal disturbs neither
 * handshakes nor connections. DIR is a store (acme_store_directory()), which the next start uses
 * again: a restart orders no certificate that is not due.
 *
 *   SIGHUP           renews the certificate now
 *   SIGINT, SIGTERM  end the server
 *
 * Three parts: a manager keeps the certificate fresh; acme_micro_openssl.h chooses the certificate of each
 * handshake; the driver, one descriptor in the loop, does the manager's work. All callbacks run on the
 * loop's thread, which is never blocked. Your server can use the part "certificates" unchanged.
 */
#define _POSIX_C_SOURCE 200809L

#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <signal.h>

#define ACME_MICRO_OPENSSL_IMPLEMENTATION
#include "acme_micro_openssl.h"
#include "listener.h"
#include "start.h"

static struct event_base *loop;

/* --- certificates ----------------------------------------------------------------------------- */

static acme_openssl_store_t *served;
static acme_driver_t *driver;
static acme_manager_t *manager;
static struct event *driver_event;

static void on_driver(evutil_socket_t fd, short events, void *user)
{
    (void)fd, (void)events, (void)user;
    (void)!acme_driver_dispatch(driver);
}

/* Keeps a certificate for the order's names fresh, and lets the connections of tls use it. Returns ACME_OK,
 * or the status of acme_last_error(). */
static acme_status_t start_certificates(acme_client_options_t *ca, const acme_order_options_t *order,
                                        const char *folder, acme_event_fn on_event, SSL_CTX *tls)
{
    acme_manager_options_t options = ACME_MANAGER_OPTIONS_INIT;
    acme_store_t *store = NULL;
    acme_client_t *client = NULL;
    acme_status_t status = acme_store_directory(folder, &store);

    ca->store = store;
    if (status == ACME_OK && (status = acme_client_new(ca, &client)) == ACME_OK &&
        (status = acme_openssl_store_new(&served)) == ACME_OK &&
        (status = acme_openssl_attach(tls, served)) == ACME_OK) {
        options.client = client;
        options.event = on_event;
        acme_openssl_manage(&options, served);
        if ((status = acme_manager_new(&options, &manager)) == ACME_OK &&
            (status = acme_manager_add(manager, order)) == ACME_OK &&
            (status = acme_driver_new(NULL, &driver)) == ACME_OK)
            status = acme_manager_start(manager, driver);
    }
    acme_client_free(client); /* the manager keeps what it needs */
    acme_store_free(store);
    if (status == ACME_OK) {
        driver_event = event_new(loop, acme_driver_fd(driver), EV_READ | EV_PERSIST, on_driver, NULL);
        event_add(driver_event, NULL);
    }
    return status;
}

/* Cancels an order in progress, which removes its challenges. The next start goes on with it. */
static void stop_certificates(void)
{
    if (driver_event)
        event_free(driver_event);
    acme_manager_free(manager);
    acme_driver_free(driver);
    acme_openssl_store_free(served);
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

static char serial[100] = "none";

static void on_certificate(const acme_event_t *event, void *user)
{
    (void)user;
    if (event->error)
        fprintf(stderr, "https_server: %s: %s\n", event->name, acme_error_message(event->error));
    if (!event->cert || event->type == ACME_EVENT_NOT_DUE)
        return;
    snprintf(serial, sizeof serial, "%s", acme_cert_serial(event->cert));
    printf("serving certificate %s, for %d days\n", serial, acme_cert_days_left(event->cert, 0));
    fflush(stdout);
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
        evbuffer_add_printf(body, "certificate %s\n", serial);
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

static void on_signal(evutil_socket_t number, short events, void *name)
{
    (void)events;
    if (number == SIGHUP)
        acme_manager_renew(manager, name);
    else
        event_base_loopbreak(loop);
}

static int run(acme_client_options_t *ca, const acme_order_options_t *order, const char *folder, int port)
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
        signals[i] = evsignal_new(loop, numbers[i], on_signal, (char *)order->names[0]);
        event_add(signals[i], NULL);
    }
    listener = listen_on((unsigned short)port);
    failed = listener < 0 || evhttp_accept_socket(http, listener) != 0;
    if (!failed && start_certificates(ca, order, folder, on_certificate, tls) != ACME_OK) {
        fprintf(stderr, "https_server: %s\n", acme_error_message(acme_last_error()));
        failed = 1;
    }
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
    static const char *const types[] = { "tls-alpn-01" };
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    const char *state_path = NULL;
    int i, port = 443;

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
    order.names = (const char *const *)(argv + i);
    order.name_count = (size_t)(argc - i);
    order.challenge_types = types;
    order.challenge_type_count = 1;
    signal(SIGPIPE, SIG_IGN); /* a client may be gone before the response is sent */
    return run(&options, &order, state_path, port);
}
