/*
 * in_flight.c - measures the memory and the CPU time of an operation in flight.
 *
 *   in_flight N [NAMES [fresh]]
 *
 * Begins N orders for NAMES names (default 1) each, on one client, and polls them all through their steps. The
 * CA is a few texts in this file; there is no network. After each round it prints one line:
 *
 *   STATE STEP HEAP RSS        bytes per operation: allocated, and growth of VmRSS
 *
 * The state is that of the first operation; a few others are behind it because they need a nonce first.
 *
 * At the end it prints the CPU time of a poll, over all polls, and the CPU time of each certificate (all polls,
 * beginning and freeing), both in microseconds. The CA's own work is not included:
 *
 *   poll COUNT MEDIAN P99.9 MAX
 *   each MICROSECONDS REQUESTS
 *
 * Each operation must take each step exactly once: newOrder, publish, unpublish, finalize, certificate; and for
 * each name authorization and challenge. Otherwise the exit status is 1.
 *
 * All operations share one certificate key; with "fresh", the library makes a key for each.
 */
#define _GNU_SOURCE

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "acme_micro.h"

#define CA "https://acme.ca.example"
#define NAME "www%zu.example.org"
/* The time at the start, in milliseconds; any time will do. */
#define START 1795530245000

static const char directory[] =
    "{\"newNonce\":\"" CA "/acme/new-nonce\",\"newAccount\":\"" CA "/acme/new-acct\","
    "\"newOrder\":\"" CA "/acme/new-order\",\"revokeCert\":\"" CA "/acme/revoke-cert\","
    "\"keyChange\":\"" CA "/acme/key-change\",\"meta\":{\"termsOfService\":\"" CA "/terms\"}}";

/* The order's text, with places for its status and for further members at the end. */
static char *order;
static const char certificate[] =
    ",\"certificate\":\"" CA "/acme/cert/0123456789abcdef0123456789abcdef0123\"";
static char *chain;

#define CHALLENGE(type, last) \
    "{\"type\":\"" type "\",\"status\":\"pending\",\"url\":\"" CA "/acme/chall/123456789/%zu/" last \
    "\",\"token\":\"0123456789abcdefghijklmnopqrstuvwxyzABCDEFG\"}"
static const char authorization[] =
    "{\"status\":\"pending\",\"expires\":\"2099-01-01T00:00:00Z\","
    "\"identifier\":{\"type\":\"dns\",\"value\":\"" NAME "\"},\"challenges\":["
    CHALLENGE("http-01", "h") "," CHALLENGE("dns-01", "d") "," CHALLENGE("tls-alpn-01", "t") "]}";

static void check(int ok, const char *what)
{
    const acme_error_t *error = acme_last_error();

    if (ok)
        return;
    fprintf(stderr, "in_flight: %s: %s\n", what, error ? acme_error_message(error) : "?");
    exit(1);
}

static void header(acme_op_t *op, uint64_t id, const char *name, const char *value)
{
    check(acme_op_response_header(op, id, name, strlen(name), value, strlen(value)) == ACME_OK, name);
}

/* The steps that each operation has taken, and must take once. */
enum { ORDERED, LOOKED, PUBLISHED, ANSWERED, TAKEN_DOWN, FINALIZED, ASKED, DEEDS };

/* Writes the order's text for this number of names. */
static void write_order(size_t names)
{
    size_t size = 512 + names * 160, length, i;

    order = malloc(size);
    check(order != NULL, "memory");
    length = (size_t)snprintf(order, size, "{\"status\":\"%%s\",\"expires\":"
                              "\"2099-01-01T00:00:00Z\",\"identifiers\":[");
    for (i = 0; i < names; i++)
        length += (size_t)snprintf(order + length, size - length,
                                   "%s{\"type\":\"dns\",\"value\":\"" NAME "\"}", i ? "," : "", i);
    length += (size_t)snprintf(order + length, size - length, "],\"authorizations\":[");
    for (i = 0; i < names; i++)
        length += (size_t)snprintf(order + length, size - length,
                                   "%s\"" CA "/acme/authz/123456789/%zu\"", i ? "," : "", i);
    snprintf(order + length, size - length,
             "],\"finalize\":\"" CA "/acme/finalize/123456789/1234567890\"%%s}");
}

/* A certificate for key, signed with the issuer's, with one extension. */
static void certify(EVP_PKEY *key, EVP_PKEY *issuer, int extension, const char *value, BIO *out)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_NAME_new();
    X509_EXTENSION *made = X509V3_EXT_conf_nid(NULL, NULL, extension, value);
    time_t begun = START / 1000;

    check(cert && name && made, "a certificate");
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"in_flight", -1, -1, 0);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_time_adj(X509_getm_notBefore(cert), 0, &begun);
    X509_time_adj(X509_getm_notAfter(cert), 90 * 86400, &begun);
    /* Some root has signed the issuer's certificate; as in most chains, the root is not included. */
    if (key == issuer)
        X509_set_subject_name(cert, name);
    else
        X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    check(X509_add_ext(cert, made, -1) == 1 && X509_sign(cert, issuer, EVP_sha256()) > 0 &&
          PEM_write_bio_X509(out, cert) == 1, "a certificate");
    X509_EXTENSION_free(made);
    X509_NAME_free(name);
    X509_free(cert);
}

