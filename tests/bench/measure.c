/*
 * measure.c - runs commands and prints their total cost in one line:
 *
 *   measure JOBS FILE
 *   0 11.345 1.020 1034.567 8120 1
 *
 *   failed commands; ms of user and of system CPU time; ms of wall time; peak KiB of the largest process;
 *   number of processes
 *
 * FILE has one command per line, its words separated by tabs; JOBS of them run at the same time. The figures of
 * a command include its children. Python's os.wait4() would not do: a process inherits the peak memory of the
 * process that forked it, and Python's is larger than those measured here.
 */
#define _DEFAULT_SOURCE

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORDS = 256, LINE = 16384 };

static double ms(struct timeval time)
{
    return (double)time.tv_sec * 1e3 + (double)time.tv_usec / 1e3;
}

static pid_t start(char *line)
{
    char *words[WORDS + 1] = { NULL };
    size_t count = 0;
    char *word;
    pid_t child;

    line[strcspn(line, "\n")] = 0;
    for (word = strtok(line, "\t"); word && count < WORDS; word = strtok(NULL, "\t"))
        words[count++] = word;
    child = words[0] && !word ? fork() : -1;
    if (child == 0) {
        execv(words[0], words);
        perror(words[0]);
        _exit(127);
    }
    return child;
}

int main(int argc, char **argv)
{
    static char line[LINE];
    struct timespec begun, end;
    struct rusage used;
    double user = 0, system = 0;
    long peak = 0;
    int jobs = argc == 3 ? atoi(argv[1]) : 0, running = 0, failed = 0, count = 0, more = 1, status;
    FILE *commands = jobs > 0 ? fopen(argv[2], "r") : NULL;

    if (!commands) {
        fputs("usage: measure JOBS FILE\n", stderr);
        return 2;
    }
    clock_gettime(CLOCK_MONOTONIC, &begun);
    while (more || running) {
        if (more && running < jobs) {
            more = fgets(line, sizeof line, commands) != NULL;
            if (!more)
                continue;
            if (start(line) < 0) {
                fputs("measure: cannot start a command\n", stderr);
                return 1;
            }
            running++;
            count++;
        } else {
            if (wait4(-1, &status, 0, &used) < 0) {
                perror("measure");
                return 1;
            }
            running--;
            failed += status != 0;
            user += ms(used.ru_utime);
            system += ms(used.ru_stime);
            if (used.ru_maxrss > peak)
                peak = used.ru_maxrss;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    fclose(commands);
    printf("%d %.3f %.3f %.3f %ld %d\n", failed, user, system,
           (double)(end.tv_sec - begun.tv_sec) * 1e3 + (double)(end.tv_nsec - begun.tv_nsec) / 1e6,
           peak, count);
    return 0;
}
