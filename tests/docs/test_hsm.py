#!/usr/bin/env python3
"""docs/guides/hsm.md: keys outside the process."""

from __future__ import annotations

from case import PUT_C, Case, web_server
from pages import changed, main, run, shows


class Hsm(Case):
    @shows("hsm c sign")
    def test_c(self, text):
        main = """
#include <openssl/evp.h>
#include <openssl/pem.h>

int token_sign(void *handle, const char *algorithm, const uint8_t *input, size_t input_size,
               uint8_t *signature, size_t *size)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int is_signed = strcmp(algorithm, "ES256") == 0 &&
                    EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, handle) == 1 &&
                    EVP_DigestSign(context, signature, size, input, input_size) == 1;

    EVP_MD_CTX_free(context);
    return is_signed ? 0 : -1;
}

static acme_key_t *made(void **handle)
{
    acme_key_t *key = NULL;
    BIO *text = BIO_new(BIO_s_mem());
    char *pem;
    long size;

    *handle = EVP_EC_gen("P-256");
    if (!*handle || !PEM_write_bio_PUBKEY(text, *handle))
        exit(2);
    size = BIO_get_mem_data(text, &pem);
    if (acme_key_from_public(pem, (size_t)size, &key) != ACME_OK)
        exit(3);
    BIO_free(text);
    return key;
}

int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_cert_t *cert = NULL;
    struct keys keys;

    root = argv[1];
    keys.account = made(&keys.account_handle);
    keys.certificate = made(&keys.certificate_handle);
    options.directory_url = ACME_LETSENCRYPT_STAGING;
    options.account_key = keys.account;
    options.terms_agreed = 1;
    run.publish = put;
    if (argc != 2 || acme_client_new(&options, &client) != ACME_OK ||
        obtain(client, &keys, &run, "c.hsm.test", &cert) != ACME_OK) {
        fprintf(stderr, "%s\\n", acme_error_message(acme_last_error()));
        return 1;
    }
    return acme_cert_is_for(cert, keys.certificate) ? 0 : 4;
}
"""
        program = self.program_c(changed(text + "#include <stdio.h>\n" + PUT_C + main), "-lcrypto")
        with web_server(self.webroot):
            run(program, self.webroot)

    @shows("hsm python sign")
    def test_python(self, text):
        told = f"""
import os, sys
{text}

def made():
    key = acme.PrivateKey.generate()
    os.makedirs("device", exist_ok=True)
    key.save(f"device/{{key.thumbprint}}.pem")
    public = ["openssl", "pkey", "-in", f"device/{{key.thumbprint}}.pem", "-pubout"]
    return subprocess.run(public, stdout=subprocess.PIPE, check=True).stdout, key

(account, _), (certificate, key) = made(), made()
solver = acme.Webroot(sys.argv[1])
cert = obtain(acme.LETSENCRYPT_STAGING, account, certificate, ["py.hsm.test"], solver)
assert cert.is_for(key)
"""
        with web_server(self.webroot):
            self.python(changed(told), self.webroot)


if __name__ == "__main__":
    main("hsm")
