/*
 * measure.c - runs a program and prints what it took, in one line:
 *
 *   measure PROGRAM [ARG]...
 *   0 12.345 1034.567 8120       exit status; ms of CPU, user and system; ms of wall time; peak KiB
 *
 * Not Python's own os.wait4(): a process inherits the peak of the one that it was forked from, and
 * Python's is larger than what is measured here.
 */
#define _DEFAULT_SOURCE

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double ms(struct timeval time)
{
    return (double)time.tv_sec * 1e3 + (double)time.tv_usec / 1e3;
}

int main(int argc, char **argv)
{
    struct timespec start, end;
    struct rusage used;
    int status;
    pid_t child;

    if (argc < 2)
        return 2;
    clock_gettime(CLOCK_MONOTONIC, &start);
    child = fork();
    if (child == 0) {
        execv(argv[1], argv + 1);
        perror(argv[1]);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &used) != child) {
        perror(argv[1]);
        return 1;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%d %.3f %.3f %ld\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
           ms(used.ru_utime) + ms(used.ru_stime),
           (double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) / 1e6,
           used.ru_maxrss);
    return 0;
}
