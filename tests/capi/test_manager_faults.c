/* Managers with odd input, and on stores that fail: section G of tests/faults/catalogue.md. */
#include "manager.h"
#include "table.h"

#include <sched.h>
#include <sys/stat.h>

/* --- a manager on a store ------------------------------------------------------------------------------ */

struct rig {
    acme_store_t *store;
    acme_client_t *client;
    acme_driver_t *driver;
    acme_manager_t *manager;
    struct seen seen;
};

/* Makes a manager on this store, which belongs to the rig from now on. It is not started. */
static void rig_begin(struct rig *rig, acme_store_t *store)
{
    memset(rig, 0, sizeof *rig);
    rig->store = store;
    rig->client = http_asks = stored_client(store, env("ACME_DIRECTORY"));
    rig->driver = driver_with(0, 0);
    rig->manager = manager_of(rig->client, &rig->seen);
}

static void rig_in_memory(struct rig *rig)
{
    acme_store_t *store = NULL;

    OK(acme_store_memory(&store));
    rig_begin(rig, store);
}

/* Another program run: another manager on the same store. */
static void rig_restart(struct rig *rig)
{
    acme_manager_free(rig->manager);
    memset(&rig->seen, 0, sizeof rig->seen);
    rig->manager = manager_of(rig->client, &rig->seen);
}

static void rig_end(struct rig *rig)
{
    http_asks = NULL;
    acme_manager_free(rig->manager);
    acme_client_free(rig->client);
    acme_driver_free(rig->driver);
    acme_store_free(rig->store);
}

/* Starts the manager, and runs the loop until an event of this type has come. */
static void rig_run(struct rig *rig, int type)
{
    OK(acme_manager_start(rig->manager, rig->driver));
    until(rig->driver, &rig->seen, type);
}

/* Returns the serial number of the certificate for this server name; empty: there is no certificate. */
static const char *serial_for(const struct rig *rig, const char *name, char serial[100])
{
    acme_cert_t *cert = acme_manager_cert(rig->manager, name);

    snprintf(serial, 100, "%s", cert ? acme_cert_serial(cert) : "");
    acme_cert_free(cert);
    return serial;
}

static int is_served_as(const struct rig *rig, const char *name, const char *wanted)
{
    char serial[100];

    return strcmp(serial_for(rig, name, serial), wanted) == 0;
}

static int has_state(const struct rig *rig, const char *name, const char *state)
{
    char text[2000] = "", wanted[50];

    OK(acme_manager_status(rig->manager, name, keep_text, text));
    snprintf(wanted, sizeof wanted, "\"state\":\"%s\"", state);
    return strstr(text, wanted) != NULL;
}

/* --- names --------------------------------------------------------------------------------------------- */

static void g20_a_name_in_two_certificates_is_served_until_both_are_gone(void)
{
    const char *one[] = { "one.twice.manager.test", "both.twice.manager.test" };
    const char *two[] = { "two.twice.manager.test", "both.twice.manager.test" };
    acme_order_options_t first = order_for(one, 2), second = order_for(two, 2);
    char of_one[100], of_two[100], of_both[100];
    struct rig rig;
    int is_one;

    rig_in_memory(&rig);
    OK(acme_manager_add(rig.manager, &first));
    OK(acme_manager_add(rig.manager, &second));
    OK(acme_manager_start(rig.manager, rig.driver));
    until_count(rig.driver, &rig.seen, ACME_EVENT_OBTAINED, 2);
    CHECK(acme_manager_count(rig.manager) == 2);
    serial_for(&rig, one[0], of_one);
    serial_for(&rig, two[0], of_two);
    CHECK(*of_one && *of_two && strcmp(of_one, of_two) != 0);
    is_one = strcmp(serial_for(&rig, one[1], of_both), of_one) == 0;
    CHECK(is_one || strcmp(of_both, of_two) == 0);
    OK(acme_manager_remove(rig.manager, is_one ? one[0] : two[0]));
    CHECK(is_served_as(&rig, one[1], is_one ? of_two : of_one));
    OK(acme_manager_remove(rig.manager, is_one ? two[0] : one[0]));
    CHECK(is_served_as(&rig, one[1], ""));
    rig_end(&rig);
}

/* Publishes for http-01 and for dns-01. */
static void publish_any(acme_op_t *op, void *user)
{
    const acme_challenge_t *challenge;
    int failed = 0;
    size_t i;

    for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
        failed |= challenge->dns_name ? dns_publish(challenge, user) : 0;
    OK(acme_op_published(op, failed ? "the DNS server refuses" : NULL));
}

