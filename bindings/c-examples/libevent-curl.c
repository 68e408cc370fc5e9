/*
 * libevent-curl.c - several certificates at once on one event loop, without a thread: libevent waits,
 * libcurl's multi interface sends what the operations ask for, and evhttp responds to the CA
 * (http-01).
 * Nothing blocks, name resolution included.
 *
 *   libevent-curl --directory URL [--ca-file FILE] [--agree-terms] [--port N] --out DIR NAMES...
 *
 *   NAMES     the names of one certificate, with commas between them; several certificates are
 *             obtained at the same time
 *   --port    where to respond to the CA (default 80)
 *   --out     folder for the account's key and for each certificate's: FIRST-NAME.key.pem and
 *             FIRST-NAME.chain.pem (acme_store_directory())
 *
 * Ctrl-C removes the published challenges and ends the program.
 *
 * Exit status: 0 all obtained; 1 some failed; 2 usage.
 */
#define _POSIX_C_SOURCE 200809L

#include <curl/curl.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/buffer.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "command.h"
#include "listener.h"

enum { REQUEST_TIMEOUT_S = 30 };

static struct event_base *base;
static struct evdns_base *dns;
static CURLM *multi;
static struct event *multi_timer;
static acme_client_t *client;
static struct command command;
static int unfinished, failures;

/* One order in progress. */
struct order {
    acme_op_t *op; /* NULL: ended */
    const char *name;
    struct event *timer;
    struct transfer *transfers;
    struct order *next;
};

/* One request of an order, in flight. An order may have several; each has its id. */
struct transfer {
    struct order *order;
    uint64_t id;
    CURL *curl;
    struct curl_slist *headers, *resolved;
    struct evdns_getaddrinfo_request *lookup;
    char *host;
    unsigned port;
    struct transfer *next;
};

static struct order *orders;

static void drive(struct order *order);

/* --- requests: libcurl ------------------------------------------------------------------------ */

static void transfer_free(struct transfer *transfer)
{
    struct transfer **at = &transfer->order->transfers;

    while (*at != transfer)
        at = &(*at)->next;
    *at = transfer->next;
    if (transfer->lookup)
        evdns_getaddrinfo_cancel(transfer->lookup);
    curl_multi_remove_handle(multi, transfer->curl);
    curl_easy_cleanup(transfer->curl);
    curl_slist_free_all(transfer->headers);
    curl_slist_free_all(transfer->resolved);
    free(transfer->host);
    free(transfer);
}

/* Reports that there is no response, and why. */
static void transfer_fail(struct transfer *transfer, const char *why)
{
    struct order *order = transfer->order;
    uint64_t id = transfer->id;

    transfer_free(transfer);
    acme_op_response_failed(order->op, id, why);
    drive(order);
}

/* Reads a line of the response's header: a field, the status line or the empty line at the end. */
static size_t on_header(char *line, size_t size, size_t count, void *user)
{
    struct transfer *transfer = user;
    char *colon = memchr(line, ':', size * count), *end = line + size * count;

    while (end > line && (end[-1] == '\r' || end[-1] == '\n'))
        end--;
    if (colon && colon < end)
        acme_op_response_header(transfer->order->op, transfer->id, line, (size_t)(colon - line),
                                colon + 1, (size_t)(end - colon - 1));
    return size * count;
}

/* Passes a part of the body to the operation. A body that is too large ends the transfer. */
static size_t on_body(char *data, size_t size, size_t count, void *user)
{
    struct transfer *transfer = user;
    acme_status_t status =
        acme_op_response_body(transfer->order->op, transfer->id, data, size * count);

    return status == ACME_OK ? size * count : 0;
}

/* Starts a transfer: the host's addresses are known, or the host is an address. */
static void transfer_start(struct transfer *transfer)
{
    if (curl_multi_add_handle(multi, transfer->curl) != CURLM_OK)
        transfer_fail(transfer, "libcurl takes no more transfers");
}

/* Passes the addresses of the host to curl, which would otherwise resolve names on a thread. */
static void on_addresses(int error, struct evutil_addrinfo *found, void *user)
{
    struct transfer *transfer = user;
    struct evutil_addrinfo *one;
    char text[2048], address[64];
    size_t length;
    int count = 0;

    if (error == EVUTIL_EAI_CANCEL) /* by transfer_free() */
        return;
    transfer->lookup = NULL;
    if (error) {
        transfer_fail(transfer, evutil_gai_strerror(error));
        return;
    }
    length = (size_t)snprintf(text, sizeof text, "+%s:%u:", transfer->host, transfer->port);
    for (one = found; one && count < 8; one = one->ai_next, count++) {
        const void *raw = one->ai_family == AF_INET6
                              ? (void *)&((struct sockaddr_in6 *)(void *)one->ai_addr)->sin6_addr
                              : (void *)&((struct sockaddr_in *)(void *)one->ai_addr)->sin_addr;

        evutil_inet_ntop(one->ai_family, raw, address, sizeof address);
        length += (size_t)snprintf(text + length, sizeof text - length,
                                   one->ai_family == AF_INET6 ? "%s[%s]" : "%s%s",
                                   count ? "," : "", address);
    }
    evutil_freeaddrinfo(found);
    transfer->resolved = curl_slist_append(NULL, text);
    curl_easy_setopt(transfer->curl, CURLOPT_RESOLVE, transfer->resolved);
    transfer_start(transfer);
}

