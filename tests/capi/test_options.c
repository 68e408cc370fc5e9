/* Options structs: of every size, from older and newer programs, and with every member wrong. */
#include "check.h"

#define ARG ACME_ERR_INVALID_ARGUMENT
#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *const names[] = { "example.org" };
static acme_key_t *key;
static acme_client_t *client, *storing_client;
static acme_store_t *store;
static acme_client_options_t client_options = ACME_CLIENT_OPTIONS_INIT;
static acme_order_options_t order_options = ACME_ORDER_OPTIONS_INIT;
static acme_authorize_options_t authorize_options = ACME_AUTHORIZE_OPTIONS_INIT;
static acme_run_options_t run_options = ACME_RUN_OPTIONS_INIT;
static acme_driver_options_t driver_options = ACME_DRIVER_OPTIONS_INIT;
static acme_driver_callbacks_t driver_callbacks = ACME_DRIVER_CALLBACKS_INIT;
static acme_store_functions_t store_functions = ACME_STORE_FUNCTIONS_INIT;
static acme_manager_options_t manager_options = ACME_MANAGER_OPTIONS_INIT;
static acme_files_options_t files_options = ACME_FILES_OPTIONS_INIT;
static acme_cert_t *cert;
static char files_folder[] = "/tmp/acme-options-XXXXXX", files_path[100];

/* Each try_*() function returns ACME_OK if the library accepts the options. */
static int try_client(const void *options)
{
    acme_client_t *made = NULL;
    int status = acme_client_new(options, &made);

    CHECK((status == ACME_OK) == (made != NULL));
    acme_client_free(made);
    return status;
}

static int begin_order(const acme_client_t *with, const void *options)
{
    acme_op_t *made = NULL;
    int status = acme_begin_order(with, options, &made);

    CHECK((status == ACME_OK) == (made != NULL));
    acme_op_free(made);
    return status;
}

static int try_order(const void *options)
{
    return begin_order(client, options);
}

static int try_stored_order(const void *options)
{
    return begin_order(storing_client, options);
}

static int get(const char *name, acme_record_t *found, void *user)
{
    (void)name, (void)found, (void)user;
    return ACME_OK;
}

static int put(const char *name, uint64_t expected, const void *value, size_t size, uint64_t *version, void *user)
{
    (void)name, (void)expected, (void)value, (void)size, (void)version, (void)user;
    return ACME_ERR_STORE;
}

static int list(const char *prefix, const char *after, size_t limit, acme_names_t *found, void *user)
{
    (void)prefix, (void)after, (void)limit, (void)found, (void)user;
    return ACME_OK;
}

static int try_store(const void *functions)
{
    acme_store_t *made = NULL;
    int status = acme_store_custom(functions, &made);

    CHECK((status == ACME_OK) == (made != NULL));
    acme_store_free(made);
    return status;
}

static int try_authorize(const void *options)
{
    acme_op_t *made = NULL;
    int status = acme_begin_authorize(client, options, &made);

    CHECK((status == ACME_OK) == (made != NULL));
    acme_op_free(made);
    return status;
}

/* Sends no request, because the operation has been canceled. */
static int try_run(const void *options)
{
    acme_op_t *op = NULL;
    int status;

    CHECK(acme_begin_register(client, &op) == ACME_OK);
    acme_op_cancel(op);
    status = acme_op_run(op, options);
    CHECK(status != ACME_OK);
    CHECK(status == ACME_ERR_CANCELED || acme_op_error(op) == NULL);
    acme_op_free(op);
    return status == ACME_ERR_CANCELED ? ACME_OK : status;
}

static int try_driver(const void *options)
{
    acme_driver_t *made = NULL;
    int status = acme_driver_new(options, &made);

    CHECK((status == ACME_OK) == (made != NULL));
    acme_driver_free(made);
    return status;
}

static int try_manager(const void *options)
{
    acme_manager_t *made = NULL;
    int status = acme_manager_new(options, &made);

    CHECK((status == ACME_OK) == (made != NULL));
    acme_manager_free(made);
    return status;
}

static int ended;

static void done(acme_op_t *op, acme_status_t status, void *user)
{
    (void)user;
    CHECK(status == ACME_ERR_CANCELED);
    acme_op_free(op);
    ended++;
}