static void unpublish_any(acme_op_t *op, void *user)
{
    const acme_challenge_t *challenge;
    size_t i;

    for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
        if (challenge->dns_name)
            dns_unpublish(challenge, user);
}

static void g21_the_exact_name_goes_before_a_wildcard(void)
{
    const char *types[] = { "dns-01" }, *wild[] = { "*.wild.manager.test" }, *exact[] = { "a.wild.manager.test" };
    const char *deeper[] = { "*.a.wild.manager.test" };
    acme_manager_options_t options = ACME_MANAGER_OPTIONS_INIT;
    acme_order_options_t orders[3];
    char of_wild[100], of_exact[100], of_deeper[100];
    struct rig rig;
    int i;

    rig_in_memory(&rig);
    acme_manager_free(rig.manager);
    options.client = rig.client;
    options.event = on_event;
    options.user = &rig.seen;
    options.publish = publish_any;
    options.unpublish = unpublish_any;
    OK(acme_manager_new(&options, &rig.manager));
    orders[0] = order_for(exact, 1);
    orders[1] = order_for(wild, 1);
    orders[2] = order_for(deeper, 1);
    for (i = 0; i < 3; i++) {
        orders[i].challenge_types = types;
        orders[i].challenge_type_count = 1;
        OK(acme_manager_add(rig.manager, &orders[i]));
    }
    OK(acme_manager_start(rig.manager, rig.driver));
    until_count(rig.driver, &rig.seen, ACME_EVENT_OBTAINED, 3);
    serial_for(&rig, "A.wild.manager.test.", of_exact);
    serial_for(&rig, "b.wild.manager.test", of_wild);
    serial_for(&rig, "b.a.wild.manager.test", of_deeper);
    CHECK(*of_exact && *of_wild && *of_deeper);
    CHECK(strcmp(of_exact, of_wild) != 0 && strcmp(of_wild, of_deeper) != 0 && strcmp(of_exact, of_deeper) != 0);
    /* A wildcard stands for one label. */
    CHECK(is_served_as(&rig, "wild.manager.test", "") && is_served_as(&rig, "b.b.wild.manager.test", ""));
    CHECK(is_served_as(&rig, "*.wild.manager.test", of_wild) && is_served_as(&rig, "", ""));
    OK(acme_manager_remove(rig.manager, exact[0]));
    CHECK(is_served_as(&rig, exact[0], of_wild));
    rig_end(&rig);
}

static void g22_names_that_cannot_be_are_refused(void)
{
    const char *names[1001];
    char text[1001][40];
    acme_order_options_t order = order_for(names, 1);
    struct rig rig;
    int i;

    rig_in_memory(&rig);
    for (i = 0; i < 1001; i++) {
        snprintf(text[i], sizeof text[i], "n%d.many.manager.test", i);
        names[i] = text[i];
    }
    names[0] = "";
    CHECK_STATUS(acme_manager_add(rig.manager, &order), ACME_ERR_INVALID_ARGUMENT, "empty");
    names[0] = NULL;
    CHECK_STATUS(acme_manager_add(rig.manager, &order), ACME_ERR_INVALID_ARGUMENT, "names");
    names[0] = "same.manager.test";
    names[1] = "SAME.manager.test.";
    order.name_count = 2;
    CHECK_STATUS(acme_manager_add(rig.manager, &order), ACME_ERR_INVALID_ARGUMENT, "twice");
    names[0] = text[0];
    names[1] = text[1];
    order.name_count = 1001;
    CHECK_STATUS(acme_manager_add(rig.manager, &order), ACME_ERR_INVALID_ARGUMENT, "1000");
    order.stored_as = "";
    order.name_count = 1;
    CHECK_STATUS(acme_manager_add(rig.manager, &order), ACME_ERR_INVALID_ARGUMENT, "empty");
    CHECK(acme_manager_count(rig.manager) == 0);
    CHECK_STATUS(acme_manager_renew(rig.manager, ""), ACME_ERR_INVALID_ARGUMENT, "no certificate of this name");
    CHECK_STATUS(acme_manager_remove(rig.manager, NULL), ACME_ERR_INVALID_ARGUMENT, "name");
    OK(acme_manager_remove(rig.manager, ""));
    rig_end(&rig);
}

