/*
 * start.h - the start of a program, for the examples.
 *
 * Define _POSIX_C_SOURCE as 200809L before the first #include.
 */
#ifndef START_H
#define START_H

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Whether the option may be given again: all its values count, or it has none. */
static inline int may_be_repeated(const char *option)
{
    return strcmp(option, "--contact") == 0 || strcmp(option, "--agree-terms") == 0 ||
           strcmp(option, "--steps") == 0;
}

/* Opens /dev/null in the place of streams that the parent has closed: otherwise a key's file could take the
 * place of standard error. Returns -1, after a message, if an option is there twice: the second one would
 * replace the first without a word. */
static inline int start(int argc, char **argv)
{
    int file, i, j;

    do
        file = open("/dev/null", O_RDWR);
    while (file >= 0 && file <= STDERR_FILENO);
    if (file >= 0)
        close(file);
    for (i = 1; i < argc; i++)
        for (j = i + 1; j < argc; j++)
            if (strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i], argv[j]) == 0 &&
                !may_be_repeated(argv[i])) {
                fprintf(stderr, "%s: %s is there twice\n", argv[0], argv[i]);
                return -1;
            }
    return 0;
}

#endif
