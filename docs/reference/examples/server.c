/* server.c - how a server responds to the requests of a CA that validates challenges. */
#include "example.h"

//! [http01]
/* Handles a GET for path on port 80. Returns 1 if it was a CA's and has its response. */
static int answer_ca(const acme_client_t *client, const char *path, FILE *connection)
{
    char body[1024];
    size_t size = acme_client_http01_answer(client, path, strlen(path), body, sizeof body);

    if (size == 0)
        return 0; /* send the response of the web site */
    fprintf(connection, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%.*s",
            (int)size, (int)size, body);
    return 1;
}
//! [http01]

//! [http01-elsewhere]
/* The same in another process, which knows only the thumbprint of the account's key. */
static size_t answer_elsewhere(const char *thumbprint, const char *path, char body[1024])
{
    return acme_http01_answer(thumbprint, path, strlen(path), body, 1024);
}
//! [http01-elsewhere]

//! [tls-alpn]
/* Publishes for tls-alpn-01; acme_micro_openssl.h does all of it on OpenSSL. */
static int publish_tls_alpn(const acme_challenge_t *challenge, void *user)
{
    acme_cert_t **shown = user;
    acme_cert_t *cert = NULL;

    if (acme_cert_create_tls_alpn(challenge, NULL, &cert) != ACME_OK)
        return failed("tls-alpn-01");
    printf("for handshakes with %s that offer acme-tls/1:\n%s%s", challenge->tls_alpn_name,
           acme_cert_chain_pem(cert), acme_key_pem(acme_cert_key(cert)));
    *shown = cert;
    return 0;
}
//! [tls-alpn]

//! [payload]
/* Publishes device-attest-01. The response to this challenge has a payload, which the device makes. */
static int attest(acme_op_t *op, const acme_challenge_t *challenge,
                  const char *attestation)
{
    char json[4096];
    int size = snprintf(json, sizeof json, "{\"attObj\":\"%s\"}", attestation);

    if (acme_op_respond_with(op, challenge, json, (size_t)size) != ACME_OK)
        return failed("attestation");
    return 0; /* acme_op_published() follows, as for every challenge */
}
//! [payload]

int main(void)
{
    static const char path[] = "/.well-known/acme-challenge/0123456789abcdefghijklmn";
    static const uint8_t digest[32] = { 1 };
    acme_challenge_t challenge = { 0 };
    acme_cert_t *cert = NULL;
    acme_key_t *key = NULL;
    char body[1024];
    int result;

    challenge.identifier = challenge.tls_alpn_name = "example.org";
    challenge.tls_alpn_digest = digest;
    if (acme_key_generate(ACME_KEY_P256, &key) != ACME_OK)
        return failed("key");
    result = answer_ca(NULL, path, stdout) || publish_tls_alpn(&challenge, &cert) ||
             answer_elsewhere(acme_key_thumbprint(key), path, body) == 0 ||
             attest(NULL, &challenge, "bm9uZQ") == 0; /* no operation asks for it */
    acme_cert_free(cert);
    acme_key_free(key);
    return result;
}