static void a_certificate_with_300_names(void)
{
    const char *names[300];
    char text[300][40];
    acme_order_options_t order = order_for(names, 300);
    acme_cert_t *cert;
    struct rig rig;
    size_t i;

    rig_in_memory(&rig);
    for (i = 0; i < 300; i++) {
        snprintf(text[i], sizeof text[i], "n%d.many.manager.test", (int)i);
        names[i] = text[i];
    }
    OK(acme_manager_add(rig.manager, &order));
    rig_run(&rig, ACME_EVENT_OBTAINED);
    cert = acme_manager_cert(rig.manager, names[299]);
    for (i = 0; cert && acme_cert_name(cert, i); i++)
        ;
    CHECK(i == 300);
    acme_cert_free(cert);
    rig_end(&rig);
}

/* --- the CA -------------------------------------------------------------------------------------------- */

static void g23_a_profile_that_the_ca_lacks_is_told_and_nothing_is_ordered(void)
{
    const char *names[] = { "profile.manager.test" };
    acme_order_options_t order = order_for(names, 1);
    struct rig rig;

    rig_in_memory(&rig);
    order.profile = "of-another-ca";
    OK(acme_manager_add(rig.manager, &order));
    rig_run(&rig, ACME_EVENT_FAILED);
    CHECK(rig.seen.status == ACME_ERR_UNSUPPORTED && strstr(rig.seen.message, "of-another-ca"));
    CHECK(has_state(&rig, names[0], "missing") && rig.seen.next_try > 0);
    /* Other options begin anew, at once. */
    order.profile_optional = 1;
    OK(acme_manager_add(rig.manager, &order));
    until(rig.driver, &rig.seen, ACME_EVENT_OBTAINED);
    CHECK(acme_manager_count(rig.manager) == 1 && has_state(&rig, names[0], "valid"));
    rig_end(&rig);
}

/* --- the store ----------------------------------------------------------------------------------------- */

static acme_store_t *table_store(void)
{
    acme_store_functions_t given = functions();
    acme_store_t *store = NULL;

    OK(acme_store_custom(&given, &store));
    return store;
}

/* The record whose name begins so. */
static struct record *record_of(const char *prefix)
{
    size_t i;

    for (i = 0; i < RECORDS; i++)
        if (table.records[i].version && strncmp(table.records[i].name, prefix, strlen(prefix)) == 0)
            return &table.records[i];
    CHECK(!"there is such a record");
    return NULL;
}

/* Sets the format of the record; returns a copy of its value. */
static char *set_format(struct record *record, char format)
{
    char *found = record ? strstr(record->value, "\"format\":") : NULL;

    CHECK(found != NULL);
    if (!found)
        exit(1);
    found[9] = format;
    record->version = ++table.last_version;
    return memcpy(malloc(record->size), record->value, record->size);
}

static void g24_a_record_of_a_newer_version_is_left_alone(void)
{
    static const char *const prefixes[] = { "certificate/", "account/" };
    const char *name = "newer.manager.test";
    struct rig rig;
    int i;

    rig_begin(&rig, table_store());
    add_name(rig.manager, name);
    rig_run(&rig, ACME_EVENT_OBTAINED);
    for (i = 0; i < 2; i++) {
        struct record *record = record_of(prefixes[i]);
        uint64_t version;
        size_t size = record->size;
        char *newer = set_format(record, '2');

        version = record->version;
        acme_client_free(rig.client);
        rig.client = http_asks = stored_client(rig.store, env("ACME_DIRECTORY"));
        rig_restart(&rig);
        add_name(rig.manager, name);
        OK(acme_manager_start(rig.manager, rig.driver));
        if (i == 1)
            OK(acme_manager_renew(rig.manager, name));
        until(rig.driver, &rig.seen, ACME_EVENT_FAILED);
        CHECK(rig.seen.status == ACME_ERR_STORE && strstr(rig.seen.message, "a newer version of this library"));
        settle(rig.driver);
        CHECK(record->version == version && record->size == size && memcmp(record->value, newer, size) == 0);
        CHECK(rig.seen.count[ACME_EVENT_OBTAINED] + rig.seen.count[ACME_EVENT_RENEWED] == 0);
        free(newer);
        free(set_format(record, '1'));
    }
    rig_end(&rig);
}

