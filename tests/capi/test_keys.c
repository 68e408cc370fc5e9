/* Keys, requests and certificates, checked with the openssl command, which is independent of the library. */
#include "check.h"

#include <unistd.h>

/* Runs a shell command with data on its standard input. Returns its output, which the caller frees. */
static char *shell(const char *command, const void *data, size_t size)
{
    char file[] = "/tmp/acme-keys-XXXXXX", line[1024], *output = calloc(1, 65536);
    int fd = mkstemp(file);
    FILE *pipe;

    CHECK(write(fd, data, size) == (ssize_t)size);
    close(fd);
    snprintf(line, sizeof line, "(%s) <%s 2>&1", command, file);
    pipe = popen(line, "r");
    fread(output, 1, 65535, pipe);
    CHECK(pclose(pipe) == 0);
    unlink(file);
    return output;
}

static void expect(const char *command, const void *data, size_t size, const char *wanted)
{
    char *output = shell(command, data, size);

    CHECK(strstr(output, wanted) != NULL);
    if (!strstr(output, wanted))
        fprintf(stderr, "%s: %s\n", command, output);
    free(output);
}

static void keys(void)
{
    static const int types[] = { ACME_KEY_P256, ACME_KEY_P384, ACME_KEY_P521, ACME_KEY_RSA2048,
                                 ACME_KEY_ED25519 };
    static const char *const forms[] = { "openssl pkey", "openssl pkey -outform DER",
                                         "openssl pkey -traditional",
                                         "openssl pkey -traditional -outform DER" };
    size_t i, form;

    for (i = 0; i < sizeof types / sizeof *types; i++) {
        acme_key_t *key = NULL, *again = NULL;
        const char *pem;

        OK(acme_key_generate(types[i], &key));
        pem = acme_key_pem(key);
        CHECK(acme_key_type(key) == types[i] && strlen(acme_key_thumbprint(key)) == 43);
        expect("openssl pkey -check -noout || openssl pkey -noout", pem, strlen(pem), "");
        for (form = 0; form < 3; form++) {
            char *output;

            if (types[i] == ACME_KEY_ED25519 && form >= 2)
                continue; /* this type has no traditional form */
            if (form == 1)
                continue; /* DER has NUL bytes; the Rust tests cover it */
            output = shell(forms[form], pem, strlen(pem));
            OK(acme_key_parse(output, strlen(output), &again));
            CHECK(strcmp(acme_key_thumbprint(again), acme_key_thumbprint(key)) == 0);
            acme_key_free(again);
            free(output);
        }
        acme_key_free(key);
    }
}

static void encrypted_and_external(void)
{
    static const char *const names[] = { "example.org" };
    static const uint8_t digest[32] = { 1 };
    acme_challenge_t challenge = { 0 };
    acme_cert_t *cert = NULL;
    acme_csr_t *csr = NULL;
    acme_key_t *key = new_key(), *other = NULL;
    const char *pem = acme_key_pem(key);
    char *text = shell("openssl pkcs8 -topk8 -passout pass:secret", pem, strlen(pem));

    CHECK_STATUS(acme_key_parse(text, strlen(text), &other), ACME_ERR_UNSUPPORTED, "passphrase");
    CHECK_STATUS(acme_key_parse_encrypted(text, strlen(text), "wrong", &other), ACME_ERR_CRYPTO,
                 "passphrase");
    OK(acme_key_parse_encrypted(text, strlen(text), "secret", &other));
    acme_key_free(other);
    free(text);
    text = shell("openssl pkey -pubout", pem, strlen(pem));
    OK(acme_key_from_public(text, strlen(text), &other));
    CHECK(!acme_key_pem(other));
    CHECK(strcmp(acme_key_thumbprint(other), acme_key_thumbprint(key)) == 0);
    CHECK_STATUS(acme_csr_create(other, names, 1, &csr), ACME_ERR_UNSUPPORTED, "outside the process");
    CHECK_STATUS(acme_csr_create(key, names, 0, &csr), ACME_ERR_INVALID_ARGUMENT, "one name");
    challenge.identifier = names[0];
    CHECK_STATUS(acme_cert_create_tls_alpn(&challenge, key, &cert), ACME_ERR_INVALID_ARGUMENT, "digest");
    challenge.tls_alpn_digest = digest;
    CHECK_STATUS(acme_cert_create_tls_alpn(&challenge, other, &cert), ACME_ERR_UNSUPPORTED,
                 "outside the process");
    acme_key_free(other);
    CHECK_STATUS(acme_key_from_public("x", 1, &other), ACME_ERR_PARSE, "public key");
    CHECK(strlen(acme_key_thumbprint(key)) == 43);
    acme_key_free(key);
    free(text);
    text = shell("openssl ecparam -name secp256k1 -genkey -noout", "", 0);
    CHECK_STATUS(acme_key_parse(text, strlen(text), &other), ACME_ERR_UNSUPPORTED, "P-256");
    free(text);
    text = shell("openssl genrsa 1024 2>/dev/null", "", 0);
    CHECK_STATUS(acme_key_parse(text, strlen(text), &other), ACME_ERR_UNSUPPORTED, "1024 bits");
    free(text);
}

