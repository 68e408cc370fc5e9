/* obtain.c - a certificate by one call, and its properties. */
#include "example.h"

//! [obtain]
static acme_cert_t *obtain(const acme_client_t *client, const acme_key_t *key)
{
    static const char *const names[] = { "example.org", "www.example.org" };
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
    acme_cert_t *cert = NULL;

    order.names = names;
    order.name_count = 2;
    order.key = key; /* generated and stored before */
    run.publish = publish; /* int publish(const acme_challenge_t *, void *user) */
    run.unpublish = unpublish;
    run.user = &responder;
    if (acme_obtain(client, &order, &run, &cert) != ACME_OK)
        failed("example.org");
    return cert;
}
//! [obtain]

//! [cert-chain-pem cert-key]
static int store(const acme_cert_t *cert, const char *chain_file, const char *key_file)
{
    FILE *chain = fopen(chain_file, "w");
    FILE *key = fopen(key_file, "w"); /* under umask(077) */
    int result = 0;

    if (!chain || fputs(acme_cert_chain_pem(cert), chain) == EOF)
        result = 1;
    if (!key || fputs(acme_key_pem(acme_cert_key(cert)), key) == EOF)
        result = 1;
    if (chain && fclose(chain) != 0)
        result = 1;
    if (key && fclose(key) != 0)
        result = 1;
    return result;
}
//! [cert-chain-pem cert-key]

//! [show]
static void show(const acme_cert_t *cert)
{
    const char *name;
    size_t i;

    for (i = 0; (name = acme_cert_name(cert, i)); i++)
        printf("%s ", name);
    printf("%d days left, serial %s, SHA-256 %s\n", acme_cert_days_left(cert, 0),
           acme_cert_serial(cert), acme_cert_fingerprint(cert));
    if (acme_cert_key_type(cert) == ACME_KEY_P256)
        puts("ECDSA on P-256");
    if (acme_cert_ari_id(cert))
        printf("the CA can be asked when to renew it: %s\n", acme_cert_ari_id(cert));
}
//! [show]

//! [is-for]
/* Files on the disk may belong to two different certificates. */
static acme_cert_t *stored_cert(const char *pem, const acme_key_t *key)
{
    acme_cert_t *cert = NULL;

    if (acme_cert_parse(pem, strlen(pem), &cert) != ACME_OK) {
        failed("chain.pem");
    } else if (!acme_cert_is_for(cert, key)) {
        fputs("chain.pem: not for this key\n", stderr);
        acme_cert_free(cert);
        cert = NULL;
    }
    return cert;
}
//! [is-for]

//! [dates]
/* Returns whether two thirds of the lifetime are over: for CAs without renewal information. */
static int is_old(const acme_cert_t *cert, acme_time_t now)
{
    acme_time_t start = acme_cert_not_before(cert), end = acme_cert_not_after(cert);

    return now > start + (end - start) / 3 * 2;
}
//! [dates]

//! [der]
static size_t bytes_of(const acme_cert_t *cert)
{
    size_t i, size, all = 0;

    for (i = 0; acme_cert_der(cert, i, &size); i++)
        all += size; /* d2i_X509() of OpenSSL, for example, reads DER */
    return all;
}
//! [der]

//! [renewal-info]
/* When to renew, in milliseconds since 1970. */
static acme_time_t renew_at(const acme_client_t *client, const acme_cert_t *cert)
{
    const acme_renewal_info_t *info;
    acme_time_t at = 0;
    acme_op_t *op = NULL;

    if (acme_begin_renewal_info(client, cert, &op) != ACME_OK ||
        acme_op_run(op, NULL) != ACME_OK) {
        failed("renewal information");
    } else {
        info = acme_op_renewal_info(op);
        at = info->renew_at;
        if (info->explanation_url)
            printf("the CA explains: %s\n", info->explanation_url);
    }
    acme_op_free(op);
    return at;
}
//! [renewal-info]

//! [revoke]
static int revoke(const acme_client_t *client, const acme_cert_t *cert)
{
    acme_op_t *op = NULL;
    int result = 0;

    /* NULL: as the account that ordered it. */
    if (acme_begin_revoke(client, cert, NULL, ACME_REVOKE_SUPERSEDED, &op) != ACME_OK ||
        acme_op_run(op, NULL) != ACME_OK)
        result = failed("revocation");
    acme_op_free(op);
    return result;
}
//! [revoke]

int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_key_t *account_key = NULL, *key = NULL;
    acme_cert_t *cert, *stored;
    acme_client_t *client = NULL;
    int result;

    if (from_arguments(argc, argv, &options, &account_key) ||
        acme_key_generate(ACME_KEY_P256, &key) != ACME_OK ||
        acme_client_new(&options, &client) != ACME_OK)
        return failed("client");
    cert = obtain(client, key);
    if (!cert)
        return 1;
    show(cert);
    stored = stored_cert(acme_cert_chain_pem(cert), key);
    result = !stored || !bytes_of(stored) || is_old(cert, acme_cert_not_before(cert)) ||
             store(cert, "/dev/null", "/dev/null") || !renew_at(client, cert) || revoke(client, cert);
    acme_cert_free(stored);
    acme_cert_free(cert);
    acme_client_free(client);
    acme_key_free(key);
    acme_key_free(account_key);
    return result;
}
