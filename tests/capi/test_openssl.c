/* acme_micro_openssl.h: the certificates in handshakes, while certificates and challenges are added and
 * removed. */
#include "check.h"

#define ACME_MICRO_OPENSSL_IMPLEMENTATION
#include "acme_micro_openssl.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>

/* Certificates are told apart by their serial numbers. */
static EVP_PKEY *p256_key(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    CHECK(key != NULL);
    return key;
}

/* A self-signed certificate for names, such as "DNS:a.test,DNS:b.test". */
static X509 *make_x509(const char *names, long serial, EVP_PKEY *key)
{
    X509 *x509 = X509_new();
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);

    X509_set_version(x509, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), serial);
    X509_gmtime_adj(X509_getm_notBefore(x509), -60);
    X509_gmtime_adj(X509_getm_notAfter(x509), 86400);
    X509_set_pubkey(x509, key);
    X509_add_ext(x509, san, -1);
    CHECK(X509_sign(x509, key, EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256()) > 0);
    X509_EXTENSION_free(san);
    return x509;
}

/* The same with an issuer, so that there is a chain. */
static acme_cert_t *make_cert(const char *names, long serial, EVP_PKEY *key)
{
    BIO *pem = BIO_new(BIO_s_mem());
    X509 *leaf = make_x509(names, serial, key), *issuer = make_x509("DNS:issuer.test", 99, key);
    acme_cert_t *cert = NULL;
    char *text;
    long size;

    PEM_write_bio_X509(pem, leaf);
    PEM_write_bio_X509(pem, issuer);
    size = BIO_get_mem_data(pem, &text);
    OK(acme_cert_parse(text, (size_t)size, &cert));
    X509_free(leaf);
    X509_free(issuer);
    BIO_free(pem);
    return cert;
}

static void set(acme_openssl_store_t *store, const char *names, long serial)
{
    EVP_PKEY *key = p256_key();
    acme_cert_t *cert = make_cert(names, serial, key);

    CHECK(acme_openssl_store_set_pkey(store, cert, key) == ACME_OK);
    acme_cert_free(cert);
    EVP_PKEY_free(key);
}

/* --- handshakes ------------------------------------------------------------------------------- */

struct shown {
    int done; /* the handshake is complete on both sides */
    long serial;
    int chain; /* certificates */
    int is_challenge;
    char protocol[32];
    X509 *leaf;
};

static void free_shown(struct shown *shown)
{
    X509_free(shown->leaf);
}

/* Makes a handshake as a client that asks for name (NULL: none) and offers a list of protocols. Any thread
 * may call this, because it counts no checks. */
static struct shown handshake(SSL_CTX *server_ctx, const char *name, const char *protocols,
                              int version)
{
    struct shown shown = { 0, -1, 0, 0, "", NULL };
    SSL_CTX *client_ctx = SSL_CTX_new(TLS_client_method());
    SSL *client = SSL_new(client_ctx), *server = SSL_new(server_ctx);
    BIO *client_bio, *server_bio;
    const unsigned char *protocol;
    unsigned int size;
    int i, client_done = 0, server_done = 0;

    BIO_new_bio_pair(&client_bio, 0, &server_bio, 0);
    SSL_set_bio(client, client_bio, client_bio);
    SSL_set_bio(server, server_bio, server_bio);
    SSL_set_max_proto_version(client, version);
    if (name)
        SSL_set_tlsext_host_name(client, name);
    if (protocols)
        SSL_set_alpn_protos(client, (const unsigned char *)protocols, (unsigned)strlen(protocols));
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    for (i = 0; i < 20 && !(client_done && server_done); i++) {
        client_done = client_done || SSL_do_handshake(client) == 1;
        server_done = server_done || SSL_do_handshake(server) == 1;
    }
    shown.done = client_done && server_done && SSL_version(client) == version;
    if (shown.done) {
        shown.leaf = SSL_get1_peer_certificate(client);
        shown.serial = ASN1_INTEGER_get(X509_get0_serialNumber(shown.leaf));
        shown.chain = sk_X509_num(SSL_get_peer_cert_chain(client));
        shown.is_challenge = acme_openssl_is_challenge(server);
        SSL_get0_alpn_selected(client, &protocol, &size);
        if (size > 0)
            memcpy(shown.protocol, protocol, size);
    }
    SSL_free(client);
    SSL_free(server);
    SSL_CTX_free(client_ctx);
    ERR_clear_error();
    return shown;
}

