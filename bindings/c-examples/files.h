/*
 * files.h - keys and certificates in a folder, for the examples.
 *
 * After a crash at any moment, a file holds its whole old text or its whole new text. Only their owner can
 * read keys, which are on the disk before a CA hears of them. One process at a time works in a folder.
 *
 * Define _POSIX_C_SOURCE as 200809L before the first #include.
 */
#ifndef FILES_H
#define FILES_H

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "acme_micro.h"

enum { FILE_NAME_SIZE = 256 };

#define DIRECTORY_URL "directory.url" /* the CA to which the files of the folder belong */

#define TEMPORARY "tmp-" /* and 16 random digits; a process that is killed may leave such a file behind */

/* --- text in files ---------------------------------------------------------------------------- */

static int write_all(int file, const char *text)
{
    size_t size = strlen(text);
    ssize_t written;

    while (size > 0) {
        written = write(file, text, size);
        if (written <= 0)
            return -1;
        text += written;
        size -= (size_t)written;
    }
    return 0;
}

/* If root works in the folder of another user, gives the file to that user. */
static int give(int dir, int file)
{
    struct stat found;

    if (geteuid() != 0 || fstat(dir, &found) != 0 || found.st_uid == 0)
        return 0;
    return fchown(file, found.st_uid, found.st_gid);
}

/* Creates a file with a random name, which no other user can predict. */
static int create_temporary(int dir, mode_t mode, char name[FILE_NAME_SIZE])
{
    unsigned long long random;
    int tries, file = -1;

    for (tries = 0; tries < 20 && file < 0; tries++) {
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            return -1;
        snprintf(name, FILE_NAME_SIZE, TEMPORARY "%016llx", random);
        file = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (file < 0 && errno != EEXIST)
            return -1;
    }
    if (file >= 0)
        fchmod(file, mode); /* the umask may have cleared some bits */
    return file;
}

/* Replaces the content of the file. At every moment the file holds its whole old text or its whole new text.
 * After the result 0 it holds the new text, even if the power fails. */
static int store(int dir, const char *name, mode_t mode, const char *text)
{
    char temporary[FILE_NAME_SIZE];
    int file = create_temporary(dir, mode, temporary), ok, why;

    if (file < 0)
        return -1;
    ok = give(dir, file) == 0 && write_all(file, text) == 0 && fsync(file) == 0;
    ok = close(file) == 0 && ok;
    if (ok && renameat(dir, temporary, dir, name) == 0)
        return fsync(dir);
    why = errno;
    unlinkat(dir, temporary, 0);
    errno = why;
    return -1;
}

/* Returns the text of a file of at most 1 MiB, which the caller frees; NULL, with errno, after a failure:
 * ENOENT if the file does not exist. */
static char *load(int dir, const char *name)
{
    enum { LIMIT = 1024 * 1024 };
    int file = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat found;
    char *text = NULL;
    size_t size = 0;
    ssize_t got = 1;
    int why;

    if (file < 0)
        return NULL;
    if (fstat(file, &found) == 0) {
        if (!S_ISREG(found.st_mode))
            errno = ENOTSUP; /* reading a pipe, for example, could block forever */
        else if (found.st_size > LIMIT)
            errno = EFBIG;
        else
            text = calloc(1, (size_t)found.st_size + 1);
    }
    while (text && got > 0 && size < (size_t)found.st_size) {
        got = read(file, text + size, (size_t)found.st_size - size);
        size += got > 0 ? (size_t)got : 0;
    }
    why = errno;
    close(file);
    if (got < 0) {
        free(text);
        text = NULL;
    }
    errno = why;
    return text;
}

/* --- the folder ------------------------------------------------------------------------------- */

/* Returns the length of a name without its final dot: "example.org." is example.org. */
static inline int name_length(const char *name)
{
    size_t length = strlen(name);

    while (length > 0 && name[length - 1] == '.')
        length--;
    return (int)length;
}

/* Makes the name of a certificate's file, such as NAME.key.pem: "_" replaces the "*" of a wildcard, a
 * final dot is left out, and an IPv6 address has its short form. Returns -1 if name cannot be part of a file
 * name. */
static inline int file_name(char file[FILE_NAME_SIZE], const char *name, const char *ending)
{
    char address[INET6_ADDRSTRLEN], *c;
    struct in6_addr binary;

    if (inet_pton(AF_INET6, name, &binary) == 1)
        name = inet_ntop(AF_INET6, &binary, address, sizeof address);
    if (*name == 0 || *name == '.' || strchr(name, '/') ||
        snprintf(file, FILE_NAME_SIZE, "%.*s%s", name_length(name), name, ending) >= FILE_NAME_SIZE)
        return -1;
    for (c = file; *c; c++) {
        *c = (char)tolower((unsigned char)*c);
        if (*c == '*')
            *c = '_';
    }
    return 0;
}