/* Sends no request, because the driver is freed before. */
static int try_add(const void *callbacks)
{
    acme_driver_t *driver = NULL;
    acme_op_t *op = NULL;
    int status, ended_before = ended;

    CHECK(acme_driver_new(NULL, &driver) == ACME_OK);
    CHECK(acme_begin_register(client, &op) == ACME_OK);
    status = acme_driver_add(driver, op, callbacks);
    acme_driver_free(driver);
    CHECK((status == ACME_OK) == (ended > ended_before));
    if (status != ACME_OK)
        acme_op_free(op); /* a refused operation is still the caller's */
    return status;
}

static acme_cert_t *new_cert(void)
{
    static const uint8_t digest[32] = { 1 };
    acme_challenge_t challenge;
    acme_cert_t *made = NULL;

    memset(&challenge, 0, sizeof challenge);
    challenge.identifier = names[0];
    challenge.tls_alpn_digest = digest;
    OK(acme_cert_create_tls_alpn(&challenge, NULL, &made));
    return made;
}

static int try_files(const void *options)
{
    return acme_cert_write_files(cert, options);
}

struct options {
    const char *name;
    int (*try)(const void *);
    const void *good;
    size_t size;
    size_t oldest; /* size in the first version */
};

static const struct options all[] = {
    { "client", try_client, &client_options, sizeof client_options,
      offsetof(acme_client_options_t, account_url) },
    { "order", try_order, &order_options, sizeof order_options,
      offsetof(acme_order_options_t, challenge_types) },
    { "authorize", try_authorize, &authorize_options, sizeof authorize_options,
      offsetof(acme_authorize_options_t, challenge_types) },
    { "run", try_run, &run_options, sizeof run_options, offsetof(acme_run_options_t, unpublish) },
    { "driver", try_driver, &driver_options, sizeof driver_options,
      offsetof(acme_driver_options_t, max_requests_per_ca) },
    { "driver callbacks", try_add, &driver_callbacks, sizeof driver_callbacks,
      offsetof(acme_driver_callbacks_t, publish) },
    { "stored order", try_stored_order, &order_options, sizeof order_options,
      offsetof(acme_order_options_t, challenge_types) },
    { "store functions", try_store, &store_functions, sizeof store_functions,
      offsetof(acme_store_functions_t, free) },
    { "files", try_files, &files_options, sizeof files_options, offsetof(acme_files_options_t, folder) },
};

static const struct options of_manager = {
    "manager", try_manager, &manager_options, sizeof manager_options, offsetof(acme_manager_options_t, event)
};

static void set_size(void *options, size_t size)
{
    memcpy(options, &size, sizeof size); /* size is the first member of each struct */
}

static void expect_status(const struct options *kind, const void *options, int wanted)
{
    int given = kind->try(options);
    size_t size;

    memcpy(&size, options, sizeof size);
    CHECK(given == wanted);
    if (given != wanted)
        fprintf(stderr, "    that was a size of %zu in %s options\n", size, kind->name);
}

static void f07_f08_f19_sizes(const struct options *kind)
{
    static const size_t bad[] = { 0, 1, 7, 8, 12, 17, 4104, 1 << 20, SIZE_MAX, SIZE_MAX - 7 };
    size_t i, size;
    char room[512];

    expect_status(kind, kind->good, ACME_OK);
    memset(room, 0, sizeof room);
    memcpy(room, kind->good, kind->size);
    for (i = 0; i < COUNT(bad); i++) {
        set_size(room, bad[i]);
        expect_status(kind, room, ARG);
        CHECK(strstr(acme_error_message(acme_last_error()), "size") != NULL);
    }
    /* A struct of an older program: the library does not read behind its end. */
    for (size = kind->oldest; size <= kind->size; size += sizeof(size_t)) {
        char *edge = at_the_edge(size);

        memcpy(edge, kind->good, size);
        set_size(edge, size);
        expect_status(kind, edge, ACME_OK);
        memset(room, 0xaa, sizeof room);
        memcpy(room, edge, size);
        expect_status(kind, room, ACME_OK);
    }
    /* A struct of a newer program: the library accepts it if all new members are 0. */
    for (size = kind->size + 8; size <= kind->size + 64; size += 8) {
        char *edge = at_the_edge(size);

        memset(edge, 0, size);
        memcpy(edge, kind->good, kind->size);
        set_size(edge, size);
        expect_status(kind, edge, ACME_OK);
        for (i = kind->size; i < size; i += 7) {
            edge[i] = 1;
            expect_status(kind, edge, ACME_ERR_UNSUPPORTED);
            edge[i] = 0;
        }
    }
    /* A struct that was never initialized, and structs with a size that cannot be true. Memory after them is
     * unreadable, so the library must refuse the size without reading further. */
    memset(room, 0xaa, sizeof room);
    expect_status(kind, room, ARG);
    {
        char *edge = at_the_edge(sizeof(size_t));

        set_size(edge, 0);
        expect_status(kind, edge, ARG);
        set_size(edge, SIZE_MAX);
        expect_status(kind, edge, ARG);
    }
}

