/* worker.c - an event loop without an HTTP client: a worker thread sends the requests. */
#include "example.h"

#include <pthread.h>

//! [send]
struct job {
    acme_op_t *op;
    uint64_t request_id;
};

/* Runs on a worker thread; the loop polls again when it has ended. */
static void *work(void *user)
{
    struct job *job = user;

    if (acme_op_send(job->op, job->request_id) != ACME_OK)
        failed("request");
    return NULL;
}
//! [send]

int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_key_t *key = NULL;
    acme_op_t *op = NULL;
    pthread_t worker;
    int step;

    if (from_arguments(argc, argv, &options, &key) || acme_client_new(&options, &client) != ACME_OK ||
        acme_begin_register(client, &op) != ACME_OK)
        return failed("account");
    while ((step = acme_op_poll(op, 0)) > 0) {
        struct job job = { op, 0 };

        if (step == ACME_STEP_WAIT) {
            sleep_ms(acme_op_wait_ms(op));
            continue;
        }
        job.request_id = acme_op_request(op)->id;
        if (pthread_create(&worker, NULL, work, &job) != 0 || pthread_join(worker, NULL) != 0)
            return 1;
    }
    acme_op_free(op);
    acme_client_free(client);
    acme_key_free(key);
    return step != ACME_STEP_DONE;
}