static void requests(void)
{
    const char *names[] = { "example.org", "*.example.org", "192.0.2.7", "2001:db8::1" };
    acme_key_t *key = new_key();
    acme_csr_t *csr = NULL, *again = NULL;
    const uint8_t *der;
    size_t size;

    OK(acme_csr_create(key, names, 4, &csr));
    der = acme_csr_der(csr, &size);
    expect("openssl req -inform DER -noout -verify -text", der, size, "DNS:*.example.org");
    expect("openssl req -inform DER -noout -text", der, size, "IP Address:192.0.2.7");
    expect("openssl req -inform DER -noout -verify", der, size, "verify OK");
    OK(acme_csr_parse(der, size, &again));
    acme_csr_free(again);
    acme_csr_free(csr);
    acme_key_free(key);
    CHECK_STATUS(acme_csr_parse("nonsense", 8, &csr), ACME_ERR_PARSE, "signing request");
}

/* A key that spells out the parameters of its curve becomes one that names it; a request with it is refused. */
static void s18_r12_explicit_parameters(void)
{
    static const char *const make = "openssl ecparam -name prime256v1 -genkey -noout -param_enc explicit";
    const char *names[] = { "example.org" };
    acme_key_t *key = NULL, *outside = NULL;
    acme_csr_t *csr = NULL;
    char *text = shell(make, "", 0), *other;
    const uint8_t *der;
    size_t size;

    expect("openssl pkey -noout -text", text, strlen(text), "prime-field");
    OK(acme_key_parse(text, strlen(text), &key));
    OK(acme_csr_create(key, names, 1, &csr));
    der = acme_csr_der(csr, &size);
    expect("openssl req -inform DER -noout -verify -text", der, size, "ASN1 OID: prime256v1");
    acme_csr_free(csr);
    expect("openssl pkey -noout -text", acme_key_pem(key), strlen(acme_key_pem(key)), "ASN1 OID: prime256v1");
    other = shell("openssl pkey -pubout", text, strlen(text));
    OK(acme_key_from_public(other, strlen(other), &outside));
    CHECK(strcmp(acme_key_thumbprint(outside), acme_key_thumbprint(key)) == 0);
    free(other);
    other = shell("openssl req -new -key /dev/stdin -subj / -addext subjectAltName=DNS:example.org", text,
                  strlen(text));
    CHECK_STATUS(acme_csr_parse(other, strlen(other), &csr), ACME_ERR_UNSUPPORTED, "-param_enc named_curve");
    free(other);
    acme_key_free(outside);
    acme_key_free(key);
    free(text);
}

static void s06_r30_requests_with_keys_that_cas_refuse(void)
{
    static const char *const makes[] = {
        "openssl req -new -newkey rsa:1024 -nodes -keyout /dev/null -subj /CN=example.org 2>/dev/null",
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-224 -nodes -keyout /dev/null "
        "-subj /CN=example.org 2>/dev/null",
    };
    acme_csr_t *csr = NULL;
    size_t i;

    for (i = 0; i < 2; i++) {
        char *text = shell(makes[i], "", 0);

        CHECK_STATUS(acme_csr_parse(text, strlen(text), &csr), ACME_ERR_UNSUPPORTED, "bits");
        free(text);
    }
}