static void g25_a_store_that_never_answers_blocks_neither_the_loop_nor_the_end(void)
{
    /* The manager reads the certificate at its start; its attempt then reads the account. */
    static const char *const prefixes[] = { "certificate/", "account/" };
    const char *name = "never.manager.test";
    struct rig rig;
    int tries, i;

    memset(&table.records, 0, sizeof table.records);
    rig_begin(&rig, table_store());
    add_name(rig.manager, name);
    for (i = 0; i < 2; i++) {
        table_close(&table, prefixes[i]);
        OK(acme_manager_start(rig.manager, rig.driver));
        /* The manager reads the account for responses to http-01, and the attempt reads it, too. */
        for (tries = 0; table_waiting(&table) < 1 + i && tries < 600; tries++)
            if (is_readable(rig.driver, 100))
                OK(acme_driver_dispatch(rig.driver)); /* returns, although the store does not */
        CHECK(table_waiting(&table) == 1 + i && acme_driver_count(rig.driver) == (size_t)i);
        CHECK(is_served_as(&rig, name, "") && (i == 1 || has_state(&rig, name, "loading")));
        rig_restart(&rig); /* frees the manager */
        CHECK(acme_driver_count(rig.driver) == 0 && rig.seen.count[ACME_EVENT_FAILED] == 0);
        add_name(rig.manager, name);
        table_close(&table, NULL);
        while (table_waiting(&table) > 0)
            sched_yield();
    }
    rig_run(&rig, ACME_EVENT_OBTAINED);
    rig_end(&rig);
}

static void g26_a_version_that_goes_back_is_a_conflict(void)
{
    const char *name = "back.manager.test";
    char serial[100];
    struct rig rig;

    rig_begin(&rig, table_store());
    add_name(rig.manager, name);
    rig_run(&rig, ACME_EVENT_OBTAINED);
    strcpy(serial, rig.seen.serial);
    table.goes_back = 1;
    OK(acme_manager_renew(rig.manager, name));
    until(rig.driver, &rig.seen, ACME_EVENT_FAILED);
    CHECK(rig.seen.status == ACME_ERR_CONFLICT && strstr(rig.seen.message, "has changed this record"));
    CHECK(is_served_as(&rig, name, serial) && has_state(&rig, name, "valid"));
    OK(acme_manager_renew(rig.manager, name));
    until(rig.driver, &rig.seen, ACME_EVENT_RENEWED);
    CHECK(!is_served_as(&rig, name, serial));
    rig_end(&rig);
}

/* --- the folder ---------------------------------------------------------------------------------------- */

static acme_store_t *folder_store(char folder[40])
{
    acme_store_t *store = NULL;

    strcpy(folder, "/tmp/acme-manager-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    OK(acme_store_directory(folder, &store));
    return store;
}

static void remove_folder(const char *folder)
{
    char command[100];

    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
}

static void g27_a_folder_that_disappears_is_told_and_the_certificate_is_used(void)
{
    const char *name = "gone.manager.test";
    char folder[40], serial[100];
    struct rig rig;

    rig_begin(&rig, folder_store(folder));
    add_name(rig.manager, name);
    rig_run(&rig, ACME_EVENT_OBTAINED);
    strcpy(serial, rig.seen.serial);
    remove_folder(folder);
    OK(acme_manager_renew(rig.manager, name));
    until(rig.driver, &rig.seen, ACME_EVENT_FAILED);
    CHECK(rig.seen.status == ACME_ERR_STORE && strstr(rig.seen.message, folder));
    CHECK(is_served_as(&rig, name, serial) && rig.seen.next_try > 0);
    CHECK(access(folder, F_OK) != 0);
    rig_end(&rig);
}

/* The content of a file, which the caller frees. */
static char *content(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 10000);

    CHECK(file && fread(text, 1, 9999, file) > 0);
    if (file)
        fclose(file);
    return text;
}

static void g28_a_key_that_others_can_read_is_told_and_not_used(void)
{
    const char *name = "lax.manager.test";
    char folder[40], path[100], serial[100], *before, *after;
    struct stat found;
    struct rig rig;

    rig_begin(&rig, folder_store(folder));
    add_name(rig.manager, name);
    rig_run(&rig, ACME_EVENT_OBTAINED);
    strcpy(serial, rig.seen.serial);
    snprintf(path, sizeof path, "%s/%s.key.pem", folder, name);
    before = content(path);
    CHECK(chmod(path, 0666) == 0);

    /* While it runs, it goes on with the key that it has. */
    OK(acme_manager_renew(rig.manager, name));
    until(rig.driver, &rig.seen, ACME_EVENT_FAILED);
    CHECK(rig.seen.status == ACME_ERR_STORE && strstr(rig.seen.message, path) && strstr(rig.seen.message, "chmod 600"));
    CHECK(is_served_as(&rig, name, serial));

    /* At a start, the key is not used. */
    rig_restart(&rig);
    add_name(rig.manager, name);
    rig_run(&rig, ACME_EVENT_FAILED);
    CHECK(rig.seen.status == ACME_ERR_STORE && strstr(rig.seen.message, "others can read this key"));
    settle(rig.driver);
    CHECK(is_served_as(&rig, name, "") && rig.seen.count[ACME_EVENT_OBTAINED] == 0);
    after = content(path);
    CHECK(strcmp(before, after) == 0 && stat(path, &found) == 0 && (found.st_mode & 0777) == 0666);
    free(after);

    CHECK(chmod(path, 0600) == 0);
    rig_restart(&rig);
    add_name(rig.manager, name);
    rig_run(&rig, ACME_EVENT_LOADED);
    CHECK(is_served_as(&rig, name, serial));
    free(before);
    rig_end(&rig);
    remove_folder(folder);
}

