/*
 * Functions that the programs of this folder share. Between two lines with the name of a snippet stands what the
 * pages of the functions show that are called in it; see docs/reference/snippets.py. Each is run in the
 * tests, beside a CA for tests:
 *
 *     PROGRAM DIRECTORY-URL CA-FILE PORT
 *
 * CA-FILE is who vouches for the CA's own HTTPS; on PORT it looks for http-01.
 */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "acme_micro.h"
#include "responder.h"

static struct responder responder = { .listener = -1 };

/* Says what the library's last error on this thread was. */
static inline int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, acme_error_message(acme_last_error()));
    return 1;
}

/* The program's arguments, and an account's key: what a client needs, and http-01. */
static inline int from_arguments(int argc, char **argv, acme_client_options_t *options, acme_key_t **key)
{
    if (argc != 4 || acme_key_generate(ACME_KEY_P256, key) != ACME_OK)
        return 2;
    options->directory_url = argv[1];
    options->ca_file = argv[2];
    options->account_key = *key;
    options->terms_agreed = 1;
    responder.port = (unsigned short)atoi(argv[3]);
    responder.thumbprint = acme_key_thumbprint(*key);
    return 0;
}

/* Where a program with an event loop sets a timer. */
static inline void sleep_ms(int64_t ms)
{
    struct timespec time = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

    nanosleep(&time, NULL);
}

/* Publishing is one call for a server that knows its challenges: here responder.h's. */
static inline int publish(const acme_challenge_t *challenge, void *user)
{
    return responder_publish(challenge, user);
}

static inline int unpublish(const acme_challenge_t *challenge, void *user)
{
    return responder_unpublish(challenge, user);
}

#endif
