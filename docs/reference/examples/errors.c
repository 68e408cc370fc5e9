/* errors.c - the details of a failure, and the time of the next try. */
#include "example.h"

//! [error]
static void explain(const acme_error_t *error)
{
    size_t i;

    fprintf(stderr, "%s [%s]\n", acme_error_message(error),
            acme_strerror(acme_error_status(error)));
    if (acme_error_identifier(error))
        fprintf(stderr, "  about %s\n", acme_error_identifier(error));
    if (acme_error_url(error))
        fprintf(stderr, "  asked: %s\n", acme_error_url(error));
    if (acme_error_problem_type(error))
        fprintf(stderr, "  %s: %s\n", acme_error_problem_type(error),
                acme_error_problem_json(error));
    if (acme_error_help_url(error))
        fprintf(stderr, "  see %s\n", acme_error_help_url(error));
    for (i = 0; i < acme_error_subproblem_count(error); i++)
        explain(acme_error_subproblem(error, i));
}
//! [error]

//! [retry]
/* Numbers of failures and renewals in a row. A check that finds the renewal not due sets both to 0. */
static size_t failures, renewals;

/* Returns when a daemon tries again, after a try that has just ended. After a failure, in_use is the old
 * certificate; after a success, the new one. */
static acme_time_t next_try(const acme_error_t *error, const acme_cert_t *in_use)
{
    failures = error ? failures + 1 : 0;
    if (!error)
        renewals++;
    return acme_next_try(error ? failures : renewals, acme_error_is_permanent(error),
                         acme_error_retry_at(error), in_use, 0);
}
//! [retry]

int main(int argc, char **argv)
{
    static const char *const names[] = { "blocked-domain.example" };
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_key_t *key = NULL;
    acme_cert_t *cert = NULL;
    int result;

    order.names = names;
    order.name_count = 1;
    if (from_arguments(argc, argv, &options, &key) || acme_client_new(&options, &client) != ACME_OK)
        return 2;
    //! [last-error]
    if (acme_obtain(client, &order, NULL, &cert) != ACME_OK)
        explain(acme_last_error());
    //! [last-error]
    result = cert || next_try(acme_last_error(), NULL) <= (acme_time_t)time(NULL) * 1000;
    acme_client_free(client);
    acme_key_free(key);
    return result;
}
