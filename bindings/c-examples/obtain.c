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

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "acme_micro.h"

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

/* --- files ------------------------------------------------------------------------------------ */

/* Whatever happens meanwhile, name holds its old text or the new one, never a part of it. */
static int store(int dir, const char *name, mode_t mode, const char *text)
{
    char temporary[320];
    size_t size = strlen(text);
    ssize_t written;
    int file, ok, why;

    snprintf(temporary, sizeof temporary, "%s.%ld.tmp", name, (long)getpid());
    unlinkat(dir, temporary, 0); /* left behind by a process that had our id */
    file = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (file < 0)
        return -1;
    while (size > 0 && (written = write(file, text, size)) > 0) {
        text += written;
        size -= (size_t)written;
    }
    ok = size == 0 && fsync(file) == 0;
    ok = close(file) == 0 && ok;
    if (ok && renameat(dir, temporary, dir, name) == 0)
        return fsync(dir);
    why = errno;
    unlinkat(dir, temporary, 0);
    errno = why;
    return -1;
}

/* The text of a small file, to be freed; NULL, with errno, when there is none. */
static char *load(int dir, const char *name)
{
    enum { LIMIT = 64 * 1024 };
    int file = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char *text = file < 0 ? NULL : calloc(1, LIMIT + 1);
    size_t size = 0;
    ssize_t got = 0;

    while (text && size < LIMIT && (got = read(file, text + size, LIMIT - size)) > 0)
        size += (size_t)got;
    if (got < 0) {
        free(text);
        text = NULL;
    }
    if (file >= 0)
        close(file);
    return text;
}

/* Others could read a key that is in a file like this. */
static int is_lax(int dir, const char *name)
{
    struct stat found;

    return fstatat(dir, name, &found, AT_SYMLINK_NOFOLLOW) == 0 && (found.st_mode & 077) != 0;
}

/* The key in this file, made and stored there when there is none; NULL, after a message. */
static acme_key_t *stored_key(int dir, const char *name)
{
    acme_key_t *key = NULL;
    char *text = load(dir, name);
    volatile char *secret = text; /* volatile: a compiler leaves memset() before free() out */

    if (text && is_lax(dir, name))
        fprintf(stderr, "obtain: %s: others can read this key; chmod 600 it\n", name);
    if (text) {
        if (acme_key_parse(text, strlen(text), &key) != ACME_OK)
            refused(name);
        while (*secret)
            *secret++ = 0;
        free(text);
    } else if (errno != ENOENT) {
        failed(name);
    } else if (acme_key_generate(ACME_KEY_P256, &key) != ACME_OK) {
        refused(name);
    } else if (store(dir, name, 0600, acme_key_pem(key)) != 0) {
        failed(name);
        acme_key_free(key);
        key = NULL;
    }
    return key;
}

/* --- http-01 by the files of a web server ----------------------------------------------------- */

#define CHALLENGES "/.well-known/acme-challenge/"

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

/* --- http-01 by a small server of our own ----------------------------------------------------- */

/* Needs no table: a challenge's answer is its token, a dot and the account key's thumbprint. */
struct responder {
    unsigned short port;
    const char *thumbprint;
    int listener; /* -1: not running */
    int stop[2];  /* a pipe: closing [1] ends the thread */
    pthread_t thread;
};

