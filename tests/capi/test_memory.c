/* Memory and descriptors: an issuance returns all of them, after a success and after each failure, and
 * thousands of operations at the same time take little. */
#include "ca.h"

#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>

static size_t heap(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static size_t rss(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    CHECK(file && fscanf(file, "%*s %lu", &pages) == 1);
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* --- issuances, one after the other --------------------------------------------------------------- */

static int refuse(acme_op_t *op, uint64_t id)
{
    static const char problem[] = "{\"type\":\"urn:ietf:params:acme:error:unauthorized\","
                                  "\"detail\":\"no\",\"subproblems\":[{\"type\":\"x\"}]}";

    header(op, id, "Replay-Nonce", "one-more");
    acme_op_response_body(op, id, problem, strlen(problem));
    acme_op_response_end(op, id, 403);
    return 1;
}

static int give_nothing(acme_op_t *op, uint64_t id)
{
    acme_op_response_failed(op, id, "the cable is cut");
    return 1;
}

static int give_garbage(acme_op_t *op, uint64_t id)
{
    acme_op_response_body(op, id, "{\"status\":[[[", 13);
    acme_op_response_end(op, id, 200);
    return 1;
}

static int give_too_much(acme_op_t *op, uint64_t id)
{
    static char megabyte[1 << 20];

    acme_op_response_body(op, id, megabyte, sizeof megabyte);
    CHECK(acme_op_response_body(op, id, "x", 1) == ACME_ERR_PROTOCOL);
    acme_op_response_end(op, id, 200);
    return 1;
}

static int cancel(acme_op_t *op, uint64_t id)
{
    (void)id;
    acme_op_cancel(op);
    return 0;
}

static int unavailable(acme_op_t *op, uint64_t id)
{
    header(op, id, "Retry-After", "1");
    acme_op_response_end(op, id, 503);
    return 1;
}

static int (*const faults[])(acme_op_t *, uint64_t) = { refuse, give_nothing, give_garbage,
                                                        give_too_much, cancel, unavailable };
enum { FAULTS = sizeof faults / sizeof *faults };

/* Obtains a certificate with a new client; the response to request fails_at has this fault. Returns the
 * status. */
static int issue_one(acme_key_t *key, int fails_at, int (*fail)(acme_op_t *, uint64_t))
{
    acme_client_t *client = ca_client(key);
    acme_op_t *op = ca_order(client);
    struct account known = { 0 };
    acme_cert_t *cert;
    int status;

    known.fails_at = fails_at;
    known.fail = fail;
    status = ca_run(op, &known);
    cert = acme_op_take_cert(op);
    CHECK((status == ACME_OK) == (cert != NULL));
    CHECK(!cert || strcmp(acme_cert_name(cert, 0), "www.example.org") == 0);
    acme_cert_free(cert);
    acme_op_free(op);
    acme_client_free(client);
    return status;
}

static void m05_nothing_is_left_on_any_way_out(void)
{
    acme_key_t *key = new_key();
    int fault, at, ends = 0, certificates = 0;

    CHECK(issue_one(key, 0, NULL) == ACME_OK);
    for (fault = 0; fault < FAULTS; fault++)
        for (at = 1; at <= 10; at++) {
            int status = issue_one(key, at, faults[fault]);

            ends++;
            certificates += status == ACME_OK;
        }
    CHECK(certificates > 10 && certificates < ends - 10); /* the library recovers from some of the faults */
    acme_key_free(key);
}

/* Memory must not grow in the second half. Its size after the first half does not matter: malloc() and
 * OpenSSL keep some memory for later. */
static void m04_m08_many_issuances_take_no_more_than_a_few(void)
{
    const char *wanted = getenv("ACME_TEST_ISSUANCES");
    int many = wanted ? atoi(wanted) : getenv("ACME_TEST_SLOW") ? 20 : 1000, i;
    size_t heap_before = 0, rss_before = 0;
    acme_key_t *key = new_key();

    for (i = 0; i < many; i++) {
        int fails = i % 3 == 2, status;

        if (i == many / 2) {
            heap_before = heap();
            rss_before = rss();
        }
        status = issue_one(key, fails ? 1 + i % 10 : 0, faults[i % FAULTS]);
        CHECK(fails || status == ACME_OK);
    }
    CHECK(heap() <= heap_before + 64 * 1024);
    /* RSS has no meaning under AddressSanitizer and valgrind, which keep freed memory for a while. */
    if (!getenv("ACME_TEST_SLOW"))
        CHECK(rss() <= rss_before + 1024 * 1024);
    acme_key_free(key);
}

/* --- many at once --------------------------------------------------------------------------------------- */

static void y16_ten_thousand_orders_in_one_thread(void)
{
    int count = getenv("ACME_TEST_SLOW") ? 100 : 10000, i, rounds = 0, left = count;
    acme_op_t **ops = calloc((size_t)count, sizeof *ops);
    struct account *known = calloc((size_t)count, sizeof *known);
    char *published = calloc((size_t)count, 1);
    acme_key_t *key = new_key();
    acme_client_t *client = ca_client(key);
    size_t before = heap(), each;
    acme_time_t now = 1000;

    CHECK(issue_one(key, 0, NULL) == ACME_OK);
    for (i = 0; i < count; i++)
        ops[i] = ca_order(client);
    /* Poll all operations in turn, until each waits for its host. This is when they hold the most memory. */
    while (left > 0 && rounds++ < 100) {
        for (i = 0; i < count; i++) {
            int step;

            if (published[i])
                continue;
            step = acme_op_poll(ops[i], now);
            CHECK(step == ACME_STEP_REQUEST || step == ACME_STEP_WAIT || step == ACME_STEP_PUBLISH);
            if (step == ACME_STEP_REQUEST)
                ca_answer(ops[i], acme_op_request(ops[i]), &known[i]);
            left -= published[i] = step == ACME_STEP_PUBLISH;
        }
        now += 5000;
    }
    CHECK(left == 0 && rounds < 20); /* no operation waits for others for long */
    each = (heap() - before) / (size_t)count;
    CHECK(each <= 50 * 1024);
    if (!getenv("ACME_TEST_SLOW"))
        printf("an order that is published takes %zu bytes\n", each);
    for (i = 0; i < count; i++)
        acme_op_free(ops[i]);
    acme_client_free(client);
    acme_key_free(key);
    free(published);
    free(known);
    free(ops);
}

/* --- with little memory ------------------------------------------------------------------------------------ */

/* Runs in a child, because a limit cannot be raised again. */
static void m03_an_issuance_in_32_mib_of_addresses(acme_client_t *client)
{
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
    int status;
    pid_t child = fork();

    if (child == 0) {
        unsigned long pages = 0;
        FILE *file = fopen("/proc/self/statm", "r");
        struct rlimit limit;

        if (!file || fscanf(file, "%lu", &pages) != 1)
            _exit(2);
        fclose(file);
        limit.rlim_cur = limit.rlim_max =
            pages * (unsigned long)sysconf(_SC_PAGESIZE) + 32 * 1024 * 1024;
        if (!getenv("ACME_TEST_SLOW") && setrlimit(RLIMIT_AS, &limit) != 0) /* valgrind needs more memory */
            _exit(3);
        status = obtain_by_dns(client, "little.memory.test");
        execl("/bin/sh", "sh", "-c", status == ACME_OK ? "exit 7" : "exit 1", (char *)NULL);
        _exit(status == ACME_OK ? 7 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
#else
    (void)client;
#endif
}

/* --- descriptors ------------------------------------------------------------------------------------------- */

static int descriptors(int *not_closed_by_exec)
{
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    int count = 0;

    *not_closed_by_exec = 0;
    while ((entry = readdir(folder))) {
        int fd = atoi(entry->d_name);

        if (entry->d_name[0] == '.' || fd == dirfd(folder))
            continue;
        count++;
        *not_closed_by_exec += fd > 2 && !(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
    closedir(folder);
    return count;
}

static int most, inherited, inherited_before;

static int look(acme_op_t *op, const acme_http_request_t *request, void *user)
{
    int status = acme_op_send(op, request->id), open_to_children;
    int count = descriptors(&open_to_children);

    (void)user;
    most = count > most ? count : most;
    inherited |= open_to_children > inherited_before;
    return status == ACME_OK ? 0 : 1;
}

static void done(acme_op_t *op, acme_status_t status, void *user)
{
    (void)user;
    CHECK(status == ACME_OK);
    acme_op_free(op);
}

static void m09_descriptors_are_closed_by_us_and_by_exec(acme_key_t *key)
{
    int before = descriptors(&inherited_before), none;
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
    acme_driver_callbacks_t callbacks = ACME_DRIVER_CALLBACKS_INIT;
    acme_client_t *client = pebble_client(key);
    acme_driver_t *driver = NULL;
    acme_op_t *op = NULL;
    struct pollfd fd;

    run.send = look;
    OK(acme_begin_register(client, &op));
    OK(acme_op_run(op, &run));
    acme_op_free(op);
    CHECK(most > before && !inherited);

    OK(acme_driver_new(NULL, &driver));
    OK(acme_begin_register(client, &op));
    callbacks.done = done;
    OK(acme_driver_add(driver, op, &callbacks));
    while (acme_driver_count(driver) > 0) {
        fd.fd = acme_driver_fd(driver);
        fd.events = POLLIN;
        poll(&fd, 1, 1000);
        OK(acme_driver_dispatch(driver));
        CHECK(descriptors(&none) > before && none == inherited_before);
    }
    acme_driver_free(driver);
    acme_client_free(client);
    CHECK(descriptors(&none) == before);
}

/* --- managers ------------------------------------------------------------------------------------------ */

static void count_failures(const acme_event_t *event, void *user)
{
    CHECK(event->type == ACME_EVENT_FAILED || event->type == ACME_EVENT_CA_PAUSED);
    *(int *)user += event->type == ACME_EVENT_FAILED;
}

/* A manager whose first attempt fails, from its store to its end. */
static void manage_once(void)
{
    static const char *const names[] = { "memory.manager.test" };
    acme_client_options_t ca = ACME_CLIENT_OPTIONS_INIT;
    acme_manager_options_t options = ACME_MANAGER_OPTIONS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_driver_t *driver = NULL;
    acme_manager_t *manager = NULL;
    acme_store_t *store = NULL;
    struct pollfd fd;
    int failures = 0;

    OK(acme_store_memory(&store));
    ca.directory_url = "https://127.0.0.1:1/directory"; /* no program listens there */
    ca.store = store;
    OK(acme_client_new(&ca, &client));
    OK(acme_driver_new(NULL, &driver));
    options.client = client;
    options.event = count_failures;
    options.user = &failures;
    OK(acme_manager_new(&options, &manager));
    order.names = names;
    order.name_count = 1;
    OK(acme_manager_add(manager, &order));
    OK(acme_manager_start(manager, driver));
    while (failures == 0) {
        fd.fd = acme_driver_fd(driver);
        fd.events = POLLIN;
        poll(&fd, 1, 1000);
        OK(acme_driver_dispatch(driver));
    }
    acme_manager_free(manager);
    acme_driver_free(driver);
    acme_client_free(client);
    acme_store_free(store);
}

static void m09_a_manager_returns_its_memory_and_descriptors(void)
{
    int i, before, none;
    size_t heap_before;

    manage_once();
    before = descriptors(&none);
    heap_before = heap();
    for (i = 0; i < 2; i++)
        manage_once();
    CHECK(descriptors(&none) == before);
    CHECK(heap() <= heap_before + 64 * 1024);
}

int main(int argc, char **argv)
{
    acme_key_t *key = new_key();
    acme_client_t *client = pebble_client(key);

    choose_tests(argc, argv);
    TEST(m03_an_issuance_in_32_mib_of_addresses(client));
    TEST(m09_descriptors_are_closed_by_us_and_by_exec(key));
    TEST(m09_a_manager_returns_its_memory_and_descriptors());
    TEST(m05_nothing_is_left_on_any_way_out());
    TEST(m04_m08_many_issuances_take_no_more_than_a_few());
    TEST(y16_ten_thousand_orders_in_one_thread());
    acme_client_free(client);
    acme_key_free(key);
    EVP_PKEY_free(ca_key);
    return report("test_memory");
}
