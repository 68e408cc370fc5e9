/* A store of the program's own for tests, which is a table in memory. It fails, waits and goes back when the test says
 * so. */
#ifndef TABLE_H
#define TABLE_H

#include "check.h"

#include <pthread.h>
#include <time.h>

enum { RECORDS = 16 };

struct record {
    char name[600];
    void *value;
    size_t size;
    uint64_t version;
};

struct table {
    pthread_mutex_t lock;
    struct record records[RECORDS];
    uint64_t last_version;
    pthread_t caller;
    int calls, calls_on_caller, freed, fail, fail_chains, is_slow;
    const char *closed; /* calls for records whose names begin so wait; NULL: no call waits */
    int waiting;
    pthread_cond_t opened;
    int goes_back; /* 1: before the next write of a certificate, its record has an old version again */
};

static inline struct record *find(struct table *table, const char *name)
{
    size_t i;

    for (i = 0; i < RECORDS; i++)
        if (table->records[i].version && strcmp(table->records[i].name, name) == 0)
            return &table->records[i];
    return NULL;
}

static inline void begin(struct table *table, const char *name)
{
    struct timespec nap = { 0, 50 * 1000 * 1000 };

    pthread_mutex_lock(&table->lock);
    table->calls++;
    table->calls_on_caller += pthread_equal(pthread_self(), table->caller);
    table->waiting++;
    while (table->closed && strncmp(name, table->closed, strlen(table->closed)) == 0)
        pthread_cond_wait(&table->opened, &table->lock);
    table->waiting--;
    if (table->is_slow)
        nanosleep(&nap, NULL);
}

static inline void table_close(struct table *table, const char *prefix)
{
    pthread_mutex_lock(&table->lock);
    table->closed = prefix;
    pthread_cond_broadcast(&table->opened);
    pthread_mutex_unlock(&table->lock);
}

static inline int table_waiting(struct table *table)
{
    int waiting;

    pthread_mutex_lock(&table->lock);
    waiting = table->waiting;
    pthread_mutex_unlock(&table->lock);
    return waiting;
}

static inline int table_get(const char *name, acme_record_t *found, void *user)
{
    struct table *table = user;
    struct record *record;
    int status = table->fail ? ACME_ERR_STORE : ACME_OK;

    begin(table, name);
    record = find(table, name);
    CHECK_STATUS(acme_record_set(NULL, 1, "x", 1), ACME_ERR_INVALID_ARGUMENT, "record");
    CHECK_STATUS(acme_record_set(found, 1, NULL, 1), ACME_ERR_INVALID_ARGUMENT, "value");
    CHECK_STATUS(acme_record_set(found, 0, "x", 1), ACME_ERR_INVALID_ARGUMENT, "version is 0");
    CHECK_STATUS(acme_record_set(found, 1, "x", 262145), ACME_ERR_INVALID_ARGUMENT, "262144");
    if (record && status == ACME_OK)
        status = acme_record_set(found, record->version, record->value, record->size);
    pthread_mutex_unlock(&table->lock);
    return status;
}

static inline int has_chain(const char *value, size_t size)
{
    static const char begin[] = "BEGIN CERTIFICATE";
    size_t i;

    for (i = 0; i + sizeof begin <= size; i++)
        if (memcmp(value + i, begin, sizeof begin - 1) == 0)
            return 1;
    return 0;
}

static inline int table_put(const char *name, uint64_t expected, const void *value, size_t size,
                            uint64_t *version, void *user)
{
    struct table *table = user;
    struct record *record;
    int status = ACME_OK;
    size_t i;

    begin(table, name);
    record = find(table, name);
    if (record && table->goes_back && strncmp(name, "certificate/", 12) == 0) {
        table->goes_back = 0;
        record->version = 1;
    }
    if (table->fail || (table->fail_chains && value && has_chain(value, size))) {
        status = ACME_ERR_STORE;
    } else if ((record ? record->version : 0) != expected) {
        status = ACME_ERR_CONFLICT;
    } else {
        for (i = 0; !record && i < RECORDS; i++)
            if (!table->records[i].version)
                record = &table->records[i];
        free(record->value);
        record->value = NULL;
        record->version = 0;
        if (value) {
            snprintf(record->name, sizeof record->name, "%s", name);
            record->value = memcpy(malloc(size), value, size);
            record->size = size;
            *version = record->version = ++table->last_version;
        }
    }
    pthread_mutex_unlock(&table->lock);
    return status;
}

static inline int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static inline int table_list(const char *prefix, const char *after, size_t limit, acme_names_t *found, void *user)
{
    struct table *table = user;
    const char *names[RECORDS];
    size_t i, count = 0;

    begin(table, prefix);
    CHECK_STATUS(acme_names_add(NULL, "x"), ACME_ERR_INVALID_ARGUMENT, "names");
    CHECK_STATUS(acme_names_add(found, NULL), ACME_ERR_INVALID_ARGUMENT, "name");
    for (i = 0; i < RECORDS; i++)
        if (table->records[i].version && strncmp(table->records[i].name, prefix, strlen(prefix)) == 0 &&
            strcmp(table->records[i].name, after) > 0)
            names[count++] = table->records[i].name;
    qsort(names, count, sizeof *names, compare);
    for (i = 0; i < count && i < limit; i++)
        OK(acme_names_add(found, names[i]));
    pthread_mutex_unlock(&table->lock);
    return ACME_OK;
}

static inline void table_free(void *user)
{
    struct table *table = user;
    size_t i;

    table->freed++;
    for (i = 0; i < RECORDS; i++)
        free(table->records[i].value);
    memset(table->records, 0, sizeof table->records);
}

static struct table table = { .lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER };

static inline acme_store_functions_t functions(void)
{
    acme_store_functions_t functions = ACME_STORE_FUNCTIONS_INIT;

    functions.get = table_get;
    functions.put = table_put;
    functions.list = table_list;
    functions.free = table_free;
    functions.user = &table;
    return functions;
}

#endif
