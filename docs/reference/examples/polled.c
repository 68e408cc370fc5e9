/* polled.c - a manager on threads of the program, without a driver. A program with an HTTP client of its own takes
   the steps of each operation with acme_op_poll(), as in loop.c. */
#include "example.h"

#include <poll.h>
#include <pthread.h>

static acme_manager_t *manager;
static int ended[2]; /* a pipe: one byte for each thread that has ended */
static int running, obtained;

/* Called by acme_manager_poll(), on its thread. */
static void on_event(const acme_event_t *event, void *user)
{
    (void)user;
    if (event->error)
        fprintf(stderr, "%s%s: %s\n", event->ca, event->name, acme_error_message(event->error));
    if (event->type == ACME_EVENT_OBTAINED)
        obtained += printf("obtained %s\n", event->name) > 0;
}

static void end_thread(void)
{
    if (write(ended[1], "", 1) != 1)
        perror("pipe");
}

static void start_thread(void *(*work)(void *), void *argument)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, work, argument) != 0 || pthread_detach(thread) != 0)
        exit(1);
    running++;
}

/* Waits until a thread has ended, or until the time has passed. */
static void wait_for_threads(int wait_ms)
{
    struct pollfd pipe_end = { ended[0], POLLIN, 0 };
    char byte;

    if (poll(&pipe_end, 1, wait_ms) == 1 && read(ended[0], &byte, 1) == 1)
        running--;
}

//! [manager-poll manager-load]
/* On a thread each. The manager learns by itself how the operation has ended. */
static void *carry_out(void *op)
{
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;

    run.publish = publish;
    run.unpublish = unpublish;
    run.user = &responder;
    if (acme_op_run(op, &run) != ACME_OK)
        fprintf(stderr, "an event with this error follows: %s\n", acme_error_message(acme_op_error(op)));
    acme_op_free(op);
    end_thread();
    return NULL;
}

static void *load(void *unused)
{
    (void)unused;
    if (acme_manager_load(manager) != ACME_OK)
        failed("load");
    end_thread();
    return NULL;
}

/* The main loop. Poll when a thread has ended, when the time has passed, and after acme_manager_add(). */
static int work(int until)
{
    acme_op_t *op = NULL;
    int wait_ms = 0;

    while (obtained < until || running > 0) {
        switch (acme_manager_poll(manager, &op, &wait_ms)) {
        case ACME_MANAGER_OPERATION:
            start_thread(carry_out, op);
            break;
        case ACME_MANAGER_LOAD:
            start_thread(load, NULL);
            break;
        case ACME_MANAGER_WAIT:
            wait_for_threads(wait_ms);
            break;
        default:
            return failed("manager");
        }
    }
    return 0;
}
//! [manager-poll manager-load]

int main(int argc, char **argv)
{
    static const char *const names[] = { "polled.example.org" };
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_manager_options_t with = ACME_MANAGER_OPTIONS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_store_t *store = NULL;
    acme_client_t *client = NULL;
    int result;

    if (argc != 4 || pipe(ended) != 0 || acme_store_memory(&store) != ACME_OK)
        return 2;
    options.directory_url = argv[1];
    options.ca_file = argv[2];
    options.store = store;
    options.terms_agreed = 1;
    responder.port = (unsigned short)atoi(argv[3]);
    order.names = names;
    order.name_count = 1;
    with.event = on_event;
    if (acme_client_new(&options, &client) != ACME_OK)
        return failed("client");
    with.client = client;
    if (acme_manager_new(&with, &manager) != ACME_OK || acme_manager_add(manager, &order) != ACME_OK)
        return failed("manager");
    result = work(1);
    acme_manager_free(manager);
    acme_client_free(client);
    acme_store_free(store);
    close(ended[0]);
    close(ended[1]);
    return result;
}
