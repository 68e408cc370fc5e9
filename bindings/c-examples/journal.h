/*
 * journal.h - a file that describes an order in progress: a program that was killed resumes the order.
 *
 * store() writes the whole file before each step that would need it after a crash. The file is removed when
 * the certificate is on the disk. Its lines:
 *
 *     acme-order 1            kind of file, and its version
 *     directory URL           the CA, the account, the key and the names of the order; a journal that
 *     account THUMBPRINT      differs in one of these lines belongs to another order, and is renamed to
 *     key THUMBPRINT          NAME.order.bad
 *     name NAME               one line for each name
 *     runs 1                  number of runs in a row that began with this order and did not end
 *     order URL               if the CA has named the order
 *     published TOKEN         one line for each challenge that may still be in the webroot; other programs
 *                             may write more on this line, which is kept
 *
 * The time of the file has no meaning: clocks may be wrong, and backups may be restored.
 */
#ifndef JOURNAL_H
#define JOURNAL_H

#include "files.h"

#define JOURNAL_KIND "acme-order "
#define JOURNAL_VERSION "1\n"

/* Maximum number of runs in a row that end in a crash; after these, a new order replaces the old one. */
enum { MAX_RUNS = 3 };

struct journal {
    int dir;
    char file[FILE_NAME_SIZE];
    char *purpose; /* the lines above "runs" */
    int runs;
    char *order_url; /* NULL: there is no order yet */
    char **published; /* the rest of each line "published" */
    size_t published_count;
};

static int journal_failed(const struct journal *journal, const char *why)
{
    fprintf(stderr, "%s: %s\n", journal->file, why);
    return -1;
}

static void journal_free(struct journal *journal)
{
    while (journal->published_count > 0)
        free(journal->published[--journal->published_count]);
    free(journal->published);
    free(journal->order_url);
    free(journal->purpose);
}

/* --- writing ---------------------------------------------------------------------------------- */

static int journal_write(const struct journal *journal)
{
    char *text = NULL;
    size_t size, i;
    FILE *lines = open_memstream(&text, &size);
    int result = -1;

    if (lines) {
        fprintf(lines, "%sruns %d\n", journal->purpose, journal->runs);
        if (journal->order_url)
            fprintf(lines, "order %s\n", journal->order_url);
        for (i = 0; i < journal->published_count; i++)
            fprintf(lines, "published %s\n", journal->published[i]);
        if (fclose(lines) == 0)
            result = store(journal->dir, journal->file, 0600, text);
    }
    free(text);
    return result == 0 ? 0 : journal_failed(journal, strerror(errno));
}

/* Notes that a run begins. This also shows, before the first request to the CA, whether the folder can be
 * written to. */
static int journal_begin(struct journal *journal)
{
    if (journal->order_url && journal->runs >= MAX_RUNS) {
        journal_failed(journal, "the last runs with this order have not come to an end; ordering anew");
        free(journal->order_url);
        journal->order_url = NULL;
        journal->runs = 0;
    }
    journal->runs++;
    return journal_write(journal);
}

/* Notes the URL of the order, if there is one. */
static int journal_note_order(struct journal *journal, const char *url)
{
    char *old = journal->order_url;
    int runs = journal->runs;

    if (!url || (old && strcmp(old, url) == 0))
        return 0;
    journal->order_url = strdup(url);
    journal->runs = 1;
    if (journal->order_url && journal_write(journal) == 0) {
        free(old);
        return 0;
    }
    free(journal->order_url); /* the URL is not on the disk: the next try must write it */
    journal->order_url = old;
    journal->runs = runs;
    return -1;
}

static int journal_remember(struct journal *journal, const char *token)
{
    char **more = realloc(journal->published, (journal->published_count + 1) * sizeof *more);

    if (!more)
        return -1;
    journal->published = more;
    more[journal->published_count] = strdup(token);
    if (!more[journal->published_count])
        return -1;
    journal->published_count++;
    return 0;
}

/* Returns the length of the token, with which each text in published begins. */
static size_t journal_token(const char *published)
{
    return strcspn(published, " ");
}

/* Notes that a challenge with this token is about to be published. */
static int journal_note_published(struct journal *journal, const char *token)
{
    size_t i, length = strlen(token);

    for (i = 0; i < journal->published_count; i++)
        if (journal_token(journal->published[i]) == length &&
            strncmp(journal->published[i], token, length) == 0)
            return 0;
    return journal_remember(journal, token) == 0 ? journal_write(journal) : -1;
}

