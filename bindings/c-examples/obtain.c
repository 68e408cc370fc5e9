/*
 * obtain.c - obtains a certificate from an ACME CA by http-01 and stores it.
 *
 *   obtain --directory URL [--ca-file FILE] [--contact mailto:ADDRESS]... [--agree-terms]
 *          [--webroot DIR | --port N] --out DIR NAME...
 *
 *   --directory    the CA, such as https://acme-staging-v02.api.letsencrypt.org/directory
 *   --ca-file      PEM file of the roots to trust for the CA's own HTTPS, instead of the system's roots
 *   --contact      address at which the CA may reach you
 *   --agree-terms  you have read the CA's terms of service and agree to them
 *   --webroot      folder that a web server serves on port 80 of every NAME
 *   --port         without such a web server: port on which this program responds to the CA (default 80)
 *   --out          folder for the files of one CA (acme_store_directory()); the next run uses them again:
 *
 *       account.pem     account key; its holder controls the account
 *       account.url     the account's URL at the CA
 *       directory.url   the CA to which the files belong
 *       NAME.key.pem    key of the certificate; NAME is the first one given, in lower case, with
 *                       "_" for "*" and without a final dot
 *       NAME.chain.pem  the certificate and its issuers, leaf first, as web servers read them
 *       NAME.order      an order in progress; removed when the certificate is stored
 *
 * Keys are on the disk before the CA hears of them, so no failure loses a key. After a crash at any moment,
 * the next run resumes the same order. Run the program again to renew the certificate.
 *
 * A folder belongs to one CA: for another one, after a trial for instance, use another folder. If the CA has
 * deactivated or lost the account, rename account.pem and account.url: the next run registers another one.
 *
 * Exit status: 0 obtained; 1 a file, a port or memory failed; 2 wrong usage; 3 permanent failure: change
 * something before you try again; 4 other failure: a later try may succeed.
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

#include "acme_micro.h"
#include "responder.h"
#include "start.h"
#include "webroot.h"

enum { OBTAINED = 0, LOCAL_FAILURE = 1, WRONG_USAGE = 2, REFUSED = 3, TRY_LATER = 4 };

static acme_client_options_t account = ACME_CLIENT_OPTIONS_INIT;
static acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
static acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
static struct responder responder = { .port = 80, .listener = -1 };
static struct webroot webroot;
static const char *contacts[8], *webroot_path, *out_path;
static acme_client_t *client;

/* --- messages --------------------------------------------------------------------------------- */

static int failed(const char *what)
{
    fprintf(stderr, "obtain: %s: %s\n", what, strerror(errno));
    return LOCAL_FAILURE;
}

static void warn(int level, const char *message, void *user)
{
    (void)level, (void)user;
    fprintf(stderr, "obtain: %s\n", message);
}

static const char *utc(acme_time_t moment, char text[32])
{
    time_t seconds = (time_t)(moment / 1000);
    struct tm parts;

    if (!gmtime_r(&seconds, &parts) || !strftime(text, 32, "%Y-%m-%d %H:%M:%S UTC", &parts))
        strcpy(text, "?");
    return text;
}

/* Whether the reason may be that the CA has deactivated or lost the account. */
static int may_lack_account(const acme_error_t *error)
{
    const char *type = acme_error_problem_type(error);
    int status = acme_error_status(error);

    if (status == ACME_ERR_PROBLEM || status == ACME_ERR_SERVER)
        return acme_client_account_url(client) &&
               (!type || strstr(type, ":unauthorized") || strstr(type, ":serverInternal"));
    return status == ACME_ERR_ACCOUNT;
}

/* Prints the library's last error on this thread in one line; returns the exit status. */
static int refused(const char *what)
{
    const acme_error_t *error = acme_last_error();
    const char *help = acme_error_help_url(error);
    acme_time_t retry_at = acme_error_retry_at(error);
    char text[32];

    fprintf(stderr, "obtain: %s: %s", what, acme_error_message(error));
    if (acme_error_problem_type(error))
        fprintf(stderr, " [%s]", acme_error_problem_type(error));
    if (help && !strstr(acme_error_message(error), help))
        fprintf(stderr, " [see %s]", help);
    if (retry_at) /* rounded up to a whole second, so as not to be too early */
        fprintf(stderr, " [try again after %s]", utc(retry_at + 999, text));
    if (may_lack_account(error))
        fputs(" [if the CA has deactivated or lost the account, rename account.pem and account.url]", stderr);
    fputc('\n', stderr);
    if (acme_error_status(error) == ACME_ERR_STORE)
        return LOCAL_FAILURE;
    return acme_error_is_permanent(error) ? REFUSED : TRY_LATER;
}

