/* The system refuses resources: each allocation of an issuance, once; and threads.
 *
 *   torture         beside Pebble; without other tools, because this program replaces malloc()
 *
 * ACME_TEST_ALLOCATIONS is the number of allocations to refuse (default 300), each in its own process. */
#define _GNU_SOURCE
#include "check.h"

/* 1 while the library runs: only its allocations are counted. */
static int counts;

static int counted(int result)
{
    counts = 0;
    return result;
}

#define COUNTED(call) (counts = 1, counted(call))
#define acme_begin_order(client, options, op) COUNTED(acme_begin_order(client, options, op))
#define acme_op_poll(op, now) COUNTED(acme_op_poll(op, now))
#define acme_op_published(op, why) COUNTED(acme_op_published(op, why))
#define acme_op_response_header(op, id, name, name_size, value, value_size) \
    COUNTED(acme_op_response_header(op, id, name, name_size, value, value_size))
#define acme_op_response_body(op, id, data, size) COUNTED(acme_op_response_body(op, id, data, size))
#define acme_op_response_end(op, id, status) COUNTED(acme_op_response_end(op, id, status))

#include "ca.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <sys/wait.h>

/* --- malloc() and similar functions, in front of libc's --------------------------------------------- */

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
void *malloc(size_t), *calloc(size_t, size_t), *realloc(void *, size_t), *memalign(size_t, size_t);

static long allocations, refused; /* number so far; number of the refused one, 0: none */
static size_t largest;

static int is_refused(size_t size)
{
    if (!counts)
        return 0;
    if (size > largest)
        largest = size;
    return ++allocations == refused;
}

static void *none(void)
{
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t size)
{
    return is_refused(size) ? none() : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return is_refused(count * size) ? none() : __libc_calloc(count, size);
}

void *realloc(void *at, size_t size)
{
    return is_refused(size) ? none() : __libc_realloc(at, size);
}

void *memalign(size_t alignment, size_t size)
{
    return is_refused(size) ? none() : __libc_memalign(alignment, size);
}

int posix_memalign(void **at, size_t alignment, size_t size)
{
    void *made = memalign(alignment, size);

    if (!made)
        return ENOMEM;
    *at = made;
    return 0;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

/* --- each allocation, once ------------------------------------------------------------------------------ */

enum { FINE = 7, AN_ERROR, NOT_REFUSED, WRONG };

static int in_child(acme_client_t *client, long which)
{
    static const char *const names[] = { "www.example.org" };
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    struct account known = { 0 };
    acme_cert_t *cert;
    acme_op_t *op = NULL;
    int status;

    fclose(stderr); /* Rust's message "out of memory" would go there */
    order.names = names;
    order.name_count = 1;
    allocations = 0;
    refused = which;
    status = acme_begin_order(client, &order, &op);
    if (status == ACME_OK)
        status = ca_run(op, &known);
    else if (op)
        return WRONG;
    refused = 0;
    if (status != ACME_OK) /* the thread and the operation have the error */
        return acme_error_message(acme_last_error()) &&
                       (!op || acme_error_status(acme_op_error(op)) == status)
                   ? AN_ERROR
                   : WRONG;
    cert = acme_op_take_cert(op);
    if (!cert || strcmp(acme_cert_name(cert, 0), names[0]) != 0)
        return WRONG;
    return allocations < which ? NOT_REFUSED : FINE;
}

/* If a small allocation of Rust is refused, Rust ends the process. If one of OpenSSL is refused, the
 * operation has an error. */
static void m01_each_allocation_is_refused_once(void)
{
    acme_key_t *key = new_key();
    acme_client_t *client = ca_client(key);
    const char *wanted = getenv("ACME_TEST_ALLOCATIONS");
    long many = wanted ? atol(wanted) : 300, which, aborts = 0, errors = 0, fine = 0;

    for (which = 1; which <= many; which++) {
        int status;
        pid_t child = fork();

        if (child == 0)
            _exit(in_child(client, which));
        CHECK(waitpid(child, &status, 0) == child);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) {
            aborts++;
        } else if (WIFEXITED(status) && WEXITSTATUS(status) == AN_ERROR) {
            errors++;
        } else if (WIFEXITED(status) && WEXITSTATUS(status) == FINE) {
            fine++;
        } else if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_REFUSED) {
            break;
        } else {
            fprintf(stderr, "allocation %ld: status %#x\n", which, (unsigned)status);
            CHECK(!"an allocation that is refused is an error or the end");
        }
    }
    CHECK(aborts > 0 && errors > 0);
    acme_client_free(client);
    acme_key_free(key);
    printf("%ld allocations refused: %ld ends, %ld errors, %ld mended\n", which - 1, aborts, errors,
           fine);
}

