/**
 * @file acme_micro_openssl.h
 * A store of certificates for a server on OpenSSL, which may replace them while it runs.
 *
 * This header is not part of the library, whose ABI has no types of OpenSSL. Compile it into your
 * program with your own OpenSSL, 1.1.1 or later. In exactly one C or C++ file, write
 *
 *     #define ACME_MICRO_OPENSSL_IMPLEMENTATION
 *     #include "acme_micro_openssl.h"
 *
 * All other files include it without the `#define`. Link with -lacme-micro -lssl -lcrypto.
 *
 *     acme_openssl_store_new(&store);
 *     acme_openssl_attach(ctx, store);                 // each SSL_CTX that accepts connections
 *     ...
 *     acme_openssl_store_challenge_add(store, challenge);     // in the publish callback
 *     acme_openssl_store_challenge_remove(store, challenge);  // in the unpublish callback
 *     ...
 *     acme_openssl_store_set(store, cert, NULL);       // from now on, new handshakes use it
 *
 * A store holds the certificate of each name, and the challenges of tls-alpn-01 (RFC 8737). When a
 * ClientHello arrives, the handshake takes the certificate of the name in it from the store, and keeps
 * a reference. A certificate may therefore be replaced at any moment: handshakes and connections that
 * have begun keep the old one.
 *
 * Any thread may call any function at any time, with one exception: attach the store before the
 * SSL_CTX accepts connections. Functions that return acme_status_t return ACME_OK or a negative
 * ACME_ERR_*; after ACME_ERR_CRYPTO, OpenSSL's error queue has the details.
 */
#ifndef ACME_MICRO_OPENSSL_H
#define ACME_MICRO_OPENSSL_H

#include <openssl/ssl.h>

#include "acme_micro.h"

#if defined(LIBRESSL_VERSION_NUMBER) || OPENSSL_VERSION_NUMBER < 0x10101000L
# error "acme_micro_openssl.h needs OpenSSL 1.1.1 or later, for its ClientHello callback"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** A store of certificates by name, and of challenges of tls-alpn-01. */
typedef struct acme_openssl_store_t acme_openssl_store_t;

/**
 * Makes an empty store.
 * @param store Out: the store; free it with acme_openssl_store_free().
 * @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: store is NULL; ACME_ERR_CRYPTO: OpenSSL has no memory
 *   left.
 */
ACME_MUST_CHECK acme_status_t acme_openssl_store_new(acme_openssl_store_t **store);

/**
 * Releases the caller's reference to the store. Each SSL_CTX that the store is attached to has a
 * reference of its own: the last release frees the store.
 * @param store The store; NULL is allowed.
 */
void acme_openssl_store_free(acme_openssl_store_t *store);

/**
 * Sets the certificate for all names in it. New handshakes for these names use it from now on, instead
 * of the certificate that was set before. Clients that send no name, or a name that is not in the store,
 * get the certificate of the name that was set first.
 *
 * @param store The store.
 * @param cert The certificate with its chain; copied.
 * @param key The certificate's key; copied. NULL: the key of acme_cert_key(), which a certificate that
 *   was read from a file does not have.
 * @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: there is no key, it belongs to another certificate, or its
 *   private half is outside the process; ACME_ERR_CRYPTO: OpenSSL refuses the certificate or the key.
 */
ACME_MUST_CHECK acme_status_t acme_openssl_store_set(acme_openssl_store_t *store,
                                                     const acme_cert_t *cert,
                                                     const acme_key_t *key);

/**
 * Sets a certificate like acme_openssl_store_set(), with a key object of OpenSSL: the key of an engine
 * or a provider, for example.
 * @param store The store.
 * @param cert The certificate with its chain; copied.
 * @param key The certificate's key; the store takes a reference of its own.
 * @return The same as acme_openssl_store_set().
 */
ACME_MUST_CHECK acme_status_t acme_openssl_store_set_pkey(acme_openssl_store_t *store,
                                                          const acme_cert_t *cert, EVP_PKEY *key);