/* Returns the serial number of the server's certificate in a handshake; -1 if the handshake fails. */
static long serial_for(SSL_CTX *ctx, const char *name)
{
    struct shown new = handshake(ctx, name, NULL, TLS1_3_VERSION);
    struct shown old = handshake(ctx, name, NULL, TLS1_2_VERSION);

    CHECK(new.serial == old.serial && !new.is_challenge && !old.is_challenge);
    CHECK(!new.done || new.chain == 2);
    free_shown(&new);
    free_shown(&old);
    return new.serial;
}

static SSL_CTX *context(acme_openssl_store_t *store)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    CHECK(acme_openssl_attach(ctx, store) == ACME_OK);
    return ctx;
}

static acme_openssl_store_t *new_store(void)
{
    acme_openssl_store_t *store = NULL;

    CHECK(acme_openssl_store_new(&store) == ACME_OK);
    return store;
}

static void names(void)
{
    acme_openssl_store_t *store = new_store();
    SSL_CTX *ctx = context(store);

    CHECK(serial_for(ctx, "a.test") == -1); /* no crash while the store is empty */
    set(store, "DNS:b.test,DNS:*.b.test", 1);
    set(store, "DNS:a.test,DNS:A2.Test", 2);
    set(store, "DNS:deep.w.b.test,IP:192.0.2.1", 3);
    CHECK(serial_for(ctx, "b.test") == 1 && serial_for(ctx, "a.test") == 2);
    CHECK(serial_for(ctx, "a2.test") == 2 && serial_for(ctx, "A.TEST") == 2);
    CHECK(serial_for(ctx, "any.b.test") == 1 && serial_for(ctx, "deep.w.b.test") == 3);
    CHECK(serial_for(ctx, NULL) == 1 && serial_for(ctx, "stranger.test") == 1); /* the first certificate */
    set(store, "DNS:b.test,DNS:new.test", 4); /* a renewal, with other names */
    CHECK(serial_for(ctx, "b.test") == 4 && serial_for(ctx, "new.test") == 4);
    CHECK(serial_for(ctx, "any.b.test") == 1 && serial_for(ctx, NULL) == 4);
    acme_openssl_store_remove(store, "a.TEST");
    acme_openssl_store_remove(store, "not-there.test");
    CHECK(serial_for(ctx, "a.test") == 4 && serial_for(ctx, "a2.test") == 2);
    acme_openssl_store_remove(store, "b.test");
    CHECK(serial_for(ctx, NULL) == -1 && serial_for(ctx, "a2.test") == 2);
    set(store, "DNS:c.test", 5);
    CHECK(serial_for(ctx, NULL) == 5);
    acme_openssl_store_free(store); /* ctx keeps the store */
    CHECK(serial_for(ctx, "a2.test") == 2);
    SSL_CTX_free(ctx);
}

/* A context with its own certificate uses it until the store has one. Then it uses the store's, even if its
 * own has a type of key that clients prefer. */
static void own_certificate(void)
{
    acme_openssl_store_t *store = new_store(), *other = new_store();
    SSL_CTX *ctx = context(store);
    EVP_PKEY *p256 = p256_key(), *ed25519 = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    X509 *own = make_x509("DNS:own.test", 7, p256);
    acme_cert_t *cert = make_cert("DNS:a.test", 8, ed25519);
    struct shown shown;

    SSL_CTX_use_certificate(ctx, own);
    SSL_CTX_use_PrivateKey(ctx, p256);
    shown = handshake(ctx, "a.test", NULL, TLS1_3_VERSION);
    CHECK(shown.serial == 7);
    free_shown(&shown);
    CHECK(acme_openssl_store_set_pkey(store, cert, ed25519) == ACME_OK);
    CHECK(serial_for(ctx, "a.test") == 8);
    set(other, "DNS:a.test", 9);
    CHECK(acme_openssl_attach(ctx, other) == ACME_OK); /* replaces the first store */
    acme_openssl_store_free(store);
    acme_openssl_store_free(other);
    CHECK(serial_for(ctx, "a.test") == 9);
    X509_free(own);
    acme_cert_free(cert);
    EVP_PKEY_free(p256);
    EVP_PKEY_free(ed25519);
    SSL_CTX_free(ctx);
}

