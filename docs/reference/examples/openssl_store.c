/* openssl_store.c - certificates of a server on OpenSSL that change while it runs. */
#include "example.h"

#include <openssl/err.h>

#define ACME_MICRO_OPENSSL_IMPLEMENTATION
#include "acme_micro_openssl.h"

static int refused(acme_status_t status)
{
    fprintf(stderr, "certificate: %s\n", acme_strerror(status));
    return 1;
}

//! [openssl-store-new openssl-attach]
/* Returns a context for a server, which needs no certificate yet. */
static acme_openssl_store_t *make_store(SSL_CTX *ctx)
{
    acme_openssl_store_t *store = NULL;

    if (acme_openssl_store_new(&store) != ACME_OK || acme_openssl_attach(ctx, store) != ACME_OK)
        ERR_print_errors_fp(stderr);
    return store;
}
//! [openssl-store-new openssl-attach]

//! [openssl-store-challenge-add openssl-store-challenge-remove]
/* The callbacks of acme_run_options_t, for an order whose challenge_types are "tls-alpn-01". */
static int publish_in(const acme_challenge_t *challenge, void *user)
{
    return acme_openssl_store_challenge_add(user, challenge) != ACME_OK;
}

static int unpublish_in(const acme_challenge_t *challenge, void *user)
{
    acme_openssl_store_challenge_remove(user, challenge);
    return 0;
}
//! [openssl-store-challenge-add openssl-store-challenge-remove]

//! [openssl-store-set]
/* New handshakes use cert from now on; open connections keep the old one. */
static int use(acme_openssl_store_t *store, const acme_cert_t *cert)
{
    acme_status_t status = acme_openssl_store_set(store, cert, NULL);

    return status == ACME_OK ? 0 : refused(status);
}
//! [openssl-store-set]

//! [openssl-store-set-pkey]
/* The key is in a token; key is the object of OpenSSL's provider for it. */
static int use_with(acme_openssl_store_t *store, const acme_cert_t *cert, EVP_PKEY *key)
{
    acme_status_t status = acme_openssl_store_set_pkey(store, cert, key);

    return status == ACME_OK ? 0 : refused(status);
}
//! [openssl-store-set-pkey]

//! [openssl-store-remove]
static void forget(acme_openssl_store_t *store, const acme_cert_t *cert)
{
    const char *name;
    size_t i;

    for (i = 0; (name = acme_cert_name(cert, i)); i++)
        acme_openssl_store_remove(store, name);
}
//! [openssl-store-remove]

//! [openssl-client-hello-cb openssl-alpn-cb]
/* A server that has its own callbacks sets them after acme_openssl_attach(). */
static int on_hello(SSL *ssl, int *alert, void *store)
{
    puts("a handshake begins");
    return acme_openssl_client_hello_cb(ssl, alert, store);
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                   const unsigned char *in, unsigned int in_size, void *store)
{
    static const unsigned char http[] = "\x08http/1.1";
    int chosen = acme_openssl_alpn_cb(ssl, out, out_size, in, in_size, store);

    if (chosen != SSL_TLSEXT_ERR_NOACK)
        return chosen; /* the client is a CA that validates */
    if (SSL_select_next_proto((unsigned char **)out, out_size, http, sizeof http - 1, in,
                              in_size) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    return SSL_TLSEXT_ERR_OK;
}
//! [openssl-client-hello-cb openssl-alpn-cb]

//! [openssl-is-challenge]
static void after_handshake(SSL *ssl)
{
    if (acme_openssl_is_challenge(ssl))
        SSL_shutdown(ssl); /* no request comes */
}
//! [openssl-is-challenge]

//! [openssl-manage]
/* A manager puts its certificates and the challenges of tls-alpn-01 into the store. */
static acme_manager_t *manage(const acme_client_t *client, acme_openssl_store_t *store)
{
    acme_manager_options_t options = ACME_MANAGER_OPTIONS_INIT;
    acme_manager_t *manager = NULL;

    options.client = client;
    acme_openssl_manage(&options, store);
    if (acme_manager_new(&options, &manager) != ACME_OK)
        failed("manager");
    return manager;
}
//! [openssl-manage]

//! [openssl-demand]
/* Handshakes ask the manager for names that the store does not have; see acme_manager_on_demand(). */
static void ask(acme_openssl_store_t *store, acme_manager_t *on_demand)
{
    acme_openssl_demand(store, on_demand);
}

static void end(acme_openssl_store_t *store, acme_manager_t *on_demand)
{
    acme_openssl_demand(store, NULL); /* no handshake uses the manager any more */
    acme_manager_free(on_demand);
}
//! [openssl-demand]

int main(int argc, char **argv)
{
    static const uint8_t digest[32] = { 1 };
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    acme_openssl_store_t *store = make_store(ctx);
    acme_challenge_t challenge = { 0 };
    acme_store_t *records = NULL;
    acme_client_t *client = NULL;
    acme_manager_t *manager = NULL;
    acme_key_t *key = NULL;
    acme_cert_t *cert = NULL;
    SSL *ssl = SSL_new(ctx);
    EVP_PKEY *other;
    int result;

    if (!store || from_arguments(argc, argv, &options, &key))
        return 2;
    challenge.type = "tls-alpn-01";
    challenge.identifier = challenge.tls_alpn_name = "example.org";
    challenge.tls_alpn_digest = digest;
    if (acme_cert_create_tls_alpn(&challenge, key, &cert) != ACME_OK)
        return failed("certificate");
    other = EVP_EC_gen("P-256");
    SSL_CTX_set_client_hello_cb(ctx, on_hello, store);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, store);
    result = publish_in(&challenge, store) || unpublish_in(&challenge, store) || use(store, cert) ||
             use_with(store, cert, other) == 0; /* it is another certificate's */
    after_handshake(ssl);
    forget(store, cert);
    options.account_key = NULL;
    result = result || acme_store_memory(&records) != ACME_OK;
    options.store = records;
    result = result || acme_client_new(&options, &client) != ACME_OK || !(manager = manage(client, store));
    ask(store, manager);
    end(store, manager);
    acme_client_free(client);
    acme_store_free(records);
    SSL_free(ssl);
    //! [openssl-store-free]
    acme_openssl_store_free(store);
    SSL_CTX_free(ctx);
    //! [openssl-store-free]
    EVP_PKEY_free(other);
    acme_cert_free(cert);
    acme_key_free(key);
    return result;
}
