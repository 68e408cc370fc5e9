/* Accounts and certificates in a store: a folder, memory, and functions of the program's own. */
#include "driver.h"
#include "table.h"

#include <sys/stat.h>

static const char *directory_url;

static acme_cert_t *stored(const acme_store_t *store, const char *name)
{
    acme_cert_t *cert = NULL;

    OK(acme_store_cert(store, directory_url, name, &cert));
    return cert;
}

/* --- the life of a certificate, in each kind of store -------------------------------------------- */

static void lives(const acme_store_t *store, const char *name)
{
    const char *names[] = { name, "second.store.test" };
    acme_order_options_t order = order_for(names, 2);
    acme_run_options_t run = http_run();
    acme_client_t *client = stored_client(store, directory_url);
    acme_cert_t *first = NULL, *same = NULL, *renewed = NULL, *kept;
    acme_op_t *op = NULL;
    char *account;

    CHECK(stored(store, name) == NULL);
    order.only_if_due = 1;
    OK(acme_obtain(client, &order, &run, &first));
    verify(first, name);
    account = strdup(acme_client_account_url(client));
    acme_client_free(client);

    /* Another start: the same account, and no order, because the renewal is not due. */
    client = stored_client(store, directory_url);
    CHECK(acme_client_account_url(client) == NULL);
    OK(acme_begin_order(client, &order, &op));
    OK(acme_op_run(op, &run));
    CHECK(acme_op_renewal_info(op) && !acme_op_order_url(op));
    same = acme_op_take_cert(op);
    acme_op_free(op);
    CHECK(strcmp(acme_cert_serial(same), acme_cert_serial(first)) == 0);
    CHECK(strcmp(acme_client_account_url(client), account) == 0);
    kept = stored(store, name);
    CHECK(strcmp(acme_cert_serial(kept), acme_cert_serial(first)) == 0);
    CHECK(strcmp(acme_key_pem(acme_cert_key(kept)), acme_key_pem(acme_cert_key(first))) == 0);
    acme_cert_free(kept);

    /* Renewed although it is not due: with the same key, and then with a new one. */
    order.only_if_due = 0;
    OK(acme_obtain(client, &order, &run, &renewed));
    CHECK(strcmp(acme_cert_serial(renewed), acme_cert_serial(first)) != 0);
    CHECK(strcmp(acme_key_thumbprint(acme_cert_key(renewed)), acme_key_thumbprint(acme_cert_key(first))) == 0);
    acme_cert_free(renewed);
    order.new_key = 1;
    order.key_type = ACME_KEY_P384;
    OK(acme_obtain(client, &order, &run, &renewed));
    verify(renewed, name);
    CHECK(acme_key_type(acme_cert_key(renewed)) == ACME_KEY_P384);
    kept = stored(store, name);
    CHECK(strcmp(acme_key_pem(acme_cert_key(kept)), acme_key_pem(acme_cert_key(renewed))) == 0);
    CHECK(strcmp(acme_cert_serial(kept), acme_cert_serial(renewed)) == 0);
    CHECK(http_published() == 0);

    acme_cert_free(kept);
    acme_cert_free(renewed);
    acme_cert_free(same);
    acme_cert_free(first);
    acme_client_free(client);
    free(account);
}

/* --- a store of the program's own ------------------------------------------------------------------ */

static int put_without_comparison(const char *name, uint64_t expected, const void *value, size_t size,
                                  uint64_t *version, void *user)
{
    struct record *record = find(user, name);

    (void)expected;
    return table_put(name, record ? record->version : 0, value, size, version, user);
}

static int put_without_version(const char *name, uint64_t expected, const void *value, size_t size,
                               uint64_t *version, void *user)
{
    int status = table_put(name, expected, value, size, version, user);

    *version = 0;
    return status;
}

static int put_with_old_versions(const char *name, uint64_t expected, const void *value, size_t size,
                                 uint64_t *version, void *user)
{
    int status = table_put(name, expected, value, size, version, user);

    if (status == ACME_OK && !value)
        table.last_version -= 2; /* the next versions are those of earlier values */
    return status;
}

