/* manager.c - certificates that stay fresh by themselves, on the event loop of the program, here poll(2). */
#include "example.h"

#include <poll.h>
#include <signal.h>

static acme_manager_t *manager;
static int obtained;

//! [manager-new]
/* Called for each event of a certificate, on the thread that dispatches the driver. */
static void on_event(const acme_event_t *event, void *user)
{
    (void)user;
    if (event->error)
        fprintf(stderr, "%s%s: %s\n", event->ca, event->name, acme_error_message(event->error));
    if (event->cert && event->type != ACME_EVENT_NOT_DUE)
        obtained++; /* give acme_cert_chain_pem() and acme_key_pem() of acme_cert_key() to the server */
}

static acme_manager_t *make_manager(const acme_client_t *client_with_store)
{
    acme_manager_options_t options = ACME_MANAGER_OPTIONS_INIT;
    acme_manager_t *made = NULL;

    options.client = client_with_store;
    options.event = on_event;
    if (acme_manager_new(&options, &made) != ACME_OK)
        failed("manager");
    return made;
}
//! [manager-new]

//! [manager-add]
/* From now on, this certificate is obtained and renewed. It may be one of a million. */
static int add_site(const char *name, const char *www_name)
{
    const char *names[] = { name, www_name };
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;

    order.names = names;
    order.name_count = 2;
    return acme_manager_add(manager, &order) == ACME_OK ? 0 : failed(name);
}
//! [manager-add]

//! [manager-add_ca]
/* If the first CA does not answer, or refuses, a certificate that is missing or about to expire comes from another
   one. Each CA has an account and a store of its own. */
static int add_another_ca(const acme_client_t *another)
{
    return acme_manager_add_ca(manager, another) == ACME_OK ? 0 : failed("another CA");
}
//! [manager-add_ca]

//! [manager-on_demand]
/* Customers point their names at this server. Only names that are known here get a certificate. */
static int is_customer(const char *name, void *user)
{
    (void)user;
    return strcmp(name, "customer.manager.example") == 0; /* your database */
}

static int serve_customers(void)
{
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;

    return acme_manager_on_demand(manager, &order, is_customer, NULL) == ACME_OK ? 0 : failed("on demand");
}

/* A client has sent this name. The first time there is no certificate; it comes in a moment. */
static int has_certificate(const char *server_name)
{
    acme_cert_t *cert = acme_manager_cert(manager, server_name);

    acme_cert_free(cert);
    return cert != NULL;
}
//! [manager-on_demand]

//! [manager-remove manager-count]
static void remove_site(const char *name)
{
    acme_manager_remove(manager, name); /* its files stay in the store */
    printf("%zu certificates are left\n", acme_manager_count(manager));
}
//! [manager-remove manager-count]

//! [manager-renew]
/* The operator wants a new certificate now. */
static int renew_site(const char *name)
{
    return acme_manager_renew(manager, name) == ACME_OK ? 0 : failed(name);
}
//! [manager-renew]

//! [manager-cert]
/* For a TLS library without a header of ours: the chain for the server name that a client has sent. */
static int write_chain(const char *server_name, FILE *to)
{
    acme_cert_t *cert = acme_manager_cert(manager, server_name);
    int result = cert ? fputs(acme_cert_chain_pem(cert), to) : EOF;

    acme_cert_free(cert);
    return result < 0 ? -1 : 0;
}
//! [manager-cert]

//! [manager-status manager-metrics]
static int write_text(const char *text, size_t size, void *file)
{
    return fwrite(text, 1, size, file) == size ? 0 : -1;
}

/* A page for people, and one for a monitor such as Prometheus. */
static void show(FILE *page, int for_monitor)
{
    acme_status_t status = for_monitor ? acme_manager_metrics(manager, write_text, page)
                                       : acme_manager_status(manager, NULL, write_text, page);

    if (status != ACME_OK)
        failed("status");
}
//! [manager-status manager-metrics]

//! [manager-start]
/* The event loop calls acme_driver_dispatch() when acme_driver_fd() is readable; that does everything. */
static acme_driver_t *start(void)
{
    acme_driver_t *driver = NULL;

    if (acme_driver_new(NULL, &driver) != ACME_OK || acme_manager_start(manager, driver) != ACME_OK)
        failed("driver");
    return driver;
}
//! [manager-start]

//! [manager-run manager-stop]
/* A program without an event loop needs no driver: it gives the manager a thread. */
static void on_signal(int number)
{
    (void)number;
    acme_manager_stop(manager);
}

static int run_until_signal(void)
{
    signal(SIGTERM, on_signal);
    return acme_manager_run(manager) == ACME_OK ? 0 : failed("manager");
}
//! [manager-run manager-stop]

//! [manager-http01_answer]
/* The web server: responds to the CA's requests for http-01 only. */
static void respond(int listener)
{
    char request[2048], path[1024] = "", body[1024], response[1200];
    int peer = accept(listener, NULL, NULL);
    ssize_t got = recv(peer, request, sizeof request - 1, 0);
    size_t size;

    request[got > 0 ? got : 0] = 0;
    sscanf(request, "GET %1023s", path);
    size = acme_manager_http01_answer(manager, path, strlen(path), body, sizeof body);
    snprintf(response, sizeof response, "HTTP/1.0 %s\r\n\r\n%.*s", size ? "200 OK" : "404 Not Found",
             (int)size, body);
    send(peer, response, strlen(response), MSG_NOSIGNAL);
    close(peer);
}
//! [manager-http01_answer]

static void loop(acme_driver_t *driver, int listener)
{
    struct pollfd watched[] = { { acme_driver_fd(driver), POLLIN, 0 }, { listener, POLLIN, 0 } };

    while (obtained < 3 && poll(watched, 2, -1) > 0) {
        if (watched[0].revents && acme_driver_dispatch(driver) != ACME_OK)
            failed("driver");
        if (watched[1].revents)
            respond(listener);
    }
}

int main(int argc, char **argv)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_store_t *store = NULL;
    acme_client_t *client = NULL, *another = NULL;
    acme_driver_t *driver;
    int listener, result;

    if (argc != 4 || acme_store_memory(&store) != ACME_OK)
        return 2;
    options.directory_url = argv[1];
    options.ca_file = argv[2];
    options.store = store;
    options.terms_agreed = 1;
    listener = listen_on((unsigned short)atoi(argv[3]));
    if (acme_client_new(&options, &client) != ACME_OK)
        return failed("client");
    options.directory_url = "https://localhost:1/another-ca";
    if (acme_client_new(&options, &another) != ACME_OK || !(manager = make_manager(client)) ||
        add_another_ca(another) || serve_customers() ||
        add_site("one.manager.example", "www.one.manager.example") ||
        add_site("two.manager.example", "www.two.manager.example") || !(driver = start()))
        return failed("manager");
    has_certificate("customer.manager.example");
    loop(driver, listener);
    result = write_chain("www.one.manager.example", stdout) || renew_site("two.manager.example") ||
             !has_certificate("customer.manager.example");
    remove_site("two.manager.example");
    show(stdout, 0);
    show(stdout, 1);
    acme_driver_free(driver);
    acme_manager_stop(manager); /* as a signal does */
    result |= run_until_signal();
    //! [manager-free]
    acme_manager_free(manager); /* orders in progress stay in the store: the next start goes on with them */
    acme_client_free(client);
    acme_client_free(another);
    acme_store_free(store);
    //! [manager-free]
    close(listener);
    return result;
}