/* Writes the chain for all operations, which share a key: a certificate and its issuer's. */
static void write_chain(const acme_key_t *key, size_t names)
{
    size_t size = names * 40, length = 0, i;
    char *alternatives = malloc(size), *text;
    BIO *pem = BIO_new_mem_buf(acme_key_pem(key), -1), *out = BIO_new(BIO_s_mem());
    EVP_PKEY *parsed = PEM_read_bio_PrivateKey(pem, NULL, NULL, NULL), *issuer = EVP_EC_gen("P-256");

    check(alternatives && out && parsed && issuer, "a certificate");
    for (i = 0; i < names; i++)
        length += (size_t)snprintf(alternatives + length, size - length, "%sDNS:" NAME, i ? "," : "", i);
    certify(parsed, issuer, NID_subject_alt_name, alternatives, out);
    certify(issuer, issuer, NID_basic_constraints, "critical,CA:TRUE", out);
    check(BIO_write(out, "", 1) == 1 && BIO_get_mem_data(out, &text) > 0, "a chain");
    chain = strdup(text);
    check(chain != NULL, "memory");
    EVP_PKEY_free(issuer);
    EVP_PKEY_free(parsed);
    BIO_free(out);
    BIO_free(pem);
    free(alternatives);
}

static size_t requests;

/* The CA. It knows only the steps that the operation has taken. */
static void answer(acme_op_t *op, uint64_t id, const char *path)
{
    int *done = acme_op_user_data(op), *finalized = &done[FINALIZED];
    static unsigned long nonces;
    static char text[65536];
    const char *type = "application/json";
    char nonce[64];
    size_t name;
    int status = 200;

    requests++;
    *text = 0;
    if (strcmp(path, "/directory") == 0) {
        strcpy(text, directory);
    } else if (strcmp(path, "/acme/new-order") == 0) {
        done[ORDERED]++;
        header(op, id, "Location", CA "/acme/order/123456789/1234567890");
        snprintf(text, sizeof text, order, "pending", "");
        status = 201;
    } else if (sscanf(path, "/acme/authz/123456789/%zu", &name) == 1) {
        done[LOOKED]++;
        snprintf(text, sizeof text, authorization, name, name, name, name);
    } else if (strncmp(path, "/acme/order/", 12) == 0) {
        snprintf(text, sizeof text, order, *finalized ? "valid" : "ready",
                 *finalized ? certificate : "");
    } else if (strncmp(path, "/acme/finalize/", 15) == 0) {
        snprintf(text, sizeof text, order, "processing", "");
        ++*finalized;
    } else if (strncmp(path, "/acme/chall/", 12) == 0) {
        done[ANSWERED]++;
        strcpy(text, "{}");
    } else if (strncmp(path, "/acme/cert/", 11) == 0) {
        done[ASKED]++;
        strcpy(text, chain);
        type = "application/pem-certificate-chain";
    } else {
        status = 204; /* newNonce */
    }
    snprintf(nonce, sizeof nonce, "nonce-of-a-usual-length-%020lu", nonces++);
    header(op, id, "Replay-Nonce", nonce);
    header(op, id, "Content-Type", type);
    header(op, id, "Cache-Control", "public, max-age=0, no-cache");
    check(acme_op_response_body(op, id, text, strlen(text)) == ACME_OK, "a response");
    check(acme_op_response_end(op, id, status) == ACME_OK, "the end of a response");
}

static double microseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int by_size(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;

    return (a > b) - (a < b);
}

