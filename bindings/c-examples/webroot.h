/*
 * webroot.h - publishes http-01 challenges as files that a web server serves, for the examples.
 *
 * Pass webroot_publish(), webroot_unpublish() and a struct webroot to acme_run_options_t.
 *
 * Define _POSIX_C_SOURCE as 200809L before the first #include.
 */
#ifndef WEBROOT_H
#define WEBROOT_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "acme_micro.h"

struct webroot {
    int dir;
};

static int is_token(const char *text)
{
    size_t length = strspn(text, "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz");

    return length > 0 && text[length] == 0;
}

/* Whether an earlier run may have made this folder, and everybody may have what is in it: the content of
 * .well-known is public (RFC 8615), but other files beside the challenges may be there by mistake. A folder
 * of another group may have its mode for a reason. */
static int webroot_made(int dir, const char *name, const struct stat *found)
{
    int ours = found->st_uid == geteuid() && found->st_gid == getegid();
    int is_public = ours && strcmp(name, ".well-known") == 0;
    int again = ours && !is_public ? openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *listing = again < 0 ? NULL : fdopendir(again);
    struct dirent *entry;

    if (!listing)
        return is_public;
    while (ours && (entry = readdir(listing)))
        ours = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
               strncmp(entry->d_name, ".tmp-", 5) == 0 || is_token(entry->d_name);
    closedir(listing);
    return ours;
}

/* Opens a folder in the webroot, for a web server of another user, too, whatever the umask. Follows no
 * symbolic links: other users who may write to the webroot could lead the program out of it. */
static int webroot_enter(int dir, const char *name)
{
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, inner = openat(dir, name, flags);
    int is_new = inner < 0 && errno == ENOENT && mkdirat(dir, name, 0755) == 0;
    struct stat found;

    if (is_new || (inner < 0 && errno == EEXIST))
        inner = openat(dir, name, flags);
    if (inner >= 0 && fstat(inner, &found) == 0 && (found.st_mode & 0755) != 0755) {
        if (is_new || webroot_made(inner, name, &found))
            fchmod(inner, (found.st_mode & 07777) | 0755);
        else if (found.st_uid == geteuid() && (found.st_mode & 0011) == 0)
            fprintf(stderr, "%s: a web server of another user cannot enter this folder; chmod 755 it\n",
                    name);
    }
    if (inner < 0 && errno == ENOTDIR && fstatat(dir, name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISLNK(found.st_mode))
        errno = ELOOP;
    return inner;
}

/* Whether the file of a challenge has this text, and everybody can read it. */
static int webroot_has(int dir, const char *token, const char *text)
{
    int file = openat(dir, token, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat found;
    char left[1024];
    size_t size = strlen(text);
    int has = file >= 0 && fstat(file, &found) == 0 && S_ISREG(found.st_mode) &&
              (found.st_mode & 0444) == 0444 && (size_t)found.st_size == size && size <= sizeof left &&
              read(file, left, size) == (ssize_t)size && memcmp(left, text, size) == 0;

    if (file >= 0)
        close(file);
    return has;
}

/* Writes the file of a challenge. It may be written in place, because the CA fetches it only after the
 * library has responded to the challenge. If a killed run left the right file, it stays unchanged: the CA
 * may be fetching it at this moment. */
static int webroot_write(int dir, const char *token, const char *text)
{
    ssize_t written = 1;
    int file;

    if (webroot_has(dir, token, text))
        return 0;
    unlinkat(dir, token, 0);
    file = openat(dir, token, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (file < 0)
        return -1;
    fchmod(file, 0644);
    for (; *text && written > 0; text += written > 0 ? written : 0)
        written = write(file, text, strlen(text));
    return close(file) == 0 && written > 0 ? 0 : -1;
}

/* Writes the file of a challenge; removes it if text is NULL. */
static int webroot_change(const struct webroot *webroot, const char *token, const char *text)
{
    int well_known = webroot_enter(webroot->dir, ".well-known");
    int dir = well_known < 0 ? -1 : webroot_enter(well_known, "acme-challenge");
    int result = -1, is_gone;

    if (dir >= 0)
        result = text ? webroot_write(dir, token, text) : unlinkat(dir, token, 0);
    is_gone = !text && result != 0 && errno == ENOENT;
    if (result != 0 && !is_gone)
        fprintf(stderr, ".well-known/acme-challenge/%s: %s\n", token,
                errno == ELOOP ? "a symbolic link, which is not followed" : strerror(errno));
    if (dir >= 0)
        close(dir);
    if (well_known >= 0)
        close(well_known);
    return is_gone ? 0 : result;
}

static const char *webroot_token(const acme_challenge_t *challenge)
{
    return strrchr(challenge->http_path, '/') + 1; /* the library checks that the path has this form */
}

static int webroot_publish(const acme_challenge_t *challenge, void *user)
{
    return webroot_change((const struct webroot *)user, webroot_token(challenge), challenge->key_authorization);
}

static int webroot_unpublish(const acme_challenge_t *challenge, void *user)
{
    const struct webroot *webroot = (const struct webroot *)user;
    const char *token = webroot_token(challenge);

    /* Twice if need be: after this run, nothing else removes the file. */
    return webroot_change(webroot, token, NULL) == 0 ? 0 : webroot_change(webroot, token, NULL);
}

#endif
