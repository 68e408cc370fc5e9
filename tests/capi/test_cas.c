/* A manager with several CAs, and with certificates on demand. */
#include "manager.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#define ACME_MICRO_OPENSSL_IMPLEMENTATION
#include "acme_micro_openssl.h"

#define NOT_A_CA "https://127.0.0.1:1/directory"

static void g30_another_ca_takes_over(void)
{
    const char *names[] = { "one.cas.test" };
    acme_order_options_t order = order_for(names, 1);
    acme_driver_t *driver = driver_with(0, 0);
    acme_store_t *store = NULL;
    acme_client_t *first, *second;
    acme_manager_t *manager, *another;
    acme_cert_t *cert;
    struct seen seen = { 0 };
    char body[1024], other_body[1024];
    const char *path = "/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    size_t size;

    OK(acme_store_memory(&store));
    first = stored_client(store, NOT_A_CA);
    second = http_asks = stored_client(store, env("ACME_DIRECTORY"));
    manager = manager_of(first, &seen);
    CHECK_STATUS(acme_manager_add_ca(manager, first), ACME_ERR_INVALID_ARGUMENT, "this CA already");
    CHECK_STATUS(acme_manager_add_ca(manager, NULL), ACME_ERR_INVALID_ARGUMENT, "client");
    CHECK_STATUS(acme_manager_add_ca(NULL, second), ACME_ERR_INVALID_ARGUMENT, "manager");
    OK(acme_manager_add_ca(manager, second));
    OK(acme_manager_add(manager, &order));
    CHECK_STATUS(acme_manager_add_ca(manager, second), ACME_ERR_MISUSE, "before the certificates");
    OK(acme_manager_start(manager, driver));
    until(driver, &seen, ACME_EVENT_OTHER_CA);
    CHECK(strcmp(seen.ca, NOT_A_CA) == 0 && strcmp(seen.name, "one.cas.test") == 0);
    CHECK(strstr(seen.message, "127.0.0.1:1") != NULL && seen.count[ACME_EVENT_CA_PAUSED] == 1);
    until(driver, &seen, ACME_EVENT_OBTAINED);
    CHECK(strcmp(seen.ca, env("ACME_DIRECTORY")) == 0 && seen.count[ACME_EVENT_FAILED] == 0);
    cert = acme_manager_cert(manager, "one.cas.test");
    verify(cert, "one.cas.test");
    acme_cert_free(cert);

    /* Any program that shares the store responds to http-01. */
    size = acme_manager_http01_answer(manager, path, strlen(path), body, sizeof body);
    CHECK(size == 43 + 1 + 43 && memcmp(body, path + 28, 43) == 0 && body[43] == '.');
    CHECK(acme_manager_http01_answer(manager, path, strlen(path), body, 86) == 0);
    CHECK(acme_manager_http01_answer(manager, "/", 1, body, sizeof body) == 0);
    CHECK(acme_manager_http01_answer(NULL, path, strlen(path), body, sizeof body) == 0);
    another = manager_of(second, &seen);
    CHECK(acme_manager_http01_answer(another, path, strlen(path), other_body, sizeof other_body) == 87);
    CHECK(memcmp(body, other_body, 87) == 0);
    acme_manager_free(another);

    acme_manager_free(manager);
    acme_client_free(first);
    acme_client_free(second);
    acme_driver_free(driver);
    acme_store_free(store);
    http_asks = NULL;
}

struct demand {
    acme_manager_t *manager;
    int asked;
};

static int is_known(const char *name, void *user)
{
    struct demand *demand = user;

    demand->asked++;
    CHECK(acme_manager_count(demand->manager) == 0);
    return strcmp(name, "shop.cas.test") == 0;
}

