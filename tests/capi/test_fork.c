/* fork(): a client that both processes keep using, and children of a process whose threads are running. */
#include "pebble.h"

#include <sys/wait.h>

static acme_client_t *client;

/* Lists the open sockets of this process, by their names in the kernel. */
static char *sockets(void)
{
    char path[64], name[64], *all = calloc(1, 4096);
    int fd;
    ssize_t size;

    for (fd = 3; fd < 50; fd++) {
        sprintf(path, "/proc/self/fd/%d", fd);
        size = readlink(path, name, sizeof name - 1);
        name[size > 0 ? size : 0] = 0;
        if (strncmp(name, "socket:", 7) == 0)
            strcat(all, name);
    }
    return all;
}

/* Ends a child by exec(), because valgrind would otherwise report the parent's memory. */
static void leave(int fine)
{
    execl("/bin/sh", "sh", "-c", fine ? "exit 7" : "exit 1", (char *)NULL);
    _exit(1);
}

static int ends_well(pid_t child)
{
    int status;

    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7;
}

/* The parent has a connection, which only the parent may use. If a child used it, too, TLS would fail, the CA
 * would close it, and requests would be lost. */
static void y10_parent_and_children_go_on_with_one_client(void)
{
    enum { CHILDREN = 3 };
    pid_t children[CHILDREN];
    char name[64], *before, *after;
    int i, j;

    OK(obtain_by_dns(client, "before.fork.test"));
    before = sockets();
    CHECK(strlen(before) > 0);
    for (i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            for (j = 0; j < 2; j++) {
                sprintf(name, "child%d-%d.fork.test", i, j);
                if (obtain_by_dns(client, name) != ACME_OK)
                    leave(0);
            }
            leave(1);
        }
    }
    for (j = 0; j < 4; j++) {
        sprintf(name, "parent%d.fork.test", j);
        OK(obtain_by_dns(client, name));
    }
    for (i = 0; i < CHILDREN; i++)
        CHECK(ends_well(children[i]));
    OK(obtain_by_dns(client, "after.fork.test"));
    after = sockets();
    CHECK(strcmp(before, after) == 0);
    free(before);
    free(after);
}

/* Parent and child can both continue an operation from before fork(): it has no descriptor and no thread. */
static void y10_an_operation_goes_on_in_a_child(acme_key_t *key)
{
    acme_client_t *fresh = pebble_client(key); /* has sent no request yet */
    acme_op_t *op = NULL;
    pid_t child;

    OK(acme_begin_register(fresh, &op));
    CHECK(acme_op_poll(op, 0) == ACME_STEP_REQUEST);
    child = fork();
    if (child == 0) {
        int fine = acme_op_send(op, acme_op_request(op)->id) == ACME_OK &&
                   acme_op_run(op, NULL) == ACME_OK && acme_client_account_url(fresh);
        leave(fine);
    }
    CHECK(ends_well(child));
    OK(acme_op_send(op, acme_op_request(op)->id));
    OK(acme_op_run(op, NULL));
    acme_op_free(op);
    acme_client_free(fresh);
}

static int stop;

/* Calls functions that take the library's locks, without a pause. */
static void *be_busy(void *unused)
{
    acme_op_t *op = NULL;
    uintptr_t wrong = 0;

    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        acme_set_log_callback(NULL, NULL, 0);
        acme_client_account_url(client);
        wrong |= acme_begin_register(client, &op) != ACME_OK;
        wrong |= acme_op_poll(op, 0) < 0; /* CHECK() works on one thread only */
        acme_op_order_url(op);
        acme_op_free(op);
    }
    return (void *)wrong;
}

/* POSIX allows such a child little more than exec(). The library does not hinder it: no pthread_atfork(), no
 * handlers at exit. */
static void y11_children_of_busy_threads_can_exec(void)
{
    pthread_t threads[3];
    void *wrong;
    int i;

    for (i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, be_busy, NULL);
    for (i = 0; i < 50; i++) {
        pid_t child = fork();

        if (child == 0) {
            if (i % 2 || getenv("ACME_TEST_SLOW")) /* after _exit(), valgrind would report memory */
                execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
            _exit(7);
        }
        CHECK(ends_well(child));
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (i = 0; i < 3; i++)
        CHECK(pthread_join(threads[i], &wrong) == 0 && !wrong);
}

int main(int argc, char **argv)
{
    acme_key_t *key = new_key();

    choose_tests(argc, argv);
    client = pebble_client(key);
    signal(SIGPIPE, SIG_IGN);
    TEST(y10_an_operation_goes_on_in_a_child(key));
    TEST(y10_parent_and_children_go_on_with_one_client());
    TEST(y11_children_of_busy_threads_can_exec());
    acme_client_free(client);
    acme_key_free(key);
    return report("test_fork");
}
