/*
 * secrets.c - a host for test_secrets.py, which looks into its memory. Reads an account key, a
 * certificate key and the HMAC key of an external account (each ends with a NUL) from standard input,
 * and wipes its own copy of each as soon as the library has it.
 *
 * $SECURE_HEAP: with OpenSSL's secure heap.
 *
 *   secrets obtain   obtains a certificate with them, beside Pebble; prints "live" and waits for a line,
 *                    frees everything, prints "freed" and waits for another
 *   secrets trust    registers an account at $ACME_DIRECTORY, with the roots that OpenSSL finds by itself;
 *                    prints the status
 *   secrets keys     makes two keys of each kind, and signs with them; prints their thumbprints, or the error
 */
#include "check.h"
#include "pebble.h"

#include <openssl/crypto.h>

static char secret[4096];

static const char *read_secret(void)
{
    size_t size = 0;

    while (read(0, secret + size, 1) == 1 && secret[size] && size < sizeof secret - 1)
        size++;
    secret[size] = 0;
    return secret;
}

static void wipe(void)
{
    volatile char *byte = secret;
    size_t i;

    for (i = 0; i < sizeof secret; i++)
        byte[i] = 0;
}

static acme_key_t *read_key(void)
{
    acme_key_t *key = NULL;
    const char *pem = read_secret();

    OK(acme_key_parse(pem, strlen(pem), &key));
    wipe();
    return key;
}

/* Prints a line and waits for one. Without stdio, which would keep both in its buffers. */
static void say(const char *what)
{
    char line;

    if (write(1, what, strlen(what)) < 0)
        exit(1);
    while (read(0, &line, 1) == 1 && line != '\n')
        ;
}

static void obtain(int show)
{
    static const char *const names[] = { "secrets.test", "www.secrets.test" };
    acme_key_t *account_key = read_key(), *cert_key = read_key();
    acme_client_options_t options = pebble_options(account_key);
    acme_order_options_t order = order_for(names, 2);
    acme_run_options_t run = http_run();
    acme_client_t *client = NULL;
    acme_cert_t *cert = NULL;

    options.eab_key_id = env("EAB_KEY_ID");
    options.eab_hmac_key = read_secret();
    OK(acme_client_new(&options, &client));
    wipe();
    order.key = cert_key;
    http_start();
    OK(acme_obtain(client, &order, &run, &cert));
    http_stop();
    if (show) {
        CHECK(strstr(acme_key_pem(account_key), "PRIVATE KEY") != NULL);
        CHECK(strstr(acme_key_pem(acme_cert_key(cert)), "PRIVATE KEY") != NULL);
    }
    say(failed ? "failed\n" : "live\n");
    acme_cert_free(cert);
    acme_client_free(client);
    acme_key_free(cert_key);
    acme_key_free(account_key);
    say("freed\n");
}

static void trust(void)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_key_t *key = new_key();
    acme_op_t *op = NULL;
    int status;

    options.directory_url = getenv("ACME_DIRECTORY");
    options.account_key = key;
    options.terms_agreed = 1;
    options.request_timeout_s = 10;
    OK(acme_client_new(&options, &client));
    OK(acme_begin_register(client, &op));
    status = acme_op_run(op, NULL);
    printf("%d %s\n", status, acme_last_error() ? acme_error_message(acme_last_error()) : "");
    acme_op_free(op);
    acme_client_free(client);
    acme_key_free(key);
}

static void keys(void)
{
    static const int types[] = { ACME_KEY_P256, ACME_KEY_P384, ACME_KEY_ED25519, ACME_KEY_RSA2048 };
    static const char *const names[] = { "secrets.test" };
    size_t i;

    for (i = 0; i < 2 * sizeof types / sizeof *types; i++) {
        acme_key_t *key = NULL;
        acme_csr_t *csr = NULL;
        size_t size, j;
        const uint8_t *der;

        if (acme_key_generate(types[i / 2], &key) != ACME_OK ||
            acme_csr_create(key, names, 1, &csr) != ACME_OK) {
            printf("refused %d %s\n", acme_error_status(acme_last_error()),
                   acme_error_message(acme_last_error()));
        } else {
            der = acme_csr_der(csr, &size);
            printf("key %s ", acme_key_thumbprint(key));
            for (j = size - 32; j < size; j++)
                printf("%02x", der[j]);
            putchar('\n');
        }
        acme_csr_free(csr);
        acme_key_free(key);
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (getenv("SECURE_HEAP"))
        CHECK(CRYPTO_secure_malloc_init(1 << 16, 16) == 1);
    if (strncmp(what, "obtain", 6) == 0)
        obtain(strcmp(what, "obtain-and-show") == 0);
    else if (strcmp(what, "trust") == 0)
        trust();
    else
        keys();
    return failed != 0;
}
