/*
 * issue.c - obtains one certificate or many with as little code as possible; the script run measures the cost.
 *
 *   issue DIRECTORY CA_FILE ACCOUNT issue NAME...
 *   issue DIRECTORY CA_FILE ACCOUNT many COUNT in-a-row|at-once PREFIX
 *
 * ACCOUNT is "-" for a new account that is not stored, or a file with the account URL in its first line and the
 * key after it; a missing file is made. Each certificate gets a new P-256 key. "many" obtains certificates for
 * PREFIX0.test, PREFIX1.test, ...: in-a-row with acme_obtain(), at-once with a driver that gets all operations.
 * The program publishes no challenge, so the CA has to accept every challenge (PEBBLE_VA_ALWAYS_VALID=1).
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acme_micro.h"

static int issued;

static int refused(const char *what, const acme_error_t *error)
{
    fprintf(stderr, "issue: %s: %s\n", what, error ? acme_error_message(error) : "?");
    return 1;
}

static int nothing(const acme_challenge_t *challenge, void *user)
{
    (void)challenge;
    (void)user;
    return 0;
}

/* Reads the key from the file, and its first line into url. Without a file: a new key, and no URL. */
static acme_key_t *account_key(const char *path, char *url, int url_size)
{
    char pem[4096];
    size_t size;
    acme_key_t *key = NULL;
    FILE *file = strcmp(path, "-") == 0 ? NULL : fopen(path, "r");
    acme_status_t status;

    *url = 0;
    if (!file) {
        status = acme_key_generate(ACME_KEY_P256, &key);
    } else {
        if (!fgets(url, url_size, file))
            *url = 0;
        url[strcspn(url, "\n")] = 0;
        size = fread(pem, 1, sizeof pem, file);
        fclose(file);
        status = acme_key_parse(pem, size, &key);
    }
    return status == ACME_OK ? key : NULL;
}

static int store(const char *path, const char *url, const char *pem)
{
    FILE *file = fopen(path, "w");

    if (!file)
        return -1;
    fprintf(file, "%s\n%s", url, pem);
    return fclose(file);
}

static void believed(acme_op_t *op, void *user)
{
    (void)user;
    if (acme_op_published(op, NULL) != ACME_OK)
        refused("publishing", acme_last_error());
}

static void unpublished(acme_op_t *op, void *user)
{
    (void)op;
    (void)user;
}

static void done(acme_op_t *op, acme_status_t status, void *user)
{
    acme_cert_t *cert = acme_op_take_cert(op);

    (void)user;
    if (status != ACME_OK || !cert)
        refused("an order", acme_op_error(op));
    else
        issued++;
    acme_cert_free(cert);
    acme_op_free(op);
}

static int obtain(const acme_client_t *client, const acme_order_options_t *order)
{
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
    acme_cert_t *cert = NULL;

    run.publish = nothing;
    if (acme_obtain(client, order, &run, &cert) != ACME_OK)
        return refused("an order", acme_last_error());
    acme_cert_free(cert);
    issued++;
    return 0;
}

static int add(acme_driver_t *driver, const acme_client_t *client, const acme_order_options_t *order)
{
    acme_driver_callbacks_t callbacks = ACME_DRIVER_CALLBACKS_INIT;
    acme_op_t *op = NULL;

    callbacks.done = done;
    callbacks.publish = believed;
    callbacks.unpublish = unpublished;
    if (acme_begin_order(client, order, &op) != ACME_OK ||
        acme_driver_add(driver, op, &callbacks) != ACME_OK)
        return refused("beginning", acme_last_error());
    return 0;
}

static int many(const acme_client_t *client, int count, int at_once, const char *prefix)
{
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_driver_t *driver = NULL;
    struct pollfd readable;
    char name[256];
    const char *names[] = { name };
    int i, result = 0;

    if (at_once && acme_driver_new(NULL, &driver) != ACME_OK)
        return refused("a driver", acme_last_error());
    order.names = names;
    order.name_count = 1;
    for (i = 0; i < count && result == 0; i++) {
        snprintf(name, sizeof name, "%s%d.test", prefix, i);
        result = at_once ? add(driver, client, &order) : obtain(client, &order);
    }
    while (result == 0 && acme_driver_count(driver) > 0) {
        readable.fd = acme_driver_fd(driver);
        readable.events = POLLIN;
        if (poll(&readable, 1, -1) < 0 || acme_driver_dispatch(driver) != ACME_OK)
            result = refused("dispatching", acme_last_error());
    }
    acme_driver_free(driver);
    return result == 0 && issued == count ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *contacts[] = { "mailto:bench@example.org" };
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_key_t *key;
    char url[1024];
    int result;

    if (argc < 6 || (strcmp(argv[4], "many") == 0 && argc != 8)) {
        fputs("usage: issue DIRECTORY CA_FILE ACCOUNT issue NAME...\n"
              "       issue DIRECTORY CA_FILE ACCOUNT many COUNT in-a-row|at-once PREFIX\n", stderr);
        return 2;
    }
    key = account_key(argv[3], url, sizeof url);
    if (!key)
        return refused(argv[3], acme_last_error());

    options.directory_url = argv[1];
    options.ca_file = argv[2];
    options.account_key = key;
    options.account_url = *url ? url : NULL;
    options.contacts = contacts;
    options.contact_count = 1;
    options.terms_agreed = 1;
    if (acme_client_new(&options, &client) != ACME_OK) {
        result = refused(argv[1], acme_last_error());
    } else if (strcmp(argv[4], "many") == 0) {
        result = many(client, atoi(argv[5]), strcmp(argv[6], "at-once") == 0, argv[7]);
    } else {
        order.names = (const char *const *)(argv + 5);
        order.name_count = (size_t)(argc - 5);
        result = obtain(client, &order);
        if (result == 0 && strcmp(argv[3], "-") != 0 && !*url &&
            store(argv[3], acme_client_account_url(client), acme_key_pem(key)) != 0) {
            perror(argv[3]);
            result = 1;
        }
    }
    acme_client_free(client);
    acme_key_free(key);
    return result;
}
