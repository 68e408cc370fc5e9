/* store.c - accounts and certificates in a store: a folder, memory, or the program's own functions. */
#include "example.h"

#include <unistd.h>

static const char *directory_url, *ca_file;

//! [client]
/* A client that keeps its account in the store. It needs no key. */
static acme_client_t *client_with(const acme_store_t *store)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;

    options.directory_url = directory_url;
    options.ca_file = ca_file;
    options.store = store;
    options.terms_agreed = 1;
    if (acme_client_new(&options, &client) != ACME_OK)
        failed("client");
    return client;
}
//! [client]

//! [store-directory]
/* Obtains a certificate, or returns the stored one until its renewal is due. After a crash at any moment, the
 * next call goes on with the same account, key and order. */
static acme_cert_t *up_to_date(const char *folder, const char *name)
{
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_store_t *store = NULL;
    acme_cert_t *cert = NULL;

    order.names = &name;
    order.name_count = 1;
    order.only_if_due = 1;
    run.publish = publish;
    run.unpublish = unpublish;
    run.user = &responder;
    if (acme_store_directory(folder, &store) != ACME_OK || !(client = client_with(store)) ||
        acme_obtain(client, &order, &run, &cert) != ACME_OK)
        failed(name);
    acme_client_free(client);
    acme_store_free(store);
    return cert;
}
//! [store-directory]

//! [store-cert]
/* A server that starts takes the stored certificate, and asks the CA later. */
static acme_cert_t *at_start(const acme_store_t *store, const char *name)
{
    acme_cert_t *cert = NULL;

    if (acme_store_cert(store, directory_url, name, &cert) != ACME_OK)
        failed(name);
    return cert; /* NULL: the store has no certificate yet */
}
//! [store-cert]

//! [cert-write-files]
/* Writes the certificate and its key for a server: one file for HAProxy, two in a folder for nginx. */
static int for_servers(const acme_cert_t *cert, const char *combined, const char *folder)
{
    acme_files_options_t files = ACME_FILES_OPTIONS_INIT;

    files.combined = combined;
    files.folder = folder;
    files.chain = "chain.pem";
    files.key = "key.pem";
    files.key_mode = 0640;
    if (acme_cert_write_files(cert, &files) != ACME_OK)
        return failed(folder);
    return 0; /* now let the servers reload */
}
//! [cert-write-files]

//! [store-claim store-release]
/* Renames a file in the folder of a store while no other program works there. */
static int renamed(const acme_store_t *store, const char *old, const char *new_name)
{
    int result = acme_store_claim(store, "rename");

    if (result != ACME_OK)
        return result; /* ACME_ERR_CONFLICT: try again in a moment */
    result = rename(old, new_name) == 0 ? ACME_OK : ACME_ERR_HOST;
    acme_store_release(store, "rename");
    return result;
}
//! [store-claim store-release]

//! [op-access-store]
/* A program that does each step itself; one with an event loop calls acme_op_access_store() on a worker. */
static int step(acme_op_t *op)
{
    switch (acme_op_poll(op, 0)) {
    case ACME_STEP_STORE:
        return acme_op_access_store(op);
    case ACME_STEP_REQUEST:
        return acme_op_send(op, acme_op_request(op)->id);
    case ACME_STEP_WAIT:
        sleep_ms(acme_op_wait_ms(op));
        return ACME_OK;
    case ACME_STEP_DONE:
        return 1;
    default:
        return ACME_ERR_HOST;
    }
}
//! [op-access-store]

/* --- a store of the program's own ------------------------------------------------------------------ */

enum { ROWS = 16 };

struct row {
    char name[513];
    void *value;
    size_t size;
    uint64_t version;
};

/* It stands for a database. Each function is one transaction there. */
struct table {
    pthread_mutex_t lock;
    struct row rows[ROWS]; /* version 0: not in use */
    uint64_t last_version;
};

static struct row *find(struct table *table, const char *name)
{
    int i;

    for (i = 0; i < ROWS; i++)
        if (table->rows[i].version && strcmp(table->rows[i].name, name) == 0)
            return &table->rows[i];
    return NULL;
}

static struct row *unused(struct table *table)
{
    int i;

    for (i = 0; i < ROWS; i++)
        if (!table->rows[i].version)
            return &table->rows[i];
    return NULL;
}

//! [record-set]
static int get(const char *name, acme_record_t *found, void *user)
{
    struct table *table = user;
    int status = ACME_OK;
    struct row *row;

    pthread_mutex_lock(&table->lock);
    row = find(table, name);
    if (row)
        status = acme_record_set(found, row->version, row->value, row->size);
    pthread_mutex_unlock(&table->lock);
    return status;
}
//! [record-set]

