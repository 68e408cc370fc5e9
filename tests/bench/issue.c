/*
 * issue.c - one issuance, as short as the library makes it; what it costs is for run to measure.
 *
 *   issue DIRECTORY CA_FILE ACCOUNT NAME...
 *
 * ACCOUNT is "-" for a new account that is forgotten, or a file with the account's URL in its first
 * line and its key after it; a file that is not there is made. The certificate's key is a fresh
 * P-256 key. The CA has to believe every challenge without looking (PEBBLE_VA_ALWAYS_VALID=1), for
 * none is published.
 */
#include <stdio.h>
#include <string.h>

#include "acme_micro.h"

static int refused(const char *what)
{
    fprintf(stderr, "issue: %s: %s\n", what, acme_error_message(acme_last_error()));
    return 1;
}

static int nothing(const acme_challenge_t *challenge, void *user)
{
    (void)challenge;
    (void)user;
    return 0;
}

/* The key in the file, whose first line goes to url; without a file a new key, and no URL. */
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

int main(int argc, char **argv)
{
    const char *contacts[] = { "mailto:bench@example.org" };
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_cert_t *cert = NULL;
    acme_key_t *key;
    char url[1024];
    int result = 0;

    if (argc < 5) {
        fputs("usage: issue DIRECTORY CA_FILE ACCOUNT NAME...\n", stderr);
        return 2;
    }
    key = account_key(argv[3], url, sizeof url);
    if (!key)
        return refused(argv[3]);

    options.directory_url = argv[1];
    options.ca_file = argv[2];
    options.account_key = key;
    options.account_url = *url ? url : NULL;
    options.contacts = contacts;
    options.contact_count = 1;
    options.terms_agreed = 1;
    order.names = (const char *const *)(argv + 4);
    order.name_count = (size_t)(argc - 4);
    run.publish = nothing;

    if (acme_client_new(&options, &client) != ACME_OK ||
        acme_obtain(client, &order, &run, &cert) != ACME_OK) {
        result = refused(argv[1]);
    } else if (strcmp(argv[3], "-") != 0 && !*url &&
               store(argv[3], acme_client_account_url(client), acme_key_pem(key)) != 0) {
        perror(argv[3]);
        result = 1;
    }
    acme_cert_free(cert);
    acme_client_free(client);
    acme_key_free(key);
    return result;
}
