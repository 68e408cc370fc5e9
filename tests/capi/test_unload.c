/* The library is unloaded, or the program ends, while operations are live. */
#include "check.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* The test loads the library with dlopen(), so nothing here may link to it. */
#define acme_last_error() NULL
#define acme_error_message(error) ""

enum { LOADS = 1000, A_LIVE_ONE = 50 };

static struct {
    void *library;
    __typeof__(&acme_key_generate) key_generate;
    __typeof__(&acme_key_free) key_free;
    __typeof__(&acme_client_new) client_new;
    __typeof__(&acme_client_free) client_free;
    __typeof__(&acme_begin_register) begin_register;
    __typeof__(&acme_op_poll) poll;
    __typeof__(&acme_op_run) run;
    __typeof__(&acme_op_free) op_free;
    __typeof__(&acme_driver_new) driver_new;
    __typeof__(&acme_driver_add) driver_add;
    __typeof__(&acme_driver_dispatch) driver_dispatch;
} acme;

#define FIND(function, name) (*(void **)&acme.function = dlsym(acme.library, "acme_" name))

static int load(void)
{
    acme.library = dlopen("libacme-micro.so.1", RTLD_NOW | RTLD_LOCAL);
    return acme.library && FIND(key_generate, "key_generate") && FIND(key_free, "key_free") &&
           FIND(client_new, "client_new") && FIND(client_free, "client_free") &&
           FIND(begin_register, "begin_register") && FIND(poll, "op_poll") &&
           FIND(run, "op_run") && FIND(op_free, "op_free") && FIND(driver_new, "driver_new") &&
           FIND(driver_add, "driver_add") && FIND(driver_dispatch, "driver_dispatch");
}

/* A CA that hangs: the kernel accepts connections, and no program responds. */
static char directory[64];
static int silent;

static void be_silent(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t size = sizeof address;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    silent = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(silent, (struct sockaddr *)&address, sizeof address) == 0 && listen(silent, 64) == 0);
    getsockname(silent, (struct sockaddr *)&address, &size);
    snprintf(directory, sizeof directory, "https://127.0.0.1:%d/directory", ntohs(address.sin_port));
}

/* Objects that are live at the end; these pointers keep a leak checker from reporting them. */
static struct live {
    acme_client_t *client;
    acme_op_t *op;
    acme_driver_t *driver;
} lives[LOADS / A_LIVE_ONE + 1];

static void begin(struct live *live)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_key_t *key = NULL;

    CHECK(acme.key_generate(ACME_KEY_P256, &key) == ACME_OK);
    options.directory_url = directory;
    options.account_key = key;
    options.terms_agreed = 1;
    CHECK(acme.client_new(&options, &live->client) == ACME_OK);
    CHECK(acme.begin_register(live->client, &live->op) == ACME_OK);
    acme.key_free(key);
}

static void on_done(acme_op_t *op, acme_status_t status, void *user)
{
    (void)op, (void)status, (void)user;
}

/* Starts an operation whose request is in flight, on a thread of the library. */
static void drive(struct live *live)
{
    acme_driver_callbacks_t callbacks = ACME_DRIVER_CALLBACKS_INIT;
    int connection;

    callbacks.done = on_done;
    begin(live);
    CHECK(acme.driver_new(NULL, &live->driver) == ACME_OK);
    CHECK(acme.driver_add(live->driver, live->op, &callbacks) == ACME_OK);
    CHECK(acme.driver_dispatch(live->driver) == ACME_OK);
    connection = accept(silent, NULL, NULL); /* stays open */
    CHECK(connection >= 0);
}

/* When a thread ends, the library has to destroy the thread's data; but then the library is unloaded. */
static sem_t has_failed, may_end;

static void *fail_and_end(void *user)
{
    acme_key_t *key = NULL;

    (void)user;
    CHECK(acme.key_generate(-1, &key) == ACME_ERR_INVALID_ARGUMENT);
    sem_post(&has_failed);
    sem_wait(&may_end);
    return NULL;
}

static void x16_unloaded_while_operations_are_live(void)
{
    struct live passing = { 0 };
    pthread_t thread;
    int i;

    sem_init(&has_failed, 0, 0);
    sem_init(&may_end, 0, 0);
    for (i = 0; i < LOADS; i++) {
        CHECK(load());
        CHECK(pthread_create(&thread, NULL, fail_and_end, NULL) == 0);
        sem_wait(&has_failed);
        if (i % A_LIVE_ONE == 0) {
            drive(&lives[i / A_LIVE_ONE]);
        } else {
            begin(&passing);
            CHECK(acme.poll(passing.op, 0) == ACME_STEP_REQUEST);
            acme.op_free(passing.op);
            acme.client_free(passing.client);
        }
        CHECK(dlclose(acme.library) == 0);
        sem_post(&may_end);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    /* The library's threads may still run, so dlclose() must not unload it. */
    CHECK(dlopen("libacme-micro.so.1", RTLD_NOW | RTLD_NOLOAD) != NULL);
}

static void *run(void *user)
{
    const struct live *live = (const struct live *)user;

    CHECK(acme.run(live->op, NULL) != ACME_OK);
    return NULL;
}

/* The program ends while operations are live, by exit(); the end of main() does the same. */
static void x16_exit_while_operations_are_live(void)
{
    struct live *driven = &lives[LOADS / A_LIVE_ONE];
    static struct live blocking;
    pthread_t thread;
    int status = -1;
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child == 0) {
        failed = 0;
        CHECK(load());
        drive(driven);
        begin(&blocking);
        CHECK(pthread_create(&thread, NULL, run, &blocking) == 0);
        CHECK(accept(silent, NULL, NULL) >= 0);
        dlclose(acme.library);
        exit(failed);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(int argc, char **argv)
{
    choose_tests(argc, argv);
    be_silent();
    TEST(x16_exit_while_operations_are_live());
    TEST(x16_unloaded_while_operations_are_live());
    return report("test_unload");
}