static void own(void)
{
    acme_store_functions_t given = functions();
    acme_store_t *store = NULL;

    OK(acme_store_custom(&given, &store));
    OK(acme_store_check(store));
    lives(store, "own.store.test");
    acme_store_free(store);
    CHECK(table.freed == 1);

    given.put = put_without_comparison;
    OK(acme_store_custom(&given, &store));
    CHECK_STATUS(acme_store_check(store), ACME_ERR_MISUSE, "another version than the expected one");
    acme_store_free(store);
    given.put = put_without_version;
    OK(acme_store_custom(&given, &store));
    CHECK_STATUS(acme_store_check(store), ACME_ERR_MISUSE, "no new version");
    acme_store_free(store);
    given.put = put_with_old_versions;
    OK(acme_store_custom(&given, &store));
    CHECK_STATUS(acme_store_check(store), ACME_ERR_MISUSE, "the version of an earlier value came back");
    acme_store_free(store);
    given.put = NULL;
    CHECK_STATUS(acme_store_custom(&given, &store), ACME_ERR_INVALID_ARGUMENT, "lacks");
    CHECK(!store && table.freed == 4);
}

/* A store that fails: no order is begun. */
static void fails(void)
{
    const char *names[] = { "fails.store.test" };
    acme_order_options_t order = order_for(names, 1);
    acme_store_functions_t given = functions();
    acme_run_options_t run = http_run();
    acme_store_t *store = NULL;
    acme_client_t *client;
    acme_cert_t *cert = NULL;

    OK(acme_store_custom(&given, &store));
    client = stored_client(store, directory_url);
    table.fail = 1;
    CHECK_STATUS(acme_obtain(client, &order, &run, &cert), ACME_ERR_STORE, "gave -42");
    CHECK(!cert && !acme_client_account_url(client));
    CHECK(!acme_error_is_permanent(acme_last_error()));
    table.fail = 0;
    OK(acme_obtain(client, &order, &run, &cert));
    verify(cert, names[0]);
    acme_cert_free(cert);
    acme_client_free(client);
    acme_store_free(store);
}

/* A store that cannot keep the certificate: the program has it, and the next operation orders no other. */
static void keeps_no_chain(void)
{
    const char *names[] = { "nochain.store.test" };
    acme_order_options_t order = order_for(names, 1);
    acme_store_functions_t given = functions();
    acme_run_options_t run = http_run();
    acme_store_t *store = NULL;
    acme_client_t *client;
    acme_cert_t *cert, *again = NULL;
    acme_op_t *op = NULL;

    table.fail_chains = 1;
    OK(acme_store_custom(&given, &store));
    client = stored_client(store, directory_url);
    OK(acme_begin_order(client, &order, &op));
    CHECK_STATUS(acme_op_run(op, &run), ACME_ERR_STORE, "gave -42");
    cert = acme_op_take_cert(op);
    verify(cert, names[0]);
    CHECK(!stored(store, names[0]));
    acme_op_free(op);
    table.fail_chains = 0;
    OK(acme_obtain(client, &order, &run, &again));
    CHECK(strcmp(acme_cert_serial(cert), acme_cert_serial(again)) == 0);
    acme_cert_free(again);
    again = stored(store, names[0]);
    CHECK(again && strcmp(acme_cert_serial(cert), acme_cert_serial(again)) == 0);
    acme_cert_free(again);
    acme_cert_free(cert);
    acme_client_free(client);
    acme_store_free(store);
}

static void changes_key(acme_store_t *store);

/* --- sealed stores --------------------------------------------------------------------------------- */

static const uint8_t first_key[32] = { 1, 2, 3 }, second_key[32] = { 4, 5, 6 };

static acme_store_t *sealed_over(const acme_store_t *inner, const uint8_t *key, const uint8_t *old_key, int plain)
{
    acme_store_t *store = NULL;

    OK(acme_store_sealed(inner, key, old_key, plain, &store));
    return store;
}

