/*
 * obtain.c - obtains a certificate from an ACME CA by http-01 and stores it.
 *
 *   obtain --directory URL [--ca-file FILE] [--contact mailto:ADDRESS]... [--agree-terms]
 *          [--webroot DIR | --port N] --out DIR NAME...
 *
 *   --directory    the CA, such as https://acme-staging-v02.api.letsencrypt.org/directory
 *   --ca-file      PEM file: who vouches for the CA's own HTTPS, instead of the system's roots
 *   --contact      where the CA may reach you
 *   --agree-terms  you have read the CA's terms of service and agree
 *   --webroot      a web server serves DIR on port 80 of every NAME
 *   --port         no web server does: answer the CA on this port meanwhile (default 80)
 *   --out          one directory for one CA; what is found there is used again:
 *
 *       account.pem     account key: whoever has it is the account
 *       account.url     what the CA calls the account
 *       NAME.key.pem    key of the certificate; NAME is the first one given
 *       NAME.chain.pem  the certificate and its issuers, in the order servers want
 *
 * Keys are on disk before the CA hears of them, so no failure loses one. Run it again to renew.
 *
 * Exit status: 0 obtained; 1 a file, a port or memory failed; 2 wrong usage; 3 refused, and will be
 * until something changes; 4 failed, and a later try may succeed.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "acme_micro.h"
#include "files.h"
#include "responder.h"

enum { OBTAINED = 0, LOCAL_FAILURE = 1, WRONG_USAGE = 2, REFUSED = 3, TRY_LATER = 4 };

/* --- saying what went wrong ------------------------------------------------------------------- */

static int failed(const char *what)
{
    fprintf(stderr, "obtain: %s: %s\n", what, strerror(errno));
    return LOCAL_FAILURE;
}

static const char *utc(acme_time_t moment, char text[32])
{
    time_t seconds = (time_t)(moment / 1000);
    struct tm parts;

    if (!gmtime_r(&seconds, &parts) || !strftime(text, 32, "%Y-%m-%d %H:%M:%S UTC", &parts))
        strcpy(text, "?");
    return text;
}

/* The library's last error on this thread, in one line; returns the exit status. */
static int refused(const char *what)
{
    const acme_error_t *error = acme_last_error();
    acme_time_t retry_at = acme_error_retry_at(error);
    char text[32];

    fprintf(stderr, "obtain: %s: %s", what, acme_error_message(error));
    if (acme_error_problem_type(error))
        fprintf(stderr, " [%s]", acme_error_problem_type(error));
    if (acme_error_help_url(error))
        fprintf(stderr, " [see %s]", acme_error_help_url(error));
    if (retry_at)
        fprintf(stderr, " [try again after %s]", utc(retry_at, text));
    fputc('\n', stderr);
    return acme_error_is_permanent(error) ? REFUSED : TRY_LATER;
}

/* --- http-01 by the files of a web server ----------------------------------------------------- */