/**
 * Removes the certificate of a name. Does nothing if the store has no certificate for it.
 * @param store The store.
 * @param name The name as the certificate has it, in upper or lower case: "example.org" or
 *   "*.example.org".
 */
void acme_openssl_store_remove(acme_openssl_store_t *store, const char *name);

/**
 * Publishes a challenge of tls-alpn-01. From now on, a handshake for its name that offers the protocol
 * "acme-tls/1" and no other gets the certificate of RFC 8737 section 3. Other handshakes do not change.
 * @param store The store.
 * @param challenge The challenge; read during the call only.
 * @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: the challenge is of another type; ACME_ERR_CRYPTO: OpenSSL
 *   refuses the certificate.
 */
ACME_MUST_CHECK acme_status_t acme_openssl_store_challenge_add(acme_openssl_store_t *store,
                                                               const acme_challenge_t *challenge);

/**
 * Removes a published challenge. Does nothing if the challenge is not in the store.
 * @param store The store.
 * @param challenge The challenge; read during the call only.
 */
void acme_openssl_store_challenge_remove(acme_openssl_store_t *store,
                                         const acme_challenge_t *challenge);

/**
 * Attaches the store to ctx: sets the ClientHello callback and the ALPN callback of ctx. A certificate
 * of ctx itself is optional: a handshake uses it when the store has no certificate for the client.
 *
 * If your program has such a callback of its own, set it after this call, and let it call
 * acme_openssl_client_hello_cb() or acme_openssl_alpn_cb() with store as the last argument.
 * @param ctx The context that accepts connections. It holds a reference to the store.
 * @param store The store.
 * @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: an argument is NULL; ACME_ERR_CRYPTO: OpenSSL has no memory
 *   left.
 */
ACME_MUST_CHECK acme_status_t acme_openssl_attach(SSL_CTX *ctx, acme_openssl_store_t *store);

/**
 * Chooses the certificate of a connection; a callback for SSL_CTX_set_client_hello_cb().
 * @param ssl The connection.
 * @param alert Out: the alert to send, when the result is SSL_CLIENT_HELLO_ERROR.
 * @param store The acme_openssl_store_t, as the callback's argument.
 * @return SSL_CLIENT_HELLO_SUCCESS or SSL_CLIENT_HELLO_ERROR.
 */
int acme_openssl_client_hello_cb(SSL *ssl, int *alert, void *store);

/**
 * Chooses the protocol "acme-tls/1" for a CA that validates a challenge; a callback for
 * SSL_CTX_set_alpn_select_cb().
 * @param ssl The connection.
 * @param out Out: the protocol, not NUL-terminated; valid as long as in.
 * @param out_size Out: length of the protocol in bytes.
 * @param in Protocols that the client offers, in the format of RFC 7301 section 3.1.
 * @param in_size Length of in, in bytes.
 * @param store The acme_openssl_store_t, as the callback's argument.
 * @return SSL_TLSEXT_ERR_OK: the client is such a CA. SSL_TLSEXT_ERR_NOACK: it is another client, and
 *   your program chooses the protocol.
 */
int acme_openssl_alpn_cb(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                         const unsigned char *in, unsigned int in_size, void *store);

/**
 * Lets a manager use the store: sets serve, publish, unpublish and serve_user of its options. From now on
 * the store has each certificate of the manager, and the challenges of tls-alpn-01 of its orders. The program
 * responds to http-01 with acme_manager_http01_answer().
 * @param options The options for acme_manager_new().
 * @param store The store, which must outlive the manager.
 */
void acme_openssl_manage(acme_manager_options_t *options, acme_openssl_store_t *store);

/**
 * Lets handshakes ask a manager for names that the store does not have: for certificates on demand (see
 * acme_manager_on_demand()), and for those that a manager with many certificates reads when they are needed. The
 * first handshake for such a name goes on with the certificate that clients without a name get, or fails if there
 * is no certificate; a moment later there is one.
 * @param store The store, which acme_openssl_manage() has set in the options of the manager.
 * @param manager The manager; NULL: no manager is asked any more. Call it with NULL before acme_manager_free(): when it
 *   returns, no handshake uses the manager.
 */
