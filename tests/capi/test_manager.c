/* A manager: certificates that stay fresh by themselves. */
#include "manager.h"

#include <sys/wait.h>

#define ACME_MICRO_OPENSSL_IMPLEMENTATION
#include "acme_micro_openssl.h"

/* --- what can be seen ---------------------------------------------------------------------------------- */

static int refuse_text(const char *text, size_t size, void *user)
{
    (void)text, (void)size, (void)user;
    return 7;
}

static void see(const acme_manager_t *manager, const char *name, const char *state)
{
    char text[2000], wanted[400];

    OK(acme_manager_status(manager, name, keep_text, text));
    snprintf(wanted, sizeof wanted, "{\"name\":\"%s\",\"state\":\"%s\"", name, state);
    CHECK(strncmp(text, wanted, strlen(wanted)) == 0);
    OK(acme_manager_status(manager, NULL, keep_text, text));
    CHECK(text[0] == '[' && strncmp(text + 1, wanted, strlen(wanted)) == 0);
    OK(acme_manager_metrics(manager, keep_text, text));
    snprintf(wanted, sizeof wanted, "acme_certificates{state=\"%s\"} 1\n", state);
    CHECK(strstr(text, wanted) && strstr(text, "\n# EOF\n"));
    CHECK_STATUS(acme_manager_status(manager, "nobody", keep_text, text), ACME_ERR_INVALID_ARGUMENT,
                 "no certificate of this name");
    CHECK_STATUS(acme_manager_metrics(manager, refuse_text, text), ACME_ERR_HOST, "gave 7");
    CHECK_STATUS(acme_manager_metrics(manager, NULL, text), ACME_ERR_INVALID_ARGUMENT, "write is NULL");
}

/* --- the life of a certificate ----------------------------------------------------------------------- */

static void lives(void)
{
    acme_store_t *store = NULL;
    acme_client_t *client;
    acme_driver_t *driver = driver_with(0, 0);
    acme_manager_t *manager;
    acme_cert_t *cert;
    struct seen seen = { 0 };
    char serial[100];

    OK(acme_store_memory(&store));
    client = http_asks = stored_client(store, env("ACME_DIRECTORY"));
    manager = manager_of(client, &seen);
    add_name(manager, "one.manager.test");
    CHECK(acme_manager_count(manager) == 1 && !acme_manager_cert(manager, "one.manager.test"));
    see(manager, "one.manager.test", "loading");
    OK(acme_manager_start(manager, driver));
    CHECK_STATUS(acme_manager_start(manager, driver), ACME_ERR_MISUSE, "already");
    until(driver, &seen, ACME_EVENT_OBTAINED);
    CHECK(strcmp(seen.name, "one.manager.test") == 0 && seen.next_try > 0);
    see(manager, "one.manager.test", "valid");
    cert = acme_manager_cert(manager, "ONE.manager.test.");
    verify(cert, "one.manager.test");
    CHECK(strcmp(acme_cert_serial(cert), seen.serial) == 0 && acme_cert_key(cert));
    acme_cert_free(cert);
    CHECK(!acme_manager_cert(manager, "two.manager.test") && !acme_manager_cert(manager, NULL));

    /* Renewed at the host's wish. */
    strcpy(serial, seen.serial);
    OK(acme_manager_renew(manager, "one.manager.test"));
    until(driver, &seen, ACME_EVENT_RENEWED);
    CHECK(strcmp(serial, seen.serial) != 0);
    CHECK_STATUS(acme_manager_renew(manager, "two.manager.test"), ACME_ERR_INVALID_ARGUMENT, "no certificate");
    acme_manager_free(manager);

    /* After a restart it is there at once, and nothing is ordered. */
    strcpy(serial, seen.serial);
    memset(&seen, 0, sizeof seen);
    manager = manager_of(client, &seen);
    add_name(manager, "one.manager.test");
    OK(acme_manager_start(manager, driver));
    until(driver, &seen, ACME_EVENT_LOADED);
    CHECK(strcmp(serial, seen.serial) == 0);
    settle(driver);
    CHECK(!seen.count[ACME_EVENT_RENEWED] && !seen.count[ACME_EVENT_FAILED]);
    OK(acme_manager_remove(manager, "one.manager.test"));
    CHECK(acme_manager_count(manager) == 0 && !acme_manager_cert(manager, "one.manager.test"));
    acme_manager_free(manager);

    http_asks = NULL;
    acme_client_free(client);
    acme_driver_free(driver);
    acme_store_free(store);
}