/* A connection keeps the certificate with which its handshake began. */
static void kept_by_connections(void)
{
    acme_openssl_store_t *store = new_store();
    SSL_CTX *ctx = context(store), *client_ctx = SSL_CTX_new(TLS_client_method());
    SSL *client = SSL_new(client_ctx), *server = SSL_new(ctx);
    BIO *client_bio, *server_bio;
    X509 *leaf;
    char text[8] = "";

    set(store, "DNS:a.test", 1);
    CHECK(BIO_new_bio_pair(&client_bio, 0, &server_bio, 0) == 1);
    SSL_set_bio(client, client_bio, client_bio);
    SSL_set_bio(server, server_bio, server_bio);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    SSL_do_handshake(client); /* ClientHello */
    SSL_do_handshake(server); /* the certificate is chosen; in TLS 1.3 it is also sent */
    set(store, "DNS:a.test", 2);
    acme_openssl_store_remove(store, "a.test");
    CHECK(SSL_do_handshake(client) == 1 && SSL_do_handshake(server) == 1);
    leaf = SSL_get1_peer_certificate(client);
    CHECK(ASN1_INTEGER_get(X509_get0_serialNumber(leaf)) == 1);
    X509_free(leaf);
    acme_openssl_store_free(store);
    SSL_CTX_free(ctx);
    CHECK(SSL_write(server, "hello", 5) == 5 && SSL_read(client, text, 5) == 5);
    CHECK(strcmp(text, "hello") == 0);
    SSL_free(client);
    SSL_free(server);
    SSL_CTX_free(client_ctx);
}

/* --- challenges ------------------------------------------------------------------------------- */

static acme_challenge_t challenge_for(const char *identifier, const char *name,
                                      const uint8_t *digest)
{
    acme_challenge_t challenge;

    memset(&challenge, 0, sizeof challenge);
    challenge.type = "tls-alpn-01";
    challenge.identifier = identifier;
    challenge.tls_alpn_name = name;
    challenge.tls_alpn_digest = digest;
    return challenge;
}

/* Whether a CA that asks for name sees this digest in the extension that RFC 8737 defines. */
static int ca_sees(SSL_CTX *ctx, const char *name, const uint8_t *digest, int version)
{
    struct shown shown = handshake(ctx, name, "\012acme-tls/1", version);
    ASN1_OBJECT *oid = OBJ_txt2obj("1.3.6.1.5.5.7.1.31", 1);
    int at = shown.leaf ? X509_get_ext_by_OBJ(shown.leaf, oid, -1) : -1;
    int seen = 0;

    if (at >= 0) {
        X509_EXTENSION *extension = X509_get_ext(shown.leaf, at);
        const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(extension);

        seen = X509_EXTENSION_get_critical(extension) && ASN1_STRING_length(value) == 34 &&
               memcmp(ASN1_STRING_get0_data(value) + 2, digest, 32) == 0;
        CHECK(shown.is_challenge && strcmp(shown.protocol, "acme-tls/1") == 0);
    } else {
        CHECK(!shown.is_challenge && !shown.protocol[0]);
    }
    ASN1_OBJECT_free(oid);
    free_shown(&shown);
    return seen;
}