/* --- members ------------------------------------------------------------------------------------ */

#define MEMBER(type, member) { offsetof(type, member), #member }
#define LIST(type, member, count) { offsetof(type, member), offsetof(type, count), #member }

struct text { size_t offset; const char *name; };
struct list { size_t offset, count; const char *name; };

static const struct text client_texts[] = {
    MEMBER(acme_client_options_t, directory_url), MEMBER(acme_client_options_t, account_url),
    MEMBER(acme_client_options_t, eab_key_id),    MEMBER(acme_client_options_t, eab_hmac_key),
    MEMBER(acme_client_options_t, eab_algorithm), MEMBER(acme_client_options_t, user_agent),
    MEMBER(acme_client_options_t, ca_file),       MEMBER(acme_client_options_t, agreed_terms_url),
    MEMBER(acme_client_options_t, ca_dir),        MEMBER(acme_client_options_t, accept_language),
    MEMBER(acme_client_options_t, extra_ca_file), MEMBER(acme_client_options_t, proxy),
    MEMBER(acme_client_options_t, client_cert_file),
    MEMBER(acme_client_options_t, client_key_file),
};
static const struct text order_texts[] = {
    MEMBER(acme_order_options_t, order_url), MEMBER(acme_order_options_t, not_before),
    MEMBER(acme_order_options_t, not_after), MEMBER(acme_order_options_t, profile),
    MEMBER(acme_order_options_t, preferred_chain), MEMBER(acme_order_options_t, ancestor_domain),
};
static const struct text files_texts[] = {
    MEMBER(acme_files_options_t, combined),    MEMBER(acme_files_options_t, folder),
    MEMBER(acme_files_options_t, chain),       MEMBER(acme_files_options_t, key),
    MEMBER(acme_files_options_t, certificate), MEMBER(acme_files_options_t, issuers),
};
static const struct text stored_texts[] = { MEMBER(acme_order_options_t, stored_as) };
static const struct text stored_flags[] = {
    MEMBER(acme_order_options_t, new_key), MEMBER(acme_order_options_t, only_if_due),
};
static const struct list client_lists[] = {
    LIST(acme_client_options_t, contacts, contact_count),
    LIST(acme_client_options_t, allowed_hosts, allowed_host_count),
};
static const struct list order_lists[] = {
    LIST(acme_order_options_t, names, name_count),
    LIST(acme_order_options_t, challenge_types, challenge_type_count),
};
static const struct list authorize_lists[] = {
    LIST(acme_authorize_options_t, names, name_count),
    LIST(acme_authorize_options_t, challenge_types, challenge_type_count),
};
static const struct text authorize_flags[] = {
    MEMBER(acme_authorize_options_t, subdomains),
};
static const struct text client_flags[] = {
    MEMBER(acme_client_options_t, terms_agreed), MEMBER(acme_client_options_t, allow_http_loopback),
};
static const struct text order_flags[] = {
    MEMBER(acme_order_options_t, profile_optional), MEMBER(acme_order_options_t, only_if_due),
    MEMBER(acme_order_options_t, must_staple), MEMBER(acme_order_options_t, abandon_on_failure),
};

/* Checks that the struct with this member set is refused, and that the message names the member. */
static void refuse(const struct options *kind, size_t offset, const void *value, const char *name,
                   const char *why)
{
    char room[512];
    const char *message;

    memcpy(room, kind->good, kind->size);
    memcpy(room + offset, value, sizeof(size_t));
    expect_status(kind, room, ARG);
    message = acme_error_message(acme_last_error());
    CHECK(message && strstr(message, name) && strstr(message, why));
    if (!message || !strstr(message, name))
        fprintf(stderr, "    that was %s\n", name);
}