static void resolve(struct transfer *transfer)
{
    struct evutil_addrinfo hints;
    struct evdns_getaddrinfo_request *lookup;
    unsigned char address[16];

    if (evutil_inet_pton(AF_INET, transfer->host, address) == 1 ||
        evutil_inet_pton(AF_INET6, transfer->host, address) == 1) {
        transfer_start(transfer);
        return;
    }
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    lookup = evdns_getaddrinfo(dns, transfer->host, NULL, &hints, on_addresses, transfer);
    if (lookup) /* NULL: on_addresses() has been called already, from the hosts file */
        transfer->lookup = lookup;
}

/* Starts a request. Copies all of it, because the request is valid until the next poll only. */
static void request_start(struct order *order, const acme_http_request_t *request)
{
    struct transfer *transfer = calloc(1, sizeof *transfer);
    char line[1024];
    uint16_t i;

    transfer->order = order;
    transfer->id = request->id;
    transfer->host = strdup(request->host);
    transfer->port = request->port;
    transfer->curl = curl_easy_init();
    transfer->next = order->transfers;
    order->transfers = transfer;
    for (i = 0; i < request->header_count; i++) {
        snprintf(line, sizeof line, "%s: %s", request->headers[i].name, request->headers[i].value);
        transfer->headers = curl_slist_append(transfer->headers, line);
    }
    curl_easy_setopt(transfer->curl, CURLOPT_URL, request->url);
    curl_easy_setopt(transfer->curl, CURLOPT_PATH_AS_IS, 1L); /* the URL as it is signed, byte for byte */
    curl_easy_setopt(transfer->curl, CURLOPT_HTTPHEADER, transfer->headers);
    curl_easy_setopt(transfer->curl, CURLOPT_TIMEOUT, (long)REQUEST_TIMEOUT_S);
    curl_easy_setopt(transfer->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(transfer->curl, CURLOPT_NOPROXY, "*"); /* not the environment's proxy */
    if (command.ca_file)
        curl_easy_setopt(transfer->curl, CURLOPT_CAINFO, command.ca_file);
    if (strcmp(request->method, "POST") == 0) {
        curl_easy_setopt(transfer->curl, CURLOPT_POSTFIELDSIZE, (long)request->body_size);
        curl_easy_setopt(transfer->curl, CURLOPT_COPYPOSTFIELDS, request->body);
    }
    curl_easy_setopt(transfer->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(transfer->curl, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(transfer->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(transfer->curl, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(transfer->curl, CURLOPT_PRIVATE, transfer);
    resolve(transfer);
}

static void transfers_look(void)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(multi, &left))) {
        struct transfer *transfer;
        struct order *order;
        long status = 0;
        uint64_t id;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
        curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
        if (message->data.result != CURLE_OK) {
            transfer_fail(transfer, curl_easy_strerror(message->data.result));
            continue;
        }
        order = transfer->order;
        id = transfer->id;
        transfer_free(transfer);
        acme_op_response_end(order->op, id, (int)status);
        drive(order);
    }
}

/* --- libcurl on libevent ---------------------------------------------------------------------- */

static void on_socket(evutil_socket_t socket, short events, void *user)
{
    int running;

    (void)user;
    curl_multi_socket_action(multi, socket,
                             (events & EV_READ ? CURL_CSELECT_IN : 0) |
                                 (events & EV_WRITE ? CURL_CSELECT_OUT : 0), &running);
    transfers_look();
}

static void on_multi_timer(evutil_socket_t socket, short events, void *user)
{
    int running;

    (void)socket;
    (void)events;
    (void)user;
    curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
    transfers_look();
}

static int watch_socket(CURL *curl, curl_socket_t socket, int what, void *user, void *watched)
{
    struct event *event = watched;

    (void)curl;
    (void)user;
    if (event)
        event_free(event);
    event = NULL;
    if (what != CURL_POLL_REMOVE) {
        short events = EV_PERSIST;

        if (what & CURL_POLL_IN)
            events |= EV_READ;
        if (what & CURL_POLL_OUT)
            events |= EV_WRITE;
        event = event_new(base, socket, events, on_socket, NULL);
        event_add(event, NULL);
    }
    curl_multi_assign(multi, socket, event);
    return 0;
}

static void arm(struct event *timer, long long ms)
{
    struct timeval after = { (time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000) };

    if (ms < 0)
        event_del(timer);
    else
        event_add(timer, &after);
}

static int watch_timer(CURLM *handle, long ms, void *user)
{
    (void)handle;
    (void)user;
    arm(multi_timer, ms);
    return 0;
}

/* --- operations ------------------------------------------------------------------------------- */

/* Continues an order. Called after each event; an additional call does no harm. */
static void drive(struct order *order)
{
    int step;

    while (order->op) {
        switch (step = acme_op_poll(order->op, 0)) {
        case ACME_STEP_REQUEST:
            request_start(order, acme_op_request(order->op));
            continue;
        case ACME_STEP_WAIT:
            arm(order->timer, acme_op_wait_ms(order->op));
            return;
        case ACME_STEP_PUBLISH: /* on_http() gets the challenges from the client */
            acme_op_published(order->op, NULL);
            continue;
        case ACME_STEP_UNPUBLISH:
            continue;
        case ACME_STEP_STORE: /* a few small files; on a slow disk, call it on a worker thread */
            acme_op_access_store(order->op);
            continue;
        default:
            failures += order_end(order->name, order->op, step);
            while (order->transfers)
                transfer_free(order->transfers);
            event_del(order->timer);
            acme_op_free(order->op);
            order->op = NULL;
            if (--unfinished == 0)
                event_base_loopbreak(base);
        }
    }
}

static void on_order_timer(evutil_socket_t socket, short events, void *user)
{
    (void)socket;
    (void)events;
    drive(user);
}

/* --- the CA's requests, and Ctrl-C ------------------------------------------------------------- */

static void on_http(struct evhttp_request *request, void *user)
{
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));
    struct evbuffer *answer = evbuffer_new();
    char body[1024];
    size_t size = path ? acme_client_http01_answer(client, path, strlen(path), body, sizeof body) : 0;

    (void)user;
    evbuffer_add(answer, body, size);
    evhttp_send_reply(request, size ? 200 : 404, size ? "OK" : "Not Found", answer);
    evbuffer_free(answer);
}

