/*
 * epoll-openssl.c - several certificates at once on a bare epoll loop, without a thread: https.h sends
 * what the operations ask for, a timerfd wakes the loop when one is due, and a small server on the same
 * loop responds to the CA (http-01).
 *
 *   epoll-openssl --directory URL [--ca-file FILE] [--agree-terms] [--port N] --out DIR NAMES...
 *
 *   NAMES     the names of one certificate, with commas between them; several certificates are
 *             obtained at the same time
 *   --port    where to respond to the CA (default 80)
 *   --out     folder for the account's key and for each certificate's: FIRST-NAME.key.pem and
 *             FIRST-NAME.chain.pem (acme_store_directory())
 *
 * The CA's name is resolved once, before the loop begins: the library connects only to
 * the directory's host. A server that runs for months should resolve the name again from time to time,
 * with a resolver of its own.
 *
 * Ctrl-C removes the published challenges and ends the program.
 *
 * Exit status: 0 all obtained; 1 some failed; 2 usage.
 */
#define _GNU_SOURCE

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <netinet/in.h>
#include <time.h>

#include "command.h"
#include "https.h"
#include "listener.h"

enum { REQUEST_TIMEOUT_MS = 30000, VISITORS = 32, VISITOR_TIMEOUT_MS = 5000 };
static const long long NEVER = INT64_MAX;

/* A file descriptor that epoll watches. It is the first member of the struct that it belongs to. */
struct source {
    int fd;
    void (*ready)(struct source *source);
};

/* One order in progress. */
struct order {
    acme_op_t *op; /* NULL: ended */
    const char *name;
    long long due;
    struct transfer *transfers;
    struct order *next;
};

/* One request of an order, in flight. An order may have several; each has its id. */
struct transfer {
    struct source source;
    struct https https;
    struct order *order;
    uint64_t id;
    long long until;
    struct transfer *next;
};

/* A client that connected to our port and has not sent its request yet. */
struct visitor {
    struct source source; /* fd -1: this entry is free */
    long long until;
    size_t size;
    char request[2048];
};

static int epoll_fd, interrupted, unfinished, failures;
static struct command command;
static acme_client_t *client;
static struct order *orders;
static struct visitor visitors[VISITORS];
static struct addrinfo *ca_addresses;
static SSL_CTX *tls;

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void watch(struct source *source, uint32_t events)
{
    struct epoll_event event = { .events = events, .data = { .ptr = source } };

    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, source->fd, &event) != 0)
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, source->fd, &event);
}

/* --- operations and their requests ------------------------------------------------------------ */

static void drive(struct order *order);

static void transfer_free(struct transfer *transfer)
{
    struct transfer **at = &transfer->order->transfers;

    while (*at != transfer)
        at = &(*at)->next;
    *at = transfer->next;
    https_end(&transfer->https);
    free(transfer);
}

static void transfer_fail(struct transfer *transfer, const char *why)
{
    acme_op_response_failed(transfer->order->op, transfer->id, why);
    transfer_free(transfer);
}

/* Continues a request. Returns 1 if it has ended, and its order can continue. */
static int transfer_step(struct transfer *transfer)
{
    int step = https_step(&transfer->https);

    switch (step) {
    case HTTPS_DONE:
        https_feed(&transfer->https, transfer->order->op, transfer->id);
        transfer_free(transfer);
        return 1;
    case HTTPS_FAILED:
        transfer_fail(transfer, transfer->https.why);
        return 1;
    default:
        transfer->source.fd = transfer->https.fd;
        watch(&transfer->source, step == HTTPS_READ ? EPOLLIN : EPOLLOUT);
        return 0;
    }
}

static void transfer_ready(struct source *source)
{
    struct transfer *transfer = (struct transfer *)source;
    struct order *order = transfer->order;

    if (transfer_step(transfer))
        drive(order);
}

/* Starts a request. Copies all of it, because the request is valid until the next poll only. */
static void transfer_begin(struct order *order, const acme_http_request_t *request)
{
    struct transfer *transfer = calloc(1, sizeof *transfer);

    if (!transfer) {
        acme_op_response_failed(order->op, request->id, "no memory");
        return;
    }
    transfer->source.ready = transfer_ready;
    transfer->order = order;
    transfer->id = request->id;
    transfer->until = now_ms() + REQUEST_TIMEOUT_MS;
    transfer->next = order->transfers;
    order->transfers = transfer;
    if (https_begin(&transfer->https, tls, ca_addresses, request) != 0)
        transfer_fail(transfer, "no memory");
    else
        transfer_step(transfer);
}

