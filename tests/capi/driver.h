/* Operations in a driver, and a host around it, for the tests that have one. */
#ifndef DRIVER_H
#define DRIVER_H

#include "pebble.h"

#include <dirent.h>
#include <poll.h>

/* State of an operation, set by its callbacks. */
struct job {
    acme_op_t *op;
    acme_driver_t *driver;
    acme_cert_t *cert;
    int published, unpublished, finished;
    acme_status_t status;
    char message[300];
    pthread_t publisher;
    void (*on_publish)(struct job *);
    struct job *next; /* the job to add when this one is done */
};

static pthread_t host_thread;
static acme_driver_callbacks_t callbacks = ACME_DRIVER_CALLBACKS_INIT;

/* --- callbacks ---------------------------------------------------------------------------------- */

static inline int put_in_place(acme_op_t *op)
{
    const acme_challenge_t *challenge;
    int failure = 0;
    size_t i;

    for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
        failure |= http_publish(challenge, NULL);
    return failure;
}

static inline void publish(acme_op_t *op, void *user)
{
    struct job *job = user;

    CHECK(pthread_equal(pthread_self(), host_thread) && job->op == op);
    CHECK(strcmp(acme_op_state(op), "publish") == 0 && acme_op_order_url(op));
    CHECK(job->published++ == 0 && !job->finished);
    if (job->on_publish) {
        job->on_publish(job);
        return;
    }
    CHECK(put_in_place(op) == 0);
    OK(acme_op_published(op, NULL));
}

static inline void unpublish(acme_op_t *op, void *user)
{
    struct job *job = user;
    size_t i;

    CHECK(pthread_equal(pthread_self(), host_thread) && job->op == op);
    CHECK(job->published == 1 && job->unpublished++ == 0 && !job->finished);
    for (i = 0; acme_op_challenge(op, i); i++)
        http_unpublish(acme_op_challenge(op, i), NULL);
    CHECK(i > 0);
}

static inline void add(acme_driver_t *driver, struct job *job)
{
    callbacks.user = job;
    job->driver = driver;
    OK(acme_driver_add(driver, job->op, &callbacks));
}

static inline void done(acme_op_t *op, acme_status_t status, void *user)
{
    struct job *job = user;

    CHECK(pthread_equal(pthread_self(), host_thread) && job->op == op);
    CHECK(job->finished++ == 0 && job->unpublished == job->published);
    CHECK(acme_error_status(acme_op_error(op)) == status);
    job->status = status;
    if (status != ACME_OK)
        snprintf(job->message, sizeof job->message, "%s", acme_error_message(acme_op_error(op)));
    job->cert = acme_op_take_cert(op);
    acme_op_free(op);
    if (job->next)
        add(job->driver, job->next);
}

/* --- a host -------------------------------------------------------------------------------------- */

static inline int is_readable(acme_driver_t *driver, int wait_ms)
{
    struct pollfd fd = { acme_driver_fd(driver), POLLIN, 0 };

    return poll(&fd, 1, wait_ms) == 1;
}

static inline void dispatch(acme_driver_t *driver)
{
    if (is_readable(driver, 60 * 1000))
        OK(acme_driver_dispatch(driver));
    else
        CHECK(!"the descriptor is readable");
}

/* Dispatches until all operations wait for something outside the process. */
static inline void settle(acme_driver_t *driver)
{
    while (is_readable(driver, 0))
        OK(acme_driver_dispatch(driver));
}

/* Runs the loop of a host that has only the driver. */
static inline void run(acme_driver_t *driver)
{
    while (acme_driver_count(driver) > 0)
        dispatch(driver);
}

static inline int entries(const char *path)
{
    DIR *directory = opendir(path);
    int count = 0;

    while (directory && readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static inline int threads(void)
{
    return entries("/proc/self/task");
}

/* Whether the process has this number of threads. Retries, because a joined thread may stay in /proc for a
 * moment. */
static inline int threads_are(int wanted)
{
    int tries;

    for (tries = 0; threads() != wanted && tries < 1000; tries++)
        poll(NULL, 0, 10);
    return threads() == wanted;
}

static inline int descriptors(void)
{
    return entries("/proc/self/fd");
}

static inline acme_driver_t *driver_with(size_t max_threads, size_t max_requests_per_ca)
{
    acme_driver_options_t options = ACME_DRIVER_OPTIONS_INIT;
    acme_driver_t *driver = NULL;

    options.max_threads = max_threads;
    options.max_requests_per_ca = max_requests_per_ca;
    OK(acme_driver_new(&options, &driver));
    return driver;
}

static inline struct job order(acme_client_t *client, const char *name)
{
    const char *names[] = { name };
    acme_order_options_t options = order_for(names, 1);
    struct job job = { 0 };

    OK(acme_begin_order(client, &options, &job.op));
    return job;
}

static inline struct job registration(acme_client_t *client)
{
    struct job job = { 0 };

    OK(acme_begin_register(client, &job.op));
    return job;
}

/* Checks that the job succeeded, and that its certificate is for this name. */
static inline void judge(struct job *job, const char *name)
{
    CHECK(job->finished && job->status == ACME_OK && job->cert);
    if (job->status != ACME_OK)
        fprintf(stderr, "%s: %s\n", name, job->message);
    verify(job->cert, name);
    acme_cert_free(job->cert);
    CHECK(http_published() == 0);
}

/* Prepares the host. Call it first, on the thread that dispatches. */
static inline void host_start(void)
{
    host_thread = pthread_self();
    callbacks.publish = publish;
    callbacks.unpublish = unpublish;
    callbacks.done = done;
    http_start();
}

#endif
