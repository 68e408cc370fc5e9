/*
 * files.h - keys and certificates in files, for the examples.
 *
 * Whatever happens, a file holds its old text or the new one; keys can be read by nobody else, and are
 * on disk before a CA hears of them.
 *
 * Define _POSIX_C_SOURCE as 200809L before the first #include.
 */
#ifndef FILES_H
#define FILES_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "acme_micro.h"

/* Whatever happens meanwhile, name holds its old text or the new one, never a part of it. */
static int store(int dir, const char *name, mode_t mode, const char *text)
{
    char temporary[320];
    size_t size = strlen(text);
    ssize_t written;
    int file, ok, why;

    snprintf(temporary, sizeof temporary, "%s.%ld.tmp", name, (long)getpid());
    unlinkat(dir, temporary, 0); /* left behind by a process that had our id */
    file = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (file < 0)
        return -1;
    while (size > 0 && (written = write(file, text, size)) > 0) {
        text += written;
        size -= (size_t)written;
    }
    ok = size == 0 && fsync(file) == 0;
    ok = close(file) == 0 && ok;
    if (ok && renameat(dir, temporary, dir, name) == 0)
        return fsync(dir);
    why = errno;
    unlinkat(dir, temporary, 0);
    errno = why;
    return -1;
}

/* The text of a small file, to be freed; NULL, with errno, when there is none. */
static char *load(int dir, const char *name)
{
    enum { LIMIT = 64 * 1024 };
    int file = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char *text = file < 0 ? NULL : calloc(1, LIMIT + 1);
    size_t size = 0;
    ssize_t got = 0;

    while (text && size < LIMIT && (got = read(file, text + size, LIMIT - size)) > 0)
        size += (size_t)got;
    if (got < 0) {
        free(text);
        text = NULL;
    }
    if (file >= 0)
        close(file);
    return text;
}

/* Others could read a key that is in a file like this. */
static int is_lax(int dir, const char *name)
{
    struct stat found;

    return fstatat(dir, name, &found, AT_SYMLINK_NOFOLLOW) == 0 && (found.st_mode & 077) != 0;
}

/* The key in this file, made and stored there when there is none; NULL, after a message. */
static acme_key_t *stored_key(int dir, const char *name)
{
    acme_key_t *key = NULL;
    char *text = load(dir, name);
    volatile char *secret = text; /* volatile: a compiler leaves memset() before free() out */

    if (text && is_lax(dir, name))
        fprintf(stderr, "%s: others can read this key; chmod 600 it\n", name);
    if (text) {
        if (acme_key_parse(text, strlen(text), &key) != ACME_OK)
            fprintf(stderr, "%s: %s\n", name, acme_error_message(acme_last_error()));
        while (*secret)
            *secret++ = 0;
        free(text);
    } else if (errno != ENOENT) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
    } else if (acme_key_generate(ACME_KEY_P256, &key) != ACME_OK) {
        fprintf(stderr, "%s: %s\n", name, acme_error_message(acme_last_error()));
    } else if (store(dir, name, 0600, acme_key_pem(key)) != 0) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        acme_key_free(key);
        key = NULL;
    }
    return key;
}

#endif
