/*
 * command.h - the parts of libevent-curl.c and epoll-openssl.c that do not depend on the event loop: the
 * command line, and orders whose keys and certificates are in a folder (acme_store_directory()).
 *
 * Define _POSIX_C_SOURCE as 200809L before the first #include.
 */
#ifndef COMMAND_H
#define COMMAND_H

#include <stdlib.h>

#include "acme_micro.h"
#include "start.h"

enum { MAX_NAMES = 100 };

struct command {
    acme_client_options_t ca;
    const char *ca_file;
    int port;      /* where to respond to the CA */
    char **orders; /* one text for each order: its names, with commas between */
    int order_count;
};

static int command_failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, acme_error_message(acme_last_error()));
    return 1;
}

/* Reads the command line and makes the client. Returns 0, or the exit status of the program, after a message. */
static int command_read(struct command *command, acme_client_t **client, int argc, char **argv)
{
    acme_client_options_t ca = ACME_CLIENT_OPTIONS_INIT;
    const char *out = NULL;
    acme_store_t *store = NULL;
    int i, result = 0;

    memset(command, 0, sizeof *command);
    command->port = 80;
    for (i = 1; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--agree-terms") == 0)
            ca.terms_agreed = 1;
        else if (i + 1 == argc)
            break;
        else if (strcmp(argv[i], "--directory") == 0)
            ca.directory_url = argv[++i];
        else if (strcmp(argv[i], "--ca-file") == 0)
            command->ca_file = argv[++i];
        else if (strcmp(argv[i], "--port") == 0)
            command->port = atoi(argv[++i]);
        else if (strcmp(argv[i], "--out") == 0)
            out = argv[++i];
        else
            break;
    }
    if (start(argc, argv) != 0 || !ca.directory_url || !out || i == argc || strncmp(argv[i], "--", 2) == 0 ||
        command->port <= 0 || command->port > 65535) {
        fprintf(stderr, "usage: %s --directory URL [--ca-file FILE] [--agree-terms] [--port N]\n"
                        "       --out DIR NAME[,NAME...]...\n", argv[0]);
        return 2;
    }
    command->orders = argv + i;
    command->order_count = argc - i;
    if (acme_store_directory(out, &store) != ACME_OK)
        return command_failed(out);
    ca.store = store;
    command->ca = ca;
    if (acme_client_new(&ca, client) != ACME_OK)
        result = command_failed(ca.directory_url);
    acme_store_free(store); /* the client keeps what it needs */
    return result;
}

/* Begins the order of these names. The text is split in place; the files have the first name. */
static acme_op_t *order_begin(const acme_client_t *client, char *names)
{
    acme_order_options_t options = ACME_ORDER_OPTIONS_INIT;
    const char *list[MAX_NAMES];
    acme_op_t *op = NULL;
    char *name;

    for (name = strtok(names, ","); name && options.name_count < MAX_NAMES; name = strtok(NULL, ","))
        list[options.name_count++] = name;
    options.names = list;
    if (name)
        fprintf(stderr, "%s: too many names\n", names);
    else if (acme_begin_order(client, &options, &op) != ACME_OK)
        command_failed(names);
    return op;
}

/* Reports the result of an order, which has ended with this step; the certificate is in the store. Returns 0
 * for a certificate. */
static int order_end(const char *name, const acme_op_t *op, int step)
{
    if (step == ACME_STEP_DONE)
        return printf("%s: obtained\n", name) < 0;
    fprintf(stderr, "%s: %s\n", name, acme_error_message(acme_op_error(op)));
    return 1;
}

#endif