/* --- callbacks ----------------------------------------------------------------------------------------- */

static acme_manager_t *calling;
static int removals;

static void remove_served(const acme_cert_t *cert, void *user)
{
    (void)user;
    OK(acme_manager_remove(calling, acme_cert_name(cert, 0)));
    CHECK(acme_cert_key(cert) != NULL); /* valid until the callback returns */
    removals++;
}

static void g05_a_certificate_is_removed_while_it_is_served(void)
{
    const char *name = "served.manager.test";
    acme_manager_options_t options = ACME_MANAGER_OPTIONS_INIT;
    struct rig rig;

    rig_in_memory(&rig);
    acme_manager_free(rig.manager);
    options.client = rig.client;
    options.event = on_event;
    options.user = &rig.seen;
    options.serve = remove_served;
    OK(acme_manager_new(&options, &rig.manager));
    calling = rig.manager;
    add_name(rig.manager, name);
    rig_run(&rig, ACME_EVENT_OBTAINED);
    CHECK(removals == 1 && acme_manager_count(rig.manager) == 0 && is_served_as(&rig, name, ""));
    /* It is in the store: added again, it is read from there, and removed again. */
    add_name(rig.manager, name);
    until(rig.driver, &rig.seen, ACME_EVENT_LOADED);
    CHECK(removals == 2 && acme_manager_count(rig.manager) == 0);
    settle(rig.driver);
    CHECK(rig.seen.count[ACME_EVENT_OBTAINED] == 1 && rig.seen.count[ACME_EVENT_FAILED] == 0);
    rig_end(&rig);
}

/* --- the end ------------------------------------------------------------------------------------------- */

/* Frees the manager after 0, 1, 2, ... calls of dispatch, until one of them has obtained its certificate. */
static void g29_it_can_be_freed_at_each_moment(void)
{
    const char *name = "moment.manager.test";
    struct rig rig;
    int calls, i, is_done = 0;

    for (calls = 0; !is_done && calls < 300; calls++) {
        rig_in_memory(&rig);
        add_name(rig.manager, name);
        OK(acme_manager_start(rig.manager, rig.driver));
        for (i = 0; i < calls && !rig.seen.count[ACME_EVENT_OBTAINED]; i++)
            dispatch(rig.driver);
        is_done = rig.seen.count[ACME_EVENT_OBTAINED];
        rig_restart(&rig);
        CHECK(acme_driver_count(rig.driver) == 0);
        settle(rig.driver);
        CHECK(rig.seen.count[ACME_EVENT_OBTAINED] + rig.seen.count[ACME_EVENT_FAILED] == 0);
        rig_end(&rig);
    }
    CHECK(is_done);
}

int main(int argc, char **argv)
{
    choose_tests(argc, argv);
    host_start();
    TEST(g20_a_name_in_two_certificates_is_served_until_both_are_gone());
    TEST(g21_the_exact_name_goes_before_a_wildcard());
    TEST(g22_names_that_cannot_be_are_refused());
    TEST(a_certificate_with_300_names());
    TEST(g23_a_profile_that_the_ca_lacks_is_told_and_nothing_is_ordered());
    TEST(g24_a_record_of_a_newer_version_is_left_alone());
    TEST(g25_a_store_that_never_answers_blocks_neither_the_loop_nor_the_end());
    TEST(g26_a_version_that_goes_back_is_a_conflict());
    TEST(g27_a_folder_that_disappears_is_told_and_the_certificate_is_used());
    TEST(g28_a_key_that_others_can_read_is_told_and_not_used());
    TEST(g05_a_certificate_is_removed_while_it_is_served());
    TEST(g29_it_can_be_freed_at_each_moment());
    http_stop();
    return report("test_manager_faults");
}
