/* Calls every function of the header with each of its pointers NULL in turn, and checks that no call changes
 * the process (signal mask, umask, locale and so on). generate_null.py generates the calls. */
#include "outputs.h"

#include <errno.h>
#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

/* --- the arguments of the calls ------------------------------------------------------------------- */

static const char *const names[] = { "example.org" }, *const contacts[] = { "mailto:a@example.org" };
static const char path[] = "/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
static acme_key_t *key, *second_key;
static acme_csr_t *csr;
static const uint8_t *der;
static size_t der_size;
static acme_cert_t *cert;
static acme_client_t *client;
static acme_op_t *op, *canceled, *failed_op;
static const acme_error_t *error;
static acme_driver_t *driver;
static acme_store_t *store;
static acme_client_t *stored; /* with the store */
static acme_manager_t *manager;
static acme_client_options_t client_options = ACME_CLIENT_OPTIONS_INIT;
static acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
static acme_authorize_options_t authorize = ACME_AUTHORIZE_OPTIONS_INIT;
static acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
static acme_driver_options_t driver_options = ACME_DRIVER_OPTIONS_INIT;
static acme_driver_callbacks_t callbacks = ACME_DRIVER_CALLBACKS_INIT;
static acme_store_functions_t functions = ACME_STORE_FUNCTIONS_INIT;
static acme_manager_options_t manager_options = ACME_MANAGER_OPTIONS_INIT;
static acme_files_options_t files_options = ACME_FILES_OPTIONS_INIT;
static acme_order_options_t stored_order = ACME_ORDER_OPTIONS_INIT;
static acme_order_options_t demand_order = ACME_ORDER_OPTIONS_INIT;
static const uint8_t sealing_key[32] = { 1 };
static uint8_t digest[32];
static acme_challenge_t challenge;
static char body[1024];
static int user;
static char folder[] = "/tmp/acme-null-XXXXXX";

static int wait_ms;
static size_t out_size;

static void quiet(int level, const char *line, void *it)
{
    (void)level, (void)line, (void)it;
}

static void done(acme_op_t *it, acme_status_t status, void *unused)
{
    (void)status, (void)unused;
    CHECK(it == op);
    acme_op_free(op);
    op = NULL;
}

static int take_text(const char *text, size_t size, void *unused)
{
    (void)unused;
    return text && size ? 0 : 1;
}

static int refuse(const char *name, void *unused)
{
    (void)unused;
    return name ? 0 : 1;
}

static int get(const char *name, acme_record_t *found, void *unused)
{
    (void)name, (void)found, (void)unused;
    return ACME_OK;
}

static int put(const char *name, uint64_t expected, const void *value, size_t size, uint64_t *version, void *unused)
{
    (void)name, (void)expected, (void)value, (void)size, (void)version, (void)unused;
    return ACME_ERR_STORE;
}

static int list(const char *prefix, const char *after, size_t limit, acme_names_t *found, void *unused)
{
    (void)prefix, (void)after, (void)limit, (void)found, (void)unused;
    return ACME_OK;
}

/* Prepares a call: resets the outputs, and makes new handles for freed ones. */
static void renew(void)
{
    touch_outputs();
    out_size = 77;
    if (!key)
        key = new_key();
    if (!second_key)
        second_key = new_key();
    client_options.account_key = key;
    order.key = second_key;
    if (!csr)
        OK(acme_csr_create(second_key, names, 1, &csr));
    der = acme_csr_der(csr, &der_size);
    if (!cert)
        OK(acme_cert_create_tls_alpn(&challenge, NULL, &cert));
    if (!client)
        OK(acme_client_new(&client_options, &client));
    if (!driver)
        OK(acme_driver_new(NULL, &driver));
    if (!store)
        OK(acme_store_memory(&store));
    if (!stored) {
        client_options.account_key = NULL;
        client_options.store = store;
        OK(acme_client_new(&client_options, &stored));
        client_options.account_key = key;
        client_options.store = NULL;
        manager_options.client = stored;
    }
    if (!manager)
        OK(acme_manager_new(&manager_options, &manager));
    if (acme_manager_count(manager) == 0)
        OK(acme_manager_add(manager, &stored_order));
    if (op && strcmp(acme_op_state(op), "new") != 0) {
        acme_op_free(op);
        op = NULL;
    }
    if (!op)
        OK(acme_begin_order(client, &order, &op));
    acme_op_free(canceled);
    OK(acme_begin_order(client, &order, &canceled));
    acme_op_cancel(canceled);
    if (!failed_op) {
        OK(acme_begin_register(client, &failed_op));
        acme_op_cancel(failed_op);
        CHECK(acme_op_poll(failed_op, 0) == ACME_ERR_CANCELED);
        error = acme_op_error(failed_op);
    }
    out_size = 77;
}

