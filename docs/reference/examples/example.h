/*
 * Functions that the programs of this folder share. The lines between two markers with the same name are a
 * snippet, which the pages of the functions that it calls show; see docs/reference/snippets.py. The tests run
 * each program beside a test CA:
 *
 *     PROGRAM DIRECTORY-URL CA-FILE PORT
 *
 * CA-FILE has the root of the CA's own HTTPS; the CA validates http-01 on PORT.
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

/* Prints the library's last error on this thread. */
static inline int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, acme_error_message(acme_last_error()));
    return 1;
}

/* The program's arguments and an account key, for a client and http-01. */
static inline int from_arguments(int argc, char **argv, acme_client_options_t *options, acme_key_t **key)
{
    if (argc != 4 || acme_key_generate(ACME_KEY_P256, key) != ACME_OK)
        return 2;
    options->directory_url = argv[1];
    options->ca_file = argv[2];
    options->account_key = *key;
    options->terms_agreed = 1;
    responder.port = (unsigned short)atoi(argv[3]);
    return 0;
}

/* Sleeps; a program with an event loop sets a timer instead. */
static inline void sleep_ms(int64_t ms)
{
    struct timespec time = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

    nanosleep(&time, NULL);
}

/* Publishes one challenge, here by the http-01 server of responder.h. */
static inline int publish(const acme_challenge_t *challenge, void *user)
{
    return responder_publish(challenge, user);
}

static inline int unpublish(const acme_challenge_t *challenge, void *user)
{
    return responder_unpublish(challenge, user);
}

#endif
