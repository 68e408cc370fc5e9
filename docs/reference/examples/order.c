/* order.c - orders that a later run resumes, and authorizations without an order. */
#include "example.h"

static char noted[512];

/* Stands for a file. */
static void note(const char *url)
{
    snprintf(noted, sizeof noted, "%s", url ? url : "");
}

static char stored[4096];

/* Stands for a file with mode 0600. */
static void store(const char *text)
{
    snprintf(stored, sizeof stored, "%s", text);
}

//! [order]
/* Places an order that a later run of the program can resume. */
static acme_cert_t *resumable(const acme_client_t *client, const acme_key_t *key,
                              const acme_run_options_t *run)
{
    static const char *const names[] = { "example.org" };
    acme_order_options_t options = ACME_ORDER_OPTIONS_INIT;
    acme_cert_t *cert = NULL;
    acme_op_t *op = NULL;

    options.names = names;
    options.name_count = 1;
    options.key = key; /* NULL: the library makes one */
    options.order_url = noted[0] ? noted : NULL;
    if (acme_begin_order(client, &options, &op) != ACME_OK)
        return NULL;
    store(acme_key_pem(acme_op_key(op))); /* before the CA issues a certificate for it */
    if (acme_op_run(op, run) == ACME_OK)
        cert = acme_op_take_cert(op); /* free it with acme_cert_free() */
    else
        note(acme_op_order_url(op)); /* store it earlier if the program may be killed */
    acme_op_free(op);
    return cert;
}
//! [order]

//! [authorize]
/* Authorizes a name before an order, and deactivates the authorization again. */
static acme_status_t prove_ahead(const acme_client_t *client,
                                 const acme_run_options_t *run)
{
    static const char *const names[] = { "ahead.example.org" };
    acme_authorize_options_t options = ACME_AUTHORIZE_OPTIONS_INIT;
    acme_op_t *op = NULL, *undo = NULL;
    acme_status_t status;

    options.names = names;
    options.name_count = 1;
    status = acme_begin_authorize(client, &options, &op);
    if (status == ACME_OK)
        status = acme_op_run(op, run); /* ACME_ERR_UNSUPPORTED: the CA has no newAuthz */
    if (status == ACME_OK)
        status = acme_begin_deactivate_authorization(client, acme_op_url(op, 0), &undo);
    if (status == ACME_OK)
        status = acme_op_run(undo, NULL);
    acme_op_free(undo);
    acme_op_free(op);
    return status;
}
//! [authorize]

//! [list]
/* Deactivates the pending authorizations of all orders of the account. */
static acme_status_t give_up_orders(const acme_client_t *client)
{
    acme_op_t *list = NULL, *op;
    acme_status_t status = acme_begin_list_orders(client, &list);
    const char *url;
    size_t i;

    if (status == ACME_OK)
        status = acme_op_run(list, NULL); /* ACME_ERR_UNSUPPORTED: the CA has no list of orders */
    for (i = 0; status == ACME_OK && (url = acme_op_url(list, i)); i++) {
        status = acme_begin_abandon_order(client, url, &op);
        if (status == ACME_OK)
            status = acme_op_run(op, NULL);
        acme_op_free(op);
    }
    acme_op_free(list);
    return status;
}
//! [list]

static int broken(const acme_challenge_t *challenge, void *user)
{
    (void)challenge;
    (void)user;
    return 1;
}

int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_key_t *account_key = NULL, *key = NULL;
    acme_cert_t *cert;
    acme_status_t ahead, given_up;

    if (from_arguments(argc, argv, &options, &account_key) ||
        acme_client_new(&options, &client) != ACME_OK)
        return failed("client");
    run.publish = broken;
    cert = resumable(client, NULL, &run);
    if (cert || !noted[0] || acme_key_parse(stored, strlen(stored), &key) != ACME_OK)
        return 1;
    run.publish = publish;
    run.unpublish = unpublish;
    run.user = &responder;
    cert = resumable(client, key, &run);
    ahead = prove_ahead(client, &run);
    given_up = give_up_orders(client);
    printf("ahead: %s, lists: %s\n", acme_strerror(ahead), acme_strerror(given_up));
    acme_cert_free(cert);
    acme_client_free(client);
    acme_key_free(key);
    acme_key_free(account_key);
    return !cert || (ahead != ACME_OK && ahead != ACME_ERR_UNSUPPORTED) ||
           (given_up != ACME_OK && given_up != ACME_ERR_UNSUPPORTED);
}