void acme_openssl_demand(acme_openssl_store_t *store, acme_manager_t *manager);

/**
 * Whether the connection is from a CA that validated a challenge. The CA closes such a connection; the
 * server must not speak any other protocol on it (RFC 8737 section 4).
 * @param ssl The connection, whose handshake is complete.
 * @return 1 or 0.
 */
int acme_openssl_is_challenge(const SSL *ssl);

#ifdef __cplusplus
}
#endif

#if defined(__cplusplus) && defined(ACME_MICRO_HPP)
/**
 * Lets an acme::manager serve its certificates on the connections of ctx, which also respond to tls-alpn-01: sets
 * serve, publish and unpublish of its options, and attaches a store to ctx. Include acme_micro.hpp before this header.
 * Throws std::runtime_error if OpenSSL has no memory left.
 * @param options The options for the constructor of acme::manager.
 * @param ctx The context that accepts connections. It may be freed before the manager.
 */
inline void acme_openssl_manage(acme::manager_options &options, SSL_CTX *ctx)
{
    acme_openssl_store_t *made = nullptr;
    const acme_status_t status = acme_openssl_store_new(&made);
    const std::shared_ptr<acme_openssl_store_t> store(made, acme_openssl_store_free);
    if (status != ACME_OK || acme_openssl_attach(ctx, made) != ACME_OK)
        throw std::runtime_error("OpenSSL has no memory left for a store of certificates");
    options.serve = [store](const acme::certificate &cert) {
        (void)!acme_openssl_store_set(store.get(), cert.native_handle(), nullptr); // else the old one stays in use
    };
    options.publish = [store](acme::operation &op) {
        for (const acme::challenge &c : op.challenges())
            if (c.type == "tls-alpn-01" && acme_openssl_store_challenge_add(store.get(), c.shown) != ACME_OK)
                return op.publish_failed("OpenSSL does not take the challenge's certificate");
        op.published();
    };
    options.unpublish = [store](acme::operation &op) {
        for (const acme::challenge &c : op.challenges())
            acme_openssl_store_challenge_remove(store.get(), c.shown);
    };
}
#endif

#endif /* ACME_MICRO_OPENSSL_H */

#if defined(ACME_MICRO_OPENSSL_IMPLEMENTATION) && !defined(ACME_MICRO_OPENSSL_IMPLEMENTED)
#define ACME_MICRO_OPENSSL_IMPLEMENTED

#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#define ACME_OPENSSL_PROTOCOL "acme-tls/1"
#define ACME_OPENSSL_PROTOCOL_SIZE 10
#define ACME_OPENSSL_DIGEST_SIZE 32

/* A certificate with its chain and its key, as a handshake uses them. */
struct acme_openssl_identity {
    int references; /* number of names and challenges that use it; under the store's lock */
    X509 *leaf;
    STACK_OF(X509) *issuers;
    EVP_PKEY *key;
};

struct acme_openssl_name {
    char *name; /* in lower case */
    struct acme_openssl_identity *identity;
};

struct acme_openssl_challenge {
    struct acme_openssl_challenge *next;
    char *name; /* in lower case */
    unsigned char digest[ACME_OPENSSL_DIGEST_SIZE];
    struct acme_openssl_identity *identity;
};

struct acme_openssl_store_t {
    CRYPTO_RWLOCK *lock; /* writers hold it only while they exchange pointers */
    int references;
    struct acme_openssl_name *names; /* sorted by name */
    size_t name_count, name_room;
    char *fallback; /* the name for clients that send no name, or an unknown one */
    struct acme_openssl_challenge *challenges; /* the newest first */
    acme_manager_t *manager; /* is asked for names that are not here; NULL: none is */
};

/* --- identities ------------------------------------------------------------------------------- */

static void acme_openssl_identity_drop(struct acme_openssl_identity *identity)
{
    if (!identity || --identity->references > 0)
        return;
    X509_free(identity->leaf);
    sk_X509_pop_free(identity->issuers, X509_free);
    EVP_PKEY_free(identity->key);
    OPENSSL_free(identity);
}

