/* The connection to the CA: through a SOCKS5 proxy, with roots from a directory, with a client certificate,
 * by one IP version, within a time. */
#define _GNU_SOURCE
#include "pebble.h"

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <sys/wait.h>

static char folder[] = "/tmp/acme-transport-XXXXXX";

/* Returns a file's path in the test's folder; the last few results stay valid. */
static const char *in_folder(const char *name)
{
    static char paths[8][128];
    static int last;
    char *path = paths[last++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void run_command(const char *format, const char *argument)
{
    char command[1024];

    snprintf(command, sizeof command, format, folder, argument);
    free(shell(command, "", 0));
}

static int listen_anywhere(unsigned short *port)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int listener = listen_on("0");

    getsockname(listener, (struct sockaddr *)&address, &size);
    *port = ntohs(address.sin_port);
    return listener;
}

/* --- a SOCKS5 proxy that wants "user" and "pass:word" ------------------------------------------- */

enum { PAIRS = 32 };

static int proxy_listener, proxy_opened;
static char proxy_target[300];

static int read_all(int from, void *data, size_t size)
{
    return recv(from, data, size, MSG_WAITALL) == (ssize_t)size;
}

/* Reads a length byte and a text of this length. */
static int read_counted(int from, char *text)
{
    unsigned char size;

    if (!read_all(from, &size, 1) || !read_all(from, text, size))
        return 0;
    text[size] = 0;
    return 1;
}

/* Does the SOCKS5 handshake (RFC 1928, RFC 1929). Returns a connection to the client's target, or -1. */
static int socks5(int client)
{
    unsigned char data[300];
    char user[256], password[256];
    struct sockaddr_in address = { .sin_family = AF_INET };
    int server;

    if (!read_all(client, data, 2) || data[0] != 5 || !read_all(client, data + 2, data[1]) ||
        !memchr(data + 2, 2, data[1]) || send(client, "\5\2", 2, MSG_NOSIGNAL) != 2 ||
        !read_all(client, data, 1) || !read_counted(client, user) || !read_counted(client, password))
        return -1;
    if (strcmp(user, "user") != 0 || strcmp(password, "pass:word") != 0) {
        send(client, "\1\1", 2, MSG_NOSIGNAL);
        return -1;
    }
    if (send(client, "\1\0", 2, MSG_NOSIGNAL) != 2 || !read_all(client, data, 4) ||
        memcmp(data, "\5\1\0", 3) != 0)
        return -1;
    if (data[3] == 1) {
        if (!read_all(client, data, 6))
            return -1;
        memcpy(&address.sin_addr, data, 4);
        memcpy(&address.sin_port, data + 4, 2);
        inet_ntop(AF_INET, data, proxy_target, sizeof proxy_target);
    } else {
        if (data[3] != 3 || !read_counted(client, proxy_target) ||
            !read_all(client, &address.sin_port, 2))
            return -1;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    server = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(server, (struct sockaddr *)&address, sizeof address) != 0 ||
        send(client, "\5\0\0\1\0\0\0\0\0\0", 10, MSG_NOSIGNAL) != 10) {
        close(server);
        return -1;
    }
    proxy_opened++;
    return server;
}

/* Serves all connections on one thread. */
static void *proxy_serve(void *unused)
{
    struct pollfd fds[1 + 2 * PAIRS];
    nfds_t i, count = 1;
    char data[1 << 14];

    (void)unused;
    fds[0].fd = proxy_listener;
    fds[0].events = POLLIN;
    for (;;) {
        poll(fds, count, -1);
        for (i = 1; i < count; i++) {
            int other = fds[((i - 1) ^ 1) + 1].fd;
            ssize_t size;

            if (fds[i].fd < 0 || !fds[i].revents)
                continue;
            size = recv(fds[i].fd, data, sizeof data, 0);
            if (size > 0 && send(other, data, (size_t)size, MSG_NOSIGNAL) == size)
                continue;
            close(fds[i].fd);
            close(other);
            fds[i].fd = fds[((i - 1) ^ 1) + 1].fd = -1;
        }
        if (fds[0].revents) {
            int client = accept(proxy_listener, NULL, NULL), server;

            if (client < 0)
                break;
            server = count < 1 + 2 * PAIRS ? socks5(client) : -1;
            if (server < 0) {
                close(client);
                continue;
            }
            fds[count].fd = client;
            fds[count + 1].fd = server;
            fds[count].events = fds[count + 1].events = POLLIN;
            fds[count].revents = fds[count + 1].revents = 0;
            count += 2;
        }
    }
    for (i = 1; i < count; i++)
        if (fds[i].fd >= 0)
            close(fds[i].fd);
    return NULL;
}

static int threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;

    while (tasks && readdir(tasks))
        count++;
    closedir(tasks);
    return count;
}

static int threads_meanwhile;

static int count_and_publish(const acme_challenge_t *challenge, void *user)
{
    threads_meanwhile = threads();
    return http_publish(challenge, user);
}

static int lines;