static void challenges(void)
{
    static const uint8_t first[32] = { 1 }, second[32] = { 2 };
    acme_openssl_store_t *store = new_store();
    SSL_CTX *ctx = context(store);
    acme_challenge_t a = challenge_for("a.test", "a.test", first);
    acme_challenge_t a2 = challenge_for("a.test", "a.test", second);
    acme_challenge_t ip = challenge_for("192.0.2.1", "1.2.0.192.in-addr.arpa", second);
    struct shown shown;
    int i;

    /* This works before the store has a certificate. */
    CHECK(acme_openssl_store_challenge_add(store, &a) == ACME_OK);
    CHECK(ca_sees(ctx, "a.test", first, TLS1_3_VERSION));
    CHECK(ca_sees(ctx, "A.test", first, TLS1_2_VERSION));
    CHECK(!ca_sees(ctx, "b.test", first, TLS1_3_VERSION));
    CHECK(serial_for(ctx, "a.test") == -1);
    set(store, "DNS:a.test", 1);
    CHECK(serial_for(ctx, "a.test") == 1);
    CHECK(ca_sees(ctx, "a.test", first, TLS1_3_VERSION));
    CHECK(!ca_sees(ctx, NULL, first, TLS1_3_VERSION));
    for (i = 0; i < 2; i++) { /* a client that also offers another protocol is not a CA */
        shown = handshake(ctx, "a.test", i ? "\010http/1.1\012acme-tls/1"
                                           : "\012acme-tls/1\010http/1.1", TLS1_3_VERSION);
        CHECK(shown.serial == 1 && !shown.is_challenge && !shown.protocol[0]);
        free_shown(&shown);
    }

    /* Two orders at the same time: the later challenge is used, and each order removes its own. */
    CHECK(acme_openssl_store_challenge_add(store, &a2) == ACME_OK);
    CHECK(ca_sees(ctx, "a.test", second, TLS1_3_VERSION));
    acme_openssl_store_challenge_remove(store, &a);
    CHECK(ca_sees(ctx, "a.test", second, TLS1_3_VERSION));
    acme_openssl_store_challenge_remove(store, &a);
    acme_openssl_store_challenge_remove(store, &a2);
    CHECK(!ca_sees(ctx, "a.test", second, TLS1_3_VERSION) && serial_for(ctx, "a.test") == 1);

    CHECK(acme_openssl_store_challenge_add(store, &ip) == ACME_OK); /* RFC 8738 section 6 */
    CHECK(ca_sees(ctx, "1.2.0.192.in-addr.arpa", second, TLS1_3_VERSION));

    a.tls_alpn_digest = NULL;
    CHECK(acme_openssl_store_challenge_add(store, &a) == ACME_ERR_INVALID_ARGUMENT);
    acme_openssl_store_challenge_remove(store, &a);
    acme_openssl_store_free(store);
    SSL_CTX_free(ctx);
}

/* A host with its own callbacks. */
static int own_hellos, own_alpns;

static int own_hello(SSL *ssl, int *alert, void *store)
{
    own_hellos++;
    return acme_openssl_client_hello_cb(ssl, alert, store);
}

static int own_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                    const unsigned char *in, unsigned int in_size, void *store)
{
    own_alpns++;
    if (acme_openssl_alpn_cb(ssl, out, out_size, in, in_size, store) == SSL_TLSEXT_ERR_OK)
        return SSL_TLSEXT_ERR_OK;
    *out = (const unsigned char *)"h2";
    *out_size = 2;
    return SSL_TLSEXT_ERR_OK;
}

static void own_callbacks(void)
{
    static const uint8_t digest[32] = { 3 };
    acme_challenge_t challenge = challenge_for("a.test", "a.test", digest);
    acme_openssl_store_t *store = new_store();
    SSL_CTX *ctx = context(store);
    struct shown shown;

    SSL_CTX_set_client_hello_cb(ctx, own_hello, store);
    SSL_CTX_set_alpn_select_cb(ctx, own_alpn, store);
    set(store, "DNS:a.test", 1);
    CHECK(acme_openssl_store_challenge_add(store, &challenge) == ACME_OK);
    CHECK(ca_sees(ctx, "a.test", digest, TLS1_3_VERSION));
    shown = handshake(ctx, "a.test", "\002h2", TLS1_3_VERSION);
    CHECK(shown.serial == 1 && strcmp(shown.protocol, "h2") == 0);
    free_shown(&shown);
    CHECK(own_hellos == 2 && own_alpns == 2);
    acme_openssl_store_free(store);
    SSL_CTX_free(ctx);
}

/* --- arguments -------------------------------------------------------------------------------- */

