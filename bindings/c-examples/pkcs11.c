/*
 * pkcs11.c - obtains a certificate with keys that never leave a PKCS#11 token: an HSM, a smart card,
 * SoftHSM. The account's key and the certificate's are made in the token, and neither can be read
 * from it; the library has their public halves, and asks for signatures.
 *
 *   pkcs11 --module FILE --token LABEL --pin-file FILE --directory URL [--ca-file FILE]
 *          [--agree-terms] [--port N] [--steps] --out FILE NAME...
 *
 *   --module    the token's library, such as /usr/lib/softhsm/libsofthsm2.so
 *   --token     the token's label; its user PIN is the first line of --pin-file
 *   --port      port on which to respond to the CA's http-01 requests (default 80)
 *   --steps     polls the operation itself, as a server with an event loop does, instead of
 *               acme_op_run()
 *   --out       file for the chain of certificates. The certificate's key is in the token; its label is
 *               the first NAME. The label of the account's key is "acme account". The next run uses
 *               both keys again.
 *
 * Exit status: 0 obtained; 1 failed, with the reason on stderr; 2 wrong usage.
 */
#define _POSIX_C_SOURCE 200809L

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdlib.h>

#include "acme_micro.h"
#include "responder.h"
#include "start.h"

enum { POINT_SIZE = 65, HASH_SIZE = 32 };

static CK_FUNCTION_LIST_PTR token;
static CK_SESSION_HANDLE session;

/* A key in the token, and its public half in the library. */
struct token_key {
    CK_OBJECT_HANDLE handle;
    acme_key_t *key;
};

static struct token_key account_key, certificate_key;

static int token_failed(const char *what, CK_RV code)
{
    fprintf(stderr, "pkcs11: %s: CKR 0x%08lx\n", what, (unsigned long)code);
    return -1;
}

static int acme_failed(const char *what)
{
    fprintf(stderr, "pkcs11: %s: %s\n", what, acme_error_message(acme_last_error()));
    return -1;
}

/* --- the token -------------------------------------------------------------------------------- */

static int load_module(const char *file)
{
    void *module = dlopen(file, RTLD_NOW | RTLD_LOCAL), *symbol;
    CK_C_GetFunctionList get_functions;
    CK_C_INITIALIZE_ARGS locking;
    CK_RV code;

    if (!module || !(symbol = dlsym(module, "C_GetFunctionList"))) {
        fprintf(stderr, "pkcs11: %s\n", dlerror());
        return -1;
    }
    memcpy(&get_functions, &symbol, sizeof get_functions); /* C has no cast from data to functions */
    memset(&locking, 0, sizeof locking);
    locking.flags = CKF_OS_LOCKING_OK;
    if ((code = get_functions(&token)) != CKR_OK || (code = token->C_Initialize(&locking)) != CKR_OK)
        return token_failed(file, code);
    return 0;
}

/* Opens a session with the token of this label, and logs in as its user. */
static int log_in(const char *label, const char *pin)
{
    CK_SLOT_ID slots[64];
    CK_ULONG count = 64, i;
    CK_TOKEN_INFO info;
    CK_RV code;

    if ((code = token->C_GetSlotList(CK_TRUE, slots, &count)) != CKR_OK)
        return token_failed("looking for tokens", code);
    for (i = 0; i < count; i++)
        if (token->C_GetTokenInfo(slots[i], &info) == CKR_OK && strlen(label) <= sizeof info.label &&
            memcmp(info.label, label, strlen(label)) == 0 &&
            (strlen(label) == sizeof info.label || info.label[strlen(label)] == ' '))
            break;
    if (i == count) {
        fprintf(stderr, "pkcs11: there is no token labelled %s\n", label);
        return -1;
    }
    code = token->C_OpenSession(slots[i], CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session);
    if (code != CKR_OK)
        return token_failed("opening a session", code);
    code = token->C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR)pin, strlen(pin));
    return code == CKR_OK ? 0 : token_failed("logging in", code);
}

/* Returns the handle of the object of this class and label; 0: no such object. */
static CK_OBJECT_HANDLE find(CK_OBJECT_CLASS class, const char *label)
{
    CK_ATTRIBUTE wanted[] = { { CKA_CLASS, &class, sizeof class },
                              { CKA_LABEL, (void *)label, strlen(label) } };
    CK_OBJECT_HANDLE found = 0;
    CK_ULONG count = 0;

    if (token->C_FindObjectsInit(session, wanted, 2) != CKR_OK)
        return 0;
    if (token->C_FindObjects(session, &found, 1, &count) != CKR_OK || count == 0)
        found = 0;
    token->C_FindObjectsFinal(session);
    return found;
}

