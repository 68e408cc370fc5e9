/* driver.c - many certificates at once, on the event loop of the program, here poll(2). */
#include "example.h"

#include <poll.h>

static int obtained;

//! [add]
static void on_publish(acme_op_t *op, void *user)
{
    const acme_challenge_t *challenge;
    int wrong = 0;
    size_t i;

    for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
        wrong |= publish(challenge, user);
    acme_op_published(op, wrong ? "port in use" : NULL); /* now, or later on any thread */
}

static void on_unpublish(acme_op_t *op, void *user)
{
    const acme_challenge_t *challenge;
    size_t i;

    for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
        unpublish(challenge, user);
}

static void on_done(acme_op_t *op, acme_status_t status, void *user)
{
    acme_cert_t *cert = acme_op_take_cert(op);

    (void)user;
    if (status == ACME_OK)
        obtained++; /* and to the server with it */
    else
        fprintf(stderr, "%s\n", acme_error_message(acme_op_error(op)));
    acme_cert_free(cert);
    acme_op_free(op);
}

static int start(acme_driver_t *driver, const acme_client_t *client, const char *name)
{
    acme_driver_callbacks_t callbacks = ACME_DRIVER_CALLBACKS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_op_t *op = NULL;

    order.names = &name;
    order.name_count = 1;
    callbacks.publish = on_publish;
    callbacks.unpublish = on_unpublish;
    callbacks.done = on_done;
    callbacks.user = &responder;
    if (acme_begin_order(client, &order, &op) == ACME_OK &&
        acme_driver_add(driver, op, &callbacks) == ACME_OK)
        return 0;
    acme_op_free(op);
    return failed(name);
}
//! [add]

//! [driver]
static acme_driver_t *make_driver(void)
{
    acme_driver_options_t options = ACME_DRIVER_OPTIONS_INIT;
    acme_driver_t *driver = NULL;

    options.max_threads = 4;
    if (acme_driver_new(&options, &driver) != ACME_OK)
        failed("driver");
    return driver;
}
//! [driver]

//! [dispatch]
/* The event loop. A server watches its sockets in the same poll(). */
static int loop(acme_driver_t *driver)
{
    struct pollfd watched = { acme_driver_fd(driver), POLLIN, 0 };

    while (acme_driver_count(driver) > 0) {
        if (poll(&watched, 1, -1) < 0)
            return 1;
        if (watched.revents && acme_driver_dispatch(driver) != ACME_OK)
            return failed("driver");
    }
    return 0;
}
//! [dispatch]

int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_driver_t *driver = make_driver();
    acme_client_t *client = NULL;
    acme_key_t *key = NULL;
    int result;

    if (!driver || from_arguments(argc, argv, &options, &key) ||
        acme_client_new(&options, &client) != ACME_OK)
        return failed("client");
    result = start(driver, client, "one.example.org") || start(driver, client, "two.example.org") ||
             loop(driver);
    //! [driver-free]
    acme_driver_free(driver); /* cancels the operations in it and calls done of each */
    acme_client_free(client);
    //! [driver-free]
    acme_key_free(key);
    return result || obtained != 2;
}