/* Notes that the run has ended; obtained: with the certificate on the disk. */
static int journal_end(struct journal *journal, int obtained)
{
    journal->runs = 0;
    if (journal->order_url && !obtained)
        return journal_write(journal);
    free(journal->order_url);
    journal->order_url = NULL;
    if (unlinkat(journal->dir, journal->file, 0) != 0)
        return journal_failed(journal, strerror(errno));
    fsync(journal->dir); /* if a failure undoes the removal, the journal leads to the same certificate */
    return 0;
}

/* --- reading ---------------------------------------------------------------------------------- */

static int is_token(const char *text)
{
    size_t length =
        strspn(text, "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz");

    return length > 0 && length < 200 && length == journal_token(text);
}

/* Reads the text of a journal. Returns -1 if it belongs to another order: only its published challenges are
 * used then. */
static int journal_read(struct journal *journal, char *text)
{
    size_t length = strlen(text), purpose = strlen(journal->purpose);
    int is_ours = strncmp(text, journal->purpose, purpose) == 0 && text[length - 1] == '\n';
    char *line;

    for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "published ", 10) == 0 && is_token(line + 10))
            journal_remember(journal, line + 10);
        else if (is_ours && strncmp(line, "runs ", 5) == 0)
            journal->runs = atoi(line + 5);
        else if (is_ours && strncmp(line, "order ", 6) == 0 && !journal->order_url)
            journal->order_url = strdup(line + 6);
    }
    return is_ours ? 0 : -1;
}

/* Renames a journal of another order to NAME.order.bad. It is not deleted: another program may have written
 * it. */
static int journal_set_aside(const struct journal *journal)
{
    char aside[FILE_NAME_SIZE + 4];

    snprintf(aside, sizeof aside, "%s.bad", journal->file);
    if (renameat(journal->dir, journal->file, journal->dir, aside) != 0)
        return journal_failed(journal, strerror(errno));
    journal_failed(journal, "not the journal of this order; set aside as .bad");
    return 0;
}

static char *journal_purpose(const acme_client_options_t *client, const acme_order_options_t *order)
{
    char *text = NULL;
    size_t size, i;
    FILE *lines = open_memstream(&text, &size);

    if (!lines)
        return NULL;
    fprintf(lines, JOURNAL_KIND JOURNAL_VERSION "directory %s\naccount %s\nkey %s\n",
            client->directory_url, acme_key_thumbprint(client->account_key),
            acme_key_thumbprint(order->key));
    for (i = 0; i < order->name_count; i++)
        fprintf(lines, "name %.*s\n", name_length(order->names[i]), order->names[i]);
    return fclose(lines) == 0 ? text : NULL;
}

/* Reads the journal of this order; the file bears the order's first name. Returns 0 if the run can continue:
 * journal->order_url, if any, is the order to resume, and the caller frees it. Returns -1, after a
 * message, if the run should end. */
static int journal_open(struct journal *journal, int dir, const acme_client_options_t *client,
                        const acme_order_options_t *order)
{
    struct stat found;
    char *text;
    int result = 0;

    memset(journal, 0, sizeof *journal);
    journal->dir = dir;
    journal->purpose = journal_purpose(client, order);
    if (!journal->purpose || file_name(journal->file, order->names[0], ".order") != 0)
        return journal_failed(journal, strerror(errno));
    text = load(dir, journal->file);
    if (!text && errno != EFBIG)
        return errno == ENOENT ? 0 : journal_failed(journal, strerror(errno));
    if (fstatat(dir, journal->file, &found, AT_SYMLINK_NOFOLLOW) != 0 || found.st_uid != geteuid() ||
        !text || strncmp(text, JOURNAL_KIND, strlen(JOURNAL_KIND)) != 0)
        result = journal_set_aside(journal);
    else if (strncmp(text, JOURNAL_KIND JOURNAL_VERSION, strlen(JOURNAL_KIND JOURNAL_VERSION)) != 0)
        result = journal_failed(journal, "written by a newer version of this program");
    else if (journal_read(journal, text) != 0)
        result = journal_set_aside(journal);
    free(text);
    return result;
}

#endif
