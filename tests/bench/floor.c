/*
 * floor.c - the lower bound for every ACME client that uses OpenSSL: the cryptography and the traffic of
 * some certificates, with OpenSSL alone. No ACME, no JSON, no HTTP library.
 *
 *   floor ADDRESS PORT PATH CA_FILE CERTIFICATES NAMES ACCOUNT
 *
 * Work for each certificate: a P-256 key; signatures of the CSR and of each request (newOrder, an
 * authorization and a challenge for each name, order, finalize, order, certificate); parsing two
 * certificates. Work done once: a verified TLS handshake, directory and nonce. ACCOUNT is a file with the
 * account key in PEM, or "-", which makes a new key and adds newAccount. All requests are a GET of PATH
 * on the same connection.
 */
#define _DEFAULT_SOURCE

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

static int failed(const char *what)
{
    fprintf(stderr, "floor: %s\n", what);
    ERR_print_errors_fp(stderr);
    return 1;
}

static int sign(EVP_PKEY *key)
{
    /* About the length of a JWS for Pebble. */
    unsigned char input[600] = "", signature[128];
    size_t size = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int ok = context && EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
             EVP_DigestSign(context, signature, &size, input, sizeof input) == 1;

    EVP_MD_CTX_free(context);
    return ok ? 0 : failed("signing");
}

/* Reads one response with a Content-Length. */
static int answer(BIO *bio)
{
    char text[16384];
    size_t size = 0;

    for (;;) {
        int got = BIO_read(bio, text + size, (int)(sizeof text - 1 - size));
        const char *length, *body;

        if (got <= 0)
            return failed("reading");
        size += (size_t)got;
        text[size] = 0;
        length = strstr(text, "Content-Length: ");
        body = strstr(text, "\r\n\r\n");
        if (body && !length)
            return failed("an answer without a length");
        if (body && strlen(body + 4) >= strtoul(length + 16, NULL, 10))
            return strncmp(text, "HTTP/1.1 200", 12) == 0 ? 0 : failed("an answer that is not 200");
    }
}

static int talk(SSL_CTX *context, char **argv, int requests)
{
    char request[512], place[128];
    BIO *bio = BIO_new_ssl_connect(context);
    SSL *ssl = NULL;
    int i, on = 1, result = 0;

    snprintf(place, sizeof place, "%s:%s", argv[1], argv[2]);
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: floor\r\n\r\n",
             argv[3], place);
    if (!bio)
        return failed("a connection");
    BIO_get_ssl(bio, &ssl);
    BIO_set_conn_hostname(bio, place);
    /* TCP_NODELAY: sends data at once, as all clients do. */
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), argv[1]) != 1 ||
        BIO_do_connect(bio) != 1 || BIO_do_handshake(bio) != 1 ||
        setsockopt((int)BIO_get_fd(bio, NULL), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        result = failed("connecting");
    for (i = 0; i < requests && result == 0; i++) {
        if (BIO_write(bio, request, (int)strlen(request)) <= 0)
            result = failed("writing");
        else
            result = answer(bio);
    }
    BIO_free_all(bio);
    return result;
}

/* The work for each certificate except the requests. The chain is the file's certificate, twice. */
static int certify(EVP_PKEY *account, const char *chain, int names)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    int i, result = key ? sign(key) : failed("making a key");

    for (i = 0; i < 5 + 2 * names && result == 0; i++)
        result = sign(account);
    for (i = 0; i < 2 && result == 0; i++) {
        BIO *file = BIO_new_file(chain, "r");
        X509 *certificate = file ? PEM_read_bio_X509(file, NULL, NULL, NULL) : NULL;

        if (!certificate)
            result = failed(chain);
        X509_free(certificate);
        BIO_free(file);
    }
    EVP_PKEY_free(key);
    return result;
}

static EVP_PKEY *account_key(const char *path)
{
    BIO *file = BIO_new_file(path, "r");
    EVP_PKEY *key = file ? PEM_read_bio_PrivateKey(file, NULL, NULL, NULL) : NULL;

    BIO_free(file);
    return key;
}

int main(int argc, char **argv)
{
    EVP_PKEY *account;
    SSL_CTX *context;
    int i, certificates, names, new, result = 0;

    if (argc != 8) {
        fputs("usage: floor ADDRESS PORT PATH CA_FILE CERTIFICATES NAMES ACCOUNT\n", stderr);
        return 2;
    }
    certificates = atoi(argv[5]);
    names = atoi(argv[6]);
    new = strcmp(argv[7], "-") == 0;
    context = SSL_CTX_new(TLS_client_method());
    if (!context || SSL_CTX_load_verify_locations(context, argv[4], NULL) != 1)
        return failed(argv[4]);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    account = new ? EVP_EC_gen("P-256") : account_key(argv[7]);
    if (!account)
        return failed(argv[7]);
    if (new)
        result = sign(account);
    for (i = 0; i < certificates && result == 0; i++)
        result = certify(account, argv[4], names);
    if (result == 0)
        result = talk(context, argv, 2 + new + certificates * (5 + 2 * names));
    EVP_PKEY_free(account);
    SSL_CTX_free(context);
    return result;
}
