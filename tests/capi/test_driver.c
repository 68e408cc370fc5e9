/* The driver: many operations on one descriptor, against Pebble and against CAs that hang. */
#include "driver.h"

#include <sys/wait.h>

/* --- certificates ------------------------------------------------------------------------------- */

static void one(acme_client_t *client)
{
    struct job job = order(client, "one.driver.test");
    int threads_before = threads(), descriptors_before = descriptors();
    acme_driver_t *driver = driver_with(0, 0);

    CHECK(threads_are(threads_before) && !is_readable(driver, 0));
    OK(acme_driver_dispatch(driver)); /* nothing to do */
    add(driver, &job);
    CHECK(acme_driver_count(driver) == 1 && is_readable(driver, 0) && !job.published);
    run(driver);
    judge(&job, "one.driver.test");
    OK(acme_driver_dispatch(driver));
    CHECK(!is_readable(driver, 0));
    acme_driver_free(driver);
    CHECK(threads_are(threads_before) && descriptors() == descriptors_before);
}

enum { MANY = 50, MAX_THREADS = 4 };

static void many_at_once(acme_client_t *client)
{
    static struct job jobs[MANY];
    static char names[MANY][32];
    int i, most = 0, before = threads();
    acme_driver_t *driver = driver_with(MAX_THREADS, MAX_THREADS);

    for (i = 0; i < MANY; i++) {
        sprintf(names[i], "n%d.driver.test", i);
        jobs[i] = order(client, names[i]);
        add(driver, &jobs[i]);
    }
    CHECK(acme_driver_count(driver) == MANY);
    while (acme_driver_count(driver) > 0) {
        dispatch(driver);
        if (threads() > most)
            most = threads();
    }
    /* The threads that send requests, and the thread that waits for timers. */
    CHECK(most > before + 2 && most <= before + MAX_THREADS + 1);
    for (i = 0; i < MANY; i++)
        judge(&jobs[i], names[i]);
    acme_driver_free(driver);
    CHECK(threads_are(before));
}

static void one_after_the_other_from_done(acme_client_t *client)
{
    acme_driver_t *driver = driver_with(0, 0);
    struct job first = order(client, "first.driver.test");
    struct job second = order(client, "second.driver.test");

    first.next = &second;
    add(driver, &first);
    run(driver);
    judge(&first, "first.driver.test");
    judge(&second, "second.driver.test");
    acme_driver_free(driver);
}

static void *publish_slowly(void *argument)
{
    struct timespec nap = { 0, 300 * 1000 * 1000 };
    acme_op_t *op = ((struct job *)argument)->op;

    nanosleep(&nap, NULL);
    return put_in_place(op) == 0 && acme_op_published(op, NULL) == ACME_OK ? NULL : argument;
}

static void start_publisher(struct job *job)
{
    pthread_create(&job->publisher, NULL, publish_slowly, job);
}

static void published_later_by_another_thread(acme_client_t *client)
{
    acme_driver_t *driver = driver_with(1, 1);
    struct job job = order(client, "late.driver.test");
    void *failure;

    job.on_publish = start_publisher;
    add(driver, &job);
    run(driver);
    pthread_join(job.publisher, &failure);
    CHECK(failure == NULL);
    judge(&job, "late.driver.test");
    acme_driver_free(driver);
}

