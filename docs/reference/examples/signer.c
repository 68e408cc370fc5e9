/* signer.c - an account's key that is outside the process. OpenSSL stands for the token. */
#include "example.h"

#include <openssl/evp.h>
#include <openssl/pem.h>

static EVP_PKEY *token;

/* Signs, in place of C_Sign() or of a request to a KMS. Returns 0 for a signature. */
static int token_sign(const uint8_t *input, size_t input_size, uint8_t *signature, size_t *size)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int signed_ = EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, token) == 1 &&
                  EVP_DigestSign(context, signature, size, input, input_size) == 1;

    EVP_MD_CTX_free(context);
    return !signed_;
}

//! [from-public]
/* The token reveals only its public key. */
static acme_key_t *key_in_token(const void *public_key, size_t size)
{
    acme_key_t *key = NULL;

    if (acme_key_from_public(public_key, size, &key) != ACME_OK)
        failed("public key");
    return key;
}
//! [from-public]

//! [sign]
/* Does ACME_STEP_SIGN: at once, or later on another thread. */
static void answer(acme_op_t *op)
{
    const acme_sign_request_t *request = acme_op_sign_request(op);
    uint8_t signature[512];
    size_t size = sizeof signature;

    printf("%s with the key %s\n", request->algorithm, request->key_thumbprint);
    if (token_sign(request->input, request->input_size, signature, &size) == 0)
        acme_op_signed(op, request->id, signature, size);
    else
        acme_op_sign_failed(op, request->id, "the token does not answer");
}
//! [sign]

int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_key_t *unused = NULL;
    acme_op_t *op = NULL;
    BIO *pem = BIO_new(BIO_s_mem());
    char *public_key;
    long size;
    int step;

    token = EVP_EC_gen("P-256");
    PEM_write_bio_PUBKEY(pem, token);
    size = BIO_get_mem_data(pem, &public_key);
    if (from_arguments(argc, argv, &options, &unused))
        return 2;
    options.account_key = key_in_token(public_key, (size_t)size);
    if (acme_client_new(&options, &client) != ACME_OK || acme_begin_register(client, &op) != ACME_OK)
        return failed("account");
    while ((step = acme_op_poll(op, 0)) > 0)
        if (step == ACME_STEP_REQUEST)
            (void)acme_op_send(op, acme_op_request(op)->id);
        else if (step == ACME_STEP_SIGN)
            answer(op);
        else
            sleep_ms(acme_op_wait_ms(op));
    if (step != ACME_STEP_DONE)
        fprintf(stderr, "%s\n", acme_error_message(acme_op_error(op)));
    acme_op_free(op);
    acme_client_free(client);
    acme_key_free((acme_key_t *)options.account_key);
    acme_key_free(unused);
    BIO_free(pem);
    EVP_PKEY_free(token);
    return step != ACME_STEP_DONE;
}