/* --- memory that a CA can make the library allocate ------------------------------------------------------ */

enum { MIB = 1 << 20 };

static const char *huge; /* text to repeat up to 1 MiB */

static int give_huge(acme_op_t *op, uint64_t id)
{
    static char body[MIB + 1];
    size_t i, length = strlen(huge);

    for (i = 0; i + 2 * length < MIB; i += length)
        memcpy(body + i, huge, length);
    body[i] = 0;
    header(op, id, "Replay-Nonce", "huge");
    acme_op_response_body(op, id, body, i);
    acme_op_response_end(op, id, 200);
    return 1;
}

static void m02_no_answer_makes_a_large_allocation(void)
{
    static const char *const texts[] = { "[", "{\"a\":", "[0,", "\"", "{\"status\":\"valid\",\"a\":[1,",
                                         "-----BEGIN CERTIFICATE-----\nAAAA\n", "MIIB", " " };
    acme_key_t *key = new_key();
    size_t i;
    int at;

    for (i = 0; i < sizeof texts / sizeof *texts; i++)
        for (at = 1; at <= 9; at++) {
            acme_client_t *client = ca_client(key);
            acme_op_t *op = ca_order(client);
            struct account known = { 0 };

            huge = texts[i];
            known.fails_at = at;
            known.fail = give_huge;
            largest = 0;
            ca_run(op, &known);
            CHECK(largest >= MIB / 2 && largest <= 2 * MIB);
            if (largest > 2 * MIB)
                fprintf(stderr, "    %s at request %d: %zu bytes\n", huge, at, largest);
            acme_op_free(op);
            acme_client_free(client);
        }
    acme_key_free(key);
}

/* --- threads ----------------------------------------------------------------------------------------------- */

static int threads_refused, threads_asked;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *user)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

    threads_asked++;
    if (threads_refused)
        return EAGAIN;
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attributes, body, user);
}

static int obtain(acme_client_t *client, const char *name, acme_cert_t **cert)
{
    const char *names[] = { name }, *types[] = { "dns-01" };
    acme_order_options_t order = order_for(names, 1);
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;

    order.challenge_types = types;
    order.challenge_type_count = 1;
    run.publish = dns_publish;
    run.unpublish = dns_unpublish;
    return acme_obtain(client, &order, &run, cert);
}

static acme_status_t ended_with;

static void done(acme_op_t *op, acme_status_t status, void *user)
{
    (void)user;
    ended_with = status;
    acme_op_free(op);
}

static void y17_no_thread_is_to_be_had(acme_client_t *client)
{
    acme_driver_callbacks_t callbacks = ACME_DRIVER_CALLBACKS_INIT;
    acme_driver_t *driver = NULL;
    acme_cert_t *cert = NULL;
    acme_op_t *op = NULL;
    struct pollfd fd;

    threads_refused = 1;
    threads_asked = 0;
    OK(obtain(client, "threadless.torture.test", &cert)); /* a blocking call needs no thread */
    CHECK(threads_asked == 0);
    acme_cert_free(cert);

    OK(acme_driver_new(NULL, &driver));
    OK(acme_begin_register(client, &op));
    callbacks.done = done;
    CHECK_STATUS(acme_driver_add(driver, op, &callbacks), ACME_ERR_HOST, "no threads");
    CHECK(threads_asked > 0 && acme_driver_count(driver) == 0);
    /* When threads are available again, the driver works. */
    threads_refused = 0;
    OK(acme_driver_add(driver, op, &callbacks));
    while (acme_driver_count(driver) > 0) {
        fd.fd = acme_driver_fd(driver);
        fd.events = POLLIN;
        poll(&fd, 1, 1000);
        OK(acme_driver_dispatch(driver));
    }
    CHECK(ended_with == ACME_OK);
    acme_driver_free(driver);
}

int main(void)
{
    acme_key_t *key = new_key();
    acme_client_t *client = pebble_client(key);

    m01_each_allocation_is_refused_once();
    m02_no_answer_makes_a_large_allocation();
    y17_no_thread_is_to_be_had(client);
    acme_client_free(client);
    acme_key_free(key);
    return report("torture");
}
