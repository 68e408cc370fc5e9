/*
 * libuv.c - certificates for many names at once on a libuv loop, which never blocks.
 *
 *   libuv --directory URL [--ca-file FILE] [--agree-terms] [--port N] --out DIR NAME...
 *
 * One certificate for each NAME, in DIR/NAME.key.pem and DIR/NAME.chain.pem, and the account's key in
 * DIR/account.pem (acme_store_directory()). The loop's own server on port N (80) responds to the CA.
 *
 * The driver is one descriptor in the loop: when it is readable, acme_driver_dispatch() calls publish() and
 * done(), on this thread like everything else here. Files are read and written on the driver's threads.
 * SIGINT and SIGTERM end the program.
 *
 * Exit status: 0 all obtained; 1 some failed; 2 wrong usage.
 */
#define _POSIX_C_SOURCE 200809L

#include <stdlib.h>
#include <uv.h>

#include "acme_micro.h"
#include "listener.h"
#include "start.h"

static int port = 80, failures;
static acme_client_t *client;

/* --- the server that responds to the CA ---------------------------------------------------------- */

static uv_loop_t loop;
static uv_tcp_t listener;

struct visitor {
    uv_tcp_t tcp; /* first member: free() of the handle frees the visitor */
    uv_write_t write;
    size_t size;
    char request[2048], answer[1024];
};

static void free_visitor(uv_handle_t *handle)
{
    free(handle);
}

static void leave(struct visitor *visitor)
{
    if (!uv_is_closing((uv_handle_t *)visitor))
        uv_close((uv_handle_t *)visitor, free_visitor);
}

static void on_written(uv_write_t *write, int status)
{
    (void)status;
    leave(write->data);
}

static void answer(struct visitor *visitor)
{
    static char found[] = "HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n",
                not_found[] = "HTTP/1.0 404 Not Found\r\n\r\n";
    char path[600] = "";
    uv_buf_t buffers[2];
    size_t size;

    sscanf(visitor->request, "GET %599s ", path);
    size = acme_client_http01_answer(client, path, strlen(path), visitor->answer, sizeof visitor->answer);
    buffers[0] = size ? uv_buf_init(found, sizeof found - 1) : uv_buf_init(not_found, sizeof not_found - 1);
    buffers[1] = uv_buf_init(visitor->answer, (unsigned)size);
    visitor->write.data = visitor;
    if (uv_write(&visitor->write, (uv_stream_t *)&visitor->tcp, buffers, 2, on_written) != 0)
        leave(visitor);
}

static void give_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct visitor *visitor = (struct visitor *)handle;

    (void)suggested;
    buffer->base = visitor->request + visitor->size;
    buffer->len = sizeof visitor->request - 1 - visitor->size;
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buffer)
{
    struct visitor *visitor = (struct visitor *)stream;

    (void)buffer;
    if (got < 0) { /* the client closed, or its request is too long */
        leave(visitor);
        return;
    }
    visitor->size += (size_t)got;
    visitor->request[visitor->size] = '\0';
    if (strstr(visitor->request, "\r\n\r\n")) {
        uv_read_stop(stream);
        answer(visitor);
    }
}

static void on_visitor(uv_stream_t *server, int status)
{
    struct visitor *visitor = status == 0 ? calloc(1, sizeof *visitor) : NULL;

    if (!visitor)
        return;
    uv_tcp_init(&loop, &visitor->tcp);
    if (uv_accept(server, (uv_stream_t *)&visitor->tcp) != 0 ||
        uv_read_start((uv_stream_t *)&visitor->tcp, give_room, on_read) != 0)
        leave(visitor);
}

static int serve(void)
{
    int fd = listen_on((unsigned short)port);

    uv_tcp_init(&loop, &listener);
    if (fd >= 0 && uv_tcp_open(&listener, fd) == 0 &&
        uv_listen((uv_stream_t *)&listener, 128, on_visitor) == 0)
        return 0;
    return -1;
}

/* --- the driver in the loop ------------------------------------------------------------------------ */

static acme_driver_t *driver;
static uv_poll_t driver_poll;
static uv_signal_t interrupt, terminate;

static void publish(acme_op_t *op, void *user)
{
    (void)user;
    acme_op_published(op, NULL); /* answer() gets the challenges from the client */
}