/* Returns one certificate of a chain; NULL past the end, or when OpenSSL refuses it. */
static X509 *acme_openssl_x509(const acme_cert_t *cert, size_t index)
{
    size_t size = 0;
    const unsigned char *der = acme_cert_der(cert, index, &size);

    return der ? d2i_X509(NULL, &der, (long)size) : NULL;
}

static EVP_PKEY *acme_openssl_pkey(const acme_key_t *key)
{
    const char *pem = acme_key_pem(key);
    BIO *bio = pem ? BIO_new_mem_buf(pem, -1) : NULL;
    EVP_PKEY *made = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;

    BIO_free(bio);
    return made;
}

/* Makes an identity with one reference, which the caller owns. */
static acme_status_t acme_openssl_identity_new(const acme_cert_t *cert, EVP_PKEY *key,
                                               struct acme_openssl_identity **made)
{
    struct acme_openssl_identity *identity =
        (struct acme_openssl_identity *)OPENSSL_zalloc(sizeof *identity);
    X509 *issuer;
    size_t i;

    if (!identity)
        return ACME_ERR_CRYPTO;
    identity->references = 1;
    identity->leaf = acme_openssl_x509(cert, 0);
    identity->issuers = sk_X509_new_null();
    if (!identity->leaf || !identity->issuers)
        goto failed;
    for (i = 1; acme_cert_der(cert, i, NULL); i++) {
        issuer = acme_openssl_x509(cert, i);
        if (!issuer || !sk_X509_push(identity->issuers, issuer)) {
            X509_free(issuer);
            goto failed;
        }
    }
    if (X509_check_private_key(identity->leaf, key) != 1) {
        acme_openssl_identity_drop(identity);
        return ACME_ERR_INVALID_ARGUMENT;
    }
    EVP_PKEY_up_ref(key);
    identity->key = key;
    *made = identity;
    return ACME_OK;

failed:
    acme_openssl_identity_drop(identity);
    return ACME_ERR_CRYPTO;
}

/* --- names ------------------------------------------------------------------------------------ */

/* Converts ASCII letters to lower case. That is enough: DNS names are A-labels here (RFC 5890). */
static void acme_openssl_lower(char *text)
{
    for (; *text; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text - 'A' + 'a');
}

static char *acme_openssl_lower_copy(const char *text)
{
    char *copy = OPENSSL_strdup(text);

    if (copy)
        acme_openssl_lower(copy);
    return copy;
}