static void sign(acme_op_t *op, void *user)
{
    const acme_sign_request_t *request = acme_op_sign_request(op);
    BIO *pem = BIO_new_mem_buf(((struct job *)user)->message, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(pem, NULL, NULL, NULL);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    unsigned char signature[512];
    size_t size = sizeof signature;

    CHECK(pthread_equal(pthread_self(), host_thread) && strcmp(request->algorithm, "ES256") == 0);
    CHECK(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1);
    CHECK(EVP_DigestSign(context, signature, &size, request->input, request->input_size) == 1);
    OK(acme_op_signed(op, request->id, signature, size));
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    BIO_free(pem);
}

static void keys_outside_the_process(void)
{
    acme_driver_t *driver = driver_with(0, 0);
    acme_key_t *key = new_key(), *outside = NULL;
    char *public = shell("openssl pkey -pubout", acme_key_pem(key), strlen(acme_key_pem(key)));
    acme_client_t *client;
    struct job job;

    OK(acme_key_from_public(public, strlen(public), &outside));
    client = pebble_client(outside);
    job = registration(client);
    add(driver, &job);
    run(driver);
    CHECK(job.status == ACME_ERR_HOST && strstr(job.message, "no sign callback"));

    job = registration(client);
    strcpy(job.message, acme_key_pem(key));
    callbacks.sign = sign;
    add(driver, &job);
    callbacks.sign = NULL;
    run(driver);
    CHECK(job.status == ACME_OK && acme_client_account_url(client));
    acme_driver_free(driver);
    acme_client_free(client);
    acme_key_free(outside);
    acme_key_free(key);
    free(public);
}

/* --- cancellation ------------------------------------------------------------------------------- */

static void publish_never(struct job *job)
{
    (void)job;
}

static void cancel(struct job *job)
{
    CHECK(put_in_place(job->op) == 0);
    acme_op_cancel(job->op);
}

static void fail(struct job *job)
{
    OK(acme_op_published(job->op, "the disk is full"));
}

static void ends(acme_client_t *client)
{
    acme_driver_t *driver = driver_with(0, 0);
    struct job job = order(client, "before.driver.test");

    add(driver, &job);
    acme_op_cancel(job.op);
    run(driver);
    CHECK(job.status == ACME_ERR_CANCELED && !job.published && !job.cert);

    job = order(client, "inside.driver.test");
    job.on_publish = cancel;
    add(driver, &job);
    run(driver);
    CHECK(job.status == ACME_ERR_CANCELED && job.unpublished == 1 && http_published() == 0);

    job = order(client, "while.driver.test");
    job.on_publish = publish_never;
    add(driver, &job);
    while (!job.published)
        dispatch(driver);
    settle(driver);
    CHECK(acme_driver_count(driver) == 1);
    acme_op_cancel(job.op);
    CHECK(is_readable(driver, 0));
    run(driver);
    CHECK(job.status == ACME_ERR_CANCELED && job.unpublished == 1);

    job = order(client, "failing.driver.test");
    job.on_publish = fail;
    add(driver, &job);
    run(driver);
    CHECK(job.status == ACME_ERR_HOST && strstr(job.message, "disk is full") && job.unpublished);

    job = order(client, "nobody.driver.test");
    callbacks.publish = NULL;
    add(driver, &job);
    callbacks.publish = publish;
    job.published = 1; /* so that unpublish, which is called anyway, is accepted */
    run(driver);
    CHECK(job.status == ACME_ERR_HOST && strstr(job.message, "no publish callback"));

    /* acme_driver_free() calls unpublish and done, too. */
    job = order(client, "freed.driver.test");
    job.on_publish = publish_never;
    add(driver, &job);
    while (!job.published)
        dispatch(driver);
    acme_driver_free(driver);
    CHECK(job.status == ACME_ERR_CANCELED && job.unpublished == 1);
}

/* --- CAs that hang ------------------------------------------------------------------------------- */

/* A CA that hangs: the kernel accepts connections, and no program responds. */
struct hanging {
    int listener;
    acme_client_t *client;
};

static struct hanging hanging_ca(const acme_key_t *key)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    struct hanging ca = { listen_on("0"), NULL };
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    char url[64];

    getsockname(ca.listener, (struct sockaddr *)&address, &size);
    sprintf(url, "https://127.0.0.1:%d/dir", ntohs(address.sin_port));
    options.directory_url = url;
    options.account_key = key;
    OK(acme_client_new(&options, &ca.client));
    return ca;
}

static void hanging_free(struct hanging *ca)
{
    acme_client_free(ca->client);
    close(ca->listener);
}

/* Waits for the wanted number of connections, and checks that there are no more. */
static int connections(struct hanging *ca, int wanted, int *accepted)
{
    struct pollfd fd = { ca->listener, POLLIN, 0 };
    int count = 0;

    while (poll(&fd, 1, count < wanted ? 60 * 1000 : 200) == 1)
        accepted[count++] = accept(ca->listener, NULL, NULL);
    return count;
}

static void each_ca_has_its_ceiling(acme_client_t *pebble, acme_key_t *key)
{
    enum { STUCK = 20 };
    struct hanging ca = hanging_ca(key);
    struct job stuck[STUCK], job = order(pebble, "swift.driver.test");
    int accepted[STUCK + 1], i, before = threads();
    acme_driver_t *driver = driver_with(3, 2);

    for (i = 0; i < STUCK; i++) {
        stuck[i] = registration(ca.client);
        add(driver, &stuck[i]);
    }
    settle(driver);
    CHECK(connections(&ca, 2, accepted) == 2);
    add(driver, &job);
    while (!job.finished) /* the other CA's operations do not wait */
        dispatch(driver);
    judge(&job, "swift.driver.test");
    CHECK(acme_driver_count(driver) == STUCK);

    acme_op_cancel(stuck[0].op); /* its request is in flight */
    acme_op_cancel(stuck[STUCK - 1].op); /* its request has not been sent */
    while (!stuck[0].finished || !stuck[STUCK - 1].finished)
        dispatch(driver);
    CHECK(stuck[0].status == ACME_ERR_CANCELED && acme_driver_count(driver) == STUCK - 2);
    acme_driver_free(driver);
    for (i = 0; i < STUCK; i++)
        CHECK(stuck[i].finished && stuck[i].status == ACME_ERR_CANCELED);
    CHECK(threads_are(before));
    close(accepted[0]);
    close(accepted[1]);
    hanging_free(&ca);
}