static void done(acme_op_t *op, acme_status_t status, void *user)
{
    const char *name = user;
    acme_cert_t *cert = acme_op_take_cert(op);

    if (status != ACME_OK) {
        fprintf(stderr, "libuv: %s: %s\n", name, acme_error_message(acme_op_error(op)));
        failures++;
    } else { /* it is in the store */
        printf("%s: valid for %d days\n", name, acme_cert_days_left(cert, 0));
    }
    acme_cert_free(cert);
    acme_op_free(op);
}

static void close_handle(uv_handle_t *handle, void *user)
{
    uv_handle_t *const ours[] = { (uv_handle_t *)&listener, (uv_handle_t *)&driver_poll,
                                  (uv_handle_t *)&interrupt, (uv_handle_t *)&terminate };
    uv_close_cb closed = free_visitor;
    size_t i;

    (void)user;
    for (i = 0; i < sizeof ours / sizeof *ours; i++)
        if (handle == ours[i])
            closed = NULL;
    if (!uv_is_closing(handle))
        uv_close(handle, closed);
}

/* Ends the loop. Operations that are not done are canceled; their callbacks run in acme_driver_free(). */
static void stop(void)
{
    uv_poll_stop(&driver_poll); /* before the driver closes its descriptor */
    acme_driver_free(driver);
    uv_walk(&loop, close_handle, NULL);
}

static void on_driver(uv_poll_t *handle, int status, int events)
{
    (void)handle, (void)status, (void)events;
    if (acme_driver_dispatch(driver) != ACME_OK)
        fprintf(stderr, "libuv: %s\n", acme_error_message(acme_last_error()));
    if (acme_driver_count(driver) == 0) /* a server would continue */
        stop();
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)handle, (void)number;
    stop();
}

static void add(char *name)
{
    acme_driver_callbacks_t callbacks = ACME_DRIVER_CALLBACKS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    const char *names[] = { name };
    acme_op_t *op = NULL;

    order.names = names;
    order.name_count = 1;
    callbacks.publish = publish;
    callbacks.done = done;
    callbacks.user = name;
    if (acme_begin_order(client, &order, &op) != ACME_OK ||
        acme_driver_add(driver, op, &callbacks) != ACME_OK) {
        fprintf(stderr, "libuv: %s: %s\n", name, acme_error_message(acme_last_error()));
        acme_op_free(op);
        failures++;
    }
}

static void run(char **names, int count)
{
    int i;

    uv_loop_init(&loop);
    uv_signal_init(&loop, &interrupt);
    uv_signal_init(&loop, &terminate);
    uv_poll_init(&loop, &driver_poll, acme_driver_fd(driver));
    if (serve() != 0)
        failures++;
    else
        for (i = 0; i < count; i++)
            add(names[i]);
    uv_signal_start(&interrupt, on_signal, SIGINT);
    uv_signal_start(&terminate, on_signal, SIGTERM);
    uv_poll_start(&driver_poll, UV_READABLE, on_driver);
    if (acme_driver_count(driver) == 0)
        stop();
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
}

int main(int argc, char **argv)
{
    acme_client_options_t account = ACME_CLIENT_OPTIONS_INIT;
    acme_store_t *store = NULL;
    const char *out = NULL;
    int i;

    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--agree-terms") == 0)
            account.terms_agreed = 1;
        else if (i + 1 < argc && strcmp(argv[i], "--directory") == 0)
            account.directory_url = argv[++i];
        else if (i + 1 < argc && strcmp(argv[i], "--ca-file") == 0)
            account.ca_file = argv[++i];
        else if (i + 1 < argc && strcmp(argv[i], "--port") == 0)
            port = atoi(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--out") == 0)
            out = argv[++i];
        else
            break;
    }
    if (start(argc, argv) != 0 || i == argc || argv[i][0] == '-' || !account.directory_url || !out) {
        fputs("usage: libuv --directory URL [--ca-file FILE] [--agree-terms] [--port N] --out DIR "
              "NAME...\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); /* a client may be gone before the response is sent */
    if (acme_store_directory(out, &store) == ACME_OK) {
        account.store = store;
        if (acme_client_new(&account, &client) == ACME_OK && acme_driver_new(NULL, &driver) == ACME_OK)
            run(argv + i, argc - i);
    }
    if (!driver) {
        fprintf(stderr, "libuv: %s\n", acme_error_message(acme_last_error()));
        failures++;
    }
    acme_client_free(client);
    acme_store_free(store);
    return failures != 0;
}