/* Continues an order. Called after each event; an additional call does no harm. */
static void drive(struct order *order)
{
    int step;

    while (order->op) {
        switch (step = acme_op_poll(order->op, 0)) {
        case ACME_STEP_REQUEST:
            transfer_begin(order, acme_op_request(order->op));
            break;
        case ACME_STEP_WAIT: {
            long long wait = acme_op_wait_ms(order->op);

            order->due = wait < 0 ? NEVER : now_ms() + wait;
            return;
        }
        case ACME_STEP_PUBLISH: /* visitor_answer() gets the challenges from the client */
            acme_op_published(order->op, NULL);
            break;
        case ACME_STEP_UNPUBLISH:
            break;
        case ACME_STEP_STORE: /* a few small files; on a slow disk, call it on a worker thread */
            acme_op_access_store(order->op);
            break;
        default:
            failures += order_end(order->name, order->op, step);
            while (order->transfers)
                transfer_free(order->transfers);
            acme_op_free(order->op);
            order->op = NULL;
            order->due = NEVER;
            unfinished--;
        }
    }
}

/* --- the CA's requests (http-01) -------------------------------------------------------------- */

static void visitor_leave(struct visitor *visitor)
{
    close(visitor->source.fd);
    visitor->source.fd = -1;
}

/* Sends the response. It is so short that it fits into the socket's buffer. */
static void visitor_answer(struct visitor *visitor)
{
    char path[512] = "", body[1024], head[256];
    size_t size;
    int length;

    sscanf(visitor->request, "GET %511s", path);
    size = acme_client_http01_answer(client, path, strlen(path), body, sizeof body);
    length = snprintf(head, sizeof head,
                      "HTTP/1.0 %s\r\nContent-Type: application/octet-stream\r\n"
                      "Content-Length: %zu\r\n\r\n", size ? "200 OK" : "404 Not Found", size);
    if (send(visitor->source.fd, head, (size_t)length, MSG_NOSIGNAL | MSG_MORE) == length &&
        send(visitor->source.fd, body, size, MSG_NOSIGNAL) == (ssize_t)size)
        shutdown(visitor->source.fd, SHUT_WR);
}

static void visitor_ready(struct source *source)
{
    struct visitor *visitor = (struct visitor *)source;
    ssize_t got = read(source->fd, visitor->request + visitor->size,
                       sizeof visitor->request - 1 - visitor->size);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0) {
        visitor->size += (size_t)got;
        visitor->request[visitor->size] = '\0';
        if (!strstr(visitor->request, "\r\n\r\n"))
            return;
        visitor_answer(visitor);
    }
    visitor_leave(visitor);
}

/* Accepts a client. Anyone may connect to port 80, so the number of clients and their time are limited. */
static void listener_ready(struct source *source)
{
    struct visitor *visitor = NULL;
    int i, fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    for (i = 0; i < VISITORS && !visitor; i++)
        if (visitors[i].source.fd < 0)
            visitor = &visitors[i];
    if (fd < 0 || !visitor) {
        if (fd >= 0)
            close(fd);
        return;
    }
    visitor->source.fd = fd;
    visitor->source.ready = visitor_ready;
    visitor->until = now_ms() + VISITOR_TIMEOUT_MS;
    visitor->size = 0;
    watch(&visitor->source, EPOLLIN);
}

/* --- the loop --------------------------------------------------------------------------------- */

static void interrupt_ready(struct source *source)
{
    struct signalfd_siginfo signal;
    struct order *order;

    if (read(source->fd, &signal, sizeof signal) < 0)
        return;
    interrupted = 1;
    for (order = orders; order; order = order->next)
        if (order->op) {
            acme_op_cancel(order->op);
            drive(order);
        }
}

/* Drives each order and each transfer whose time has come. set_timer() then finds the next time. */
static void timer_ready(struct source *source)
{
    struct order *order;
    struct transfer *transfer, *next;
    uint64_t times;
    int i;

    if (read(source->fd, &times, sizeof times) < 0)
        return;
    for (order = orders; order; order = order->next) {
        int changed = order->due <= now_ms();

        for (transfer = order->transfers; transfer; transfer = next) {
            next = transfer->next;
            if (transfer->until <= now_ms()) {
                transfer_fail(transfer, "no response in time");
                changed = 1;
            }
        }
        if (changed)
            drive(order);
    }
    for (i = 0; i < VISITORS; i++)
        if (visitors[i].source.fd >= 0 && visitors[i].until <= now_ms())
            visitor_leave(&visitors[i]);
}

