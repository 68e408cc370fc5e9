/* What a server would do: answer http-01, set DNS records, shake hands for tls-alpn-01. */
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
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port)) };
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) {
        perror("listen");
        exit(1);
    }
    return listener;
}

/* --- http-01: stateless, by the thumbprints of the accounts that the test uses ----------------- */

static pthread_mutex_t http_lock = PTHREAD_MUTEX_INITIALIZER;
static char http_path[64][600], http_body[64][700];

static int http_publish(const acme_challenge_t *challenge, void *user)
{
    int i;

    (void)user;
    pthread_mutex_lock(&http_lock);
    for (i = 0; http_path[i][0]; i++)
        ;
    strcpy(http_path[i], challenge->http_path);
    strcpy(http_body[i], challenge->key_authorization);
    pthread_mutex_unlock(&http_lock);
    return 0;
}

static int http_unpublish(const acme_challenge_t *challenge, void *user)
{
    int i, gone = 1;

    (void)user;
    pthread_mutex_lock(&http_lock);
    for (i = 0; i < 64; i++)
        if (strcmp(http_path[i], challenge->http_path) == 0)
            gone = http_path[i][0] = 0;
    pthread_mutex_unlock(&http_lock);
    return gone;
}

/* How many are in place. */
static inline int http_published(void)
{
    int i, count = 0;

    pthread_mutex_lock(&http_lock);
    for (i = 0; i < 64; i++)
        count += http_path[i][0] != 0;
    pthread_mutex_unlock(&http_lock);
    return count;
}

static void *http_serve(void *listener)
{
    for (;;) {
        int i, client = accept(*(int *)listener, NULL, NULL);
        char request[2048] = "", path[600] = "", answer[1024] = "HTTP/1.0 404 Not Found\r\n\r\n";

        if (client < 0)
            return NULL;
        if (recv(client, request, sizeof request - 1, 0) > 0)
            sscanf(request, "GET %599s", path);
        pthread_mutex_lock(&http_lock);
        for (i = 0; i < 64; i++)
            if (path[0] && strcmp(http_path[i], path) == 0)
                snprintf(answer, sizeof answer, "HTTP/1.0 200 OK\r\n\r\n%.699s", http_body[i]);
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

static int alpn_select(SSL *ssl, const unsigned char **out, unsigned char *length,
                       const unsigned char *in, unsigned int in_length, void *user)
{
    (void)ssl, (void)user;
    return SSL_select_next_proto((unsigned char **)out, length,
                                 (const unsigned char *)"\012acme-tls/1", 11, in, in_length) ==
                   OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void *alpn_serve(void *unused)
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

/* --- judging ------------------------------------------------------------------------------------ */

static inline acme_client_t *pebble_client(acme_key_t *key)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;

    options.directory_url = env("ACME_DIRECTORY");
    options.ca_file = env("ACME_CA_FILE");
    options.account_key = key;
    options.terms_agreed = 1;
    options.user_agent = "capi-test/1";
    OK(acme_client_new(&options, &client));
    return client;
}

/* What the openssl command line says of a certificate: an independent judge. */
static inline void verify(const acme_cert_t *cert, const char *name)
{
    char file[] = "/tmp/acme-capi-XXXXXX", command[1024];
    int fd = mkstemp(file);
    const char *pem = acme_cert_chain_pem(cert);

    CHECK(pem && write(fd, pem, strlen(pem)) == (ssize_t)strlen(pem));
    close(fd);
    snprintf(command, sizeof command,
             "openssl verify -CAfile '%s' -untrusted %s %s >/dev/null && "
             "openssl x509 -in %s -noout -ext subjectAltName | grep -qF 'DNS:%s'",
             env("PEBBLE_ROOT"), file, file, file, name);
    CHECK(system(command) == 0);
    unlink(file);
}

#endif