static void f02_f03_texts(const struct options *kind, const struct text *members, size_t count)
{
    static const char *const not_utf8[] = { "\xff", "\xc0\xaf", "\xed\xa0\x80", "x\xe2\x82" };
    char *endless = at_the_edge(65536);
    size_t i, j;

    memset(endless, 'a', 65536);
    for (i = 0; i < count; i++) {
        refuse(kind, members[i].offset, &endless, members[i].name, "64 KiB");
        for (j = 0; j < COUNT(not_utf8); j++)
            refuse(kind, members[i].offset, &not_utf8[j], members[i].name, "UTF-8");
    }
}

static void f03_f04_f18_lists(const struct options *kind, const struct list *members, size_t count)
{
    const char *texts[2] = { NULL, NULL };
    const char *const *list = texts, *const *odd = (void *)((char *)texts + 1);
    size_t i, one = 1, most = SIZE_MAX, wrapping = SIZE_MAX / 8 + 2;
    char *endless = at_the_edge(65536), element[64];

    memset(endless, 'a', 65536);
    for (i = 0; i < count; i++) {
        struct options listed = *kind;
        char good[512];

        memcpy(good, kind->good, kind->size);
        listed.good = good;
        memcpy(good + members[i].offset, &list, sizeof list);
        snprintf(element, sizeof element, "%s[0]", members[i].name);
        texts[0] = NULL;
        refuse(&listed, members[i].count, &one, element, "NULL");
        texts[0] = "\xff";
        refuse(&listed, members[i].count, &one, element, "UTF-8");
        texts[0] = endless;
        refuse(&listed, members[i].count, &one, element, "64 KiB");
        refuse(&listed, members[i].count, &most, members[i].name, "many");
        refuse(&listed, members[i].count, &wrapping, members[i].name, "many");
        memcpy(good + members[i].offset, &odd, sizeof odd);
        refuse(&listed, members[i].count, &one, members[i].name, "aligned");
        memset(good + members[i].offset, 0, sizeof list);
        refuse(&listed, members[i].count, &one, members[i].name, "NULL");
    }
}

static void f09_flags(const struct options *kind, const struct text *members, size_t count)
{
    static const size_t odd[] = { 2, 12345, SIZE_MAX, 0xaaaaaaaa };
    size_t i, j;

    for (i = 0; i < count; i++)
        for (j = 0; j < COUNT(odd); j++)
            refuse(kind, members[i].offset, &odd[j], members[i].name, "neither 0 nor 1");
}

