/* keys.c - keys and certificate signing requests. */
#include "example.h"

static char file[8192];

/* Stands for writing a file of mode 0600. */
static void store(const char *text)
{
    snprintf(file, sizeof file, "%s", text);
}

//! [generate]
static acme_key_t *new_account_key(void)
{
    acme_key_t *key = NULL;

    if (acme_key_generate(ACME_KEY_P256, &key) != ACME_OK)
        return NULL;
    store(acme_key_pem(key)); /* before the CA hears of it: the key controls the account */
    return key;
}
//! [generate]

//! [parse]
static acme_key_t *stored_key(const char *text, const char *passphrase)
{
    acme_key_t *key = NULL;
    acme_status_t status;

    if (passphrase)
        status = acme_key_parse_encrypted(text, strlen(text), passphrase, &key);
    else
        status = acme_key_parse(text, strlen(text), &key);
    if (status != ACME_OK)
        fprintf(stderr, "account.pem: %s\n", acme_error_message(acme_last_error()));
    return key;
}
//! [parse]

//! [describe]
static void describe(const acme_key_t *key)
{
    const char *kind = acme_key_type(key) == ACME_KEY_P256 ? "P-256" : "another";

    printf("%s key, thumbprint %s\n", kind, acme_key_thumbprint(key));
}
//! [describe]

//! [csr]
static int request_for(const acme_key_t *key)
{
    static const char *const names[] = { "example.org", "*.example.org" };
    acme_csr_t *csr = NULL;
    const unsigned char *der;
    size_t size;

    if (acme_csr_create(key, names, 2, &csr) != ACME_OK)
        return failed("request");
    der = acme_csr_der(csr, &size);
    fwrite(der, 1, size, stdout); /* an order of another program can use it */
    acme_csr_free(csr);
    return 0;
}
//! [csr]

//! [csr-parse]
static acme_csr_t *read_request(const void *pem_or_der, size_t size)
{
    acme_csr_t *csr = NULL;

    if (acme_csr_parse(pem_or_der, size, &csr) != ACME_OK)
        failed("request");
    return csr; /* for csr in acme_order_options_t; the key stays outside */
}
//! [csr-parse]

static const char encrypted[] =
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
    "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAh29Wd5JtjOGgICA+gw\n"
    "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEBRuiv8uk2Fl/UrC7/TgaLoEgZAU\n"
    "TmwrdKL4/eh68IhmPxNXgDkDt/k0gLC+sIsRvIZZ50U860siZLN0STzIul/Jsy5Y\n"
    "BKyPP3QEgun1k5YzVRzzp5nwmaNn4N1kZX3QZQHlv0Gk6kcW3yP/fSP1EHb+Gxbn\n"
    "3B97Hf5chnB6rQs4EIRSbfKA5+A3wQzlUcwFXgJC/GP2Tlda0935otbetoMfU3Y=\n"
    "-----END ENCRYPTED PRIVATE KEY-----\n";

static const char request[] =
    "-----BEGIN CERTIFICATE REQUEST-----\n"
    "MIHlMIGLAgEAMAAwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAS+25k7h0rfPYYt\n"
    "McJ3LE7Swwku2jFz383cpAwbHwLtdJHUxGwt40ARnsqsGHQbRgPj24mVoEF4UORy\n"
    "7N7i3YHioCkwJwYJKoZIhvcNAQkOMRowGDAWBgNVHREEDzANggtleGFtcGxlLm9y\n"
    "ZzAKBggqhkjOPQQDAgNJADBGAiEA7PUW++WHsPWTTsg+s3IVU8V0voP8Azz3GH2A\n"
    "QQWYHGECIQDyjh7N8EIa0MS5pF0Rm+2LCxj7kjopKd9P2o20BFtviQ==\n"
    "-----END CERTIFICATE REQUEST-----\n";

int main(void)
{
    acme_key_t *made = new_account_key(), *key = stored_key(file, NULL);
    acme_key_t *other = stored_key(encrypted, "correct horse");
    acme_csr_t *csr = read_request(request, strlen(request));
    int result = !made || !key || !other || !csr || request_for(key);

    describe(key);
    //! [free]
    acme_csr_free(csr);
    acme_key_free(other);
    acme_key_free(key);
    acme_key_free(made);
    //! [free]
    return result;
}