static void g36_on_demand(void)
{
    const char *names[] = { "one.cas.test" };
    acme_order_options_t order = order_for(names, 1), example = order_for(names, 0);
    acme_driver_t *driver = driver_with(0, 0);
    acme_store_t *store = NULL;
    acme_client_t *client;
    struct seen seen = { 0 };
    struct demand demand = { 0 };
    acme_cert_t *cert;

    OK(acme_store_memory(&store));
    client = http_asks = stored_client(store, env("ACME_DIRECTORY"));
    demand.manager = manager_of(client, &seen);
    CHECK_STATUS(acme_manager_on_demand(demand.manager, &order, is_known, &demand),
                 ACME_ERR_INVALID_ARGUMENT, "no names yet");
    CHECK_STATUS(acme_manager_on_demand(demand.manager, &example, NULL, &demand),
                 ACME_ERR_INVALID_ARGUMENT, "ask is NULL");
    example.key_type = 99;
    CHECK_STATUS(acme_manager_on_demand(demand.manager, &example, is_known, &demand),
                 ACME_ERR_INVALID_ARGUMENT, "key_type");
    example.key_type = 0;
    OK(acme_manager_on_demand(demand.manager, &example, is_known, &demand));
    OK(acme_manager_start(demand.manager, driver));
    CHECK(!acme_manager_cert(demand.manager, "stranger.cas.test"));
    CHECK(!acme_manager_cert(demand.manager, "192.0.2.1"));
    CHECK(!acme_manager_cert(demand.manager, "SHOP.cas.test."));
    until(driver, &seen, ACME_EVENT_OBTAINED);
    CHECK(demand.asked == 2 && acme_manager_count(demand.manager) == 1);
    cert = acme_manager_cert(demand.manager, "shop.cas.test");
    verify(cert, "shop.cas.test");
    acme_cert_free(cert);
    acme_manager_free(demand.manager);
    acme_client_free(client);
    acme_driver_free(driver);
    acme_store_free(store);
    http_asks = NULL;
}

/* Whether a handshake as a client that asks for this name succeeds, and the certificate is for it. */
static int is_served(SSL_CTX *server_ctx, const char *name)
{
    SSL_CTX *client_ctx = SSL_CTX_new(TLS_client_method());
    SSL *client = SSL_new(client_ctx), *server = SSL_new(server_ctx);
    BIO *client_bio, *server_bio;
    X509 *leaf = NULL;
    int i, client_done = 0, server_done = 0, is_for_name = 0;

    BIO_new_bio_pair(&client_bio, 0, &server_bio, 0);
    SSL_set_bio(client, client_bio, client_bio);
    SSL_set_bio(server, server_bio, server_bio);
    SSL_set_tlsext_host_name(client, name);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    for (i = 0; i < 20 && !(client_done && server_done); i++) {
        client_done = client_done || SSL_do_handshake(client) == 1;
        server_done = server_done || SSL_do_handshake(server) == 1;
    }
    if (client_done && (leaf = SSL_get1_peer_certificate(client)) != NULL)
        is_for_name = X509_check_host(leaf, name, 0, 0, NULL) == 1;
    X509_free(leaf);
    SSL_free(client);
    SSL_free(server);
    SSL_CTX_free(client_ctx);
    ERR_clear_error();
    return is_for_name;
}

static int is_for_tls(const char *name, void *user)
{
    ++*(int *)user;
    return strcmp(name, "tls.cas.test") == 0;
}

static void a_handshake_asks_for_its_name(void)
{
    acme_order_options_t example = order_for(NULL, 0);
    acme_manager_options_t options = ACME_MANAGER_OPTIONS_INIT;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    acme_openssl_store_t *served = NULL;
    acme_driver_t *driver = driver_with(0, 0);
    acme_store_t *store = NULL;
    acme_manager_t *manager = NULL;
    struct seen seen = { 0 };
    int asked = 0;

    OK(acme_store_memory(&store));
    CHECK(acme_openssl_store_new(&served) == ACME_OK && acme_openssl_attach(ctx, served) == ACME_OK);
    acme_openssl_manage(&options, served);
    options.client = http_asks = stored_client(store, env("ACME_DIRECTORY"));
    options.event = on_event;
    options.user = &seen;
    OK(acme_manager_new(&options, &manager));
    OK(acme_manager_on_demand(manager, &example, is_for_tls, &asked));
    OK(acme_manager_start(manager, driver));
    CHECK(!is_served(ctx, "tls.cas.test"));
    acme_openssl_demand(served, manager);
    CHECK(!is_served(ctx, "other.cas.test") && !is_served(ctx, "tls.cas.test"));
    until(driver, &seen, ACME_EVENT_OBTAINED);
    CHECK(asked == 2 && is_served(ctx, "TLS.cas.test"));
    acme_openssl_demand(served, NULL);
    acme_manager_free(manager);
    CHECK(is_served(ctx, "tls.cas.test"));
    SSL_CTX_free(ctx);
    acme_openssl_store_free(served);
    acme_client_free(http_asks);
    acme_driver_free(driver);
    acme_store_free(store);
    http_asks = NULL;
}

int main(void)
{
    host_start();
    g30_another_ca_takes_over();
    g36_on_demand();
    a_handshake_asks_for_its_name();
    http_stop();
    return report("test_cas");
}