static void arguments(void)
{
    acme_openssl_store_t *store = new_store();
    SSL_CTX *ctx = context(store);
    EVP_PKEY *key = p256_key(), *other = p256_key();
    acme_cert_t *cert = make_cert("DNS:a.test", 1, key), *made = NULL;
    static const uint8_t digest[32] = { 4 };
    acme_challenge_t challenge = challenge_for("own.test", "own.test", digest);
    acme_key_t *own = new_key(), *outside = NULL;
    BIO *pem = BIO_new(BIO_s_mem());
    char *text;
    long size;

    CHECK(acme_openssl_store_new(NULL) == ACME_ERR_INVALID_ARGUMENT);
    CHECK(acme_openssl_attach(NULL, store) == ACME_ERR_INVALID_ARGUMENT);
    CHECK(acme_openssl_attach(ctx, NULL) == ACME_ERR_INVALID_ARGUMENT);
    CHECK(acme_openssl_store_set(NULL, cert, NULL) == ACME_ERR_INVALID_ARGUMENT);
    CHECK(acme_openssl_store_set(store, NULL, NULL) == ACME_ERR_INVALID_ARGUMENT);
    CHECK(acme_openssl_store_set(store, cert, NULL) == ACME_ERR_INVALID_ARGUMENT); /* no key */
    CHECK(acme_openssl_store_set(store, cert, own) == ACME_ERR_INVALID_ARGUMENT); /* another's */
    CHECK(acme_openssl_store_set_pkey(store, cert, other) == ACME_ERR_INVALID_ARGUMENT);
    CHECK(acme_openssl_store_set_pkey(store, cert, NULL) == ACME_ERR_INVALID_ARGUMENT);
    CHECK(acme_openssl_store_challenge_add(store, NULL) == ACME_ERR_INVALID_ARGUMENT);
    acme_openssl_store_challenge_remove(store, NULL);
    acme_openssl_store_challenge_remove(NULL, NULL);
    acme_openssl_store_remove(store, NULL);
    acme_openssl_store_free(NULL);
    PEM_write_bio_PUBKEY(pem, key);
    size = BIO_get_mem_data(pem, &text);
    OK(acme_key_from_public(text, (size_t)size, &outside));
    CHECK(acme_openssl_store_set(store, cert, outside) == ACME_ERR_INVALID_ARGUMENT);
    CHECK(serial_for(ctx, "a.test") == -1); /* none of the refused calls has changed the store */

    /* The store takes the certificate's own key, or the key in the argument. */
    OK(acme_cert_create_tls_alpn(&challenge, own, &made));
    CHECK(acme_openssl_store_set(store, made, NULL) == ACME_OK);
    CHECK(acme_openssl_store_set(store, made, own) == ACME_OK);
    CHECK(acme_openssl_store_set_pkey(store, cert, key) == ACME_OK);
    CHECK(serial_for(ctx, "a.test") == 1);
    acme_cert_free(made);
    acme_cert_free(cert);
    acme_key_free(own);
    acme_key_free(outside);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
    BIO_free(pem);
    acme_openssl_store_free(store);
    SSL_CTX_free(ctx);
}

/* --- threads ---------------------------------------------------------------------------------- */

enum { SWAPS = 30, CLIENTS = 2 };

static SSL_CTX *shared;
static int stop;

static void *connect_without_pause(void *wrong)
{
    long last = 0;

    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        struct shown shown = handshake(shared, "a.test", NULL, TLS1_3_VERSION);

        /* Each handshake has a certificate, and never an older one than the one before. */
        if (!shown.done || shown.serial < last)
            ++*(int *)wrong;
        last = shown.serial;
        free_shown(&shown);
    }
    return NULL;
}

static void swaps_under_load(void)
{
    static const uint8_t digest[32] = { 5 };
    acme_challenge_t challenge = challenge_for("a.test", "a.test", digest);
    acme_openssl_store_t *store = new_store();
    pthread_t clients[CLIENTS];
    int wrong[CLIENTS] = { 0 }, i;

    shared = context(store);
    set(store, "DNS:a.test", 1);
    for (i = 0; i < CLIENTS; i++)
        pthread_create(&clients[i], NULL, connect_without_pause, &wrong[i]);
    for (i = 2; i < SWAPS; i++) {
        CHECK(acme_openssl_store_challenge_add(store, &challenge) == ACME_OK);
        CHECK(ca_sees(shared, "a.test", digest, TLS1_3_VERSION));
        acme_openssl_store_challenge_remove(store, &challenge);
        set(store, i % 2 ? "DNS:a.test" : "DNS:a.test,DNS:more.test", i);
        acme_openssl_store_remove(store, "more.test");
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    for (i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i], NULL);
        CHECK(wrong[i] == 0);
    }
    acme_openssl_store_free(store);
    SSL_CTX_free(shared);
}

int main(int argc, char **argv)
{
    choose_tests(argc, argv);
    TEST(names());
    TEST(own_certificate());
    TEST(kept_by_connections());
    TEST(challenges());
    TEST(own_callbacks());
    TEST(arguments());
    TEST(swaps_under_load());
    return report("test_openssl");
}
