/* The library itself: version, features, status texts, log. */
#include "pebble.h"

#include <limits.h>

static void version(void)
{
    uint32_t by_hand = (0u << 16) | (14u << 8) | 1u;
    unsigned major, minor, patch;
    int length = 0;

    CHECK(strcmp(acme_version(), "0.14.1") == 0);
    CHECK(acme_version_number() == by_hand);
    CHECK(ACME_MICRO_VERSION_NUMBER == by_hand);
    CHECK(ACME_MICRO_VERSION_MAJOR == 0 && ACME_MICRO_VERSION_MINOR == 14);
    CHECK(ACME_MICRO_VERSION_PATCH == 1);
    CHECK(sscanf(acme_version(), "%u.%u.%u%n", &major, &minor, &patch, &length) == 3);
    CHECK(length == (int)strlen(acme_version()));
    CHECK(((major << 16) | (minor << 8) | patch) == acme_version_number());
    CHECK(acme_version() == acme_version()); /* static */
    CHECK(acme_features() == ACME_FEATURE_HTTP);
}

static void status_texts(void)
{
    static const int all[] = {
        ACME_OK, ACME_ERR_INVALID_ARGUMENT, ACME_ERR_MISUSE, ACME_ERR_UNSUPPORTED, ACME_ERR_PANIC,
        ACME_ERR_PARSE, ACME_ERR_CRYPTO, ACME_ERR_TRANSPORT, ACME_ERR_PROTOCOL, ACME_ERR_TIMEOUT,
        ACME_ERR_POLICY, ACME_ERR_SERVER, ACME_ERR_PROBLEM, ACME_ERR_RATE_LIMITED, ACME_ERR_TERMS,
        ACME_ERR_EAB_REQUIRED, ACME_ERR_ACCOUNT, ACME_ERR_CHALLENGE, ACME_ERR_ORDER,
        ACME_ERR_CERTIFICATE, ACME_ERR_HOST, ACME_ERR_CANCELED, ACME_ERR_STORE, ACME_ERR_CONFLICT,
    };
    static const int unknown[] = { 1, -5, -44, 12345, INT_MIN, INT_MAX };
    const size_t count = sizeof all / sizeof *all;
    size_t i, j, known = 0;
    int status;

    for (i = 0; i < count; i++) {
        CHECK(acme_strerror(all[i])[0] != 0);
        CHECK(acme_strerror(all[i]) == acme_strerror(all[i])); /* static */
        for (j = 0; j < i; j++)
            CHECK(strcmp(acme_strerror(all[i]), acme_strerror(all[j])) != 0);
    }
    for (i = 0; i < sizeof unknown / sizeof *unknown; i++)
        CHECK(strcmp(acme_strerror(unknown[i]), "unknown status") == 0);
    for (status = -1000; status <= 1000; status++)
        known += strcmp(acme_strerror(status), "unknown status") != 0;
    CHECK(known == count); /* so the list above is complete */
    /* These numbers must never change. */
    CHECK(ACME_OK == 0 && ACME_ERR_PARSE == -10 && ACME_ERR_TRANSPORT == -20);
    CHECK(ACME_ERR_SERVER == -24 && ACME_ERR_PROBLEM == -30);
    CHECK(ACME_ERR_HOST == -40 && ACME_ERR_CANCELED == -41);
}

/* --- log ---------------------------------------------------------------------------------------- */

struct log {
    int lines, highest, lowest, secrets;
    const char *secret;
    char last[512];
    int transcript;
};

static void keep_line(int level, const char *message, void *user)
{
    struct log *log = user;

    log->lines++;
    log->highest = level > log->highest ? level : log->highest;
    log->lowest = level < log->lowest ? level : log->lowest;
    log->transcript += level == ACME_LOG_TRACE && strstr(message, "\"operation\":") != NULL;
    log->secrets += strstr(message, log->secret) != NULL || strstr(message, "PRIVATE") != NULL;
    snprintf(log->last, sizeof log->last, "%s", message);
}

/* Writes some debug lines: fetches a directory, from a CA that responds to all other requests with 500. */
static void talk(const acme_client_t *client)
{
    acme_op_t *op = NULL;
    int64_t now = 1000;
    int step;

    OK(acme_begin_register(client, &op));
    while ((step = acme_op_poll(op, now)) > 0)
        if (step == ACME_STEP_REQUEST)
            feed(op, strstr(acme_op_request(op)->url, "/dir") ? 200 : 500, NULL, NULL,
                 strstr(acme_op_request(op)->url, "/dir") ? DIRECTORY : "{}");
        else
            now += acme_op_wait_ms(op) + 1;
    CHECK(step < 0);
    acme_op_free(op);
}

static void logging(void)
{
    static const int with_lines[] = { ACME_LOG_DEBUG, ACME_LOG_TRACE, 6, INT_MAX };
    static const int without[] = { ACME_LOG_ERROR, ACME_LOG_INFO, 0, -1, INT_MIN };
    struct log first = { 0, 0, 99, 0, NULL, "", 0 }, second;
    acme_client_options_t options = ACME_CLIENT_OPTIONS_INIT;
    acme_key_t *key = new_key();
    acme_client_t *client = NULL;
    char secret[41];
    size_t i;

    /* A part of the PEM text that belongs to the private key. */
    snprintf(secret, sizeof secret, "%.40s", strchr(acme_key_pem(key), '\n') + 30);
    first.secret = secret;
    options.directory_url = "https://ca.example/dir";
    options.account_key = key;

    for (i = 0; i < sizeof with_lines / sizeof *with_lines; i++) {
        struct log log = first;

        OK(acme_client_new(&options, &client));
        acme_set_log_callback(keep_line, &log, with_lines[i]);
        talk(client);
        CHECK(log.lines > 0 && log.secrets == 0);
        /* Only transcripts have the level "trace". */
        CHECK(log.lowest >= ACME_LOG_ERROR);
        CHECK(log.highest == (with_lines[i] == ACME_LOG_DEBUG ? ACME_LOG_DEBUG : ACME_LOG_TRACE));
        CHECK((log.transcript > 0) == (with_lines[i] != ACME_LOG_DEBUG));
        CHECK(strstr(log.last, "https://ca.example/") != NULL);
        acme_client_free(client);
    }
    for (i = 0; i < sizeof without / sizeof *without; i++) {
        struct log log = first;

        OK(acme_client_new(&options, &client));
        acme_set_log_callback(keep_line, &log, without[i]);
        talk(client);
        CHECK(log.lines == 0);
        acme_client_free(client);
    }
    /* Only the last callback is called; NULL turns logging off; the user pointer may be NULL. */
    OK(acme_client_new(&options, &client));
    acme_set_log_callback(keep_line, &first, ACME_LOG_DEBUG);
    second = first;
    acme_set_log_callback(keep_line, &second, ACME_LOG_DEBUG);
    talk(client);
    CHECK(first.lines == 0 && second.lines > 0);
    acme_set_log_callback(NULL, &second, ACME_LOG_DEBUG);
    second.lines = 0;
    talk(client);
    CHECK(second.lines == 0);
    acme_set_log_callback(NULL, NULL, INT_MIN);
    acme_client_free(client);
    acme_key_free(key);
}

int main(int argc, char **argv)
{
    choose_tests(argc, argv);
    CHECK(acme_last_error() == NULL);
    TEST(version());
    TEST(status_texts());
    CHECK(acme_last_error() == NULL);
    TEST(logging());
    return report("test_library");
}
