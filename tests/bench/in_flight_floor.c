/*
 * in_flight_floor.c - the lower bound for in_flight.c: for each order, eight signatures (seven requests and the
 * CSR) and one verification of a signature, of the certificate's issuer, by OpenSSL alone. Keys are made before.
 *
 *   in_flight_floor ORDERS
 */
#include <stdio.h>
#include <stdlib.h>

#include <openssl/ec.h>
#include <openssl/evp.h>

enum { SIGNATURES = 8 };

/* About the length of a signed request, and of a certificate. */
static const unsigned char input[600];

static int sign(EVP_PKEY *key, unsigned char *signature, size_t *size)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int ok = context && EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
             EVP_DigestSign(context, signature, size, input, sizeof input) == 1;

    EVP_MD_CTX_free(context);
    return ok;
}

static int verify(EVP_PKEY *key, const unsigned char *signature, size_t size)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int ok = context && EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
             EVP_DigestVerify(context, signature, size, input, sizeof input) == 1;

    EVP_MD_CTX_free(context);
    return ok;
}

int main(int argc, char **argv)
{
    long orders = argc == 2 ? atol(argv[1]) : 0;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    unsigned char signature[128];
    size_t size = 0;
    int ok = orders > 0 && key, n;

    while (ok && orders-- > 0) {
        for (n = 0; ok && n < SIGNATURES; n++) {
            size = sizeof signature;
            ok = sign(key, signature, &size);
        }
        ok = ok && verify(key, signature, size);
    }
    EVP_PKEY_free(key);
    if (!ok)
        fprintf(stderr, "usage: in_flight_floor ORDERS\n");
    return !ok;
}
