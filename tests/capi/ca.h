/* A CA without a network: a few texts, and certificates that it signs with a key of its own. */
#ifndef CA_H
#define CA_H

#include "pebble.h"

#include <openssl/x509v3.h>

#define CA_URL "https://ca.example"

/* State of one operation at the CA: its user data. */
struct account {
    int finalized, answered;
    X509_REQ *request;
    int number;         /* number of requests so far */
    int fails_at;       /* number of the request to which fail() responds; 0: none */
    int (*fail)(acme_op_t *op, uint64_t id);
};

static EVP_PKEY *ca_key;

static inline size_t base64url(const char *text, size_t size, unsigned char *out)
{
    char *padded = calloc(1, size + 4);
    int decoded;
    size_t i;

    memcpy(padded, text, size);
    for (i = 0; i < size; i++)
        padded[i] = padded[i] == '-' ? '+' : padded[i] == '_' ? '/' : padded[i];
    while (i % 4)
        padded[i++] = '=';
    decoded = EVP_DecodeBlock(out, (unsigned char *)padded, (int)i);
    free(padded);
    return decoded < 0 ? 0 : (size_t)decoded - (i - size);
}

/* Returns the text of a JSON member. */
static inline const char *member(const char *json, const char *name, size_t *size)
{
    char key[32];
    const char *start;

    sprintf(key, "\"%s\":\"", name);
    start = strstr(json, key);
    if (!start) {
        *size = 0;
        return "";
    }
    start += strlen(key);
    *size = strcspn(start, "\"");
    return start;
}

static inline X509_REQ *request_of(const acme_http_request_t *request)
{
    unsigned char *payload = calloc(1, request->body_size + 4), *der;
    char *body = calloc(1, request->body_size + 1);
    const unsigned char *at;
    size_t size;
    const char *text;
    X509_REQ *csr;

    memcpy(body, request->body, request->body_size);
    text = member(body, "payload", &size);
    payload[base64url(text, size, payload)] = 0;
    text = member((char *)payload, "csr", &size);
    at = der = calloc(1, size + 4);
    csr = d2i_X509_REQ(NULL, &at, (long)base64url(text, size, der));
    free(der);
    free(payload);
    free(body);
    return csr;
}

static inline char *issue(X509_REQ *request)
{
    static long serial;
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(request);
    X509 *cert = X509_new();
    EVP_PKEY *key = X509_REQ_get_pubkey(request);
    BIO *pem = BIO_new(BIO_s_mem());
    char *text, *copy;
    long size;
    int i;

    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 90 * 24 * 3600);
    X509_NAME_add_entry_by_txt(X509_get_issuer_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"A CA of tests", -1, -1, 0);
    X509_set_pubkey(cert, key);
    for (i = 0; i < sk_X509_EXTENSION_num(extensions); i++)
        X509_add_ext(cert, sk_X509_EXTENSION_value(extensions, i), -1);
    X509_sign(cert, ca_key, EVP_sha256());
    PEM_write_bio_X509(pem, cert);
    size = BIO_get_mem_data(pem, &text);
    copy = calloc(1, (size_t)size + 1);
    memcpy(copy, text, (size_t)size);
    BIO_free(pem);
    EVP_PKEY_free(key);
    X509_free(cert);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return copy;
}

#define CA_ORDER                                                               \
    "{\"status\":\"%s\",\"expires\":\"2099-01-01T00:00:00Z\",\"identifiers\":" \
    "[{\"type\":\"dns\",\"value\":\"www.example.org\"}],\"authorizations\":[\"" CA_URL \
    "/authz/1\"],\"finalize\":\"" CA_URL "/finalize/1\"%s}"

static inline void ca_answer(acme_op_t *op, const acme_http_request_t *request, struct account *known)
{
    const char *path = request->path;
    uint64_t id = request->id;
    char text[2048] = "", nonce[32];
    char *certificate = NULL;
    static unsigned long nonces;
    int status = 200;

    if (++known->number == known->fails_at && known->fail(op, id))
        return;
    sprintf(nonce, "nonce-%lu", __sync_add_and_fetch(&nonces, 1));
    header(op, id, "Replay-Nonce", nonce);
    if (strcmp(path, "/dir") == 0) {
        strcpy(text, DIRECTORY);
    } else if (strcmp(path, "/account") == 0) {
        header(op, id, "Location", CA_URL "/account/1");
        strcpy(text, "{\"status\":\"valid\"}");
    } else if (strcmp(path, "/order") == 0) {
        header(op, id, "Location", CA_URL "/order/1");
        sprintf(text, CA_ORDER, "pending", "");
        status = 201;
    } else if (strncmp(path, "/authz/", 7) == 0) {
        sprintf(text, "{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":"
                "\"www.example.org\"},\"challenges\":[{\"type\":\"http-01\",\"status\":\"pending\","
                "\"url\":\"" CA_URL "/challenge/1\",\"token\":"
                "\"0123456789abcdefghijklmnopqrstuvwxyzABCDEFG\"}]}");
    } else if (strncmp(path, "/challenge/", 11) == 0) {
        known->answered = 1;
        strcpy(text, "{}");
    } else if (strncmp(path, "/order/", 7) == 0) {
        sprintf(text, CA_ORDER, known->finalized ? "valid" : known->answered ? "ready" : "pending",
                known->finalized ? ",\"certificate\":\"" CA_URL "/cert/1\"" : "");
    } else if (strncmp(path, "/finalize/", 10) == 0) {
        X509_REQ_free(known->request);
        known->request = request_of(request);
        known->finalized = 1;
        sprintf(text, CA_ORDER, "processing", "");
    } else if (strncmp(path, "/cert/", 6) == 0) {
        header(op, id, "Content-Type", "application/pem-certificate-chain");
        certificate = issue(known->request);
    } else {
        status = 204; /* newNonce */
    }
    acme_op_response_body(op, id, certificate ? certificate : text,
                          strlen(certificate ? certificate : text));
    acme_op_response_end(op, id, status);
    free(certificate);
}

static inline acme_client_t *ca_client(acme_key_t *key)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;

    if (!ca_key)
        ca_key = EVP_EC_gen("P-256");
    options.directory_url = CA_URL "/dir";
    options.account_key = key;
    options.terms_agreed = 1;
    OK(acme_client_new(&options, &client));
    return client;
}

static inline acme_op_t *ca_order(acme_client_t *client)
{
    static const char *const names[] = { "www.example.org" };
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_op_t *op = NULL;

    order.names = names;
    order.name_count = 1;
    OK(acme_begin_order(client, &order, &op));
    return op;
}

/* Runs op until a step that is neither a request nor a wait. A wait only advances now. */
static inline int ca_steps(acme_op_t *op, struct account *known, acme_time_t *now)
{
    int step;

    while ((step = acme_op_poll(op, *now)) == ACME_STEP_REQUEST || step == ACME_STEP_WAIT)
        if (step == ACME_STEP_REQUEST)
            ca_answer(op, acme_op_request(op), known);
        else
            *now += acme_op_wait_ms(op) + 1;
    return step;
}

/* Runs op to its end. Returns 0 or the error. */
static inline int ca_run(acme_op_t *op, struct account *known)
{
    acme_time_t now = time(NULL) * (acme_time_t)1000;
    int step;

    while ((step = ca_steps(op, known, &now)) > 0)
        if (step == ACME_STEP_PUBLISH)
            OK(acme_op_published(op, NULL));
    X509_REQ_free(known->request);
    known->request = NULL;
    return step;
}

#endif