/* Opens the folder, and creates it if it does not exist. Returns -1, after a message, if it cannot. */
static int folder_open(const char *path, mode_t mode)
{
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, dir = open(path, flags), parent;
    int is_new = dir < 0 && errno == ENOENT && mkdir(path, mode) == 0;

    if (is_new || (dir < 0 && errno == EEXIST))
        dir = open(path, flags);
    if (is_new && dir >= 0)
        fchmod(dir, mode); /* the umask may have cleared some bits */
    parent = dir < 0 ? -1 : openat(dir, "..", flags);
    if (dir < 0)
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    if (parent >= 0) {
        fsync(parent); /* fails harmlessly without the permission */
        close(parent);
    }
    return dir;
}

/* Removes files that a killed process has written and not yet renamed. */
static int sweep(int dir)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = again < 0 ? NULL : fdopendir(again);
    struct dirent *entry;
    struct stat found;

    while (listing && (entry = readdir(listing)))
        if (strncmp(entry->d_name, TEMPORARY, strlen(TEMPORARY)) == 0 &&
            strlen(entry->d_name) == strlen(TEMPORARY) + 16 &&
            fstatat(dir, entry->d_name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(found.st_mode) && found.st_uid == geteuid())
            unlinkat(dir, entry->d_name, 0);
    if (listing)
        closedir(listing);
    else if (again >= 0)
        close(again);
    return listing ? 0 : -1;
}

/* Waits until no other process works in the folder, and locks it until this process ends, in whatever way
 * that happens. Removes files that a killed process has left. Returns 0, or -1 after a message. The lock is
 * on a file of mode 0600: users who can only read the folder must not be able to block this process. */
static int folder_lock(int dir, const char *path)
{
    int file = openat(dir, ".lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    int locked = file < 0 || give(dir, file) != 0 ? -1 : flock(file, LOCK_EX | LOCK_NB);

    if (file >= 0 && locked != 0 && errno == EWOULDBLOCK) {
        fprintf(stderr, "%s: another process works in this folder; waiting for it\n", path);
        locked = flock(file, LOCK_EX);
    }
    /* A killed process may have renamed a file without syncing the new name to the disk. */
    if (locked == 0 && fsync(dir) == 0 && sweep(dir) == 0)
        return 0; /* file stays open, and with it the lock */
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    if (file >= 0)
        close(file);
    return -1;
}

/* Returns 1 if the files in the folder are for this CA, 0 if the folder does not name its CA, and -1, after a
 * message, if they are for another one. */
static inline int folder_is_for(int dir, const char *path, const char *directory_url)
{
    char *known = load(dir, DIRECTORY_URL);
    int result = known != NULL;

    if (!known && errno != ENOENT) {
        fprintf(stderr, "%s/" DIRECTORY_URL ": %s\n", path, strerror(errno));
        return -1;
    }
    if (known)
        known[strcspn(known, "\r\n")] = 0;
    if (known && strcmp(known, directory_url) != 0) {
        fprintf(stderr, "%s: the files in this folder are for the CA %s: use another folder for %s; if this is "
                        "the new URL of the same CA, remove " DIRECTORY_URL "\n", path, known, directory_url);
        result = -1;
    }
    free(known);
    return result;
}

/* Notes the CA of the folder. The certificates of an older program may be another CA's: the line "other" tells
 * so to programs that use them. */
static inline int folder_note_ca(int dir, const char *directory_url)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = -1;
    DIR *listing = again < 0 ? NULL : fdopendir(again);
    struct dirent *entry;
    char *text = NULL, *end;
    size_t size;
    FILE *lines = listing ? open_memstream(&text, &size) : NULL;

    if (lines) {
        fprintf(lines, "%s\n", directory_url);
        while ((entry = readdir(listing)))
            if ((end = strstr(entry->d_name, ".chain.pem")) && end[10] == 0)
                fprintf(lines, "other %.*s\n", (int)(end - entry->d_name), entry->d_name);
        if (fclose(lines) == 0)
            result = store(dir, DIRECTORY_URL, 0644, text);
    }
    free(text);
    if (listing)
        closedir(listing);
    else if (again >= 0)
        close(again);
    return result;
}

/* --- keys ------------------------------------------------------------------------------------- */

/* Returns why others may know the key in this file; NULL if they cannot. A group may read the key of a
 * certificate, for servers, but not the account's. Root may read what belongs to the folder's owner. */
static const char *lax(int dir, const char *name)
{
    mode_t others = strcmp(name, "account.pem") == 0 ? 077 : 07;
    struct stat found, folder;

    if (fstatat(dir, name, &found, AT_SYMLINK_NOFOLLOW) != 0 || fstat(dir, &folder) != 0)
        return NULL;
    if (found.st_uid != 0 && found.st_uid != geteuid() &&
        !(geteuid() == 0 && found.st_uid == folder.st_uid))
        return "this key belongs to another user";
    return (found.st_mode & others) != 0 ? "others can read this key; chmod 600 it" : NULL;
}

/* Returns the key in this file; makes and stores a key if the file does not exist. Returns NULL, after a
 * message, if it cannot. */
static acme_key_t *stored_key(int dir, const char *name)
{
    acme_key_t *key = NULL;
    char *text = load(dir, name);
    volatile char *secret = text; /* volatile: a compiler removes a memset() before free() */
    const char *why = text ? lax(dir, name) : NULL;

    if (text) {
        if (why)
            fprintf(stderr, "%s: %s\n", name, why);
        else if (acme_key_parse(text, strlen(text), &key) != ACME_OK)
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