/* Checks that the certificate can be neither read nor replaced. */
static void is_closed(acme_store_t *store, const char *name, const char *why)
{
    acme_order_options_t order = order_for(&name, 1);
    acme_run_options_t run = http_run();
    acme_client_t *client = stored_client(store, directory_url);
    acme_cert_t *cert = NULL;

    CHECK_STATUS(acme_store_cert(store, directory_url, name, &cert), ACME_ERR_STORE, why);
    CHECK_STATUS(acme_obtain(client, &order, &run, &cert), ACME_ERR_STORE, why);
    CHECK(!cert);
    acme_client_free(client);
    acme_store_free(store);
}

static int is_there(acme_store_t *store, const char *name)
{
    acme_cert_t *cert = stored(store, name);
    int found = cert && acme_cert_key(cert);

    acme_cert_free(cert);
    acme_store_free(store);
    return found;
}

static int are_all_sealed(void)
{
    int i, count = 0, other = 0;

    for (i = 0; i < RECORDS; i++)
        if (table.records[i].version) {
            int is_sealed = memcmp(table.records[i].value, "acme-sealed 1\n", 14) == 0;

            count += is_sealed && !has_chain(table.records[i].value, table.records[i].size);
            other += !is_sealed;
        }
    return count > 0 && other == 0;
}

static void sealed(void)
{
    static const uint8_t none[32];
    acme_store_functions_t given = functions();
    acme_store_t *inner = NULL, *store = NULL;
    const char *name = "sealed.store.test";
    int freed;

    OK(acme_store_custom(&given, &inner));
    store = sealed_over(inner, first_key, NULL, 0);
    acme_store_free(inner);
    OK(acme_store_check(store));
    lives(store, name);
    changes_key(store);
    CHECK(are_all_sealed());

    /* A wrong key; the change of the key; a plain store that becomes sealed. */
    is_closed(sealed_over(store, second_key, NULL, 0), name, "not sealed");
    inner = NULL;
    given.free = NULL; /* the table stays */
    OK(acme_store_custom(&given, &inner));
    is_closed(sealed_over(inner, second_key, NULL, 0), name, "opening this needs the key");
    CHECK(is_there(sealed_over(inner, second_key, first_key, 0), name));
    acme_store_free(inner);
    freed = table.freed;
    acme_store_free(store);
    CHECK(table.freed == freed + 1);

    OK(acme_store_memory(&inner));
    lives(inner, name);
    is_closed(sealed_over(inner, first_key, NULL, 0), name, "not sealed");
    CHECK(is_there(sealed_over(inner, first_key, NULL, 1), name));
    store = sealed_over(inner, first_key, NULL, 1);
    OK(acme_store_reseal(store));
    acme_store_free(store);
    is_closed(sealed_over(inner, second_key, NULL, 1), name, "nothing was overwritten");
    store = sealed_over(inner, second_key, first_key, 0);
    OK(acme_store_reseal(store));
    acme_store_free(store);
    CHECK(is_there(sealed_over(inner, second_key, NULL, 0), name));
    CHECK_STATUS(acme_store_reseal(inner), ACME_ERR_MISUSE, "acme_store_sealed");
    CHECK_STATUS(acme_store_sealed(inner, none, NULL, 0, &store), ACME_ERR_INVALID_ARGUMENT, "key");
    CHECK_STATUS(acme_store_sealed(inner, first_key, none, 0, &store), ACME_ERR_INVALID_ARGUMENT, "key");
    CHECK_STATUS(acme_store_sealed(inner, first_key, NULL, 2, &store), ACME_ERR_INVALID_ARGUMENT, "accept_plain");
    CHECK_STATUS(acme_store_sealed(inner, first_key, NULL, -1, &store), ACME_ERR_INVALID_ARGUMENT, "accept_plain");
    CHECK(!store);
    acme_store_free(inner);
}

/* --- on an event loop ------------------------------------------------------------------------------ */

