/* account.c - the life of an account: register, find, update, change its key, deactivate. */
#include "example.h"

//! [client]
/* Make one client for each account; many threads may use it. */
static acme_client_t *make_client(const char *directory, const char *ca_file,
                                  const acme_key_t *key)
{
    static const char *const contacts[] = { "mailto:ops@example.org" };
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;

    options.directory_url = directory; /* such as ACME_LETSENCRYPT_STAGING */
    options.account_key = key;
    options.contacts = contacts;
    options.contact_count = 1;
    options.terms_agreed = 1;
    options.ca_file = ca_file; /* NULL: the system's roots */
    options.user_agent = "exampled/1.2";
    if (acme_client_new(&options, &client) != ACME_OK)
        failed("client");
    return client;
}
//! [client]

//! [begin-register op-run op-free]
static int register_account(const acme_client_t *client)
{
    acme_op_t *op = NULL;
    int result = 0;

    if (acme_begin_register(client, &op) != ACME_OK ||
        acme_op_run(op, NULL) != ACME_OK)
        result = failed("account");
    else
        printf("account %s\n", acme_client_account_url(client)); /* store it: it saves a request */
    acme_op_free(op);
    return result;
}
//! [begin-register op-run op-free]

//! [find]
/* Returns whether the CA knows the key. Makes no account. */
static int is_known(const acme_client_t *client)
{
    acme_op_t *op = NULL;
    acme_status_t status = acme_begin_find_account(client, &op);

    if (status == ACME_OK)
        status = acme_op_run(op, NULL);
    acme_op_free(op);
    return status == ACME_OK; /* ACME_ERR_ACCOUNT: the CA does not know the key */
}
//! [find]

//! [contacts]
static int set_contacts(const acme_client_t *client)
{
    static const char *const contacts[] = { "mailto:ops@example.org", "mailto:b@example.org" };
    acme_op_t *op = NULL;
    int result = 0;

    if (acme_begin_update_contacts(client, contacts, 2, &op) != ACME_OK ||
        acme_op_run(op, NULL) != ACME_OK)
        result = failed("contacts");
    acme_op_free(op);
    return result;
}
//! [contacts]

//! [key-change]
static int change_key(const acme_client_t *client, const acme_key_t *new_key)
{
    acme_op_t *op = NULL;
    int result = 0;

    /* The caller has stored new_key on the disk, beside the old key. */
    if (acme_begin_key_change(client, new_key, &op) != ACME_OK ||
        acme_op_run(op, NULL) != ACME_OK)
        result = failed("new key");
    acme_op_free(op);
    return result; /* 0: the old key may be deleted */
}
//! [key-change]

//! [deactivate]
static int close_account(const acme_client_t *client)
{
    acme_op_t *op = NULL;
    int result = 0;

    if (acme_begin_deactivate(client, &op) != ACME_OK ||
        acme_op_run(op, NULL) != ACME_OK)
        result = failed("deactivation");
    acme_op_free(op);
    return result;
}
//! [deactivate]

//! [ca]
/* Values of the CA's directory, available after an operation has fetched it. */
static void show_ca(const acme_client_t *client)
{
    const char *profile;
    size_t i;

    if (acme_client_terms_url(client))
        printf("terms of service: %s\n", acme_client_terms_url(client));
    for (i = 0; (profile = acme_client_profile(client, i)); i++)
        printf("profile %s: %s\n", profile, acme_client_profile_text(client, i));
}
//! [ca]

int main(int argc, char **argv)
{
    acme_key_t *key = NULL, *new_key = NULL;
    acme_client_t *client;
    int result;

    if (argc != 4 || acme_key_generate(ACME_KEY_P256, &key) != ACME_OK ||
        acme_key_generate(ACME_KEY_P384, &new_key) != ACME_OK)
        return 2;
    client = make_client(argv[1], argv[2], key);
    result = is_known(client) || register_account(client) || !is_known(client) ||
             set_contacts(client) || change_key(client, new_key);
    show_ca(client);
    if (result == 0)
        result = close_account(client);
    //! [free-client]
    acme_client_free(client); /* operations in progress keep the parts of it that they need */
    //! [free-client]
    acme_key_free(key);
    acme_key_free(new_key);
    return result;
}