static void what_cannot_work(void)
{
    static const char *const types[] = { "gopher-01" }, *const dns01[] = { "dns-01" };
    static const char *const http01[] = { "http-01" }, *const none[] = { NULL };
    static const char *const odd[] = { "\xff" }, *const attest[] = { "device-attest-01" };
    static const char *const device[] = { "permanent-identifier:device-7" };
    static const char *const wild[] = { "*.example.org" }, *const address[] = { "192.0.2.1" };
    const char *many[1001];
    acme_order_options_t order = order_options;
    acme_client_options_t options = client_options;
    size_t i;

#define ORDER(text)                                                            \
    do {                                                                       \
        CHECK_STATUS(try_order(&order), ARG, text);                            \
        order = order_options;                                                 \
    } while (0)
#define CLIENT(status, text)                                                   \
    do {                                                                       \
        CHECK_STATUS(try_client(&options), status, text);                      \
        options = client_options;                                              \
    } while (0)

    order.name_count = 0; ORDER("name");
    for (i = 0; i < COUNT(many); i++)
        many[i] = "example.org";
    order.names = many; order.name_count = 1001; ORDER("1000");
    order.names = many; order.name_count = 2; ORDER("twice");
    order.names = wild; ORDER("dns-01");
    order.names = address; order.challenge_types = dns01; order.challenge_type_count = 1;
    ORDER("dns-01");
    order.challenge_types = types; order.challenge_type_count = 1; ORDER("gopher-01");
    order.key = key; ORDER("account's key");
    order.key = (const acme_key_t *)client;
    CHECK_STATUS(try_order(&order), ACME_ERR_MISUSE, "key");
    order = order_options;
    order.csr = (const acme_csr_t *)key;
    CHECK_STATUS(try_order(&order), ACME_ERR_MISUSE, "csr");
    order = order_options;
    order.replaces = (const acme_cert_t *)key;
    CHECK_STATUS(try_order(&order), ACME_ERR_MISUSE, "replaces");
    order = order_options;
    order.preferred_chain = "X"; order.preferred_chain_by = 12345; ORDER("preferred_chain_by");
    order.preferred_chain = "X"; order.preferred_chain_by = SIZE_MAX; ORDER("preferred_chain_by");
    order.preferred_chain_by = ACME_CHAIN_BY_ISSUER; ORDER("preferred_chain is NULL");
    order.preferred_chain = "xyz"; order.preferred_chain_by = ACME_CHAIN_BY_KEY_ID; ORDER("");
    order.not_after = "tomorrow"; ORDER("not_after");
    order.not_before = "2026-13-01T00:00:00Z"; ORDER("not_before");
    order.order_url = "https://elsewhere.example/order/1"; ORDER("order_url");
    order.order_url = "nonsense"; ORDER("order_url");
    order.name_challenge_types = types; ORDER("gopher-01");
    order.names = wild; order.name_challenge_types = http01; ORDER("wildcard");
    order.names = wild; order.name_challenge_types = odd; ORDER("name_challenge_types[0]");
    order.names = wild; order.name_challenge_types = dns01; OK(try_order(&order));
    order = order_options;
    order.name_challenge_types = none; OK(try_order(&order)); /* as with the default types */
    order.ancestor_domain = "example.net"; ORDER("example.net");
    order.ancestor_domain = "*.org"; ORDER("*.org");
    order.ancestor_domain = "org"; OK(try_order(&order));
    order = order_options;
    order.names = device; ORDER("device"); /* by http-01 */
    order.names = device; order.name_challenge_types = attest; ORDER("csr");
    order.stored_as = "x"; ORDER("need a client with a store");
    order.key_type = ACME_KEY_P256; ORDER("need a client with a store");
    order.new_key = 1; ORDER("need a client with a store");
    order.timeout_s = SIZE_MAX; /* in effect, no timeout */
    OK(try_order(&order));

    options.directory_url = NULL; CLIENT(ARG, "directory_url is NULL");
    options.directory_url = ""; CLIENT(ARG, "directory URL");
    options.directory_url = "http://ca.example/"; CLIENT(ACME_ERR_POLICY, "https");
    options.directory_url = "http://127.0.0.1/"; CLIENT(ACME_ERR_POLICY, "https");
    options.account_key = NULL; CLIENT(ARG, "account_key is NULL");
    options.account_key = (const acme_key_t *)client; CLIENT(ACME_ERR_MISUSE, "account_key");
    options.store = store; options.account_key = NULL; options.account_url = "https://ca.example/1"; CLIENT(ARG, "from the store");
    options.store = (const acme_store_t *)key; options.account_key = NULL; CLIENT(ACME_ERR_MISUSE, "store");
    options.store = store; options.account_key = NULL; options.account_url = "https://ca.example/account/1";
    CLIENT(ARG, "from the store");
    options.eab_key_id = "kid"; CLIENT(ARG, "eab_hmac_key");
    options.eab_hmac_key = "AAAA"; CLIENT(ARG, "eab_key_id");
    options.eab_key_id = "kid"; options.eab_hmac_key = "not base64!"; CLIENT(ARG, "EAB");
    options.eab_algorithm = "none"; CLIENT(ARG, "eab_algorithm");
    options.accept_language = "de\r\nX: y"; CLIENT(ARG, "accept_language");
    options.ca_file = "/nowhere/at-all.pem"; CLIENT(ARG, "ca_file");
    options.ca_file = "/dev/null"; CLIENT(ARG, "ca_file /dev/null: is empty");
    options.ca_dir = "/nowhere"; CLIENT(ARG, "ca_dir /nowhere: No such file");
    options.ca_dir = "/dev/null"; CLIENT(ARG, "ca_dir /dev/null: Not a directory");
    options.ca_dir = "/proc/self/fd"; CLIENT(ARG, "openssl rehash");
    options.extra_ca_file = "/dev/null"; CLIENT(ARG, "extra_ca_file /dev/null: is empty");
    options.client_cert_file = "/dev/null"; CLIENT(ARG, "go together");
    options.client_key_file = "/dev/null"; CLIENT(ARG, "go together");
    options.client_cert_file = "/nowhere"; options.client_key_file = "/dev/null";
    CLIENT(ARG, "client_cert_file /nowhere: No such file");
    options.proxy = ""; CLIENT(ARG, "proxy: is no URL");
    options.proxy = "http://user:secret@proxy.example"; CLIENT(ARG, "proxy: has no port");
    options.proxy = "ftp://user:secret@proxy.example:1"; CLIENT(ARG, "proxy: has a scheme");
    CHECK(!strstr(acme_error_message(acme_last_error()), "secret"));
    options.proxy = "socks4a://user:secret@proxy.example:1"; CLIENT(ARG, "proxy: has a password");
    options.proxy = "socks5h://user:secret@proxy.example:1";
    OK(try_client(&options));
    options = client_options;
    options.request_timeout_s = 3601; CLIENT(ARG, "request_timeout_s is 3601");
    options.request_timeout_s = SIZE_MAX; CLIENT(ARG, "request_timeout_s is");
    options.request_timeout_s = 3600; options.ip_version = 6;
    OK(try_client(&options));
    options = client_options;
    options.ip_version = 5; CLIENT(ARG, "ip_version is 5");
    options.ip_version = SIZE_MAX; CLIENT(ARG, "ip_version is");
    options.directory_url = "http://127.0.0.1/"; options.allow_http_loopback = 1;
    OK(try_client(&options));
}

