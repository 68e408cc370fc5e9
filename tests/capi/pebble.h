/* A server for challenges: serves http-01, sets DNS records, completes handshakes of tls-alpn-01. And checks
 * with the openssl command, which is independent of the library. */
#ifndef PEBBLE_H
#define PEBBLE_H

#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <sys/socket.h>
#include <unistd.h>

static inline int listen_on(const char *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    address.sin_port = htons((unsigned short)atoi(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) {
        perror("listen");
        exit(1);
    }
    return listener;
}

/* --- http-01: a table of the published challenges, and a thread that serves them ---------------- */

enum { HTTP_PLACES = 64 };

static pthread_mutex_t http_lock = PTHREAD_MUTEX_INITIALIZER;
static char http_path[HTTP_PLACES][600], http_body[HTTP_PLACES][600];

static inline int http_publish(const acme_challenge_t *challenge, void *user)
{
    int i;

    (void)user;
    pthread_mutex_lock(&http_lock);
    for (i = 0; i < HTTP_PLACES && http_path[i][0]; i++)
        ;
    if (i < HTTP_PLACES) {
        strcpy(http_path[i], challenge->http_path);
        strcpy(http_body[i], challenge->key_authorization);
    }
    pthread_mutex_unlock(&http_lock);
    return i == HTTP_PLACES;
}

static inline int http_unpublish(const acme_challenge_t *challenge, void *user)
{
    int i, gone = 1;

    (void)user;
    pthread_mutex_lock(&http_lock);
    for (i = 0; i < HTTP_PLACES; i++)
        if (strcmp(http_path[i], challenge->http_path) == 0)
            gone = http_path[i][0] = 0;
    pthread_mutex_unlock(&http_lock);
    return gone;
}

/* If not NULL, the responses come from acme_client_http01_answer() of this client, not from the table. */
static acme_client_t *http_asks;

/* Returns the number of published challenges. */
static inline int http_published(void)
{
    int i, count = 0;

    pthread_mutex_lock(&http_lock);
    for (i = 0; i < HTTP_PLACES; i++)
        count += http_path[i][0] != 0;
    pthread_mutex_unlock(&http_lock);
    return count;
}

static inline void *http_serve(void *listener)
{
    for (;;) {
        int i, client = accept(*(int *)listener, NULL, NULL);
        char request[2048] = "", path[600] = "", answer[1024] = "HTTP/1.0 404 Not Found\r\n\r\n";

        if (client < 0)
            return NULL;
        if (recv(client, request, sizeof request - 1, 0) > 0)
            sscanf(request, "GET %599s", path);
        pthread_mutex_lock(&http_lock);
        for (i = 0; i < HTTP_PLACES; i++)
            if (path[0] && strcmp(http_path[i], path) == 0)
                snprintf(answer, sizeof answer, "HTTP/1.0 200 OK\r\n\r\n%.599s", http_body[i]);
        if (http_asks) {
            char body[1024];
            size_t size = acme_client_http01_answer(http_asks, path, strlen(path), body, sizeof body);

            if (size > 0)
                snprintf(answer, sizeof answer, "HTTP/1.0 200 OK\r\n\r\n%.*s", (int)size, body);
        }
        pthread_mutex_unlock(&http_lock);
        send(client, answer, strlen(answer), MSG_NOSIGNAL);
        close(client);
    }
}

static int http_listener;
static pthread_t http_thread;

static inline void http_start(void)
{
    http_listener = listen_on(env("PEBBLE_HTTP_PORT"));
    pthread_create(&http_thread, NULL, http_serve, &http_listener);
}

static inline void http_stop(void)
{
    shutdown(http_listener, SHUT_RDWR);
    pthread_join(http_thread, NULL);
    close(http_listener);
}

/* --- dns-01: records at Pebble's challenge test server ----------------------------------------- */

static inline int dns_post(const char *path, const char *name, const char *value)
{
    const char *host = strstr(env("PEBBLE_CHALLTESTSRV"), "//") + 2, *colon = strchr(host, ':');
    struct sockaddr_in address = { .sin_family = AF_INET };
    char body[600], text[1200], answer[64] = "";
    int server = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_port = htons((unsigned short)atoi(colon + 1));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    snprintf(body, sizeof body, "{\"host\":\"%s.\",\"value\":\"%s\"}", name, value);
    snprintf(text, sizeof text, "POST %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", path,
             (int)strlen(body), body);
    if (connect(server, (struct sockaddr *)&address, sizeof address) == 0 &&
        send(server, text, strlen(text), MSG_NOSIGNAL) > 0 && recv(server, answer, 63, 0) > 0) {
        close(server);
        return strstr(answer, " 200 ") ? 0 : 1;
    }
    close(server);
    return 1;
}

static inline int dns_publish(const acme_challenge_t *challenge, void *user)
{
    (void)user;
    return dns_post("/set-txt", challenge->dns_name, challenge->dns_value);
}

static inline int dns_unpublish(const acme_challenge_t *challenge, void *user)
{
    (void)user;
    return dns_post("/clear-txt", challenge->dns_name, "");
}

/* --- tls-alpn-01: a handshake with the certificate that the library makes ---------------------- */

static int alpn_listener = -1;
static SSL_CTX *alpn_context;
static pthread_t alpn_thread;

static inline int alpn_select(SSL *ssl, const unsigned char **out, unsigned char *length,
                              const unsigned char *in, unsigned int in_length, void *user)
{
    (void)ssl, (void)user;
    return SSL_select_next_proto((unsigned char **)out, length,
                                 (const unsigned char *)"\012acme-tls/1", 11, in, in_length) ==
                   OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static inline void *alpn_serve(void *unused)
{
    (void)unused;
    for (;;) {
        int client = accept(alpn_listener, NULL, NULL);
        SSL *ssl;

        if (client < 0)
            return NULL;
        ssl = SSL_new(alpn_context);
        SSL_set_fd(ssl, client);
        if (SSL_accept(ssl) == 1)
            SSL_shutdown(ssl);
        SSL_free(ssl);
        close(client);
    }
}

static inline int alpn_publish(const acme_challenge_t *challenge, void *user)
{
    acme_cert_t *cert = NULL;
    const unsigned char *der;
    size_t size;
    BIO *pem;
    EVP_PKEY *key;

    (void)user;
    if (acme_cert_create_tls_alpn(challenge, NULL, &cert) != ACME_OK)
        return 1;
    alpn_context = SSL_CTX_new(TLS_server_method());
    der = acme_cert_der(cert, 0, &size);
    SSL_CTX_use_certificate_ASN1(alpn_context, (int)size, der);
    pem = BIO_new_mem_buf(acme_key_pem(acme_cert_key(cert)), -1);
    key = PEM_read_bio_PrivateKey(pem, NULL, NULL, NULL);
    SSL_CTX_use_PrivateKey(alpn_context, key);
    EVP_PKEY_free(key);
    BIO_free(pem);
    acme_cert_free(cert);
    SSL_CTX_set_alpn_select_cb(alpn_context, alpn_select, NULL);
    alpn_listener = listen_on(env("PEBBLE_TLS_PORT"));
    return pthread_create(&alpn_thread, NULL, alpn_serve, NULL);
}

static inline int alpn_unpublish(const acme_challenge_t *challenge, void *user)
{
    (void)challenge, (void)user;
    shutdown(alpn_listener, SHUT_RDWR);
    pthread_join(alpn_thread, NULL);
    close(alpn_listener);
    SSL_CTX_free(alpn_context);
    return 0;
}

/* --- a CA whose answers the test makes up ------------------------------------------------------- */

#define DIRECTORY                                                              \
    "{\"newNonce\":\"https://ca.example/nonce\","                              \
    "\"newAccount\":\"https://ca.example/account\","                           \
    "\"newOrder\":\"https://ca.example/order\","                               \
    "\"revokeCert\":\"https://ca.example/revoke\","                            \
    "\"keyChange\":\"https://ca.example/key\","                                \
    "\"meta\":{\"termsOfService\":\"https://ca.example/terms\"}}"

static inline void header(acme_op_t *op, uint64_t id, const char *name, const char *value)
{
    OK(acme_op_response_header(op, id, name, strlen(name), value, strlen(value)));
}

/* Responds to the request of op, with a fresh nonce and one more header field if name is not NULL. */
static inline void feed(acme_op_t *op, int http_status, const char *name, const char *value,
                        const char *body)
{
    static int nonces;
    const acme_http_request_t *request = acme_op_request(op);
    uint64_t id = request ? request->id : 0;
    char nonce[32];

    snprintf(nonce, sizeof nonce, "nonce-%d", ++nonces);
    header(op, id, "Replay-Nonce", nonce);
    if (name)
        header(op, id, name, value);
    OK(acme_op_response_body(op, id, body, strlen(body)));
    OK(acme_op_response_end(op, id, http_status));
}

/* --- Pebble ------------------------------------------------------------------------------------- */

/* Whether Pebble is new enough for this. Debian's Pebble lacks renewal information, profiles and newer
 * challenges. */
static inline int pebble_is_new(const char *what)
{
    int major = 0, minor = 0;

    sscanf(env("PEBBLE_VERSION"), "%d.%d", &major, &minor);
    if (major > 2 || (major == 2 && minor >= 10))
        return 1;
    printf("NOT RUN: %s needs Pebble 2.10, here is %d.%d\n", what, major, minor);
    return 0;
}

static inline acme_client_options_t pebble_options(const acme_key_t *key)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;

    options.directory_url = env("ACME_DIRECTORY");
    options.ca_file = env("ACME_CA_FILE");
    options.account_key = key;
    options.terms_agreed = 1;
    options.user_agent = "capi-test/1";
    return options;
}

static inline acme_client_t *pebble_client(acme_key_t *key)
{
    acme_client_options_t options = pebble_options(key);
    acme_client_t *client = NULL;

    OK(acme_client_new(&options, &client));
    return client;
}

/* A client whose account is in this store. */
static inline acme_client_t *stored_client(const acme_store_t *store, const char *directory_url)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;

    options.directory_url = directory_url;
    options.store = store;
    options.terms_agreed = 1;
    options.ca_file = env("ACME_CA_FILE");
    OK(acme_client_new(&options, &client));
    return client;
}

