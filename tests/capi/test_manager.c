/* A manager: certificates that stay fresh by themselves. */
#include "driver.h"

#define ACME_MICRO_OPENSSL_IMPLEMENTATION
#include "acme_micro_openssl.h"

/* --- events ------------------------------------------------------------------------------------------ */

struct seen {
    int count[8];
    char serial[100], name[300], message[300];
    acme_time_t next_try;
};

static void on_event(const acme_event_t *event, void *user)
{
    struct seen *seen = user;

    CHECK(event->type >= ACME_EVENT_LOADED && event->type <= ACME_EVENT_STOPPED);
    seen->count[event->type]++;
    seen->next_try = event->next_try;
    snprintf(seen->name, sizeof seen->name, "%s", event->name);
    if (event->cert)
        snprintf(seen->serial, sizeof seen->serial, "%s", acme_cert_serial(event->cert));
    if (event->error)
        snprintf(seen->message, sizeof seen->message, "%s", acme_error_message(event->error));
}

static acme_client_t *client_of(const acme_store_t *store, const char *directory_url)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;

    options.directory_url = directory_url;
    options.store = store;
    options.terms_agreed = 1;
    options.ca_file = env("ACME_CA_FILE");
    OK(acme_client_new(&options, &client));
    return client;
}

static acme_manager_t *manager_of(acme_client_t *client, struct seen *seen)
{
    acme_manager_options_t options = ACME_MANAGER_OPTIONS_INIT;
    acme_manager_t *manager = NULL;

    options.client = client;
    options.event = on_event;
    options.user = seen;
    OK(acme_manager_new(&options, &manager));
    return manager;
}

static void add_name(acme_manager_t *manager, const char *name)
{
    const char *names[] = { name };
    acme_order_options_t order = order_for(names, 1);

    OK(acme_manager_add(manager, &order));
}

/* Runs the loop until an event of this type has come. */
static void until(acme_driver_t *driver, const struct seen *seen, int type)
{
    int tries;

    for (tries = 0; seen->count[type] == 0 && tries < 2000; tries++)
        if (is_readable(driver, 100))
            OK(acme_driver_dispatch(driver));
    CHECK(seen->count[type] > 0);
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
    client = http_asks = client_of(store, env("ACME_DIRECTORY"));
    manager = manager_of(client, &seen);
    add_name(manager, "one.manager.test");
    CHECK(acme_manager_count(manager) == 1 && !acme_manager_cert(manager, "one.manager.test"));
    OK(acme_manager_start(manager, driver));
    CHECK_STATUS(acme_manager_start(manager, driver), ACME_ERR_MISUSE, "already");
    until(driver, &seen, ACME_EVENT_OBTAINED);
    CHECK(strcmp(seen.name, "one.manager.test") == 0 && seen.next_try > 0);
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

static void fails(void)
{
    acme_store_t *store = NULL;
    acme_client_t *client;
    acme_driver_t *driver = driver_with(0, 0);
    acme_manager_t *manager;
    struct seen seen = { 0 };
    acme_time_t now;

    OK(acme_store_memory(&store));
    client = client_of(store, "https://127.0.0.1:1/directory");
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

int main(void)
{
    host_start();
    lives();
    fails();
    http_stop();
    return report("test_manager");
}