/* On all addresses: an IPv6 socket takes IPv4 along, but not every machine has IPv6. */
static int listen_on(unsigned short port)
{
    struct sockaddr_in6 ipv6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    struct sockaddr_in ipv4 = { .sin_family = AF_INET, .sin_port = htons(port) };
    int on = 1, off = 0, six = socket(AF_INET6, SOCK_STREAM, 0);
    int listener = six >= 0 ? six : socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (six >= 0)
        setsockopt(six, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    /* Not blocking: a client that poll() saw may be gone when accept() comes. */
    if ((six >= 0 ? bind(six, (struct sockaddr *)&ipv6, sizeof ipv6)
                  : bind(listener, (struct sockaddr *)&ipv4, sizeof ipv4)) == 0 &&
        listen(listener, 64) == 0 && fcntl(listener, F_SETFL, O_NONBLOCK) == 0)
        return listener;
    close(listener);
    return -1;
}

/* Whoever connects has this long to ask, and so many may at a time: port 80 is open to the world. */
enum { VISITORS = 32, PATIENCE_MS = 5000 };

struct visitor {
    int client; /* -1: this place is free */
    long long until;
    size_t size;
    char request[2048];
};

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void leave(struct visitor *visitor)
{
    close(visitor->client);
    visitor->client = -1;
}

static void reply(int client, const char *request, const char *thumbprint)
{
    const char *token = request + strlen("GET " CHALLENGES);
    char text[1024];
    size_t length = 0;

    if (strncmp(request, "GET " CHALLENGES, strlen("GET " CHALLENGES)) == 0)
        length = strspn(token, "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz");
    if (length == 0 || length > 512 || token[length] != ' ')
        snprintf(text, sizeof text, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    else
        snprintf(text, sizeof text,
                 "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                 "Content-Length: %d\r\nConnection: close\r\n\r\n%.*s.%s",
                 (int)(length + 1 + strlen(thumbprint)), (int)length, token, thumbprint);
    send(client, text, strlen(text), MSG_NOSIGNAL); /* fits into any socket's buffer */
}

/* There is something to read: takes it, and replies when the request is whole. */
static void listen_to(struct visitor *visitor, const char *thumbprint)
{
    size_t room = sizeof visitor->request - 1 - visitor->size;
    ssize_t got = recv(visitor->client, visitor->request + visitor->size, room, 0);

    if (got > 0) {
        visitor->size += (size_t)got;
        visitor->request[visitor->size] = 0;
        if (!strstr(visitor->request, "\r\n\r\n") && (size_t)got < room)
            return;
        reply(visitor->client, visitor->request, thumbprint);
    }
    leave(visitor);
}

static void *serve(void *user)
{
    const struct responder *responder = user;
    static struct visitor visitors[VISITORS];
    struct pollfd events[VISITORS + 2];
    int i, place;

    for (i = 0; i < VISITORS; i++)
        visitors[i].client = -1;
    for (;;) {
        /* A negative descriptor is one that poll() does not look at. */
        events[VISITORS] = (struct pollfd){ .fd = responder->stop[0], .events = POLLIN };
        events[VISITORS + 1] = (struct pollfd){ .fd = -1, .events = POLLIN };
        for (place = -1, i = 0; i < VISITORS; i++) {
            if (visitors[i].client >= 0 && now_ms() >= visitors[i].until)
                leave(&visitors[i]);
            if (visitors[i].client < 0)
                place = i;
            events[i] = (struct pollfd){ .fd = visitors[i].client, .events = POLLIN };
        }
        if (place >= 0)
            events[VISITORS + 1].fd = responder->listener; /* the others wait their turn */
        if (poll(events, VISITORS + 2, 1000) < 0 || events[VISITORS].revents)
            break;
        for (i = 0; i < VISITORS; i++)
            if (events[i].fd >= 0 && events[i].revents)
                listen_to(&visitors[i], responder->thumbprint);
        if (place >= 0 && events[VISITORS + 1].revents) {
            visitors[place].client = accept(responder->listener, NULL, NULL);
            visitors[place].until = now_ms() + PATIENCE_MS;
            visitors[place].size = 0;
        }
    }
    for (i = 0; i < VISITORS; i++)
        if (visitors[i].client >= 0)
            leave(&visitors[i]);
    return NULL;
}

/* Called for each challenge; the first one starts the server. */
static int responder_publish(const acme_challenge_t *challenge, void *user)
{
    struct responder *responder = user;

    (void)challenge;
    if (responder->listener >= 0)
        return 0;
    responder->listener = listen_on(responder->port);
    if (responder->listener < 0)
        return failed("listening for the CA");
    if (pipe(responder->stop) == 0 &&
        (errno = pthread_create(&responder->thread, NULL, serve, responder)) == 0)
        return 0;
    close(responder->listener);
    responder->listener = -1;
    return failed("starting the server");
}

/* All challenges are taken down together: the first call ends the server. */
static int responder_unpublish(const acme_challenge_t *challenge, void *user)
{
    struct responder *responder = user;

    (void)challenge;
    if (responder->listener >= 0) {
        close(responder->stop[1]);
        pthread_join(responder->thread, NULL);
        close(responder->stop[0]);
        close(responder->listener);
        responder->listener = -1;
    }
    return 0;
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