/* --- the command line ------------------------------------------------------------------------- */

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
    return i < argc && account.directory_url && out_path ? 0 : -1;
}

/* Begins an order that is never sent, with a store in memory: arguments that are refused leave no file. */
static int check_arguments(void)
{
    acme_store_t *unused = NULL;
    acme_op_t *op = NULL;
    int result = OBTAINED;

    if (acme_store_memory(&unused) != ACME_OK)
        return refused("memory");
    account.store = unused;
    if (acme_client_new(&account, &client) != ACME_OK) {
        result = refused(account.directory_url);
    } else if (acme_begin_order(client, &order, &op) != ACME_OK) {
        refused(order.names[0]);
        result = WRONG_USAGE;
    }
    acme_op_free(op);
    acme_client_free(client);
    client = NULL;
    acme_store_free(unused);
    return result;
}

/* --- the program ------------------------------------------------------------------------------ */

/* Opens the folder. A new one can be read by others, whatever the umask: web servers read the chains. */
static int open_store(acme_store_t **store)
{
    if (mkdir(out_path, 0755) == 0 && chmod(out_path, 0755) != 0)
        return failed(out_path);
    return acme_store_directory(out_path, store) == ACME_OK ? OBTAINED : refused("--out");
}

static int open_webroot(void)
{
    run.publish = responder_publish;
    run.unpublish = responder_unpublish;
    run.user = &responder;
    if (!webroot_path)
        return OBTAINED;
    run.publish = webroot_publish;
    run.unpublish = webroot_unpublish;
    run.user = &webroot;
    webroot.dir = open(webroot_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return webroot.dir < 0 ? failed(webroot_path) : OBTAINED;
}

/* Ctrl-C and SIGTERM end the operation, which removes its published challenges. */
static acme_op_t *volatile interruptible;

static void interrupt(int signal_number)
{
    (void)signal_number;
    if (interruptible)
        acme_op_cancel(interruptible);
}

/* Orders the certificate, or resumes the order of an earlier run. The store keeps the result. */
static int obtain(void)
{
    struct sigaction action = { .sa_handler = interrupt };
    acme_cert_t *cert = NULL;
    acme_op_t *op = NULL;
    int result = OBTAINED;
    char date[32];

    if (acme_begin_order(client, &order, &op) != ACME_OK)
        return refused(order.names[0]);
    interruptible = op;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (acme_op_run(op, &run) != ACME_OK)
        result = refused(order.names[0]);
    interruptible = NULL;
    cert = acme_op_take_cert(op);
    if (result == OBTAINED)
        printf("%s: valid until %s\n", acme_cert_name(cert, 0), utc(acme_cert_not_after(cert), date));
    acme_cert_free(cert);
    acme_op_free(op);
    return result;
}

int main(int argc, char **argv)
{
    acme_store_t *store = NULL;
    int result;

    if (start(argc, argv) != 0 || parse(argc, argv) != 0) {
        fputs("usage: obtain --directory URL [--ca-file FILE] [--contact mailto:ADDRESS]...\n"
              "       [--agree-terms] [--webroot DIR | --port N] --out DIR NAME...\n", stderr);
        return WRONG_USAGE;
    }
    signal(SIGXFSZ, SIG_IGN); /* write() fails with EFBIG instead, and is reported like a full disk */
    result = check_arguments();
    if (result == OBTAINED)
        result = open_store(&store);
    if (result == OBTAINED)
        result = open_webroot();
    account.store = store;
    acme_set_log_callback(warn, NULL, ACME_LOG_WARN);
    if (result == OBTAINED && acme_client_new(&account, &client) != ACME_OK)
        result = refused(account.directory_url);
    else if (result == OBTAINED)
        result = obtain();
    acme_client_free(client);
    acme_store_free(store);
    return result;
}