/* The store is never used on the thread of the loop. */
static void on_loop(void)
{
    const char *names[] = { "loop.store.test" };
    acme_order_options_t order = order_for(names, 1);
    acme_store_functions_t given = functions();
    acme_store_t *store = NULL;
    acme_driver_t *driver = NULL;
    acme_client_t *client;
    struct job job = { 0 };

    table.caller = pthread_self();
    table.calls = table.calls_on_caller = 0;
    table.is_slow = 1;
    OK(acme_store_custom(&given, &store));
    client = stored_client(store, directory_url);
    acme_store_free(store);
    OK(acme_driver_new(NULL, &driver));
    OK(acme_begin_order(client, &order, &job.op));
    add(driver, &job);
    run(driver);
    CHECK(job.published == 1);
    judge(&job, names[0]);
    CHECK(table.calls >= 6 && table.calls_on_caller == 0);
    acme_client_free(client);
    acme_driver_free(driver);
    table.is_slow = 0;
}

/* A program does each step itself. */
static void step_by_step(void)
{
    const char *names[] = { "steps.store.test" };
    acme_order_options_t order = order_for(names, 1);
    acme_store_t *store = NULL;
    acme_client_t *client;
    acme_op_t *op = NULL;
    int step, accesses = 0;

    OK(acme_store_memory(&store));
    client = stored_client(store, directory_url);
    OK(acme_begin_order(client, &order, &op));
    CHECK_STATUS(acme_op_access_store(op), ACME_ERR_MISUSE, "does not wait");
    while ((step = acme_op_poll(op, 0)) == ACME_STEP_STORE) {
        accesses++;
        OK(acme_op_access_store(op));
    }
    CHECK(accesses >= 3 && step == ACME_STEP_REQUEST);
    acme_op_free(op);
    acme_client_free(client);
    acme_store_free(store);
}

/* The account's key is changed: the store has the new one. */
static void changes_key(acme_store_t *store)
{
    const char *names[] = { "changed.store.test" };
    acme_order_options_t order = order_for(names, 1);
    acme_run_options_t run = http_run();
    acme_key_t *key = new_key();
    acme_client_t *client;
    acme_cert_t *cert = NULL;
    acme_op_t *op = NULL;
    char *account;

    client = stored_client(store, directory_url);
    OK(acme_begin_register(client, &op));
    OK(acme_op_run(op, NULL));
    acme_op_free(op);
    account = strdup(acme_client_account_url(client));
    OK(acme_begin_key_change(client, key, &op));
    OK(acme_op_run(op, NULL));
    acme_op_free(op);
    acme_client_free(client);

    client = stored_client(store, directory_url);
    OK(acme_obtain(client, &order, &run, &cert));
    verify(cert, names[0]);
    CHECK(strcmp(acme_client_account_url(client), account) == 0);
    acme_cert_free(cert);
    acme_client_free(client);
    acme_key_free(key);
    free(account);
}

/* --- options --------------------------------------------------------------------------------------- */

static void refuses(void)
{
    const char *names[] = { "refused.store.test" };
    acme_order_options_t order = order_for(names, 1);
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_store_t *store = NULL, *none = NULL;
    acme_key_t *key = new_key();
    acme_op_t *op = NULL;
    acme_cert_t *cert = NULL;

    OK(acme_store_memory(&store));
    options.directory_url = directory_url;
    options.store = store;
    options.account_url = "https://127.0.0.1/account/1";
    CHECK_STATUS(acme_client_new(&options, &client), ACME_ERR_INVALID_ARGUMENT, "from the store");
    client = stored_client(store, directory_url);
    order.order_url = "https://127.0.0.1/order/1";
    CHECK_STATUS(acme_begin_order(client, &order, &op), ACME_ERR_INVALID_ARGUMENT, "order_url");
    order.order_url = NULL;
    order.key_type = 77;
    CHECK_STATUS(acme_begin_order(client, &order, &op), ACME_ERR_INVALID_ARGUMENT, "77");
    order.key_type = 0;
    order.stored_as = "a\tb";
    CHECK_STATUS(acme_begin_order(client, &order, &op), ACME_ERR_INVALID_ARGUMENT, "control characters");
    order.stored_as = "x";
    order.key = key;
    CHECK_STATUS(acme_begin_order(client, &order, &op), ACME_ERR_INVALID_ARGUMENT, "stored_as");
    CHECK_STATUS(acme_store_cert(store, directory_url, "", &cert), ACME_ERR_STORE, "empty");
    CHECK_STATUS(acme_store_directory("/nonexistent/folder", &none), ACME_ERR_STORE, "No such file");
    acme_store_free(store);
    acme_client_free(client);
    acme_key_free(key);
}

