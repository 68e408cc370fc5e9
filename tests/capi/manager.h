/* A manager and what it has told, for the tests that have one. */
#ifndef MANAGER_H
#define MANAGER_H

#include "driver.h"

struct seen {
    int count[16], status;
    char serial[100], name[300], ca[300], message[300];
    acme_time_t next_try;
};

static inline void on_event(const acme_event_t *event, void *user)
{
    struct seen *seen = user;

    CHECK(event->type >= ACME_EVENT_LOADED && event->type <= ACME_EVENT_CA_RESUMED);
    seen->count[event->type]++;
    seen->next_try = event->next_try;
    snprintf(seen->name, sizeof seen->name, "%s", event->name);
    snprintf(seen->ca, sizeof seen->ca, "%s", event->ca);
    if (event->cert)
        snprintf(seen->serial, sizeof seen->serial, "%s", acme_cert_serial(event->cert));
    seen->status = acme_error_status(event->error);
    if (event->error)
        snprintf(seen->message, sizeof seen->message, "%s", acme_error_message(event->error));
}

static inline acme_manager_t *manager_of(acme_client_t *client, struct seen *seen)
{
    acme_manager_options_t options = ACME_MANAGER_OPTIONS_INIT;
    acme_manager_t *manager = NULL;

    options.client = client;
    options.event = on_event;
    options.user = seen;
    OK(acme_manager_new(&options, &manager));
    return manager;
}

static inline void add_name(acme_manager_t *manager, const char *name)
{
    const char *names[] = { name };
    acme_order_options_t order = order_for(names, 1);

    OK(acme_manager_add(manager, &order));
}

/* Runs the loop until as many events of this type have come. */
static inline void until_count(acme_driver_t *driver, const struct seen *seen, int type, int count)
{
    int tries;

    for (tries = 0; seen->count[type] < count && tries < 2000; tries++)
        if (is_readable(driver, 100))
            OK(acme_driver_dispatch(driver));
    CHECK(seen->count[type] >= count);
}

static inline void until(acme_driver_t *driver, const struct seen *seen, int type)
{
    until_count(driver, seen, type, 1);
}

static inline int keep_text(const char *text, size_t size, void *user)
{
    snprintf(user, 2000, "%.*s", (int)size, text);
    return 0;
}

#endif
