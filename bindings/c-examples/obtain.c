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
 *   --out          folder for the files of one CA; the next run uses them again:
 *
 *       account.pem     account key; its holder controls the account
 *       account.url     the account's URL at the CA
 *       directory.url   the CA to which the files belong
 *       NAME.key.pem    key of the certificate; NAME is the first one given, in lower case, with
 *                       "_" for "*" and without a final dot
 *       NAME.chain.pem  the certificate and its issuers, leaf first, as web servers read them
 *       NAME.order      an order in progress (journal.h); removed when the certificate is stored
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
#include <unistd.h>

#include "acme_micro.h"
#include "files.h"
#include "journal.h"
#include "responder.h"
#include "start.h"
#include "webroot.h"

enum { OBTAINED = 0, LOCAL_FAILURE = 1, WRONG_USAGE = 2, REFUSED = 3, TRY_LATER = 4 };

/* --- messages --------------------------------------------------------------------------------- */

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

static char key_file[FILE_NAME_SIZE], chain_file[FILE_NAME_SIZE], *account_url;

/* Whether the reason may be that the CA has deactivated or lost the account. */
static int may_lack_account(const acme_error_t *error)
{
    const char *type = acme_error_problem_type(error);
    int status = acme_error_status(error);

    if (status == ACME_ERR_PROBLEM || status == ACME_ERR_SERVER)
        return account_url && (!type || strstr(type, ":unauthorized") || strstr(type, ":serverInternal"));
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
    return acme_error_is_permanent(error) ? REFUSED : TRY_LATER;
}

/* --- the program ------------------------------------------------------------------------------ */

static acme_client_options_t account = ACME_CLIENT_OPTIONS_INIT;
static acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
static acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
static struct journal journal;
static struct responder responder = { .port = 80, .listener = -1 };
static struct webroot webroot = { .journal = &journal };
static const char *contacts[8], *webroot_path, *out_path;
static acme_client_t *client;
static acme_cert_t *obtained_meanwhile;
static int out, is_noted; /* whether the folder names its CA */

/* Ctrl-C and SIGTERM end the operation, which removes its published challenges. */
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
    return i < argc && account.directory_url && out_path ? 0 : -1;
}

/* Begins an order that is never sent: arguments that are refused leave no file and no key behind. */
static int check_arguments(void)
{
    acme_key_t *unused = NULL;
    acme_op_t *op = NULL;
    int result = OBTAINED;

    if (acme_key_generate(ACME_KEY_P256, &unused) != ACME_OK)
        return refused("account.pem");
    account.account_key = unused;
    if (acme_client_new(&account, &client) != ACME_OK) {
        result = refused(account.directory_url);
    } else if (acme_begin_order(client, &order, &op) != ACME_OK) {
        refused(order.names[0]);
        result = WRONG_USAGE;
    }
    acme_op_free(op);
    acme_client_free(client);
    client = NULL;
    acme_key_free(unused);
    return result;
}

/* An editor may have put a byte order mark in front of the text. */
static const char *without_mark(const char *text)
{
    return text && strncmp(text, "\xEF\xBB\xBF", 3) == 0 ? text + 3 : text;
}

/* Stores the URLs of the account and of the order before the next request. */
static int note(const acme_op_t *op)
{
    const char *url = acme_client_account_url(client);

    if (url && !is_noted) {
        if (folder_note_ca(out, account.directory_url) != 0) {
            failed(DIRECTORY_URL);
            return -1;
        }
        is_noted = 1;
    }
    if (url && (!account_url || strcmp(url, account_url) != 0)) {
        if (store(out, "account.url", 0644, url) != 0) {
            failed("account.url");
            return -1;
        }
        free(account_url);
        account_url = strdup(url);
    }
    return journal_note_order(&journal, acme_op_order_url(op));
}

static int send_request(acme_op_t *op, const acme_http_request_t *request, void *user)
{
    (void)user;
    if (note(op) == 0)
        return acme_op_send(op, request->id) == ACME_OK ? 0 : -1;
    acme_op_cancel(op);
    return -1;
}

/* Runs the order to its end; a signal ends it early. */
static int run_order(acme_cert_t **cert)
{
    struct sigaction action = { .sa_handler = interrupt };
    acme_op_t *op = NULL;
    int result = OBTAINED, is_obtained;

    if (journal_begin(&journal) != 0)
        return LOCAL_FAILURE;
    order.order_url = journal.order_url;
    if (acme_begin_order(client, &order, &op) != ACME_OK)
        return refused(order.names[0]);
    interruptible = op;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    is_obtained = acme_op_run(op, &run) == ACME_OK;
    interruptible = NULL;
    if (is_obtained)
        *cert = acme_op_take_cert(op);
    if (note(op) != 0) /* once more: the disk may have been full only for a moment */
        result = LOCAL_FAILURE;
    else if (!is_obtained)
        result = refused(order.names[0]);
    acme_op_free(op);
    return result;
}

/* Whether most of the certificate's lifetime is over: its order was interrupted long ago. */
static int is_old(const acme_cert_t *cert)
{
    acme_time_t start = acme_cert_not_before(cert), end = acme_cert_not_after(cert);

    return (acme_time_t)time(NULL) * 1000 > start + (end - start) / 3 * 2;
}