/* --- failures ---------------------------------------------------------------------------------------- */

static void g06_the_driver_is_freed_first(void)
{
    acme_store_t *store = NULL;
    acme_client_t *client;
    acme_driver_t *driver = driver_with(0, 0);
    acme_manager_t *manager;
    struct seen seen = { 0 };
    acme_time_t now;

    OK(acme_store_memory(&store));
    client = stored_client(store, "https://127.0.0.1:1/directory");
    manager = manager_of(client, &seen);
    add_name(manager, "a.manager.test");
    add_name(manager, "b.manager.test");
    OK(acme_manager_start(manager, driver));
    until(driver, &seen, ACME_EVENT_FAILED);
    now = (acme_time_t)time(NULL) * 1000;
    CHECK(seen.next_try >= now + 50 * 1000 && seen.next_try <= now + 100 * 1000);
    CHECK(strstr(seen.message, "127.0.0.1") != NULL);
    /* The driver may be freed first. */
    acme_driver_free(driver);
    acme_manager_free(manager);
    acme_client_free(client);
    acme_store_free(store);
}

/* --- the end ------------------------------------------------------------------------------------------- */

/* A manager that is freed during its attempt: that is no failure. Afterwards its driver rests. */
static void ends_early(void)
{
    acme_store_t *store = NULL;
    acme_client_t *client;
    acme_driver_t *driver = driver_with(0, 0);
    acme_manager_t *manager;
    struct seen seen = { 0 };
    char text[2000] = "";
    int tries;

    OK(acme_store_memory(&store));
    client = http_asks = stored_client(store, env("ACME_DIRECTORY"));
    manager = manager_of(client, &seen);
    add_name(manager, "early.manager.test");
    OK(acme_manager_start(manager, driver));
    for (tries = 0; acme_driver_count(driver) == 0 && tries < 600; tries++)
        if (is_readable(driver, 100))
            OK(acme_driver_dispatch(driver));
    CHECK(acme_driver_count(driver) == 1);
    acme_manager_free(manager);
    CHECK(acme_driver_count(driver) == 0);
    for (tries = 0; is_readable(driver, 300) && tries < 100; tries++) /* a read of the store may end later */
        OK(acme_driver_dispatch(driver));
    CHECK(!is_readable(driver, 300));

    manager = manager_of(client, &seen);
    add_name(manager, "early.manager.test");
    OK(acme_manager_start(manager, driver));
    do {
        if (is_readable(driver, 100))
            OK(acme_driver_dispatch(driver));
        OK(acme_manager_status(manager, "early.manager.test", keep_text, text));
    } while (strstr(text, "loading"));
    CHECK(strstr(text, "\"failures\":0") != NULL);
    until(driver, &seen, ACME_EVENT_OBTAINED);
    CHECK(seen.count[ACME_EVENT_FAILED] == 0);
    acme_manager_free(manager);
    acme_client_free(client);
    acme_driver_free(driver);
    acme_store_free(store);
    http_asks = NULL;
}

/* --- without a loop ------------------------------------------------------------------------------------ */

static void *stop_soon(void *manager)
{
    struct timespec nap = { 3, 0 };

    nanosleep(&nap, NULL);
    acme_manager_stop(manager);
    return NULL;
}

static void runs(void)
{
    acme_store_t *store = NULL;
    acme_client_t *client;
    acme_manager_t *manager;
    struct seen seen = { 0 };
    pthread_t stopper;
    int before = threads();

    OK(acme_store_memory(&store));
    client = http_asks = stored_client(store, env("ACME_DIRECTORY"));
    manager = manager_of(client, &seen);
    add_name(manager, "run.manager.test");
    pthread_create(&stopper, NULL, stop_soon, manager);
    OK(acme_manager_run(manager));
    pthread_join(stopper, NULL);
    CHECK(seen.count[ACME_EVENT_OBTAINED] + seen.count[ACME_EVENT_FAILED] <= 1);
    CHECK(threads_are(before));
    /* Again: it goes on where it was. */
    pthread_create(&stopper, NULL, stop_soon, manager);
    OK(acme_manager_run(manager));
    pthread_join(stopper, NULL);
    acme_manager_free(manager);
    acme_client_free(client);
    acme_store_free(store);
    http_asks = NULL;
}

