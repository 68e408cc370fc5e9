/* For LD_PRELOAD: bind() to an IPv6 address fails with the errno of BIND6_ERRNO, to an IPv4 address with
 * that of BIND4_ERRNO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

int bind(int fd, const struct sockaddr *address, socklen_t size)
{
    const char *why = address->sa_family == AF_INET6  ? getenv("BIND6_ERRNO")
                      : address->sa_family == AF_INET ? getenv("BIND4_ERRNO")
                                                      : NULL;

    if (why) {
        errno = atoi(why);
        return -1;
    }
    return ((int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "bind"))(fd, address, size);
}