/* Orders the certificate and stores the result. */
static int obtain(void)
{
    acme_cert_t *cert = NULL;
    int is_resumed = journal.order_url != NULL, result = run_order(&cert);
    char date[32];

    if (cert && is_resumed && is_old(cert)) {
        acme_cert_free(cert);
        cert = NULL;
        if (journal_end(&journal, 1) != 0)
            return LOCAL_FAILURE;
        result = run_order(&cert);
    }
    if (cert && store(out, chain_file, 0644, acme_cert_chain_pem(cert)) != 0)
        result = failed(chain_file);
    webroot_clear(&webroot);
    if (journal_end(&journal, result == OBTAINED) != 0)
        result = LOCAL_FAILURE;
    if (result == OBTAINED)
        printf("%s/%s: valid until %s\n", out_path, chain_file,
               utc(acme_cert_not_after(cert ? cert : obtained_meanwhile), date));
    acme_cert_free(cert);
    return result;
}

/* Whether a link, a pipe or a folder has the file's name: a mistake, or an attack. */
static int is_in_the_way(const char *file)
{
    struct stat found;

    if (fstatat(out, file, &found, AT_SYMLINK_NOFOLLOW) != 0)
        return errno != ENOENT && failed(file);
    if (!S_ISREG(found.st_mode))
        fprintf(stderr, "obtain: %s: not a regular file\n", file);
    return !S_ISREG(found.st_mode);
}

/* Checks that the folder is this CA's. */
static int check_ca(void)
{
    is_noted = folder_is_for(out, out_path, account.directory_url);
    return is_noted < 0 ? -1 : 0;
}

/* An account whose key is gone cannot be used: a new one takes its place, without the URL. */
static int set_url_of_lost_key_aside(void)
{
    if (faccessat(out, "account.pem", F_OK, 0) == 0 || faccessat(out, "account.url", F_OK, 0) != 0)
        return 0;
    if (renameat(out, "account.url", out, "account.url.unused") != 0)
        return failed("account.url");
    fputs("obtain: account.pem is gone, and with it the account; its URL is in account.url.unused\n", stderr);
    return 0;
}

/* Locks the folder for this process. If another process has stored a new certificate meanwhile, this one
 * orders a certificate only if that one is for other names, or is due for renewal. */
static int lock_folder(void)
{
    char *before = load(out, chain_file), *after = NULL;
    int locked = folder_lock(out, out_path);

    if (locked == 0)
        after = load(out, chain_file);
    if (locked == 0)
        locked = check_ca();
    if (after && is_noted > 0 && (!before || strcmp(before, after) != 0) &&
        acme_cert_parse(after, strlen(after), &obtained_meanwhile) == ACME_OK) {
        order.replaces = obtained_meanwhile;
        order.only_if_due = 1;
    }
    free(before);
    free(after);
    return locked;
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
    int result = LOCAL_FAILURE;

    if (start(argc, argv) != 0 || parse(argc, argv) != 0) {
        fputs("usage: obtain --directory URL [--ca-file FILE] [--contact mailto:ADDRESS]...\n"
              "       [--agree-terms] [--webroot DIR | --port N] --out DIR NAME...\n", stderr);
        return WRONG_USAGE;
    }
    result = check_arguments();
    if (result != OBTAINED)
        return result;
    /* The first name becomes part of file names. */
    if (file_name(key_file, order.names[0], ".key.pem") != 0 ||
        file_name(chain_file, order.names[0], ".chain.pem") != 0)
        return WRONG_USAGE;
    result = LOCAL_FAILURE;
    signal(SIGXFSZ, SIG_IGN); /* write() fails with EFBIG instead, and is reported like a full disk */
    out = folder_open(out_path, 0755);
    webroot.dir = open_directory(webroot_path ? webroot_path : ".");
    if (out < 0 || webroot.dir < 0 || is_in_the_way("account.pem") || is_in_the_way("account.url") ||
        is_in_the_way(key_file) || is_in_the_way(chain_file) || lock_folder() != 0 ||
        set_url_of_lost_key_aside() != 0)
        return LOCAL_FAILURE;

    account_key = stored_key(out, "account.pem");
    key = stored_key(out, key_file);
    account_url = load(out, "account.url");
    if (account_url)
        account_url[strcspn(account_url, "\r\n")] = 0;
    account.account_key = account_key;
    account.account_url = without_mark(account_url);
    order.key = key;
    if (account_key && key && journal_open(&journal, out, &account, &order) == 0) {
        responder.thumbprint = acme_key_thumbprint(account_key);
        run.publish = webroot_path ? webroot_publish : responder_publish;
        run.unpublish = webroot_path ? webroot_unpublish : responder_unpublish;
        run.user = webroot_path ? (void *)&webroot : (void *)&responder;
        run.send = send_request;
        if (acme_client_new(&account, &client) == ACME_OK)
            result = obtain();
        else
            result = refused(account.directory_url);
    }
    acme_client_free(client);
    journal_free(&journal);
    free(account_url);
    acme_cert_free(obtained_meanwhile);
    acme_key_free(key);
    acme_key_free(account_key);
    return result;
}
