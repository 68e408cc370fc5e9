/* Callbacks that call the library, that return undefined codes, and that leave by longjmp(). */
#include "pebble.h"

#include <limits.h>
#include <setjmp.h>
#include <sys/wait.h>

static acme_run_options_t http01;
static acme_client_t *client;
static int number;

static acme_op_t *begin_one(void)
{
    char name[64];
    const char *names[] = { name };
    acme_order_options_t order = order_for(names, 1);
    acme_op_t *op = NULL;

    sprintf(name, "n%d.callbacks.test", number++); /* Pebble may reuse an older name's authorization */
    OK(acme_begin_order(client, &order, &op));
    return op;
}

/* --- on another operation ---------------------------------------------------------------------------- */

static int obtained_inside;

/* Obtains another certificate with the same client, in the publish callback of the first. */
static int obtain_another(const acme_challenge_t *challenge, void *user)
{
    acme_op_t *other = begin_one(), *polled = begin_one();
    acme_cert_t *cert;

    (void)user;
    CHECK(acme_op_poll(polled, 0) > 0);
    acme_op_cancel(polled);
    CHECK(acme_op_poll(polled, 0) == ACME_ERR_CANCELED);
    acme_op_free(polled);
    OK(acme_op_run(other, &http01));
    cert = acme_op_take_cert(other);
    obtained_inside += cert != NULL;
    acme_cert_free(cert);
    acme_op_free(other);
    CHECK(acme_client_account_url(client) && acme_client_terms_url(client));
    return http_publish(challenge, NULL);
}

static void y05_another_operation_from_within_a_callback(void)
{
    acme_run_options_t run = http01;
    acme_op_t *op = begin_one();

    run.publish = obtain_another;
    OK(acme_op_run(op, &run));
    CHECK(obtained_inside == 1 && http_published() == 0);
    acme_op_free(op);
}

/* --- codes that mean nothing ---------------------------------------------------------------------------- */

static int code;

static int give_code(const acme_challenge_t *challenge, void *user)
{
    (void)challenge, (void)user;
    return code;
}

static int send_code(acme_op_t *op, const acme_http_request_t *request, void *user)
{
    (void)op, (void)request, (void)user;
    return code;
}

static int count_down(const acme_challenge_t *challenge, void *user)
{
    ++*(int *)user;
    (void)challenge;
    return code; /* logged only */
}

static void f11_f12_callbacks_that_give_nonsense(void)
{
    static const int codes[] = { 1, -1, ACME_ERR_MISUSE, 4711, INT_MIN, INT_MAX };
    size_t i;

    for (i = 0; i < sizeof codes / sizeof *codes; i++) {
        acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
        acme_op_t *op = begin_one();
        int taken_down = 0;
        char text[32];

        code = codes[i];
        sprintf(text, "gave %d", code);
        run.publish = give_code;
        run.unpublish = count_down;
        run.user = &taken_down;
        CHECK_STATUS(acme_op_run(op, &run), ACME_ERR_HOST, text);
        CHECK(taken_down == 1 && acme_op_error(op));
        acme_op_free(op);
        if (i > 0)
            continue; /* the library would retry this, after delays */
        op = begin_one();
        run = http01;
        run.send = send_code;
        run.user = NULL;
        CHECK_STATUS(acme_op_run(op, &run), ACME_ERR_TRANSPORT, text);
        acme_op_free(op);
    }
}

/* --- out, by another way ---------------------------------------------------------------------------------- */

static jmp_buf out;

static int jump(const acme_challenge_t *challenge, void *user)
{
    (void)challenge, (void)user;
    longjmp(out, 1);
}

static int jump_from_send(acme_op_t *op, const acme_http_request_t *request, void *user)
{
    (void)op, (void)request, (void)user;
    longjmp(out, 1);
}

/* Leaves a callback by longjmp(), which the header forbids. The operation and its memory are lost. */
static void jump_out(acme_op_t *op, const acme_run_options_t *run)
{
    if (setjmp(out) == 0) {
        CHECK(acme_op_run(op, run) == 12345);
        CHECK(!"the callback jumps");
    }
    CHECK(acme_op_poll(op, 0) == ACME_ERR_MISUSE);
    CHECK(acme_op_run(op, run) == ACME_ERR_MISUSE);
    acme_op_free(op); /* refused: the operation still runs */
    CHECK(acme_error_status(acme_last_error()) == ACME_ERR_MISUSE);
}

static int y07_in_a_child(void)
{
    int before = failed;
    acme_run_options_t run = http01;
    acme_op_t *op;

    run.publish = jump;
    jump_out(begin_one(), &run);
    run = http01;
    run.send = jump_from_send;
    jump_out(begin_one(), &run);
    /* The client and the thread's last error still work. */
    op = begin_one();
    OK(acme_op_run(op, &http01));
    acme_op_free(op);
    return failed - before;
}

/* Runs in a child that ends by exec(), because this leaks, and valgrind would report it. */
static void y07_callbacks_that_jump_out(void)
{
    pid_t child;
    int status;

    http_stop();
    child = fork();
    if (child == 0) {
        http_start();
        execl("/bin/sh", "sh", "-c", y07_in_a_child() == 0 ? "exit 7" : "exit 1", (char *)NULL);
        _exit(1);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    http_start();
}

int main(int argc, char **argv)
{
    acme_key_t *key = new_key();

    choose_tests(argc, argv);
    client = pebble_client(key);
    http01 = http_run();
    signal(SIGPIPE, SIG_IGN);
    http_start();
    TEST(y05_another_operation_from_within_a_callback());
    TEST(f11_f12_callbacks_that_give_nonsense());
    TEST(y07_callbacks_that_jump_out());
    http_stop();
    acme_client_free(client);
    acme_key_free(key);
    return report("test_callbacks");
}
