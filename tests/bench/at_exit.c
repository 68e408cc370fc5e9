/*
 * at_exit.c - runs a command and prints its memory just before it ends:
 *
 *   at_exit COMMAND [ARG]...
 *   8120 2430 8204
 *
 *   Rss, Pss and VmHWM in KiB: all resident pages; these with each shared page divided among the processes that
 *   share it; and the most that Rss ever was.
 *
 * The command must be one process; the figures are those of its first thread's exit, when all memory is still
 * there. Linux only.
 */
#define _GNU_SOURCE

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* Returns the number after a name in a file of /proc, or -1. */
static long field(pid_t process, const char *file, const char *name)
{
    char path[64], line[256];
    long value = -1;
    FILE *stream;

    snprintf(path, sizeof path, "/proc/%ld/%s", (long)process, file);
    stream = fopen(path, "r");
    while (stream && value < 0 && fgets(line, sizeof line, stream))
        if (strncmp(line, name, strlen(name)) == 0)
            sscanf(line + strlen(name), "%ld", &value);
    if (stream)
        fclose(stream);
    return value;
}

int main(int argc, char **argv)
{
    long rss = -1, pss = -1, peak = -1;
    int status, signal;
    pid_t child;

    if (argc < 2) {
        fprintf(stderr, "usage: at_exit COMMAND [ARG]...\n");
        return 2;
    }
    child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        execv(argv[1], argv + 1);
        perror(argv[1]);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return 1;
    ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(PTRACE_O_TRACEEXIT | PTRACE_O_TRACEEXEC));
    ptrace(PTRACE_CONT, child, NULL, NULL);
    while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
        signal = WSTOPSIG(status);
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8)) {
            rss = field(child, "smaps_rollup", "Rss:");
            pss = field(child, "smaps_rollup", "Pss:");
            peak = field(child, "status", "VmHWM:");
        }
        ptrace(PTRACE_CONT, child, NULL, (void *)(long)(signal == SIGTRAP ? 0 : signal));
    }
    printf("%ld %ld %ld\n", rss, pss, peak);
    return WIFEXITED(status) && pss > 0 ? WEXITSTATUS(status) : 1;
}