/* Checks that no log line contains the password, neither as in the option nor as sent. */
static void no_password(int level, const char *line, void *user)
{
    (void)level, (void)user;
    lines++;
    CHECK(!strstr(line, "secret") && !strstr(line, "dXNlcjpzZWNyZXQ="));
}

static void through_a_proxy(void)
{
    const char *names[] = { "socks.capi.test" };
    acme_order_options_t order = order_for(names, 1);
    acme_run_options_t run = http_run();
    acme_key_t *key = new_key();
    acme_client_options_t options = pebble_options(key);
    acme_client_t *client = NULL;
    acme_cert_t *cert = NULL;
    acme_op_t *op = NULL;
    unsigned short port;
    pthread_t thread;
    char url[100], place[40];
    int before;

    proxy_listener = listen_anywhere(&port);
    pthread_create(&thread, NULL, proxy_serve, NULL);
    snprintf(place, sizeof place, "the proxy 127.0.0.1:%d: ", port);
    before = threads();

    snprintf(url, sizeof url, "socks5h://user:pass%%3Aword@127.0.0.1:%d", port);
    options.proxy = url;
    OK(acme_client_new(&options, &client));
    memset(url, 'x', sizeof url); /* the library has a copy */
    run.publish = count_and_publish;
    OK(acme_obtain(client, &order, &run, &cert));
    verify(cert, names[0]);
    CHECK(proxy_opened > 0);
    CHECK(strstr(env("ACME_DIRECTORY"), proxy_target) != NULL);
    CHECK(threads_meanwhile == before && threads() == before);
    acme_cert_free(cert);
    acme_client_free(client);

    proxy_opened = 0;
    snprintf(url, sizeof url, "socks5://user:secret@127.0.0.1:%d", port);
    acme_set_log_callback(no_password, NULL, ACME_LOG_TRACE);
    OK(acme_client_new(&options, &client));
    OK(acme_begin_register(client, &op));
    CHECK_STATUS(acme_op_run(op, NULL), ACME_ERR_TRANSPORT, place);
    acme_set_log_callback(NULL, NULL, 0);
    CHECK(lines > 0);
    CHECK(strstr(acme_error_message(acme_op_error(op)), "refused the user and password"));
    CHECK(!strstr(acme_error_message(acme_op_error(op)), "secret"));
    CHECK(proxy_opened == 0);
    acme_op_free(op);
    acme_client_free(client);
    acme_key_free(key);

    shutdown(proxy_listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(proxy_listener);
}

/* --- a client certificate ------------------------------------------------------------------------ */

static int tls_listener;

/* Requires a client certificate, and refuses every client; the message has the name in the certificate. */
static void *tls_serve(void *context)
{
    for (;;) {
        int client = accept(tls_listener, NULL, NULL), size;
        char name[100] = "nobody", body[200], text[500], request[4096];
        X509 *shown;
        SSL *ssl;

        if (client < 0)
            return NULL;
        ssl = SSL_new(context);
        SSL_set_fd(ssl, client);
        if (SSL_accept(ssl) == 1 && SSL_read(ssl, request, sizeof request) > 0) {
            shown = SSL_get1_peer_certificate(ssl);
            X509_NAME_get_text_by_NID(X509_get_subject_name(shown), NID_commonName, name,
                                      sizeof name);
            X509_free(shown);
            size = snprintf(body, sizeof body, "{\"type\":\"urn:ietf:params:acme:error:"
                                               "unauthorized\",\"detail\":\"not you, %s\"}", name);
            size = snprintf(text, sizeof text, "HTTP/1.1 403 Forbidden\r\nContent-Type: "
                            "application/problem+json\r\nContent-Length: %d\r\n\r\n%s", size, body);
            SSL_write(ssl, text, size);
            SSL_shutdown(ssl);
        }
        SSL_free(ssl);
        close(client);
    }
}

static int try_register(const acme_client_options_t *options, acme_client_t **client)
{
    acme_op_t *op = NULL;
    int status;

    OK(acme_client_new(options, client));
    OK(acme_begin_register(*client, &op));
    status = acme_op_run(op, NULL);
    acme_op_free(op);
    acme_client_free(*client);
    return status;
}

static void with_a_client_certificate(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client;
    acme_key_t *key = new_key();
    unsigned short port;
    pthread_t thread;
    char url[60];
    const char *make = "cd %s && name=%s && openssl req -x509 -newkey ec -nodes -pkeyopt "
                       "ec_paramgen_curve:P-256 -addext subjectAltName=IP:127.0.0.1 "
                       "-subj /CN=$name -keyout $name.key -out $name.pem && "
                       "cat $name.key >>$name.pem";

    run_command(make, "server");
    run_command(make, "exampled");
    SSL_CTX_use_certificate_file(context, in_folder("server.pem"), SSL_FILETYPE_PEM);
    SSL_CTX_use_PrivateKey_file(context, in_folder("server.pem"), SSL_FILETYPE_PEM);
    SSL_CTX_load_verify_locations(context, in_folder("exampled.pem"), NULL);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    tls_listener = listen_anywhere(&port);
    pthread_create(&thread, NULL, tls_serve, context);

    snprintf(url, sizeof url, "https://127.0.0.1:%d/directory", port);
    options.directory_url = url;
    options.account_key = key;
    options.extra_ca_file = in_folder("server.pem");
    CHECK_STATUS(try_register(&options, &client), ACME_ERR_TRANSPORT, "certificate required");
    options.client_cert_file = in_folder("exampled.pem");
    options.client_key_file = in_folder("exampled.pem");
    CHECK_STATUS(try_register(&options, &client), ACME_ERR_PROBLEM, "not you, exampled");
    options.client_key_file = in_folder("server.key");
    CHECK_STATUS(acme_client_new(&options, &client), ACME_ERR_INVALID_ARGUMENT,
                 "is not the key of the first certificate in");

    shutdown(tls_listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(tls_listener);
    SSL_CTX_free(context);
    acme_key_free(key);
}

/* --- roots, addresses, time ---------------------------------------------------------------------- */

static void with_roots_from_a_directory(void)
{
    acme_key_t *key = new_key();
    acme_client_options_t options = pebble_options(key);
    acme_client_t *client;

    run_command("cd %s && mkdir roots others && cp '%s' roots/pebble.pem && openssl rehash roots "
                "&& cp server.pem others && openssl rehash others", env("ACME_CA_FILE"));
    options.ca_file = NULL;
    options.ca_dir = in_folder("roots");
    OK(try_register(&options, &client));
    options.ca_dir = in_folder("others");
    CHECK_STATUS(try_register(&options, &client), ACME_ERR_TRANSPORT, "certificate verify failed");
    options.extra_ca_file = env("ACME_CA_FILE");
    OK(try_register(&options, &client));
    acme_key_free(key);
}

static void h37_r20_without_roots(void)
{
    acme_key_t *key = new_key();
    acme_client_options_t options = pebble_options(key);
    acme_client_t *client;

    options.ca_file = NULL;
    setenv("SSL_CERT_FILE", "/nowhere/cert.pem", 1);
    setenv("SSL_CERT_DIR", "/nowhere/certs", 1);
    CHECK_STATUS(try_register(&options, &client), ACME_ERR_TRANSPORT,
                 "no CA certificates (looked in /nowhere/cert.pem:/nowhere/certs); install the package "
                 "ca-certificates, or set ca_file");
    unsetenv("SSL_CERT_FILE");
    unsetenv("SSL_CERT_DIR");
    acme_key_free(key);
}

/* Registers in a child process after chroot(), with a client from before; returns its exit status. */
static int register_after_chroot(const acme_client_options_t *options, const char *wanted)
{
    acme_client_t *client = NULL;
    acme_op_t *op = NULL;
    pid_t child = fork();
    int status = 0, result;

    if (child == 0) {
        if (geteuid() != 0 && unshare(CLONE_NEWUSER) != 0)
            _exit(9);
        if (acme_client_new(options, &client) != ACME_OK || chroot(folder) != 0 || chdir("/") != 0 ||
            acme_begin_register(client, &op) != ACME_OK)
            _exit(8);
        result = acme_op_run(op, NULL);
        status = wanted ? result != ACME_ERR_TRANSPORT || !strstr(acme_error_message(acme_last_error()), wanted)
                        : result != ACME_OK;
        acme_op_free(op);
        acme_client_free(client);
        acme_key_free((acme_key_t *)options->account_key);
        exit(status);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void h38_r21_after_chroot(void)
{
    acme_key_t *key = new_key();
    acme_client_options_t options = pebble_options(key);

    CHECK(register_after_chroot(&options, NULL) == 0);
    options.ca_file = NULL;
    CHECK(register_after_chroot(&options, "after chroot(), to a file of at most 64 KiB") == 0);
    acme_key_free(key);
}

static void by_address_and_in_time(void)
{
    acme_key_t *key = new_key();
    acme_client_options_t options = pebble_options(key);
    acme_client_t *client;
    unsigned short port;
    int silent = listen_anywhere(&port);
    char url[60];

    options.ip_version = 4;
    OK(try_register(&options, &client));
    snprintf(url, sizeof url, "http://127.0.0.1:%d/directory", port);
    options.directory_url = url;
    options.allow_http_loopback = 1;
    options.request_timeout_s = 1;
    CHECK_STATUS(try_register(&options, &client), ACME_ERR_TRANSPORT, "not done within 1 s");
    options.ip_version = 6;
    CHECK_STATUS(try_register(&options, &client), ACME_ERR_TRANSPORT, "no IPv6 address");
    close(silent);
    acme_key_free(key);
}

int main(int argc, char **argv)
{
    choose_tests(argc, argv);
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    http_start();
    TEST(through_a_proxy());
    TEST(with_a_client_certificate());
    TEST(with_roots_from_a_directory());
    TEST(h37_r20_without_roots());
    TEST(h38_r21_after_chroot());
    TEST(by_address_and_in_time());
    http_stop();
    run_command("rm -r %s", "");
    return report("test_transport");
}