/* --- misuse -------------------------------------------------------------------------------------------- */

static acme_manager_t *calling;
static int misuses;

static void meddle(const acme_event_t *event, void *user)
{
    if (event->type == ACME_EVENT_CA_PAUSED)
        return;
    misuses += acme_driver_dispatch(user) == ACME_ERR_MISUSE;
    acme_manager_free(calling); /* refused: it is calling back */
    misuses += acme_error_status(acme_last_error()) == ACME_ERR_MISUSE;
    OK(acme_manager_remove(calling, event->name)); /* the certificate that it is told of */
}

static void g05_a_callback_removes_its_certificate(void)
{
    acme_manager_options_t options = ACME_MANAGER_OPTIONS_INIT;
    acme_driver_t *driver = driver_with(0, 0);
    acme_key_t *key = new_key();
    acme_client_t *client = pebble_client(key), *stored;
    acme_store_t *store = NULL;
    acme_manager_t *manager = NULL;
    const char *names[] = { "127.1" };
    acme_order_options_t order = order_for(names, 1);
    int tries;

    CHECK_STATUS(acme_manager_new(&options, &manager), ACME_ERR_INVALID_ARGUMENT, "client");
    options.client = client;
    CHECK_STATUS(acme_manager_new(&options, &manager), ACME_ERR_INVALID_ARGUMENT, "has no store");
    OK(acme_store_memory(&store));
    options.client = stored = stored_client(store, "https://127.0.0.1:1/directory");
    options.event = meddle;
    options.user = driver;
    OK(acme_manager_new(&options, &manager));
    calling = manager;
    CHECK_STATUS(acme_manager_add(manager, &order), ACME_ERR_INVALID_ARGUMENT, "127.1");
    order.name_count = 0;
    CHECK_STATUS(acme_manager_add(manager, &order), ACME_ERR_INVALID_ARGUMENT, "names");
    CHECK(acme_manager_count(manager) == 0);
    add_name(manager, "misuse.manager.test");
    OK(acme_manager_start(manager, driver));
    for (tries = 0; misuses == 0 && tries < 600; tries++)
        if (is_readable(driver, 100))
            OK(acme_driver_dispatch(driver));
    CHECK(misuses == 2 && acme_manager_count(manager) == 0);
    acme_manager_free(manager);
    acme_driver_free(driver);
    acme_client_free(client);
    acme_client_free(stored);
    acme_store_free(store);
    acme_key_free(key);
}

/* --- fork() -------------------------------------------------------------------------------------------- */

static void g11_a_child_of_fork_leaves_it_alone(void)
{
    acme_store_t *store = NULL;
    acme_client_t *client;
    acme_driver_t *driver = driver_with(0, 0);
    acme_manager_t *manager;
    struct seen seen = { 0 };
    pid_t child;
    int status;

    OK(acme_store_memory(&store));
    client = http_asks = stored_client(store, env("ACME_DIRECTORY"));
    manager = manager_of(client, &seen);
    add_name(manager, "fork.manager.test");
    OK(acme_manager_start(manager, driver));
    dispatch(driver);
    child = fork();
    if (child == 0) {
        status = acme_driver_dispatch(driver) == ACME_ERR_MISUSE;
        acme_manager_free(manager);
        status += acme_error_status(acme_last_error()) == ACME_ERR_MISUSE;
        /* End by exec(), because valgrind would otherwise complain about the parent's threads. */
        execl("/bin/sh", "sh", "-c", status == 2 ? "exit 2" : "exit 1", (char *)NULL);
        _exit(1);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 2);
    until(driver, &seen, ACME_EVENT_OBTAINED);
    acme_manager_free(manager);
    acme_driver_free(driver);
    acme_client_free(client);
    acme_store_free(store);
    http_asks = NULL;
}

int main(void)
{
    host_start();
    lives();
    g06_the_driver_is_freed_first();
    ends_early();
    runs();
    g05_a_callback_removes_its_certificate();
    g11_a_child_of_fork_leaves_it_alone();
    http_stop();
    return report("test_manager");
}