/* Without the interruption each request would take 30 seconds, and the test would exceed its time limit. */
static void free_interrupts_requests(acme_key_t *key)
{
    enum { ROUNDS = 24 };
    struct hanging ca = hanging_ca(key);
    int i, accepted[2], threads_before = threads(), descriptors_before = descriptors();

    for (i = 0; i < ROUNDS; i++) {
        acme_driver_t *driver = driver_with(0, 0);
        struct job job = registration(ca.client);
        struct pollfd fd = { ca.listener, POLLIN, 0 };

        add(driver, &job);
        settle(driver);
        CHECK(poll(&fd, 1, 60 * 1000) == 1);
        accepted[0] = accept(ca.listener, NULL, NULL);
        acme_driver_free(driver);
        CHECK(job.finished && job.status == ACME_ERR_CANCELED);
        close(accepted[0]);
        CHECK(threads_are(threads_before) && descriptors() == descriptors_before);
    }
    hanging_free(&ca);
}

static void nobody_listens(acme_key_t *key)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_driver_t *driver = driver_with(0, 0);
    acme_client_t *client = NULL;
    struct job job;

    options.directory_url = "https://127.0.0.1:1/dir";
    options.account_key = key;
    OK(acme_client_new(&options, &client));
    job = registration(client);
    add(driver, &job);
    run(driver); /* the delays between the tries are real */
    CHECK(job.status == ACME_ERR_TRANSPORT && strstr(job.message, "https://127.0.0.1:1/dir"));
    acme_driver_free(driver);
    acme_client_free(client);
}

/* --- misuse --------------------------------------------------------------------------------------- */

static acme_driver_t *busy;
static int misuses;

static void meddle(struct job *job)
{
    misuses += acme_driver_dispatch(busy) == ACME_ERR_MISUSE;
    acme_driver_free(busy);
    misuses += acme_error_status(acme_last_error()) == ACME_ERR_MISUSE;
    misuses += acme_op_poll(job->op, 0) == ACME_ERR_MISUSE;
    acme_op_free(job->op);
    misuses += acme_error_status(acme_last_error()) == ACME_ERR_MISUSE;
    CHECK(acme_driver_count(busy) == 1);
    CHECK(put_in_place(job->op) == 0);
    OK(acme_op_published(job->op, NULL));
}

static void add_while_ending(acme_op_t *op, acme_status_t status, void *user)
{
    struct job *job = user;

    CHECK(status == ACME_ERR_CANCELED);
    acme_op_free(op);
    CHECK_STATUS(acme_driver_add(job->driver, job->next->op, &callbacks), ACME_ERR_MISUSE, "freed");
    acme_op_free(job->next->op); /* a refused operation is still the caller's */
    job->finished = 1;
}

static void y04_y05_y10_misuse(acme_client_t *client)
{
    struct job job = order(client, "meddle.driver.test"), other;
    int status;
    pid_t child;

    busy = driver_with(0, 0);
    job.on_publish = meddle;
    add(busy, &job);
    CHECK_STATUS(acme_driver_add(busy, job.op, &callbacks), ACME_ERR_MISUSE, "driver");
    CHECK_STATUS(acme_op_poll(job.op, 0), ACME_ERR_MISUSE, "driver");
    CHECK_STATUS(acme_op_run(job.op, NULL), ACME_ERR_MISUSE, "driver");
    run(busy);
    CHECK(misuses == 4);
    judge(&job, "meddle.driver.test");

    /* In a child, the functions of the parent's driver only set ACME_ERR_MISUSE. */
    job = order(client, "parent.driver.test");
    add(busy, &job);
    settle(busy);
    child = fork();
    if (child == 0) {
        status = acme_driver_dispatch(busy) == ACME_ERR_MISUSE;
        acme_driver_free(busy);
        status += acme_error_status(acme_last_error()) == ACME_ERR_MISUSE;
        /* End by exec(), because valgrind would otherwise complain about the parent's threads. */
        execl("/bin/sh", "sh", "-c", status == 2 ? "exit 2" : "exit 1", (char *)NULL);
        _exit(1);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 2);
    run(busy);
    judge(&job, "parent.driver.test");

    job = registration(client);
    other = registration(client);
    job.next = &other;
    callbacks.done = add_while_ending;
    add(busy, &job);
    acme_driver_free(busy);
    CHECK(job.finished);
    callbacks.done = NULL;
    job = registration(client);
    busy = driver_with(0, 0);
    CHECK_STATUS(acme_driver_add(busy, job.op, &callbacks), ACME_ERR_INVALID_ARGUMENT, "done");
    CHECK(acme_op_poll(job.op, 0) == ACME_STEP_REQUEST); /* no driver and no run has it */
    callbacks.done = done;
    acme_op_free(job.op);
    acme_driver_free(busy);
}

int main(int argc, char **argv)
{
    acme_key_t *key = new_key();
    acme_client_t *client = pebble_client(key);

    choose_tests(argc, argv);
    host_start();
    TEST(one(client));
    TEST(many_at_once(client));
    TEST(one_after_the_other_from_done(client));
    TEST(published_later_by_another_thread(client));
    TEST(keys_outside_the_process());
    TEST(ends(client));
    TEST(each_ca_has_its_ceiling(client, key));
    TEST(free_interrupts_requests(key));
    TEST(nobody_listens(key));
    TEST(y04_y05_y10_misuse(client));
    http_stop();
    acme_client_free(client);
    acme_key_free(key);
    return report("test_driver");
}