/* Returns the index of name in the sorted names, or the index to insert it at. */
static size_t acme_openssl_place(const acme_openssl_store_t *store, const char *name, int *found)
{
    size_t low = 0, high = store->name_count;

    *found = 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(store->names[middle].name, name);

        if (order == 0) {
            *found = 1;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct acme_openssl_identity *acme_openssl_find(const acme_openssl_store_t *store,
                                                       const char *name)
{
    int found;
    size_t place = acme_openssl_place(store, name, &found);

    return found ? store->names[place].identity : NULL;
}

/* Returns the identity of a name, which is in lower case and may be empty. */
static struct acme_openssl_identity *acme_openssl_match(const acme_openssl_store_t *store,
                                                        const char *name)
{
    struct acme_openssl_identity *identity = acme_openssl_find(store, name);
    const char *dot = strchr(name, '.');
    char wildcard[260] = "*";

    /* A wildcard matches exactly one label, the first (RFC 9525 section 6.3). */
    if (!identity && dot && strlen(dot) < sizeof wildcard - 1) {
        strcpy(wildcard + 1, dot);
        identity = acme_openssl_find(store, wildcard);
    }
    return identity;
}

/* Asks the manager for a name that the store does not have. */
static void acme_openssl_ask(acme_openssl_store_t *store, const char *name)
{
    acme_cert_t *cert = NULL;

    if (!*name || !CRYPTO_THREAD_read_lock(store->lock))
        return;
    if (store->manager && !acme_openssl_match(store, name))
        cert = acme_manager_cert(store->manager, name); /* the lock keeps the manager alive */
    CRYPTO_THREAD_unlock(store->lock);
    if (cert)
        (void)!acme_openssl_store_set(store, cert, NULL); /* else the handshake has none */
    acme_cert_free(cert);
}

static const struct acme_openssl_challenge *
acme_openssl_find_challenge(const acme_openssl_store_t *store, const char *name)
{
    const struct acme_openssl_challenge *challenge = store->challenges;

    while (challenge && strcmp(challenge->name, name) != 0)
        challenge = challenge->next;
    return challenge;
}

/* --- stores ----------------------------------------------------------------------------------- */

acme_status_t acme_openssl_store_new(acme_openssl_store_t **store)
{
    acme_openssl_store_t *made;

    if (!store)
        return ACME_ERR_INVALID_ARGUMENT;
    made = (acme_openssl_store_t *)OPENSSL_zalloc(sizeof *made);
    if (!made || !(made->lock = CRYPTO_THREAD_lock_new())) {
        OPENSSL_free(made);
        return ACME_ERR_CRYPTO;
    }
    made->references = 1;
    *store = made;
    return ACME_OK;
}

static void acme_openssl_challenge_free(struct acme_openssl_challenge *challenge)
{
    acme_openssl_identity_drop(challenge->identity);
    OPENSSL_free(challenge->name);
    OPENSSL_free(challenge);
}

void acme_openssl_store_free(acme_openssl_store_t *store)
{
    int left = 0;
    size_t i;

    if (!store || !CRYPTO_atomic_add(&store->references, -1, &left, store->lock) || left > 0)
        return;
    for (i = 0; i < store->name_count; i++) {
        acme_openssl_identity_drop(store->names[i].identity);
        OPENSSL_free(store->names[i].name);
    }
    while (store->challenges) {
        struct acme_openssl_challenge *next = store->challenges->next;

        acme_openssl_challenge_free(store->challenges);
        store->challenges = next;
    }
    OPENSSL_free(store->names);
    OPENSSL_free(store->fallback);
    CRYPTO_THREAD_lock_free(store->lock);
    OPENSSL_free(store);
}

/* Makes room for count more names. */
static int acme_openssl_reserve(acme_openssl_store_t *store, size_t count)
{
    size_t room = store->name_count + count;
    struct acme_openssl_name *names;

    if (room <= store->name_room)
        return 1;
    room += room / 2;
    names = (struct acme_openssl_name *)OPENSSL_realloc(store->names, room * sizeof *names);
    if (!names)
        return 0;
    store->names = names;
    store->name_room = room;
    return 1;
}

/* Sets the identity of name. Takes over name: the store keeps it, or it is freed. */
static void acme_openssl_put(acme_openssl_store_t *store, char *name,
                             struct acme_openssl_identity *identity)
{
    int found;
    size_t place = acme_openssl_place(store, name, &found);
    struct acme_openssl_name *at = store->names + place;

    identity->references++;
    if (found) {
        acme_openssl_identity_drop(at->identity);
        OPENSSL_free(name);
    } else {
        memmove(at + 1, at, (store->name_count - place) * sizeof *at);
        store->name_count++;
        at->name = name;
    }
    at->identity = identity;
}

acme_status_t acme_openssl_store_set_pkey(acme_openssl_store_t *store, const acme_cert_t *cert,
                                          EVP_PKEY *key)
{
    struct acme_openssl_identity *identity = NULL;
    char **names = NULL, *fallback = NULL;
    size_t count = 0, i;
    acme_status_t status;

    if (!store || !cert || !key)
        return ACME_ERR_INVALID_ARGUMENT;
    while (acme_cert_name(cert, count))
        count++;
    if (count == 0)
        return ACME_ERR_INVALID_ARGUMENT;
    status = acme_openssl_identity_new(cert, key, &identity);
    if (status != ACME_OK)
        return status;

    /* Do everything that can fail before the store changes. */
    status = ACME_ERR_CRYPTO;
    names = (char **)OPENSSL_zalloc(count * sizeof *names);
    fallback = acme_openssl_lower_copy(acme_cert_name(cert, 0));
    for (i = 0; names && i < count; i++)
        if (!(names[i] = acme_openssl_lower_copy(acme_cert_name(cert, i))))
            break;
    if (names && fallback && i == count && CRYPTO_THREAD_write_lock(store->lock)) {
        if (acme_openssl_reserve(store, count)) {
            for (i = 0; i < count; i++) {
                acme_openssl_put(store, names[i], identity);
                names[i] = NULL;
            }
            if (!store->fallback) {
                store->fallback = fallback;
                fallback = NULL;
            }
            status = ACME_OK;
        }
        acme_openssl_identity_drop(identity);
        CRYPTO_THREAD_unlock(store->lock);
    } else {
        acme_openssl_identity_drop(identity);
    }
    for (i = 0; names && i < count; i++)
        OPENSSL_free(names[i]);
    OPENSSL_free(names);
    OPENSSL_free(fallback);
    return status;
}

acme_status_t acme_openssl_store_set(acme_openssl_store_t *store, const acme_cert_t *cert,
                                     const acme_key_t *key)
{
    EVP_PKEY *pkey = acme_openssl_pkey(key ? key : acme_cert_key(cert));
    acme_status_t status = acme_openssl_store_set_pkey(store, cert, pkey);

    EVP_PKEY_free(pkey);
    return status;
}

void acme_openssl_store_remove(acme_openssl_store_t *store, const char *name)
{
    char *lower = name ? acme_openssl_lower_copy(name) : NULL;
    int found;
    size_t place;

    if (store && lower && CRYPTO_THREAD_write_lock(store->lock)) {
        place = acme_openssl_place(store, lower, &found);
        if (found) {
            struct acme_openssl_name *at = store->names + place;

            acme_openssl_identity_drop(at->identity);
            OPENSSL_free(at->name);
            store->name_count--;
            memmove(at, at + 1, (store->name_count - place) * sizeof *at);
            if (store->fallback && strcmp(store->fallback, lower) == 0) {
                OPENSSL_free(store->fallback);
                store->fallback = NULL;
            }
        }
        CRYPTO_THREAD_unlock(store->lock);
    }
    OPENSSL_free(lower);
}

/* --- challenges ------------------------------------------------------------------------------- */

acme_status_t acme_openssl_store_challenge_add(acme_openssl_store_t *store,
                                               const acme_challenge_t *challenge)
{
    struct acme_openssl_challenge *made;
    acme_cert_t *cert = NULL;
    EVP_PKEY *key;
    acme_status_t status;

    if (!store || !challenge || !challenge->tls_alpn_digest || !challenge->tls_alpn_name)
        return ACME_ERR_INVALID_ARGUMENT;
    status = acme_cert_create_tls_alpn(challenge, NULL, &cert);
    if (status != ACME_OK)
        return status;
    key = acme_openssl_pkey(acme_cert_key(cert));
    made = (struct acme_openssl_challenge *)OPENSSL_zalloc(sizeof *made);
    status = key && made ? acme_openssl_identity_new(cert, key, &made->identity) : ACME_ERR_CRYPTO;
    EVP_PKEY_free(key);
    acme_cert_free(cert);
    if (status == ACME_OK) {
        memcpy(made->digest, challenge->tls_alpn_digest, ACME_OPENSSL_DIGEST_SIZE);
        made->name = acme_openssl_lower_copy(challenge->tls_alpn_name);
        if (made->name && CRYPTO_THREAD_write_lock(store->lock)) {
            made->next = store->challenges;
            store->challenges = made;
            CRYPTO_THREAD_unlock(store->lock);
            return ACME_OK;
        }
        status = ACME_ERR_CRYPTO;
    }
    if (made)
        acme_openssl_challenge_free(made);
    return status;
}

void acme_openssl_store_challenge_remove(acme_openssl_store_t *store,
                                         const acme_challenge_t *challenge)
{
    struct acme_openssl_challenge **at, *gone;
    char *name;

    if (!store || !challenge || !challenge->tls_alpn_digest || !challenge->tls_alpn_name)
        return;
    name = acme_openssl_lower_copy(challenge->tls_alpn_name);
    if (name && CRYPTO_THREAD_write_lock(store->lock)) {
        /* Two orders may each have a challenge for the same name. */
        for (at = &store->challenges; *at; at = &(*at)->next)
            if (strcmp((*at)->name, name) == 0 &&
                memcmp((*at)->digest, challenge->tls_alpn_digest, ACME_OPENSSL_DIGEST_SIZE) == 0)
                break;
        gone = *at;
        if (gone) {
            *at = gone->next;
            acme_openssl_challenge_free(gone);
        }
        CRYPTO_THREAD_unlock(store->lock);
    }
    OPENSSL_free(name);
}

/* --- handshakes ------------------------------------------------------------------------------- */

/* Copies the server name of a ClientHello (RFC 6066 section 3) in lower case; empty if it has none. */
static void acme_openssl_asked_name(SSL *ssl, char name[256])
{
    const unsigned char *data;
    size_t size, length;

    name[0] = 0;
    /* The extension is the length of the list, then one entry: its type, length and text. */
    if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &size) || size < 5 ||
        data[2] != TLSEXT_NAMETYPE_host_name)
        return;
    length = (size_t)data[3] << 8 | data[4];
    if (length > size - 5 || length > 255 || memchr(data + 5, 0, length))
        return;
    memcpy(name, data + 5, length);
    name[length] = 0;
    acme_openssl_lower(name);
}