static int generate(const char *label)
{
    CK_BYTE p256[] = { 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7 };
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_MECHANISM mechanism = { CKM_EC_KEY_PAIR_GEN, NULL, 0 };
    CK_ATTRIBUTE public[] = { { CKA_EC_PARAMS, p256, sizeof p256 },
                              { CKA_LABEL, (void *)label, strlen(label) },
                              { CKA_TOKEN, &yes, sizeof yes },
                              { CKA_VERIFY, &yes, sizeof yes } };
    CK_ATTRIBUTE private[] = { { CKA_LABEL, (void *)label, strlen(label) },
                               { CKA_TOKEN, &yes, sizeof yes },
                               { CKA_PRIVATE, &yes, sizeof yes },
                               { CKA_SIGN, &yes, sizeof yes },
                               { CKA_SENSITIVE, &yes, sizeof yes },
                               { CKA_EXTRACTABLE, &no, sizeof no } };
    CK_OBJECT_HANDLE made[2];
    CK_RV code = token->C_GenerateKeyPair(session, &mechanism, public, 4, private, 6, &made[0], &made[1]);

    return code == CKR_OK ? 0 : token_failed("making a key", code);
}

/* Reads the public half as DER (SubjectPublicKeyInfo, RFC 5480): for P-256 a fixed head and the point. */
static int read_public(const char *label, unsigned char spki[26 + POINT_SIZE])
{
    static const unsigned char head[26] = { 0x30, 0x59, 0x30, 0x13, 0x06, 7, 0x2a, 0x86, 0x48, 0xce,
                                            0x3d, 2, 1, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1,
                                            7, 0x03, 0x42, 0 };
    CK_BYTE point[2 + POINT_SIZE]; /* in an OCTET STRING */
    CK_ATTRIBUTE wanted = { CKA_EC_POINT, point, sizeof point };
    CK_RV code = token->C_GetAttributeValue(session, find(CKO_PUBLIC_KEY, label), &wanted, 1);

    if (code != CKR_OK || wanted.ulValueLen != sizeof point)
        return token_failed("reading the public key, which has to be one on P-256", code);
    memcpy(spki, head, sizeof head);
    memcpy(spki + sizeof head, point + 2, POINT_SIZE);
    return 0;
}

/* Opens the key with this label, and generates it if the token does not have it. */
static int open_key(const char *label, struct token_key *key)
{
    unsigned char spki[26 + POINT_SIZE];

    if (!find(CKO_PRIVATE_KEY, label) && generate(label) != 0)
        return -1;
    key->handle = find(CKO_PRIVATE_KEY, label);
    if (read_public(label, spki) != 0)
        return -1;
    if (acme_key_from_public(spki, sizeof spki, &key->key) != ACME_OK)
        return acme_failed(label);
    return 0;
}

/* Signs the library's request. ES256 is ECDSA over the SHA-256 of the input. The token returns the two
 * integers in full width; the library accepts this format as well as DER. */
static int sign(const acme_sign_request_t *request, uint8_t *signature, size_t *size, void *user)
{
    int of_account = strcmp(request->key_thumbprint, acme_key_thumbprint(account_key.key)) == 0;
    CK_OBJECT_HANDLE key = of_account ? account_key.handle : certificate_key.handle;
    CK_MECHANISM sha256 = { CKM_SHA256, NULL, 0 }, ecdsa = { CKM_ECDSA, NULL, 0 };
    CK_BYTE hash[HASH_SIZE];
    CK_ULONG hash_size = sizeof hash, signature_size = *size;
    CK_RV code;

    (void)user;
    if ((code = token->C_DigestInit(session, &sha256)) != CKR_OK ||
        (code = token->C_Digest(session, (CK_BYTE_PTR)request->input, request->input_size, hash,
                                &hash_size)) != CKR_OK ||
        (code = token->C_SignInit(session, &ecdsa, key)) != CKR_OK ||
        (code = token->C_Sign(session, hash, hash_size, signature, &signature_size)) != CKR_OK)
        return token_failed("signing", code);
    *size = signature_size;
    return 0;
}

/* --- the order -------------------------------------------------------------------------------- */

/* Polls the operation and carries out its steps. With a slow token, sign on another thread and pass the
 * signature when it is there: only the operation waits for it. */