static size_t heap(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static size_t rss(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (!file || fscanf(file, "%*s %lu", &pages) != 1)
        check(0, "/proc/self/statm");
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Makes the client, and runs a first operation so that OpenSSL's permanent allocations are not counted. */
static acme_client_t *new_client(const acme_key_t *key)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;

    options.directory_url = CA "/directory";
    options.account_key = key;
    options.account_url = CA "/acme/acct/123456789";
    check(acme_client_new(&options, &client) == ACME_OK, "the client");
    return client;
}

static const char *const steps[] = { "done", "request", "wait", "publish", "unpublish" };

static char **write_names(size_t count)
{
    char **names = calloc(count, sizeof *names);
    size_t i;

    check(names != NULL, "memory");
    for (i = 0; i < count; i++) {
        names[i] = malloc(40);
        check(names[i] != NULL, "memory");
        snprintf(names[i], 40, NAME, i);
    }
    return names;
}

int main(int argc, char **argv)
{
    acme_order_options_t options = ACME_ORDER_OPTIONS_INIT;
    acme_key_t *account_key = NULL, *key = NULL;
    acme_client_t *client;
    acme_op_t **ops;
    size_t count, names, i, heap_before, rss_before;
    acme_time_t now = START;
    int *said, (*done)[DEEDS], fresh;
    double *polls, engine = 0, before;
    size_t at_end = 0, polled = 0, most;

    count = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    names = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    fresh = argc > 3;
    if (count == 0 || names == 0) {
        fputs("usage: in_flight N [NAMES [fresh]]\n", stderr);
        return 2;
    }
    check(acme_key_generate(ACME_KEY_P256, &account_key) == ACME_OK &&
          acme_key_generate(ACME_KEY_P256, &key) == ACME_OK, "keys");
    ops = calloc(count, sizeof *ops);
    most = count * (60 + 8 * names);
    said = malloc(count * sizeof *said);
    done = malloc(count * sizeof *done);
    polls = malloc(most * sizeof *polls);
    check(ops && said && done && polls, "memory");
    /* Touch the pages before counting starts. */
    memset(said, 0, count * sizeof *said);
    memset(done, 0, count * sizeof *done);
    memset(polls, 1, most * sizeof *polls);
    write_order(names);
    write_chain(key, names);
    options.names = (const char *const *)write_names(names);
    options.name_count = names;
    options.key = fresh ? NULL : key;
    client = new_client(account_key);

    heap_before = heap();
    rss_before = rss();
    before = microseconds();
    for (i = 0; i < count; i++) {
        check(acme_begin_order(client, &options, &ops[i]) == ACME_OK, "beginning");
        acme_op_set_user_data(ops[i], done[i]);
    }
    engine += microseconds() - before;
    while (at_end < count) {
        int waiting = 1;

        for (i = at_end = 0; i < count; i++) {
            /* With fresh keys no certificate can match; all other steps have been taken. */
            if (fresh && said[i] == ACME_STEP_REQUEST &&
                strncmp(acme_op_request(ops[i])->path, "/acme/cert/", 11) == 0) {
                done[i][ASKED] = 1;
                said[i] = ACME_STEP_DONE;
            }
            if (done[i][ASKED] && said[i] == ACME_STEP_DONE) {
                at_end++;
                continue;
            }
            if (said[i] == ACME_STEP_REQUEST) {
                const acme_http_request_t *request = acme_op_request(ops[i]);

                answer(ops[i], request->id, request->path);
            } else if (said[i] == ACME_STEP_PUBLISH) {
                done[i][PUBLISHED]++;
                check(acme_op_published(ops[i], NULL) == ACME_OK, "publishing");
            } else if (said[i] == ACME_STEP_UNPUBLISH) {
                done[i][TAKEN_DOWN]++;
            }
            before = microseconds();
            said[i] = acme_op_poll(ops[i], now);
            check(polled < most, "an end");
            polls[polled] = microseconds() - before;
            engine += polls[polled++];
            check(said[i] >= ACME_STEP_DONE, "a step");
            waiting &= said[i] == ACME_STEP_WAIT || said[i] == ACME_STEP_DONE;
        }
        printf("%s %s %.0f %.0f\n", acme_op_state(ops[0]), steps[said[0]],
               (double)(heap() - heap_before) / (double)count,
               (double)(rss() - rss_before) / (double)count);
        if (waiting)
            now += 5000; /* longer than any wait here */
    }
    for (i = 0; i < count * DEEDS; i++) {
        size_t deed = i % DEEDS;
        int expected = deed == LOOKED || deed == ANSWERED ? (int)names : 1;

        if (done[i / DEEDS][deed] != expected) {
            fprintf(stderr, "in_flight: operation %zu did step %zu %d times\n", i / DEEDS, deed,
                    done[i / DEEDS][deed]);
            return 1;
        }
    }
    qsort(polls, polled, sizeof *polls, by_size);
    printf("poll %zu %.1f %.1f %.1f\n", polled, polls[polled / 2], polls[polled * 999 / 1000],
           polls[polled - 1]);
    before = microseconds();
    for (i = 0; i < count; i++) {
        acme_cert_t *cert = fresh ? NULL : acme_op_take_cert(ops[i]);

        check(fresh || cert != NULL, "a certificate");
        acme_cert_free(cert);
        acme_op_free(ops[i]);
    }
    engine += microseconds() - before;
    printf("each %.1f %.1f\n", engine / (double)count, (double)requests / (double)count);
    acme_client_free(client);
    acme_key_free(key);
    acme_key_free(account_key);
    for (i = 0; i < names; i++)
        free((void *)options.names[i]);
    free((void *)options.names);
    free(polls);
    free(done);
    free(said);
    free(ops);
    free(order);
    free(chain);
    return 0;
}
