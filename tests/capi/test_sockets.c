/* The built-in client in a process that gets signals, and with peers that close connections early. */
#include "pebble.h"

#include <sys/time.h>

static char cert_file[] = "/tmp/acme-sockets-XXXXXX";

static int listen_anywhere(unsigned short *port)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int listener = listen_on("0");

    getsockname(listener, (struct sockaddr *)&address, &size);
    *port = ntohs(address.sin_port);
    return listener;
}

/* --- signals that interrupt ---------------------------------------------------------------------- */

static volatile sig_atomic_t alarms;

static void count_alarm(int signal)
{
    (void)signal;
    alarms++;
}

/* Changes the signal mask of this thread, and of the threads that it starts later. */
static void mask(int how, int signal)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, signal);
    pthread_sigmask(how, &set, NULL);
}

/* A timer interrupts the system calls of this thread a thousand times a second. */
static void h34_a_signal_every_millisecond_changes_nothing(void)
{
    const char *names[] = { "signals.capi.test" };
    acme_order_options_t order = order_for(names, 1);
    acme_run_options_t run = http_run();
    acme_key_t *key = new_key();
    acme_client_t *client = pebble_client(key);
    acme_cert_t *cert = NULL;
    struct sigaction action = { .sa_handler = count_alarm }; /* no SA_RESTART */
    struct itimerval every = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };

    sigaction(SIGALRM, &action, NULL);
    mask(SIG_UNBLOCK, SIGALRM);
    setitimer(ITIMER_REAL, &every, NULL);
    OK(acme_obtain(client, &order, &run, &cert));
    setitimer(ITIMER_REAL, &never, NULL);
    mask(SIG_BLOCK, SIGALRM);
    CHECK(alarms > 100);
    verify(cert, names[0]);
    acme_cert_free(cert);
    acme_client_free(client);
    acme_key_free(key);
}

/* --- peers that close early ---------------------------------------------------------------------- */

static volatile sig_atomic_t pipes;

static void count_pipe(int signal)
{
    (void)signal;
    pipes++;
}

/* Behaviour of a peer on each of its connections. */
enum mood { RESETS, RESETS_IN_TLS, RENEGOTIATES };

struct peer {
    enum mood mood;
    const char *why; /* text that the error's message must contain; or NULL */
    int listener;
    unsigned short port;
    SSL_CTX *context;
    pthread_t server, client;
    const acme_key_t *key;
    acme_status_t status;
    char message[500];
};

/* A directory with wrong URLs, sent in pieces, so that the client writes again afterwards. */
static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

static void *peer_serve(void *argument)
{
    struct peer *peer = argument;
    struct linger reset = { 1, 0 };
    char request[4096];
    SSL *ssl;

    mask(SIG_BLOCK, SIGPIPE); /* OpenSSL's own sockets raise SIGPIPE */
    for (;;) {
        int client = accept(peer->listener, NULL, NULL);

        if (client < 0)
            return NULL;
        /* Half close first, then reset: a client that writes afterwards gets EPIPE, and also SIGPIPE if it does
         * not prevent that. */
        if (peer->mood == RESETS) {
            shutdown(client, SHUT_WR);
            setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            close(client);
            continue;
        }
        ssl = SSL_new(peer->context);
        SSL_set_fd(ssl, client);
        if (SSL_accept(ssl) == 1 && SSL_read(ssl, request, sizeof request) > 0) {
            if (peer->mood == RENEGOTIATES) {
                SSL_renegotiate(ssl);
                if (SSL_do_handshake(ssl) == 1 && SSL_peek(ssl, request, 1) <= 0 &&
                    SSL_renegotiate_pending(ssl) == 0)
                    SSL_write(ssl, answer, sizeof answer - 1);
            }
            shutdown(client, SHUT_WR);
            setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        }
        SSL_free(ssl);
        close(client);
    }
}

static void *peer_ask(void *argument)
{
    struct peer *peer = argument;
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_client_t *client = NULL;
    acme_op_t *op = NULL;
    char url[60];

    snprintf(url, sizeof url, "http%s://127.0.0.1:%d/directory", peer->mood == RESETS ? "" : "s",
             peer->port);
    options.directory_url = url;
    options.account_key = peer->key;
    options.allow_http_loopback = 1;
    options.ca_file = cert_file;
    if (acme_client_new(&options, &client) == ACME_OK &&
        acme_begin_register(client, &op) == ACME_OK)
        peer->status = acme_op_run(op, NULL);
    snprintf(peer->message, sizeof peer->message, "%s", acme_error_message(acme_last_error()));
    acme_op_free(op);
    acme_client_free(client);
    return NULL;
}

static void h26_h35_peers_that_leave_or_shake_hands_anew(void)
{
    struct peer peers[] = { { .mood = RESETS }, { .mood = RESETS_IN_TLS }, { .mood = RENEGOTIATES } };
    struct sigaction action = { .sa_handler = count_pipe };
    acme_key_t *key = new_key();
    size_t i;

    sigaction(SIGPIPE, &action, NULL);
    /* All peers at the same time, because each gets four requests, with delays. */
    for (i = 0; i < sizeof peers / sizeof *peers; i++) {
        peers[i].key = key;
        peers[i].listener = listen_anywhere(&peers[i].port);
        peers[i].context = SSL_CTX_new(TLS_server_method());
        SSL_CTX_use_certificate_file(peers[i].context, cert_file, SSL_FILETYPE_PEM);
        SSL_CTX_use_PrivateKey_file(peers[i].context, cert_file, SSL_FILETYPE_PEM);
        if (peers[i].mood == RENEGOTIATES)
            SSL_CTX_set_max_proto_version(peers[i].context, TLS1_2_VERSION);
        pthread_create(&peers[i].server, NULL, peer_serve, &peers[i]);
        pthread_create(&peers[i].client, NULL, peer_ask, &peers[i]);
    }
    for (i = 0; i < sizeof peers / sizeof *peers; i++) {
        pthread_join(peers[i].client, NULL);
        CHECK(peers[i].status == ACME_ERR_TRANSPORT);
        if (peers[i].status != ACME_ERR_TRANSPORT)
            fprintf(stderr, "%d: %s\n", peers[i].mood, peers[i].message);
        shutdown(peers[i].listener, SHUT_RDWR);
        pthread_join(peers[i].server, NULL);
        close(peers[i].listener);
        SSL_CTX_free(peers[i].context);
    }
    CHECK(pipes == 0);
    acme_key_free(key);
}

int main(int argc, char **argv)
{
    char command[300];

    choose_tests(argc, argv);
    mask(SIG_BLOCK, SIGALRM); /* for the threads that pebble.h starts */
    signal(SIGPIPE, SIG_DFL);
    if (mkstemp(cert_file) < 0) {
        perror(cert_file);
        return 1;
    }
    snprintf(command, sizeof command, "openssl req -x509 -newkey ec -nodes -subj /CN=x -pkeyopt "
             "ec_paramgen_curve:P-256 -addext subjectAltName=IP:127.0.0.1 -keyout %s.key -out %s && "
             "cat %s.key >>%s && rm %s.key", cert_file, cert_file, cert_file, cert_file, cert_file);
    free(shell(command, "", 0));
    http_start();
    TEST(h34_a_signal_every_millisecond_changes_nothing());
    TEST(h26_h35_peers_that_leave_or_shake_hands_anew());
    http_stop();
    unlink(cert_file);
    return report("test_sockets");
}