static inline acme_order_options_t order_for(const char *const *names, size_t count)
{
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;

    order.names = names;
    order.name_count = count;
    return order;
}

/* Publishes http-01. */
static inline acme_run_options_t http_run(void)
{
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;

    run.publish = http_publish;
    run.unpublish = http_unpublish;
    return run;
}

/* Obtains a certificate by dns-01, because only one process can have the port of http-01. Prints a message
 * after a failure, and returns the status. */
static inline int obtain_by_dns(acme_client_t *client, const char *name)
{
    const char *names[] = { name }, *types[] = { "dns-01" };
    acme_order_options_t order = order_for(names, 1);
    acme_run_options_t run = ACME_RUN_OPTIONS_INIT;
    acme_cert_t *cert = NULL;
    int status;

    order.challenge_types = types;
    order.challenge_type_count = 1;
    run.publish = dns_publish;
    run.unpublish = dns_unpublish;
    status = acme_obtain(client, &order, &run, &cert);
    if (status != ACME_OK)
        fprintf(stderr, "%s: %s\n", name, acme_error_message(acme_last_error()));
    acme_cert_free(cert);
    return status;
}

/* --- judging ------------------------------------------------------------------------------------ */

/* Runs a shell command with data on its standard input. Returns its output and its error messages, which
 * the caller frees; *status is its exit status. */