/* Whether a list of protocols (RFC 7301 section 3.1) has "acme-tls/1" and no other, as a CA's has. */
static int acme_openssl_is_ours(const unsigned char *list, size_t size)
{
    return size == ACME_OPENSSL_PROTOCOL_SIZE + 1 && list[0] == ACME_OPENSSL_PROTOCOL_SIZE &&
           memcmp(list + 1, ACME_OPENSSL_PROTOCOL, ACME_OPENSSL_PROTOCOL_SIZE) == 0;
}

int acme_openssl_client_hello_cb(SSL *ssl, int *alert, void *user)
{
    acme_openssl_store_t *store = (acme_openssl_store_t *)user;
    const struct acme_openssl_challenge *challenge = NULL;
    const struct acme_openssl_identity *identity;
    const unsigned char *protocols;
    char name[256];
    size_t size;
    int used = 1;

    acme_openssl_asked_name(ssl, name);
    acme_openssl_ask(store, name);
    if (!CRYPTO_THREAD_read_lock(store->lock)) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation,
                                  &protocols, &size) &&
        size > 2 && acme_openssl_is_ours(protocols + 2, size - 2))
        challenge = acme_openssl_find_challenge(store, name);
    identity = challenge ? challenge->identity : acme_openssl_match(store, name);
    if (!identity && store->fallback)
        identity = acme_openssl_find(store, store->fallback);
    if (identity) {
        /* Clear the certificates that ssl has from its SSL_CTX: their keys may be of another type. */
        SSL_certs_clear(ssl);
        /* The connection takes references, and keeps the certificate when the store changes. */
        used = SSL_use_cert_and_key(ssl, identity->leaf, identity->key, identity->issuers, 1);
    }
    CRYPTO_THREAD_unlock(store->lock);
    if (used == 1)
        return SSL_CLIENT_HELLO_SUCCESS;
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_CLIENT_HELLO_ERROR;
}