/* The status of an order for names and a request with this subject and no subjectAltName. */
static int order_of(const char *subject, const char *name)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    acme_key_t *key = new_key();
    acme_client_t *client = NULL;
    acme_csr_t *csr = NULL;
    acme_op_t *op = NULL;
    char command[200], *text;
    int status;

    snprintf(command, sizeof command,
             "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null "
             "-subj %s 2>/dev/null", subject);
    text = shell(command, "", 0);
    OK(acme_csr_parse(text, strlen(text), &csr));
    options.directory_url = "https://localhost/";
    options.account_key = key;
    OK(acme_client_new(&options, &client));
    order.csr = csr;
    order.names = &name;
    order.name_count = name ? 1 : 0;
    status = acme_begin_order(client, &order, &op);
    acme_op_free(op);
    acme_csr_free(csr);
    acme_client_free(client);
    acme_key_free(key);
    free(text);
    return status;
}

static void o37_r22_requests_with_a_common_name_only(void)
{
    OK(order_of("/CN=example.org", NULL));
    OK(order_of("/CN=example.org", "example.org"));
    CHECK_STATUS(order_of("/O=x", NULL), ACME_ERR_INVALID_ARGUMENT, "no subjectAltName");
    CHECK_STATUS(order_of("/CN=192.0.2.7", NULL), ACME_ERR_INVALID_ARGUMENT, "no subjectAltName");
}

/* Runs this program again with a configuration file that leaves OpenSSL without a provider. */
static void s19_r11_without_a_provider(void)
{
    static const char *const cnf = "openssl_conf = i\n[i]\nproviders = p\n[p]\nbase = b\n[b]\nactivate = 1\n";
    char command[1024];

    snprintf(command, sizeof command, "OPENSSL_CONF=/dev/stdin WITHOUT_PROVIDER=1 %s", this_program);
    expect(command, cnf, strlen(cnf), "OPENSSL_CONF");
}

/* Prints the error of a key that cannot be made. */
static int try_without_provider(void)
{
    acme_key_t *key = NULL;
    int status = acme_key_generate(ACME_KEY_P256, &key);

    puts(acme_error_message(acme_last_error()));
    return status != ACME_ERR_CRYPTO;
}

static void tls_alpn(void)
{
    uint8_t digest[32] = { 1, 2, 3 };
    acme_challenge_t challenge;
    acme_cert_t *cert = NULL;
    acme_key_t *other = NULL;
    const char *pem;

    memset(&challenge, 0, sizeof challenge);
    challenge.identifier = "example.org";
    challenge.tls_alpn_digest = digest;
    OK(acme_cert_create_tls_alpn(&challenge, NULL, &cert));
    pem = acme_cert_chain_pem(cert);
    expect("openssl x509 -noout -text", pem, strlen(pem), "1.3.6.1.5.5.7.1.31: critical");
    expect("openssl x509 -noout -text", pem, strlen(pem), "DNS:example.org");
    expect("openssl x509 -noout -serial", pem, strlen(pem), "serial=01");
    CHECK(strcmp(acme_cert_serial(cert), "01") == 0);
    CHECK(acme_cert_days_left(cert, 0) >= 5 && acme_cert_key(cert) != NULL);
    CHECK(acme_cert_is_for(cert, acme_cert_key(cert)) == 1);
    OK(acme_key_generate(ACME_KEY_P256, &other));
    CHECK(acme_cert_is_for(cert, other) == 0 && acme_cert_is_for(cert, NULL) == 0);
    acme_key_free(other);
    acme_cert_free(cert);
}

int main(int argc, char **argv)
{
    choose_tests(argc, argv);
    if (getenv("WITHOUT_PROVIDER"))
        return try_without_provider();
    TEST(keys());
    TEST(encrypted_and_external());
    TEST(requests());
    TEST(s18_r12_explicit_parameters());
    TEST(s06_r30_requests_with_keys_that_cas_refuse());
    TEST(o37_r22_requests_with_a_common_name_only());
    TEST(s19_r11_without_a_provider());
    TEST(tls_alpn());
    return report("test_keys");
}