/* The folder has sealed records only: no file has a key or a certificate. */
static void in_a_sealed_folder(const char *folder)
{
    acme_store_t *inner = NULL, *store;
    char command[300];

    snprintf(command, sizeof command, "%s/sealed", folder);
    OK(acme_store_directory(command, &inner));
    store = sealed_over(inner, first_key, NULL, 0);
    OK(acme_store_check(store));
    lives(store, "sealedfolder.store.test");
    changes_key(store);
    is_closed(inner, "sealedfolder.store.test", "not a JSON object");
    snprintf(command, sizeof command, "cd %s/sealed; ls *.record >/dev/null && ! ls | grep -v 'record$' && ! grep -r BEGIN .",
             folder);
    CHECK(system(command) == 0);
    acme_store_free(store);
}

/* Work of the program itself, beside another program in the same folder. */
static void claims(const char *path)
{
    acme_store_t *one = NULL, *other = NULL;

    OK(acme_store_directory(path, &one));
    OK(acme_store_directory(path, &other));
    OK(acme_store_claim(one, "a.pem"));
    CHECK_STATUS(acme_store_claim(one, "a.pem"), ACME_ERR_CONFLICT, "another program or thread");
    OK(acme_store_claim(one, "b.pem"));
    CHECK_STATUS(acme_store_claim(other, "c.pem"), ACME_ERR_CONFLICT, "at work");
    OK(acme_store_release(one, "a.pem"));
    CHECK_STATUS(acme_store_claim(other, "c.pem"), ACME_ERR_CONFLICT, "at work");
    acme_store_free(one); /* ends its work */
    OK(acme_store_claim(other, "c.pem"));
    OK(acme_store_release(other, "none"));
    OK(acme_store_release(other, "c.pem"));
    acme_store_free(other);
}

static void in_a_folder(void)
{
    char folder[] = "/tmp/acme-store-XXXXXX", path[300];
    struct stat found;
    acme_store_t *store = NULL;

    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/state", folder);
    OK(acme_store_directory(path, &store));
    OK(acme_store_check(store));
    lives(store, "folder.store.test");
    changes_key(store);
    acme_store_free(store);
    claims(path);
    CHECK(stat(path, &found) == 0 && (found.st_mode & 07777) == 0700);
    snprintf(path, sizeof path, "%s/state/folder.store.test.key.pem", folder);
    CHECK(stat(path, &found) == 0 && (found.st_mode & 07777) == 0600);
    snprintf(path, sizeof path, "%s/state/folder.store.test.next.key.pem", folder);
    CHECK(stat(path, &found) != 0);
    snprintf(path, sizeof path, "%s/state/account.pem.unused", folder);
    CHECK(stat(path, &found) != 0);
    snprintf(path, sizeof path, "%s/state/folder.store.test.order", folder);
    CHECK(stat(path, &found) != 0);
    in_a_sealed_folder(folder);
    snprintf(path, sizeof path, "rm -r %s", folder);
    CHECK(system(path) == 0);
}

int main(void)
{
    acme_store_t *store = NULL;

    directory_url = env("ACME_DIRECTORY");
    host_start();
    in_a_folder();
    OK(acme_store_memory(&store));
    OK(acme_store_check(store));
    lives(store, "memory.store.test");
    changes_key(store);
    acme_store_free(store);
    own();
    fails();
    keeps_no_chain();
    sealed();
    on_loop();
    step_by_step();
    refuses();
    http_stop();
    return report("test_store");
}
