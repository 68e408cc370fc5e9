/* loop.c - an operation step by step, with the program's own HTTP client, here libcurl. */
#include "example.h"

#include <curl/curl.h>
#include <signal.h>

struct answer {
    acme_op_t *op;
    uint64_t id;
};

//! [response]
/* Callbacks of libcurl, which pass the response to the operation. */
static size_t on_header(char *line, size_t one, size_t size, void *user)
{
    struct answer *to = user;
    char *colon = memchr(line, ':', size);
    size_t name_size = colon ? (size_t)(colon - line) : 0;

    (void)one;
    if (colon && acme_op_response_header(to->op, to->id, line, name_size, colon + 1,
                                         size - name_size - 1) != ACME_OK)
        return 0;
    return size;
}

static size_t on_body(char *data, size_t one, size_t size, void *user)
{
    struct answer *to = user;

    (void)one;
    return acme_op_response_body(to->op, to->id, data, size) == ACME_OK ? size : 0;
}

static void send_request(acme_op_t *op, const acme_http_request_t *request,
                         const char *ca_file)
{
    struct answer to = { op, request->id };
    struct curl_slist *headers = NULL;
    CURL *curl = curl_easy_init();
    CURLcode code;
    char line[1024];
    long status = 0;
    size_t i;

    for (i = 0; i < request->header_count; i++) {
        snprintf(line, sizeof line, "%s: %s", request->headers[i].name,
                 request->headers[i].value);
        headers = curl_slist_append(headers, line);
    }
    curl_easy_setopt(curl, CURLOPT_URL, request->url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (strcmp(request->method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)request->body_size);
        curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS, request->body);
    }
    curl_easy_setopt(curl, CURLOPT_CAINFO, ca_file);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &to);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &to);
    code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK)
        acme_op_response_end(op, to.id, (int)status);
    else
        acme_op_response_failed(op, to.id, curl_easy_strerror(code));
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
}
//! [response]

//! [poll]
/* A program with an event loop starts the request or the timer, and returns to the loop. */
static acme_cert_t *carry_out(acme_op_t *op, const char *ca_file)
{
    const acme_challenge_t *challenge;
    const char *failure;
    size_t i;
    int step;

    while ((step = acme_op_poll(op, 0)) > 0) {
        switch (step) {
        case ACME_STEP_REQUEST:
            send_request(op, acme_op_request(op), ca_file);
            break;
        case ACME_STEP_WAIT:
            sleep_ms(acme_op_wait_ms(op));
            break;
        case ACME_STEP_PUBLISH:
            failure = NULL;
            for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
                if (publish(challenge, &responder) != 0)
                    failure = "port in use";
            acme_op_published(op, failure);
            break;
        case ACME_STEP_UNPUBLISH:
            for (i = 0; (challenge = acme_op_challenge(op, i)); i++)
                unpublish(challenge, &responder);
            break;
        }
    }
    if (step == ACME_STEP_DONE)
        return acme_op_take_cert(op);
    fprintf(stderr, "failed: %s\n", acme_error_message(acme_op_error(op)));
    return NULL;
}
//! [poll]

//! [cancel]
static acme_op_t *volatile under_way;

static void interrupt(int signal_number)
{
    (void)signal_number;
    if (under_way)
        acme_op_cancel(under_way); /* takes no lock and allocates nothing */
}
//! [cancel]

//! [user-data]
struct site {
    const char *name;
};

static void set_site(acme_op_t *op, struct site *site)
{
    acme_op_set_user_data(op, site);
}

static void report(const acme_op_t *op)
{
    const struct site *site = acme_op_user_data(op);

    printf("%s: %s\n", site->name, acme_op_state(op)); /* such as "site: challenge" */
}
//! [user-data]

int main(int argc, char **argv)
{
    static const char *const names[] = { "loop.example.org" };
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_order_options_t order = ACME_ORDER_OPTIONS_INIT;
    struct site site = { "site" };
    acme_client_t *client = NULL;
    acme_key_t *key = NULL;
    acme_cert_t *cert;
    acme_op_t *op = NULL, *canceled = NULL;
    int result;

    order.names = names;
    order.name_count = 1;
    if (from_arguments(argc, argv, &options, &key) || acme_client_new(&options, &client) != ACME_OK ||
        acme_begin_order(client, &order, &op) != ACME_OK ||
        acme_begin_register(client, &canceled) != ACME_OK)
        return failed("order");
    set_site(op, &site);
    cert = carry_out(op, argv[2]);
    report(op);

    signal(SIGTERM, interrupt);
    under_way = canceled;
    raise(SIGTERM);
    under_way = NULL;
    result = !cert || carry_out(canceled, argv[2]) ||
             acme_error_status(acme_op_error(canceled)) != ACME_ERR_CANCELED;
    acme_op_free(canceled);
    acme_op_free(op);
    acme_cert_free(cert);
    acme_client_free(client);
    acme_key_free(key);
    return result;
}