int acme_openssl_alpn_cb(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                         const unsigned char *in, unsigned int in_size, void *user)
{
    acme_openssl_store_t *store = (acme_openssl_store_t *)user;
    const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    char *name;
    int found = 0;

    if (!acme_openssl_is_ours(in, in_size) || !asked)
        return SSL_TLSEXT_ERR_NOACK;
    name = acme_openssl_lower_copy(asked);
    if (name && CRYPTO_THREAD_read_lock(store->lock)) {
        found = acme_openssl_find_challenge(store, name) != NULL;
        CRYPTO_THREAD_unlock(store->lock);
    }
    OPENSSL_free(name);
    if (!found)
        return SSL_TLSEXT_ERR_NOACK;
    *out = in + 1;
    *out_size = ACME_OPENSSL_PROTOCOL_SIZE;
    return SSL_TLSEXT_ERR_OK;
}

int acme_openssl_is_challenge(const SSL *ssl)
{
    const unsigned char *protocol;
    unsigned int size;

    SSL_get0_alpn_selected(ssl, &protocol, &size);
    return size == ACME_OPENSSL_PROTOCOL_SIZE &&
           memcmp(protocol, ACME_OPENSSL_PROTOCOL, ACME_OPENSSL_PROTOCOL_SIZE) == 0;
}

