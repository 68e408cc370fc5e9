/* Times, dates and delays in C, in every time zone and at every time of the clock. */
#include "pebble.h"

#include <locale.h>

#define LIMITED "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"slower\"}"

/* Registers at a CA that responds to newAccount with 429 and these header fields. */
static acme_op_t *refuse(acme_time_t now, const char *retry_after, const char *date)
{
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_key_t *key = new_key();
    acme_client_t *client = NULL;
    acme_op_t *op = NULL;
    int step;

    options.directory_url = "https://ca.example/dir";
    options.account_key = key;
    options.terms_agreed = 1;
    OK(acme_client_new(&options, &client));
    OK(acme_begin_register(client, &op));
    while ((step = acme_op_poll(op, now)) == ACME_STEP_REQUEST) {
        const acme_http_request_t *request = acme_op_request(op);

        if (strstr(request->url, "/dir"))
            feed(op, 200, NULL, NULL, DIRECTORY);
        else if (strstr(request->url, "/nonce"))
            feed(op, 204, NULL, NULL, "");
        else {
            if (date)
                header(op, request->id, "Date", date);
            feed(op, 429, "Retry-After", retry_after, LIMITED);
        }
    }
    CHECK(step == ACME_ERR_RATE_LIMITED);
    acme_client_free(client);
    acme_key_free(key);
    return op;
}

static void h20_k03_times_have_sixty_four_bits(void)
{
    const struct {
        acme_time_t now;
        const char *date;
    } moments[] = {
        { -1000, "1970-01-01T01:59:59Z" },
        { 1, "1970-01-01T02:00:01Z" }, /* the message rounds up */
        { INT64_C(2147483647000), "2038-01-19T05:14:07Z" },
        { INT64_C(2147483648000), "2038-01-19T05:14:08Z" },
        { INT64_C(4294967295000), "2106-02-07T08:28:15Z" },
        { INT64_C(4294967296000), "2106-02-07T08:28:16Z" },
        { INT64_C(4400000000000), "2109-06-07T" },
    };
    size_t i;

    for (i = 0; i < sizeof moments / sizeof *moments; i++) {
        acme_op_t *op = refuse(moments[i].now, "7200", NULL);
        const acme_error_t *error = acme_op_error(op);

        CHECK(acme_error_retry_at(error) == moments[i].now + 7200 * 1000);
        CHECK(strstr(acme_error_message(error), moments[i].date) != NULL);
        acme_op_free(op);
    }
}

/* strtod(), strptime() and similar functions would read and write other text in these locales. */
static void h22_k05_k10_locale_and_time_zone_change_nothing(void)
{
    static const char *const locales[] = { "tr_TR", "de_DE" };
    char folder[] = "/tmp/acme-locales-XXXXXX", command[200], number[8];
    const acme_time_t now = INT64_C(1795530245000); /* 2026-11-24T14:24:05Z */
    size_t i;

    if (!mkdtemp(folder)) {
        perror(folder);
        exit(1);
    }
    setenv("LOCPATH", folder, 1);
    for (i = 0; i < sizeof locales / sizeof *locales; i++) {
        acme_op_t *op;

        snprintf(command, sizeof command, "localedef -i %s -f UTF-8 %s/%s.UTF-8", locales[i],
                 folder, locales[i]);
        free(shell(command, "", 0));
        setenv("TZ", i ? "Asia/Kathmandu" : "UTC-14", 1);
        tzset();
        snprintf(command, sizeof command, "%s.UTF-8", locales[i]);
        CHECK(setlocale(LC_ALL, command) != NULL);
        snprintf(number, sizeof number, "%.1f", 0.5);
        CHECK(strcmp(number, "0,5") == 0); /* so the locale is in effect */

        op = refuse(now, "Tue, 24 Nov 2026 16:24:05 GMT", NULL);
        CHECK(acme_error_retry_at(acme_op_error(op)) == now + 7200 * 1000);
        CHECK(strstr(acme_error_message(acme_op_error(op)), "2026-11-24T16:24:05Z") != NULL);
        acme_op_free(op);
        /* The CA's clock is a day ahead of ours. */
        op = refuse(now, "Wed, 25 Nov 2026 16:24:05 GMT", "Wed, 25 Nov 2026 14:24:05 GMT");
        CHECK(acme_error_retry_at(acme_op_error(op)) == now + 7200 * 1000);
        acme_op_free(op);
        op = refuse(now, "Di, 24 Nov 2026 16:24:05 GMT", NULL);
        CHECK(acme_error_retry_at(acme_op_error(op)) == 0);
        acme_op_free(op);
    }
    setlocale(LC_ALL, "C");
    unsetenv("TZ");
    unsetenv("LOCPATH");
    snprintf(command, sizeof command, "rm -r %s", folder);
    free(shell(command, "", 0));
}

/* The timeout of poll() and similar functions is an int. */
static void k11_a_wait_fits_into_an_int(void)
{
    static const char *const names[] = { "wait.test" };
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_order_options_t order = order_for(names, 1);
    const acme_time_t day = 24 * 3600 * 1000, now = INT64_C(1795530245000);
    acme_key_t *key = new_key();
    acme_client_t *client = NULL;
    acme_op_t *op = NULL;

    options.directory_url = "https://ca.example/dir";
    options.account_key = key;
    OK(acme_client_new(&options, &client));
    order.timeout_s = 60 * 24 * 3600;
    OK(acme_begin_order(client, &order, &op));
    CHECK(acme_op_poll(op, now) == ACME_STEP_REQUEST);
    /* Nothing to do until the response arrives, or until the timeout in sixty days. */
    CHECK(acme_op_poll(op, now) == ACME_STEP_WAIT && acme_op_wait_ms(op) == INT32_MAX);
    CHECK(acme_op_poll(op, now + 30 * day) == ACME_STEP_WAIT && acme_op_wait_ms(op) == INT32_MAX);
    CHECK(acme_op_poll(op, now + 59 * day) == ACME_STEP_WAIT && acme_op_wait_ms(op) == day);
    CHECK(acme_op_poll(op, now + 60 * day) == ACME_ERR_TIMEOUT);
    acme_op_free(op);
    acme_client_free(client);
    acme_key_free(key);
}

int main(int argc, char **argv)
{
    choose_tests(argc, argv);
    TEST(h20_k03_times_have_sixty_four_bits());
    TEST(h22_k05_k10_locale_and_time_zone_change_nothing());
    TEST(k11_a_wait_fits_into_an_int());
    return report("test_time");
}
