/*
 * start.c - prints the cost of loading a shared library in one line:
 *
 *   start LIBRARY
 *   2345.6 1800       microseconds in dlopen(); KiB of memory that it added
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static double microseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static long resident(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (!file || fscanf(file, "%*s %ld", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return pages * sysconf(_SC_PAGESIZE) / 1024;
}

int main(int argc, char **argv)
{
    long memory = resident();
    double begun = microseconds();

    if (argc != 2 || !dlopen(argv[1], RTLD_NOW)) {
        fprintf(stderr, "start: %s\n", argc == 2 ? dlerror() : "usage: start LIBRARY");
        return 1;
    }
    printf("%.1f %ld\n", microseconds() - begun, resident() - memory);
    return 0;
}
