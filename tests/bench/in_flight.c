/*
 * in_flight.c - what memory an operation in flight takes.
 *
 *   in_flight N [fresh]
 *
 * Begins N orders for one name each, on one client, and takes them all from step to step against a
 * CA that is a few texts in this file; there is no network. After each round one line:
 *
 *   STATE STEP HEAP RSS        bytes for each operation: allocated, and by the growth of VmRSS
 *
 * The state is that of the first: a few others lag behind it, for they need a nonce first.
 *
 * and at the end, of all polls, how long each held the thread, in microseconds:
 *
 *   poll COUNT MEDIAN P99.9 MAX
 *
 * No step may be lost and none be given twice: each operation is to order, look, publish, answer,
 * take down, finalize and ask for the certificate once, or this ends with 1.
 *
 * The certificate key is made before and shared, or, with "fresh", made by the library for each.
 */
#define _GNU_SOURCE

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "acme_micro.h"

#define CA "https://acme.ca.example"
#define NAME "www.example.org"

static const char directory[] =
    "{\"newNonce\":\"" CA "/acme/new-nonce\",\"newAccount\":\"" CA "/acme/new-acct\","
    "\"newOrder\":\"" CA "/acme/new-order\",\"revokeCert\":\"" CA "/acme/revoke-cert\","
    "\"keyChange\":\"" CA "/acme/key-change\",\"meta\":{\"termsOfService\":\"" CA "/terms\"}}";

/* With a status and, at the end, whatever else there is to say. */
static const char order[] =
    "{\"status\":\"%s\",\"expires\":\"2099-01-01T00:00:00Z\","
    "\"identifiers\":[{\"type\":\"dns\",\"value\":\"" NAME "\"}],"
    "\"authorizations\":[\"" CA "/acme/authz/123456789/1234567890\"],"
    "\"finalize\":\"" CA "/acme/finalize/123456789/1234567890\"%s}";
static const char certificate[] =
    ",\"certificate\":\"" CA "/acme/cert/0123456789abcdef0123456789abcdef0123\"";

#define CHALLENGE(type, last) \
    "{\"type\":\"" type "\",\"status\":\"pending\",\"url\":\"" CA "/acme/chall/123456789/1234567890/" \
    last "\",\"token\":\"0123456789abcdefghijklmnopqrstuvwxyzABCDEFG\"}"
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

/* What each operation has done, and is to do once. */
enum { ORDERED, LOOKED, PUBLISHED, ANSWERED, TAKEN_DOWN, FINALIZED, ASKED, DEEDS };

/* The CA. What it knows of an operation is what that has done. */
static void answer(acme_op_t *op, uint64_t id, const char *path)
{
    int *done = acme_op_user_data(op), *finalized = &done[FINALIZED];
    static unsigned long nonces;
    char nonce[64], text[2048] = "";
    int status = 200;

    snprintf(nonce, sizeof nonce, "nonce-of-a-usual-length-%020lu", nonces++);
    header(op, id, "Replay-Nonce", nonce);
    header(op, id, "Content-Type", "application/json");
    header(op, id, "Cache-Control", "public, max-age=0, no-cache");
    if (strcmp(path, "/directory") == 0) {
        strcpy(text, directory);
    } else if (strcmp(path, "/acme/new-order") == 0) {
        done[ORDERED]++;
        header(op, id, "Location", CA "/acme/order/123456789/1234567890");
        snprintf(text, sizeof text, order, "pending", "");
        status = 201;
    } else if (strncmp(path, "/acme/authz/", 12) == 0) {
        done[LOOKED]++;
        strcpy(text, authorization);
    } else if (strncmp(path, "/acme/order/", 12) == 0) {
        snprintf(text, sizeof text, order, *finalized ? "valid" : "ready",
                 *finalized ? certificate : "");
    } else if (strncmp(path, "/acme/finalize/", 15) == 0) {
        snprintf(text, sizeof text, order, "processing", "");
        ++*finalized;
    } else if (strncmp(path, "/acme/chall/", 12) == 0) {
        done[ANSWERED]++;
        strcpy(text, "{}");
    } else {
        status = 204; /* newNonce */
    }
    check(acme_op_response_body(op, id, text, strlen(text)) == ACME_OK, "an answer");
    check(acme_op_response_end(op, id, status) == ACME_OK, "the end of an answer");
}

static double microseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
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

/* The client and whatever a first operation makes OpenSSL keep for good. */
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

int main(int argc, char **argv)
{
    const char *names[] = { NAME };
    acme_order_options_t options = ACME_ORDER_OPTIONS_INIT;
    acme_key_t *account_key = NULL, *key = NULL;
    acme_client_t *client;
    acme_op_t **ops;
    size_t count, i, heap_before, rss_before;
    acme_time_t now = 1795530245000; /* any */
    int *said, (*done)[DEEDS];
    double *polls;
    size_t at_end = 0, polled = 0, most;

    count = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    if (count == 0) {
        fputs("usage: in_flight N [fresh]\n", stderr);
        return 2;
    }
    check(acme_key_generate(ACME_KEY_P256, &account_key) == ACME_OK &&
          acme_key_generate(ACME_KEY_P256, &key) == ACME_OK, "keys");
    ops = calloc(count, sizeof *ops);
    most = count * 60;
    said = malloc(count * sizeof *said);
    done = malloc(count * sizeof *done);
    polls = malloc(most * sizeof *polls);
    check(ops && said && done && polls, "memory");
    /* The pages are there before the counting starts. */
    memset(said, 0, count * sizeof *said);
    memset(done, 0, count * sizeof *done);
    memset(polls, 1, most * sizeof *polls);
    options.names = names;
    options.name_count = 1;
    options.key = argc > 2 ? NULL : key;
    client = new_client(account_key);

    heap_before = heap();
    rss_before = rss();
    for (i = 0; i < count; i++) {
        check(acme_begin_order(client, &options, &ops[i]) == ACME_OK, "beginning");
        acme_op_set_user_data(ops[i], done[i]);
    }
    while (at_end < count) {
        at_end = 0;
        for (i = 0; i < count; i++) {
            double before;

            if (strcmp(acme_op_state(ops[i]), "certificate") == 0) {
                if (said[i] == ACME_STEP_REQUEST &&
                    strncmp(acme_op_request(ops[i])->path, "/acme/cert/", 11) == 0) {
                    done[i][ASKED]++;
                    said[i] = 0;
                }
                if (done[i][ASKED]) {
                    at_end++;
                    continue;
                }
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
            polls[polled++] = microseconds() - before;
            check(said[i] > 0, "a step");
        }
        printf("%s %s %.0f %.0f\n", acme_op_state(ops[0]), steps[said[0]],
               (double)(heap() - heap_before) / (double)count,
               (double)(rss() - rss_before) / (double)count);
        now += 5000; /* longer than any wait here */
    }
    for (i = 0; i < count * DEEDS; i++)
        if (done[i / DEEDS][i % DEEDS] != 1) {
            fprintf(stderr, "in_flight: operation %zu did step %zu %d times\n", i / DEEDS,
                    i % DEEDS, done[i / DEEDS][i % DEEDS]);
            return 1;
        }
    qsort(polls, polled, sizeof *polls, by_size);
    printf("poll %zu %.1f %.1f %.1f\n", polled, polls[polled / 2], polls[polled * 999 / 1000],
           polls[polled - 1]);
    for (i = 0; i < count; i++)
        acme_op_free(ops[i]);
    acme_client_free(client);
    acme_key_free(key);
    acme_key_free(account_key);
    free(polls);
    free(done);
    free(said);
    free(ops);
    return 0;
}