static int drive(acme_op_t *op, struct responder *responder)
{
    for (;;) {
        struct timespec nap = { 0, 100 * 1000 * 1000 };
        const acme_sign_request_t *to_sign;
        const acme_challenge_t *challenge;
        uint8_t signature[512];
        size_t size = sizeof signature, i;
        int step = acme_op_poll(op, 0), failed = 0;

        switch (step) {
        case ACME_STEP_SIGN:
            to_sign = acme_op_sign_request(op);
            if (sign(to_sign, signature, &size, NULL) == 0)
                acme_op_signed(op, to_sign->id, signature, size);
            else
                acme_op_sign_failed(op, to_sign->id, "the token did not sign");
            break;
        case ACME_STEP_REQUEST:
            acme_op_send(op, acme_op_request(op)->id);
            break;
        case ACME_STEP_PUBLISH:
            for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
                failed |= responder_publish(challenge, responder);
            acme_op_published(op, failed ? "the server did not start" : NULL);
            break;
        case ACME_STEP_UNPUBLISH:
            for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
                responder_unpublish(challenge, responder);
            break;
        case ACME_STEP_WAIT:
            nanosleep(&nap, NULL);
            break;
        default:
            return step;
        }
    }
}

static int write_chain(const char *file, const acme_cert_t *cert)
{
    FILE *stream = fopen(file, "w");

    if (!stream || fputs(acme_cert_chain_pem(cert), stream) < 0 || fclose(stream) != 0) {
        fprintf(stderr, "pkcs11: %s: %s\n", file, strerror(errno));
        return -1;
    }
    return 0;
}

/* --- the program ------------------------------------------------------------------------------ */

static acme_client_options_t client_options = ACME_CLIENT_OPTIONS_INIT;
static acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
static struct responder responder = { .port = 80, .listener = -1 };
static const char *module_file, *token_label, *pin_file, *out_file;
static int by_steps;

static int parse(int argc, char **argv)
{
    int i;

    for (i = 1; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        const char *option = argv[i] + 2;

        if (strcmp(option, "agree-terms") == 0)
            client_options.terms_agreed = 1;
        else if (strcmp(option, "steps") == 0)
            by_steps = 1;
        else if (++i == argc)
            return -1;
        else if (strcmp(option, "module") == 0)
            module_file = argv[i];
        else if (strcmp(option, "token") == 0)
            token_label = argv[i];
        else if (strcmp(option, "pin-file") == 0)
            pin_file = argv[i];
        else if (strcmp(option, "directory") == 0)
            client_options.directory_url = argv[i];
        else if (strcmp(option, "ca-file") == 0)
            client_options.ca_file = argv[i];
        else if (strcmp(option, "port") == 0 && atoi(argv[i]) > 0 && atoi(argv[i]) <= 65535)
            responder.port = (unsigned short)atoi(argv[i]);
        else if (strcmp(option, "out") == 0)
            out_file = argv[i];
        else
            return -1;
    }
    order.names = (const char *const *)(argv + i);
    order.name_count = (size_t)(argc - i);
    return i < argc && module_file && token_label && pin_file && out_file &&
           client_options.directory_url ? 0 : -1;
}

static int read_pin(char *pin, int size)
{
    FILE *stream = fopen(pin_file, "r");
    int got = stream && fgets(pin, size, stream);

    if (!got)
        fprintf(stderr, "pkcs11: %s: %s\n", pin_file, stream ? "is empty" : strerror(errno));
    if (stream)
        fclose(stream);
    pin[strcspn(pin, "\r\n")] = 0;
    return got ? 0 : -1;
}

static int obtain(void)
{
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_cert_t *cert = NULL;
    acme_op_t *op = NULL;
    int result = -1;

    client_options.account_key = account_key.key;
    order.key = certificate_key.key;
    run.publish = responder_publish;
    run.unpublish = responder_unpublish;
    run.user = &responder;
    run.sign = sign;
    if (acme_client_new(&client_options, &client) == ACME_OK &&
        acme_begin_order(client, &order, &op) == ACME_OK &&
        (by_steps ? drive(op, &responder) : acme_op_run(op, &run)) == ACME_OK &&
        (cert = acme_op_take_cert(op)) != NULL)
        result = write_chain(out_file, cert);
    else
        acme_failed(order.names[0]);
    acme_cert_free(cert);
    acme_op_free(op);
    acme_client_free(client);
    return result;
}

int main(int argc, char **argv)
{
    char pin[256] = "";
    int result = -1;

    if (start(argc, argv) != 0 || parse(argc, argv) != 0) {
        fputs("usage: pkcs11 --module FILE --token LABEL --pin-file FILE --directory URL [--ca-file FILE]\n"
              "       [--agree-terms] [--port N] [--steps] --out FILE NAME...\n", stderr);
        return 2;
    }
    if (read_pin(pin, sizeof pin) != 0 || load_module(module_file) != 0)
        return 1;
    if (log_in(token_label, pin) == 0 && open_key("acme account", &account_key) == 0 &&
        open_key(order.names[0], &certificate_key) == 0)
        result = obtain();
    acme_key_free(certificate_key.key);
    acme_key_free(account_key.key);
    token->C_Finalize(NULL);
    return result == 0 ? 0 : 1;
}