int main(int argc, char **argv)
{
    size_t i, too_many = 257;

    choose_tests(argc, argv);
    key = new_key();
    client_options.directory_url = "https://ca.example/directory";
    client_options.account_key = key;
    OK(acme_client_new(&client_options, &client));
    OK(acme_store_memory(&store));
    client_options.account_key = NULL;
    client_options.store = store;
    OK(acme_client_new(&client_options, &storing_client));
    client_options.store = NULL;
    client_options.account_key = key;
    store_functions.get = get;
    store_functions.put = put;
    store_functions.list = list;
    driver_callbacks.done = done;
    order_options.names = names;
    order_options.name_count = 1;
    authorize_options.names = names;
    authorize_options.name_count = 1;
    cert = new_cert();
    CHECK(mkdtemp(files_folder) != NULL);
    snprintf(files_path, sizeof files_path, "%s/both.pem", files_folder);
    files_options.combined = files_path;
    for (i = 0; i < COUNT(all); i++)
        f07_f08_f19_sizes(&all[i]);
    manager_options.client = storing_client;
    f07_f08_f19_sizes(&of_manager);
    TEST(f02_f03_texts(&all[0], client_texts, COUNT(client_texts)));
    TEST(f02_f03_texts(&all[1], order_texts, COUNT(order_texts)));
    TEST(f02_f03_texts(&all[6], stored_texts, COUNT(stored_texts)));
    TEST(f02_f03_texts(&all[8], files_texts, COUNT(files_texts)));
    TEST(f03_f04_f18_lists(&all[0], client_lists, COUNT(client_lists)));
    TEST(f03_f04_f18_lists(&all[1], order_lists, COUNT(order_lists)));
    TEST(f03_f04_f18_lists(&all[2], authorize_lists, COUNT(authorize_lists)));
    TEST(f09_flags(&all[2], authorize_flags, COUNT(authorize_flags)));
    TEST(f09_flags(&all[0], client_flags, COUNT(client_flags)));
    TEST(f09_flags(&all[1], order_flags, COUNT(order_flags)));
    TEST(f09_flags(&all[6], stored_flags, COUNT(stored_flags)));
    refuse(&all[6], offsetof(acme_order_options_t, key_type), &too_many, "key_type", "257");
    refuse(&all[4], offsetof(acme_driver_options_t, max_threads), &too_many, "max_threads", "256");
    refuse(&all[4], offsetof(acme_driver_options_t, max_requests_per_ca), &too_many,
           "max_requests_per_ca", "256");
    TEST(what_cannot_work());
    snprintf(files_path, sizeof files_path, "rm -r %s", files_folder);
    CHECK(system(files_path) == 0);
    acme_cert_free(cert);
    acme_client_free(storing_client);
    acme_client_free(client);
    acme_store_free(store);
    acme_key_free(key);
    return report("test_options");
}