static void set_timer(int timer)
{
    struct itimerspec at = { { 0, 0 }, { 0, 0 } };
    const struct transfer *transfer;
    const struct order *order;
    long long first = NEVER;
    int i;

    for (order = orders; order; order = order->next) {
        if (order->due < first)
            first = order->due;
        for (transfer = order->transfers; transfer; transfer = transfer->next)
            if (transfer->until < first)
                first = transfer->until;
    }
    for (i = 0; i < VISITORS; i++)
        if (visitors[i].source.fd >= 0 && visitors[i].until < first)
            first = visitors[i].until;
    if (first != NEVER) { /* rounded up: the loop must not wake before the time */
        at.it_value.tv_sec = (time_t)(first / 1000);
        at.it_value.tv_nsec = first % 1000 * 1000000 + 999999;
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static void loop(int timer)
{
    struct epoll_event event;

    while (unfinished > 0) {
        set_timer(timer);
        /* One event at a time: a list could contain an event of a source that an earlier event has freed. */
        if (epoll_wait(epoll_fd, &event, 1, -1) == 1) {
            struct source *source = event.data.ptr;

            source->ready(source);
        }
    }
}

/* --- the program ------------------------------------------------------------------------------ */

/* Resolves the host and port of the directory's URL, which the library has checked already. */
static struct addrinfo *resolve(const char *url)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
    char host[256] = "", port[6] = "443";
    int error;

    if (sscanf(url, "https://[%255[^]]]:%5[0-9]", host, port) < 1)
        sscanf(url, "https://%255[^/:]:%5[0-9]", host, port);
    error = getaddrinfo(host, port, &hints, &found);
    if (error)
        fprintf(stderr, "%s: %s\n", host, gai_strerror(error));
    return found;
}

static SSL_CTX *tls_new(const char *ca_file)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    if (context && SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) &&
        (ca_file ? SSL_CTX_load_verify_locations(context, ca_file, NULL)
                 : SSL_CTX_set_default_verify_paths(context))) {
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
        return context;
    }
    ERR_print_errors_fp(stderr);
    SSL_CTX_free(context);
    return NULL;
}

static int run(void)
{
    struct source listener = { .ready = listener_ready }, timer = { .ready = timer_ready },
                  interrupt = { .ready = interrupt_ready };
    struct order *order;
    sigset_t signals;
    int i, ready;

    for (i = 0; i < VISITORS; i++)
        visitors[i].source.fd = -1;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN); /* OpenSSL may write to a connection that the peer has closed */
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    interrupt.fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    listener.fd = listen_on((unsigned short)command.port);
    watch(&timer, EPOLLIN);
    watch(&interrupt, EPOLLIN);
    watch(&listener, EPOLLIN);
    tls = tls_new(command.ca_file);
    ready = listener.fd >= 0 && tls && (ca_addresses = resolve(command.ca.directory_url));

    for (i = 0; ready && i < command.order_count; i++) {
        order = calloc(1, sizeof *order);
        order->name = command.orders[i];
        order->due = 0; /* at once */
        order->op = order_begin(client, command.orders[i]);
        order->next = orders;
        orders = order;
        ready = order->op != NULL;
        unfinished++;
    }
    if (ready)
        loop(timer.fd);

    while ((order = orders)) {
        orders = order->next;
        while (order->transfers)
            transfer_free(order->transfers);
        acme_op_free(order->op);
        free(order);
    }
    for (i = 0; i < VISITORS; i++)
        if (visitors[i].source.fd >= 0)
            visitor_leave(&visitors[i]);
    if (ca_addresses)
        freeaddrinfo(ca_addresses);
    SSL_CTX_free(tls);
    if (listener.fd >= 0)
        close(listener.fd);
    close(interrupt.fd);
    close(timer.fd);
    close(epoll_fd);
    return ready && failures == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    int result = command_read(&command, &client, argc, argv);

    if (result == 0)
        result = run();
    acme_client_free(client);
    return result;
}