static int put(const char *name, uint64_t expected, const void *value, size_t size, uint64_t *version, void *user)
{
    struct table *table = user;
    int status = ACME_ERR_STORE;
    struct row *row;
    void *copy = value ? malloc(size) : NULL;

    pthread_mutex_lock(&table->lock);
    row = find(table, name);
    if ((row ? row->version : 0) != expected) {
        status = ACME_ERR_CONFLICT;
    } else if ((row || (row = unused(table))) && (copy || !value)) {
        free(row->value);
        row->version = value ? ++table->last_version : 0;
        row->value = copy ? memcpy(copy, value, size) : NULL;
        row->size = size;
        snprintf(row->name, sizeof row->name, "%s", name);
        *version = row->version;
        copy = NULL;
        status = ACME_OK;
    }
    pthread_mutex_unlock(&table->lock);
    free(copy);
    return status;
}

//! [names-add]
/* Lists names in the order of their bytes. */
static int list(const char *prefix, const char *after, size_t limit, acme_names_t *found, void *user)
{
    struct table *table = user;
    const char *next = "";
    int i;

    pthread_mutex_lock(&table->lock);
    for (; limit > 0 && next; limit--) {
        for (next = NULL, i = 0; i < ROWS; i++) {
            const char *name = table->rows[i].name;

            if (table->rows[i].version && strncmp(name, prefix, strlen(prefix)) == 0 &&
                strcmp(name, after) > 0 && (!next || strcmp(name, next) < 0))
                next = name;
        }
        if (next)
            acme_names_add(found, next);
        after = next;
    }
    pthread_mutex_unlock(&table->lock);
    return ACME_OK;
}
//! [names-add]

//! [store-custom store-check]
static acme_store_t *store_in(struct table *table)
{
    acme_store_functions_t functions = ACME_STORE_FUNCTIONS_INIT;
    acme_store_t *store = NULL;

    functions.get = get;
    functions.put = put;
    functions.list = list;
    functions.user = table;
    if (acme_store_custom(&functions, &store) != ACME_OK)
        failed("store");
    else if (acme_store_check(store) != ACME_OK) /* in a test of the program */
        failed("the functions of the store");
    return store;
}
//! [store-custom store-check]

//! [store-sealed store-reseal]
/* A store of which each value is encrypted. After a change of the key, all records get the new one. */
static acme_store_t *sealed(const acme_store_t *records, const uint8_t key[32], const uint8_t *old_key)
{
    acme_store_t *store = NULL;

    if (acme_store_sealed(records, key, old_key, 0, &store) != ACME_OK)
        failed("sealed store");
    else if (old_key && acme_store_reseal(store) != ACME_OK)
        failed("a record that cannot be opened");
    return store;
}
//! [store-sealed store-reseal]

/* Registers an account step by step. */
static int registers(const acme_store_t *store)
{
    acme_client_t *client = client_with(store);
    acme_op_t *op = NULL;
    int result = client ? acme_begin_register(client, &op) : ACME_ERR_HOST;

    while (result == ACME_OK)
        result = step(op);
    if (result == 1)
        printf("account %s\n", acme_client_account_url(client));
    acme_op_free(op);
    acme_client_free(client);
    return result == 1 ? 0 : 1;
}

int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    struct table table = { PTHREAD_MUTEX_INITIALIZER, { { "", NULL, 0, 0 } }, 0 };
    static const uint8_t key[32] = { 'r', 'a', 'n', 'd', 'o', 'm' };
    acme_store_t *own = NULL, *memory = NULL, *encrypted;
    acme_key_t *unused_key = NULL;
    acme_cert_t *cert, *stored;
    char folder[] = "/tmp/store-XXXXXX", command[100], old[100];
    char combined[100], site[100];
    int result, i;

    if (from_arguments(argc, argv, &options, &unused_key) || !mkdtemp(folder))
        return failed("arguments");
    directory_url = options.directory_url;
    ca_file = options.ca_file;
    //! [store-memory store-free]
    if (acme_store_memory(&memory) != ACME_OK)
        return failed("memory");
    result = registers(memory);
    acme_store_free(memory);
    //! [store-memory store-free]
    own = store_in(&table);
    result |= own ? registers(own) : 1;
    encrypted = own ? sealed(own, key, NULL) : NULL;
    result |= acme_store_check(encrypted) != ACME_OK;
    acme_store_free(encrypted);
    stored = own ? at_start(own, "site.example.org") : NULL;
    cert = up_to_date(folder, "site.example.org");
    snprintf(combined, sizeof combined, "%s/combined.pem", folder);
    snprintf(site, sizeof site, "%s/site", folder);
    if (cert)
        printf("%d days left\n", acme_cert_days_left(cert, 0));
    result |= cert ? for_servers(cert, combined, site) : 1;
    result |= !cert || stored;
    snprintf(old, sizeof old, "%s/site.example.org.chain.pem", folder);
    snprintf(command, sizeof command, "%s/old.pem", folder);
    result |= renamed(own, old, command);
    acme_cert_free(cert);
    acme_store_free(own);
    for (i = 0; i < ROWS; i++)
        free(table.rows[i].value);
    acme_key_free(unused_key);
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) != 0 || result;
}