static inline char *shell_status(const char *command, const void *data, size_t size,
                                 size_t *output_size, int *status)
{
    enum { ROOM = 1 << 16 };
    char file[] = "/tmp/acme-capi-XXXXXX", line[2048], *output = calloc(1, ROOM);
    int fd = mkstemp(file);
    size_t got, length = 0;
    FILE *pipe;

    CHECK(write(fd, data, size) == (ssize_t)size);
    close(fd);
    snprintf(line, sizeof line, "(%s) <%s 2>&1", command, file);
    pipe = popen(line, "r");
    while (pipe && (got = fread(output + length, 1, ROOM - 1 - length, pipe)) > 0)
        length += got;
    *status = pipe ? pclose(pipe) : -1;
    unlink(file);
    if (output_size)
        *output_size = length;
    return output;
}

/* Does the same, and checks that the command succeeds. */
static inline char *shell_bytes(const char *command, const void *data, size_t size,
                                size_t *output_size)
{
    int status;
    char *output = shell_status(command, data, size, output_size, &status);

    CHECK(status == 0);
    if (status != 0)
        fprintf(stderr, "%s: %s\n", command, output);
    return output;
}

static inline char *shell(const char *command, const void *data, size_t size)
{
    return shell_bytes(command, data, size, NULL);
}

/* Checks that the command succeeds, and that its output contains this text. */
static inline void expect(const char *command, const void *data, size_t size, const char *wanted)
{
    char *output = shell(command, data, size);

    CHECK(strstr(output, wanted) != NULL);
    if (!strstr(output, wanted))
        fprintf(stderr, "%s gave no \"%s\":\n%s\n", command, wanted, output);
    free(output);
}

/* Checks that the certificate's chain ends at Pebble's root, and that it is for this name. */
static inline void verify(const acme_cert_t *cert, const char *name)
{
    const char *pem = acme_cert_chain_pem(cert);
    char command[1024];

    CHECK(pem != NULL);
    if (!pem)
        return;
    /* Linux opens /dev/stdin as a new file each time, so both reads begin at its start. */
    snprintf(command, sizeof command,
             "openssl verify -CAfile '%s' -untrusted /dev/stdin /dev/stdin && "
             "openssl x509 -noout -ext subjectAltName",
             env("PEBBLE_ROOT"));
    expect(command, pem, strlen(pem), name);
}

#endif
