/* library.c - the library's version, and its log. */
#include "example.h"

//! [version]
static int is_new_enough(void)
{
    printf("compiled with %d.%d, running with %s\n", ACME_MICRO_VERSION_MAJOR,
           ACME_MICRO_VERSION_MINOR, acme_version());
    if (!(acme_features() & ACME_FEATURE_HTTP))
        puts("no built-in HTTPS client: send the requests yourself");
    return acme_version_number() >= ACME_MICRO_VERSION_NUMBER;
}
//! [version]

//! [log]
static void to_stderr(int level, const char *message, void *user)
{
    fprintf(stderr, "%s%s: %s\n", (const char *)user, level <= ACME_LOG_WARN ? "!" : "",
            message);
}

static void log_all(void)
{
    acme_set_log_callback(to_stderr, (void *)"acme", ACME_LOG_DEBUG);
}
//! [log]

int main(void)
{
    log_all();
    //! [strerror]
    printf("%d is: %s\n", ACME_ERR_RATE_LIMITED, acme_strerror(ACME_ERR_RATE_LIMITED));
    //! [strerror]
    acme_set_log_callback(NULL, NULL, 0);
    return !is_new_enough();
}
