/**
 * @file acme_micro_openssl.h
 * Certificates for a server on OpenSSL that change while it runs.
 *
 * Not part of the library, whose ABI has no OpenSSL in it: compile it into your program, against
 * your own OpenSSL, 1.1.1 or later. In exactly one C or C++ file
 *
 *     #define ACME_MICRO_OPENSSL_IMPLEMENTATION
 *     #include "acme_micro_openssl.h"
 *
 * and wherever else it is needed without the `#define`. Link with -lacme-micro -lssl -lcrypto.
 *
 *     acme_openssl_store_new(&store);
 *     acme_openssl_attach(ctx, store);                 // each SSL_CTX that accepts connections
 *     ...
 *     acme_openssl_store_challenge_add(store, challenge);     // in the publish callback
 *     acme_openssl_store_challenge_remove(store, challenge);  // in the unpublish callback
 *     ...
 *     acme_openssl_store_set(store, cert, NULL);       // from now on, new handshakes use it
 *
 * A store holds the certificate of each name, and the challenges of tls-alpn-01 (RFC 8737). A
 * handshake takes from it, when its ClientHello comes in, what belongs to the name that the client
 * asks for, and keeps that to its end: a certificate may be replaced at any moment, and neither
 * handshakes nor connections under way notice.
 *
 * Every function may be called by any thread at any time; but attach a store to an SSL_CTX before
 * that accepts connections. Functions that return acme_status_t give ACME_OK or a negative
 * ACME_ERR_*; of ACME_ERR_CRYPTO, OpenSSL's error queue tells more.
 */
#ifndef ACME_MICRO_OPENSSL_H
#define ACME_MICRO_OPENSSL_H

#include <openssl/ssl.h>

#include "acme_micro.h"

#if defined(LIBRESSL_VERSION_NUMBER) || OPENSSL_VERSION_NUMBER < 0x10101000L
# error "acme_micro_openssl.h needs OpenSSL 1.1.1 or later: it looks into the ClientHello"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Certificates by name, and challenges of tls-alpn-01. */
typedef struct acme_openssl_store_t acme_openssl_store_t;

/**
 * Makes an empty store.
 * @param store Out: the store, which you free with acme_openssl_store_free().
 * @return ACME_OK, or ACME_ERR_CRYPTO: OpenSSL has no memory left.
 */
ACME_MUST_CHECK acme_status_t acme_openssl_store_new(acme_openssl_store_t **store);

/**
 * Lets go of the store; NULL is fine. It lives on for as long as there is an SSL_CTX that it is
 * attached to.
 * @param store The store; NULL is fine.
 */
void acme_openssl_store_free(acme_openssl_store_t *store);

/**
 * Sets the certificate of the names that it has: new handshakes use it from now on, in the place of
 * what was set for them before. The first name that was ever set is also that of clients which ask for no name, or for
 * one that is not in the store. key: NULL for the certificate's own, acme_cert_key(); given for a
 * certificate that was read from a file. cert and key are copied.
 *
 * @param store The store.
 * @param cert The certificate with its chain; copied.
 * @param key The certificate's key, copied; NULL: acme_cert_key() of it.
 * @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: there is no key, it is another certificate's, or outside
 *   the process; ACME_ERR_CRYPTO: OpenSSL refuses.
 */
ACME_MUST_CHECK acme_status_t acme_openssl_store_set(acme_openssl_store_t *store,
                                                     const acme_cert_t *cert,
                                                     const acme_key_t *key);

/**
 * Sets a certificate as acme_openssl_store_set() does, with a key of OpenSSL's, such as one of an
 * engine or a provider.
 * @param store The store.
 * @param cert The certificate with its chain; copied.
 * @param key The certificate's key; the store takes a reference of its own.
 * @return As acme_openssl_store_set().
 */
ACME_MUST_CHECK acme_status_t acme_openssl_store_set_pkey(acme_openssl_store_t *store,
                                                          const acme_cert_t *cert, EVP_PKEY *key);

/**
 * Forgets the certificate of a name; none there is fine.
 * @param store The store.
 * @param name The name, spelt as in the certificate.
 */
void acme_openssl_store_remove(acme_openssl_store_t *store, const char *name);

/**
 * Answers a challenge from now on: a handshake for its name that offers "acme-tls/1", and
 * nothing else, gets the certificate that RFC 8737 wants. Other handshakes go on as before.
 * @param store The store.
 * @param challenge The challenge; read during the call only.
 * @return ACME_OK; ACME_ERR_INVALID_ARGUMENT: it is not of tls-alpn-01; ACME_ERR_CRYPTO: OpenSSL
 *   refuses.
 */
ACME_MUST_CHECK acme_status_t acme_openssl_store_challenge_add(acme_openssl_store_t *store,
                                                               const acme_challenge_t *challenge);

/**
 * Answers a challenge no longer; one that is not there is fine.
 * @param store The store.
 * @param challenge The challenge; read during the call only.
 */
void acme_openssl_store_challenge_remove(acme_openssl_store_t *store,
                                         const acme_challenge_t *challenge);