/* No symbolic links: who may write to the webroot must not lead us out of it. */
static int enter(int dir, const char *name)
{
    mkdirat(dir, name, 0755); /* openat() tells whether that worked */
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int webroot_change(const acme_challenge_t *challenge, int webroot, const char *text)
{
    const char *token = challenge->http_path + strlen(CHALLENGES); /* checked by the library */
    int well_known = enter(webroot, ".well-known");
    int dir = well_known < 0 ? -1 : enter(well_known, "acme-challenge");
    int result = -1;

    if (dir >= 0)
        result = text ? store(dir, token, 0644, text) : unlinkat(dir, token, 0);
    if (result != 0)
        failed(challenge->http_path);
    if (dir >= 0)
        close(dir);
    if (well_known >= 0)
        close(well_known);
    return result;
}

static int webroot_publish(const acme_challenge_t *challenge, void *user)
{
    return webroot_change(challenge, *(int *)user, challenge->key_authorization);
}

static int webroot_unpublish(const acme_challenge_t *challenge, void *user)
{
    return webroot_change(challenge, *(int *)user, NULL);
}

/* --- the program ------------------------------------------------------------------------------ */

static acme_client_options_t account = ACME_CLIENT_OPTIONS_INIT;
static acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
static acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
static struct responder responder = { .port = 80, .listener = -1 };
static const char *contacts[8], *webroot_path, *out_path;

/* Ctrl-C, and how services are stopped: the operation ends, and what it has published is taken down. */
static acme_op_t *volatile interruptible;

static void interrupt(int signal_number)
{
    (void)signal_number;
    if (interruptible)
        acme_op_cancel(interruptible);
}

static long to_port(const char *text)
{
    char *end;
    long port = strtol(text, &end, 10);

    return *text && !*end && port > 0 && port <= 65535 ? port : -1;
}

static int parse(int argc, char **argv)
{
    int i;

    account.contacts = contacts;
    for (i = 1; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        const char *option = argv[i] + 2;

        if (strcmp(option, "agree-terms") == 0)
            account.terms_agreed = 1;
        else if (++i == argc)
            return -1;
        else if (strcmp(option, "directory") == 0)
            account.directory_url = argv[i];
        else if (strcmp(option, "ca-file") == 0)
            account.ca_file = argv[i];
        else if (strcmp(option, "contact") == 0 && account.contact_count < 8)
            contacts[account.contact_count++] = argv[i];
        else if (strcmp(option, "webroot") == 0)
            webroot_path = argv[i];
        else if (strcmp(option, "port") == 0 && to_port(argv[i]) > 0)
            responder.port = (unsigned short)to_port(argv[i]);
        else if (strcmp(option, "out") == 0)
            out_path = argv[i];
        else
            return -1;
    }
    order.names = (const char *const *)(argv + i);
    order.name_count = (size_t)(argc - i);
    /* The first name becomes part of file names. */
    if (i == argc || *argv[i] == '.' || strchr(argv[i], '/') || strlen(argv[i]) > 253)
        return -1;
    return account.directory_url && out_path ? 0 : -1;
}

/* Runs the order to its end; a signal ends it early. */
static int run_order(acme_client_t *client, acme_cert_t **cert)
{
    struct sigaction action = { .sa_handler = interrupt };
    acme_op_t *op = NULL;
    int result = OBTAINED;

    if (acme_begin_order(client, &order, &op) != ACME_OK)
        return refused(order.names[0]);
    interruptible = op;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (acme_op_run(op, &run) == ACME_OK)
        *cert = acme_op_take_cert(op);
    else
        result = refused(order.names[0]);
    interruptible = NULL;
    acme_op_free(op);
    return result;
}

/* Orders the certificate and stores what comes of it in the directory out. */
static int obtain(int out)
{
    char file[300], date[32];
    acme_client_t *client = NULL;
    acme_cert_t *cert = NULL;
    int result;

    if (acme_client_new(&account, &client) != ACME_OK)
        return refused(account.directory_url);
    result = run_order(client, &cert);
    if (acme_client_account_url(client) &&
        store(out, "account.url", 0644, acme_client_account_url(client)) != 0)
        result = failed("account.url");
    if (cert) {
        snprintf(file, sizeof file, "%s.chain.pem", order.names[0]);
        if (store(out, file, 0644, acme_cert_chain_pem(cert)) != 0)
            result = failed(file);
        else
            printf("%s/%s: valid until %s\n", out_path, file, utc(acme_cert_not_after(cert), date));
    }
    acme_cert_free(cert);
    acme_client_free(client);
    return result;
}

static int open_directory(const char *path)
{
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0)
        failed(path);
    return dir;
}

int main(int argc, char **argv)
{
    acme_key_t *account_key, *key;
    char key_file[300], *account_url;
    int out, webroot, result = LOCAL_FAILURE;

    if (parse(argc, argv) != 0) {
        fputs("usage: obtain --directory URL [--ca-file FILE] [--contact mailto:ADDRESS]...\n"
              "       [--agree-terms] [--webroot DIR | --port N] --out DIR NAME...\n", stderr);
        return WRONG_USAGE;
    }
    umask(022); /* what is for servers to read, they can read; keys have their own mode */
    mkdir(out_path, 0755);
    out = open_directory(out_path);
    webroot = open_directory(webroot_path ? webroot_path : ".");
    if (out < 0 || webroot < 0)
        return LOCAL_FAILURE;

    snprintf(key_file, sizeof key_file, "%s.key.pem", order.names[0]);
    account_key = stored_key(out, "account.pem");
    key = stored_key(out, key_file);
    account_url = load(out, "account.url");
    if (account_url)
        account_url[strcspn(account_url, "\r\n")] = 0;
    if (account_key && key) {
        account.account_key = account_key;
        account.account_url = account_url;
        order.key = key;
        responder.thumbprint = acme_key_thumbprint(account_key);
        run.publish = webroot_path ? webroot_publish : responder_publish;
        run.unpublish = webroot_path ? webroot_unpublish : responder_unpublish;
        run.user = webroot_path ? (void *)&webroot : (void *)&responder;
        result = obtain(out);
    }
    free(account_url);
    acme_key_free(key);
    acme_key_free(account_key);
    return result;
}
