/*
 * command.h - the parts of libevent-curl.c and epoll-openssl.c that do not depend on the event loop: the
 * command line, and an order's key and certificate in files.
 *
 * Define _POSIX_C_SOURCE as 200809L before the first #include.
 */
#ifndef COMMAND_H
#define COMMAND_H

#include "acme_micro.h"
#include "files.h"
#include "start.h"

enum { MAX_NAMES = 100 };

struct command {
    acme_client_options_t ca; /* the caller frees its account_key */
    const char *ca_file;
    int port;           /* where to respond to the CA */
    int out;            /* directory of account.pem, NAME.key.pem and NAME.chain.pem */
    int is_noted;       /* whether directory.url names the CA of the directory */
    char **orders;      /* one text for each order: its names, with commas between */
    int order_count;
};

/* Reads the command line. Returns 0, or the exit status of the program, after a message. */
static int command_read(struct command *command, int argc, char **argv)
{
    acme_client_options_t ca = ACME_CLIENT_OPTIONS_INIT;
    const char *out = NULL;
    acme_key_t *key;
    int i;

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
    command->out = folder_open(out, 0755);
    if (command->out < 0 || folder_lock(command->out, out) != 0)
        return 1;
    command->is_noted = folder_is_for(command->out, out, ca.directory_url);
    if (command->is_noted < 0)
        return 1;
    key = stored_key(command->out, "account.pem");
    if (!key)
        return 1;
    ca.account_key = key;
    command->ca = ca;
    return 0;
}

/* Begins the order of these names. The text is split in place; the files bear the
 * first name. */
static acme_op_t *order_begin(const struct command *command, const acme_client_t *client, char *names)
{
    acme_order_options_t options = ACME_ORDER_OPTIONS_INIT;
    const char *list[MAX_NAMES];
    acme_op_t *op = NULL;
    acme_key_t *key;
    char file[FILE_NAME_SIZE], *name;

    for (name = strtok(names, ","); name && options.name_count < MAX_NAMES; name = strtok(NULL, ","))
        list[options.name_count++] = name;
    options.names = list;
    /* The first time without a key: names that are refused leave no file behind. */
    if (name || acme_begin_order(client, &options, &op) != ACME_OK ||
        file_name(file, names, ".key.pem") != 0) {
        fprintf(stderr, "%s: %s\n", names,
                name ? "too many names" : acme_error_message(acme_last_error()));
        return NULL;
    }
    acme_op_free(op);
    op = NULL;
    key = stored_key(command->out, file);
    options.key = key;
    if (key && acme_begin_order(client, &options, &op) != ACME_OK)
        fprintf(stderr, "%s: %s\n", names, acme_error_message(acme_last_error()));
    acme_key_free(key); /* the order keeps the key */
    return op;
}

/* Notes the CA of the folder, before the first certificate is stored. */
static int note_ca(struct command *command)
{
    if (!command->is_noted && folder_note_ca(command->out, command->ca.directory_url) != 0)
        return -1;
    command->is_noted = 1;
    return 0;
}

/* Stores and reports the result of an order, which has ended with this step. Returns 0 for a
 * certificate. */
static int order_end(struct command *command, const char *name, acme_op_t *op, int step)
{
    acme_cert_t *cert = step == ACME_STEP_DONE ? acme_op_take_cert(op) : NULL;
    char file[FILE_NAME_SIZE] = "";
    int failed = 1;

    if (!cert)
        fprintf(stderr, "%s: %s\n", name, acme_error_message(acme_op_error(op)));
    else if (note_ca(command) != 0)
        fprintf(stderr, DIRECTORY_URL ": %s\n", strerror(errno));
    else if (file_name(file, name, ".chain.pem") != 0 ||
             store(command->out, file, 0644, acme_cert_chain_pem(cert)) != 0)
        fprintf(stderr, "%s: %s\n", file, strerror(errno));
    else
        failed = printf("%s: obtained\n", name) < 0;
    acme_cert_free(cert);
    return failed;
}

#endif