/**
 * Has ctx, which need not have a certificate, use the store: sets its ClientHello callback and its
 * ALPN callback. Where the store has nothing for a client, the handshake goes on with what ctx has
 * itself, if it has a certificate.
 *
 * If you have such a callback of your own, set it after this call, and call the matching one of the
 * two below from it, with store as argument.
 * @param ctx What accepts connections; it keeps the store alive.
 * @param store The store.
 * @return ACME_OK, or ACME_ERR_CRYPTO.
 */
ACME_MUST_CHECK acme_status_t acme_openssl_attach(SSL_CTX *ctx, acme_openssl_store_t *store);

/**
 * Chooses the certificate, as SSL_CTX_set_client_hello_cb() wants it done.
 * @param ssl The connection.
 * @param alert Out: the alert to send, when the handshake ends here.
 * @param store The acme_openssl_store_t, as the callback's argument.
 * @return SSL_CLIENT_HELLO_SUCCESS or SSL_CLIENT_HELLO_ERROR.
 */
int acme_openssl_client_hello_cb(SSL *ssl, int *alert, void *store);

/**
 * Chooses "acme-tls/1" for a CA that asks about a challenge, as SSL_CTX_set_alpn_select_cb() wants it
 * done.
 * @param ssl The connection.
 * @param out Out: the protocol; static.
 * @param out_size Out: its bytes.
 * @param in What the client offers, in the form of the TLS extension.
 * @param in_size Bytes of it.
 * @param store The acme_openssl_store_t, as the callback's argument.
 * @return SSL_TLSEXT_ERR_OK: it is such a CA. SSL_TLSEXT_ERR_NOACK: it is not, and the choice of a
 *   protocol is yours.
 */
int acme_openssl_alpn_cb(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                         const unsigned char *in, unsigned int in_size, void *store);

/**
 * Whether the connection, whose handshake is complete, is a CA's that asked about a challenge: it
 * closes it, and no other protocol is to be spoken on it (RFC 8737 section 4).
 * @param ssl The connection.
 * @return 1 or 0.
 */
int acme_openssl_is_challenge(const SSL *ssl);

#ifdef __cplusplus
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

/* What a handshake shows. */
struct acme_openssl_identity {
    int references; /* of names and challenges; changed under the store's lock only */
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
    CRYPTO_RWLOCK *lock; /* writers only exchange pointers; all else is made before */
    int references;
    struct acme_openssl_name *names; /* sorted */
    size_t name_count, name_room;
    char *fallback; /* the name for clients that ask for none that is here */
    struct acme_openssl_challenge *challenges; /* the latest first */
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

/* The index-th certificate of a chain; NULL past the end, or when OpenSSL does not take it. */
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

/* With one reference, which is the caller's. */
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

/* In lower case, as far as ASCII goes: DNS names are A-labels here. */
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

/* Where name is, or has to go. */
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

/* For a client that asks for name, which is in lower case and may be empty. */
static struct acme_openssl_identity *acme_openssl_choose(const acme_openssl_store_t *store,
                                                         const char *name)
{
    struct acme_openssl_identity *identity = acme_openssl_find(store, name);
    const char *dot = strchr(name, '.');
    char wildcard[260] = "*";

    /* A wildcard stands for one label, the first (RFC 6125 section 6.4.3). */
    if (!identity && dot && strlen(dot) < sizeof wildcard - 1) {
        strcpy(wildcard + 1, dot);
        identity = acme_openssl_find(store, wildcard);
    }
    if (!identity && store->fallback)
        identity = acme_openssl_find(store, store->fallback);
    return identity;
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

/* Room for count names more. */
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

/* Puts identity in its place under name, which becomes the store's own, or is freed. */
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

    /* What can fail is done before anything is changed. */
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
        /* Two orders may have a challenge each for the same name. */
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

/* The name that a ClientHello asks for (RFC 6066 section 3), in lower case; empty for none. */
static void acme_openssl_asked_name(SSL *ssl, char name[256])
{
    const unsigned char *data;
    size_t size, length;

    name[0] = 0;
    /* Length of the list; then, as there is one name only, its type, length and text. */
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

/* Whether a list of protocols (RFC 7301 section 3.1) is that of a CA: this one and no other. */
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
    if (!CRYPTO_THREAD_read_lock(store->lock)) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation,
                                  &protocols, &size) &&
        size > 2 && acme_openssl_is_ours(protocols + 2, size - 2))
        challenge = acme_openssl_find_challenge(store, name);
    identity = challenge ? challenge->identity : acme_openssl_choose(store, name);
    if (identity) {
        /* Also what ssl has from its SSL_CTX, whose key may be of another type. */
        SSL_certs_clear(ssl);
        /* Takes references: from here on it is the connection's. */
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

/* --- contexts --------------------------------------------------------------------------------- */

static CRYPTO_ONCE acme_openssl_once = CRYPTO_ONCE_STATIC_INIT;
static int acme_openssl_index = -1;

/* An SSL_CTX that goes lets go of its store. */
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