/* --- managers --------------------------------------------------------------------------------- */

static void acme_openssl_serve(const acme_cert_t *cert, void *store)
{
    /* After a failure the old certificate stays in use. */
    (void)!acme_openssl_store_set((acme_openssl_store_t *)store, cert, NULL);
}

static void acme_openssl_publish(acme_op_t *op, void *store)
{
    const acme_challenge_t *challenge;
    const char *failure = NULL;
    size_t i;

    for (i = 0; !failure && (challenge = acme_op_challenge(op, i)) != NULL; i++)
        if (strcmp(challenge->type, "tls-alpn-01") == 0 &&
            acme_openssl_store_challenge_add((acme_openssl_store_t *)store, challenge) != ACME_OK)
            failure = "OpenSSL does not take the challenge's certificate";
    (void)acme_op_published(op, failure);
}

static void acme_openssl_unpublish(acme_op_t *op, void *store)
{
    const acme_challenge_t *challenge;
    size_t i;

    for (i = 0; (challenge = acme_op_challenge(op, i)) != NULL; i++)
        acme_openssl_store_challenge_remove((acme_openssl_store_t *)store, challenge);
}

void acme_openssl_manage(acme_manager_options_t *options, acme_openssl_store_t *store)
{
    options->serve = acme_openssl_serve;
    options->publish = acme_openssl_publish;
    options->unpublish = acme_openssl_unpublish;
    options->serve_user = store;
}

void acme_openssl_demand(acme_openssl_store_t *store, acme_manager_t *manager)
{
    if (!CRYPTO_THREAD_write_lock(store->lock))
        return;
    store->manager = manager;
    CRYPTO_THREAD_unlock(store->lock);
}

/* --- contexts --------------------------------------------------------------------------------- */

static CRYPTO_ONCE acme_openssl_once = CRYPTO_ONCE_STATIC_INIT;
static int acme_openssl_index = -1;

/* Releases the store of an SSL_CTX that is being freed. */
static void acme_openssl_detach(void *parent, void *store, CRYPTO_EX_DATA *data, int index,
                                long argl, void *argp)
{
    (void)parent, (void)data, (void)index, (void)argl, (void)argp;
    acme_openssl_store_free((acme_openssl_store_t *)store);
}

static void acme_openssl_init(void)
{
    acme_openssl_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, acme_openssl_detach);
}

acme_status_t acme_openssl_attach(SSL_CTX *ctx, acme_openssl_store_t *store)
{
    acme_openssl_store_t *before;
    int references;

    if (!ctx || !store)
        return ACME_ERR_INVALID_ARGUMENT;
    if (!CRYPTO_THREAD_run_once(&acme_openssl_once, acme_openssl_init) || acme_openssl_index < 0)
        return ACME_ERR_CRYPTO;
    before = (acme_openssl_store_t *)SSL_CTX_get_ex_data(ctx, acme_openssl_index);
    if (!CRYPTO_atomic_add(&store->references, 1, &references, store->lock))
        return ACME_ERR_CRYPTO;
    if (!SSL_CTX_set_ex_data(ctx, acme_openssl_index, store)) {
        acme_openssl_store_free(store);
        return ACME_ERR_CRYPTO;
    }
    SSL_CTX_set_client_hello_cb(ctx, acme_openssl_client_hello_cb, store);
    SSL_CTX_set_alpn_select_cb(ctx, acme_openssl_alpn_cb, store);
    acme_openssl_store_free(before);
    return ACME_OK;
}

#endif /* ACME_MICRO_OPENSSL_IMPLEMENTATION */
