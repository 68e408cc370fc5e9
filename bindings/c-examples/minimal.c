/*
 * minimal.c - the smallest HTTPS server that gets its own certificate, on OpenSSL and poll().
 *
 *   minimal NAME [PORT]
 *
 * Automatic HTTPS is the function below, and the two lines about the driver in the loop. README.md shows the function.
 * The rest is the server that you have. https_server.c is a server for more than one connection.
 *
 * A signal ends the program at any moment: the store has all that the next start needs.
 */
#define _POSIX_C_SOURCE 200809L

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define ACME_MICRO_OPENSSL_IMPLEMENTATION /* in one file of the program */
#include "acme_micro_openssl.h"
#include "listener.h"

/* --- begin: automatic HTTPS --- */
/* Keeps a certificate for this name fresh, and serves it on every connection of tls. */
int automatic_https(SSL_CTX *tls, const char *name, acme_manager_t **manager, acme_driver_t **driver)
{
    static const char *const types[] = { "tls-alpn-01" }; /* port 443 is enough */
    acme_client_options_t ca = ACME_CLIENT_OPTIONS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_manager_options_t options = ACME_MANAGER_OPTIONS_INIT;
    acme_openssl_store_t *served = NULL;
    acme_store_t *store = NULL;
    acme_client_t *client = NULL;

    if (acme_store_directory("/var/lib/acme", &store) || acme_openssl_store_new(&served) ||
        acme_openssl_attach(tls, served))
        return -1;
    ca.directory_url = ACME_LETSENCRYPT_STAGING;
    ca.terms_agreed = 1; /* you have read the CA's terms of service and agree */
    ca.store = store;
    order.names = &name;
    order.challenge_types = types;
    order.name_count = order.challenge_type_count = 1;
    acme_openssl_manage(&options, served);
    if (acme_client_new(&ca, &client))
        return -1;
    options.client = client;
    return acme_manager_new(&options, manager) || acme_manager_add(*manager, &order) ||
           acme_driver_new(NULL, driver) || acme_manager_start(*manager, *driver);
}
/* --- end --- */

int main(int argc, char **argv)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    struct pollfd watched[2] = { { .events = POLLIN }, { .events = POLLIN } };
    acme_manager_t *manager = NULL;
    acme_driver_t *driver = NULL;

    signal(SIGPIPE, SIG_IGN); /* a client may be gone before the response is sent */
    if (argc < 2 || automatic_https(tls, argv[1], &manager, &driver) != 0) {
        fprintf(stderr, "minimal: %s\n", argc < 2 ? "NAME is missing" : acme_error_message(acme_last_error()));
        return 1;
    }
    watched[0].fd = acme_driver_fd(driver);
    watched[1].fd = listen_on((unsigned short)(argc > 2 ? atoi(argv[2]) : 443));
    while (watched[1].fd >= 0 && poll(watched, 2, -1) > 0) {
        if (watched[0].revents)
            (void)!acme_driver_dispatch(driver);
        if (watched[1].revents) {
            int peer = accept(watched[1].fd, NULL, NULL);
            SSL *ssl = SSL_new(tls);

            SSL_set_fd(ssl, peer);
            if (SSL_accept(ssl) == 1 && !acme_openssl_is_challenge(ssl))
                SSL_write(ssl, "HTTP/1.0 200 OK\r\n\r\nhello\n", 25);
            SSL_shutdown(ssl);
            SSL_free(ssl);
            close(peer);
        }
    }
    acme_manager_free(manager);
    acme_driver_free(driver);
    SSL_CTX_free(tls);
    return 1;
}