/* Frees the handles that a call has made. */
static void free_outputs(void)
{
#define FREE(kind)                                                             \
    if ((char *)out_##kind != &untouched)                                      \
    acme_##kind##_free(out_##kind)
    FREE(key);
    FREE(csr);
    FREE(cert);
    FREE(client);
    FREE(op);
    FREE(store);
    FREE(manager);
    if (acme_driver_count(driver) > 0) {
        acme_driver_free(driver); /* calls done() */
        driver = NULL;
    }
    FREE(driver);
#undef FREE
}

/* --- what a call must not change -------------------------------------------------------------------- */

struct process {
    sigset_t mask;
    mode_t mode;
    char locale[256], folder[4096];
    int rounding, number;
};

enum { ERRNO = 4242 };

static struct process process_now(void)
{
    struct process now;

    memset(&now, 0, sizeof now);
    now.number = errno;
    pthread_sigmask(SIG_SETMASK, NULL, &now.mask);
    now.mode = umask(0);
    umask(now.mode);
    snprintf(now.locale, sizeof now.locale, "%s", setlocale(LC_ALL, NULL));
    if (!getcwd(now.folder, sizeof now.folder))
        now.folder[0] = 0;
    now.rounding = fegetround();
    return now;
}

static void is_kept(const struct process *before, const char *function, const char *argument)
{
    struct process after = process_now();
    int kept = memcmp(before, &after, sizeof after) == 0;

    CHECK(kept);
    if (!kept)
        fprintf(stderr, "    that was %s %s: errno is %d\n", function, argument, after.number);
}

#define KEEPING(function, argument, call)                                      \
    do {                                                                       \
        struct process before_;                                                \
                                                                               \
        errno = ERRNO;                                                         \
        before_ = process_now();                                               \
        errno = ERRNO;                                                         \
        call;                                                                  \
        is_kept(&before_, #function, argument);                                \
    } while (0)

/* --- the results that the calls must have ------------------------------------------------------------ */

static int usual; /* the status when nothing is NULL */

static void is_refused(const char *function, const char *argument, int status, int cleared)
{
    const char *message = acme_error_message(acme_last_error());
    int fine = status == ACME_ERR_INVALID_ARGUMENT && message && strstr(message, argument) &&
               strstr(message, "NULL") && acme_error_status(acme_last_error()) == status;

    CHECK(fine);
    CHECK(cleared);
    if (!fine || !cleared)
        fprintf(stderr, "    that was %s of %s\n", argument, function);
}

#define SETS(function, call)                                                   \
    renew();                                                                   \
    KEEPING(function, "", usual = (call));                                     \
    CHECK(usual == acme_error_status(acme_last_error()) || usual > 0);         \
    free_outputs();
#define REFUSED(function, argument, call, cleared)                             \
    renew();                                                                   \
    {                                                                          \
        int status_;                                                           \
                                                                               \
        KEEPING(function, argument, status_ = (call));                         \
        is_refused(#function, argument, status_, cleared);                     \
    }                                                                          \
    free_outputs();
#define SAME(function, argument, call)                                         \
    renew();                                                                   \
    {                                                                          \
        int status_;                                                           \
                                                                               \
        KEEPING(function, argument, status_ = (call));                         \
        CHECK(status_ == usual);                                               \
    }                                                                          \
    free_outputs();
#define ANY(function, argument, call)                                          \
    renew();                                                                   \
    KEEPING(function, argument, (void)(call));
#define ANSWERS(function, argument, call, answer, cleared)                     \
    renew();                                                                   \
    {                                                                          \
        int is_so_;                                                            \
                                                                               \
        KEEPING(function, argument, is_so_ = (call) == answer);                \
        CHECK(is_so_ && (cleared));                                            \
        if (!is_so_ || !(cleared))                                             \
            fprintf(stderr, "    that was %s of %s\n", argument, #function);   \
    }
#define NOTHING(function, argument, call)                                      \
    renew();                                                                   \
    KEEPING(function, argument, (void)call);

static void f01_f23_m10_every_pointer_of_every_function(void)
{
#include "null_calls.h"
}

int main(int argc, char **argv)
{
    sigset_t some;

    choose_tests(argc, argv);
    /* Set everything to other than its default, so that a call that sets a default is noticed. */
    setlocale(LC_ALL, "C.UTF-8");
    umask(0137);
    fesetround(FE_UPWARD);
    sigemptyset(&some);
    sigaddset(&some, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &some, NULL);
    CHECK(mkdtemp(folder) && chdir(folder) == 0);

    client_options.directory_url = "https://127.0.0.1:1/directory"; /* no program listens there */
    order.names = stored_order.names = authorize.names = names;
    order.name_count = stored_order.name_count = authorize.name_count = 1;
    order.timeout_s = 1;
    challenge.identifier = "example.org";
    challenge.tls_alpn_digest = digest;
    callbacks.done = done;
    functions.get = get;
    functions.put = put;
    functions.list = list;
    TEST(f01_f23_m10_every_pointer_of_every_function());
    CHECK(rmdir("acme-null-store") == 0 && chdir("/") == 0 && rmdir(folder) == 0);
    acme_manager_free(manager);
    acme_client_free(stored);
    acme_store_free(store);
    acme_driver_free(driver);
    acme_op_free(op);
    acme_op_free(canceled);
    acme_op_free(failed_op);
    acme_client_free(client);
    acme_cert_free(cert);
    acme_csr_free(csr);
    acme_key_free(second_key);
    acme_key_free(key);
    return report("test_null");
}