static void on_interrupt(evutil_socket_t socket, short events, void *user)
{
    struct order *order;

    (void)socket;
    (void)events;
    (void)user;
    for (order = orders; order; order = order->next)
        if (order->op) {
            acme_op_cancel(order->op);
            drive(order);
        }
}

/* --- the program ------------------------------------------------------------------------------ */

static int run(void)
{
    struct evhttp *http = evhttp_new(base);
    struct event *interrupt = evsignal_new(base, SIGINT, on_interrupt, NULL);
    struct order *order;
    int i, ready, listener;

    multi_timer = evtimer_new(base, on_multi_timer, NULL);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, watch_timer);
    curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, 4L); /* other transfers wait */
    evhttp_set_gencb(http, on_http, NULL);
    evhttp_set_allowed_methods(http, EVHTTP_REQ_GET);
    evhttp_set_timeout(http, 10);
    event_add(interrupt, NULL);
    listener = listen_on((unsigned short)command.port);
    ready = listener >= 0 && evhttp_accept_socket(http, listener) == 0;
    for (i = 0; ready && i < command.order_count; i++) {
        order = calloc(1, sizeof *order);
        order->name = command.orders[i];
        order->timer = evtimer_new(base, on_order_timer, order);
        order->op = order_begin(client, command.orders[i]);
        order->next = orders;
        orders = order;
        ready = order->op != NULL;
        unfinished++;
    }
    if (ready) {
        for (order = orders; order; order = order->next)
            drive(order);
        if (unfinished > 0)
            event_base_dispatch(base);
    }
    while ((order = orders)) {
        orders = order->next;
        acme_op_free(order->op);
        event_free(order->timer);
        free(order);
    }
    event_free(multi_timer);
    event_free(interrupt);
    evhttp_free(http);
    return ready && failures == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    int result = command_read(&command, &client, argc, argv);

    if (result != 0)
        return result;
    signal(SIGPIPE, SIG_IGN); /* libevent may write to a socket that the peer has closed */
    curl_global_init(CURL_GLOBAL_DEFAULT);
    base = event_base_new();
    dns = evdns_base_new(base, EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    multi = curl_multi_init();
    result = run();
    acme_client_free(client);
    curl_multi_cleanup(multi);
    evdns_base_free(dns, 0);
    event_base_free(base);
    curl_global_cleanup();
    libevent_global_shutdown();
    return result;
}
