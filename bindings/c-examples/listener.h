/*
 * listener.h - a socket that listens on all addresses of this machine, for the examples.
 *
 * For C and C++. In C, define _POSIX_C_SOURCE as 200809L before the first #include.
 */
#ifndef LISTENER_H
#define LISTENER_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Returns a socket that does not block, because a client that poll() saw may be gone before accept(); or -1
 * with errno. An IPv6 socket accepts IPv4, too. */
static inline int listen_by(int family, unsigned short port)
{
    struct sockaddr_in6 ipv6;
    struct sockaddr_in ipv4;
    int listener = socket(family, SOCK_STREAM, 0), is_ipv6 = family == AF_INET6;
    int on = 1, off = 0, bound, why;

    if (listener < 0)
        return -1;
    memset(&ipv6, 0, sizeof ipv6);
    memset(&ipv4, 0, sizeof ipv4);
    ipv6.sin6_family = AF_INET6;
    ipv4.sin_family = AF_INET;
    ipv6.sin6_port = ipv4.sin_port = htons(port);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (is_ipv6)
        setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    bound = is_ipv6 ? bind(listener, (struct sockaddr *)&ipv6, sizeof ipv6)
                    : bind(listener, (struct sockaddr *)&ipv4, sizeof ipv4);
    if (bound == 0 && listen(listener, 128) == 0 && fcntl(listener, F_SETFL, O_NONBLOCK) == 0 &&
        fcntl(listener, F_SETFD, FD_CLOEXEC) == 0)
        return listener;
    why = errno;
    close(listener);
    errno = why;
    return -1;
}

/* Listens on this port; returns -1 after a message. Not every machine has IPv6. If another program has the
 * port, IPv4 alone would not help: a CA that uses IPv6 would find that program. */
static inline int listen_on(unsigned short port)
{
    int listener = listen_by(AF_INET6, port);
    const char *why = "";

    if (listener < 0 && errno != EADDRINUSE)
        listener = listen_by(AF_INET, port);
    if (listener >= 0)
        return listener;
    if (errno == EADDRINUSE)
        why = " is taken by another program; stop it, or let it serve the challenges";
    else if (errno == EACCES && port < 1024)
        why = " needs a right that this program does not have (CAP_NET_BIND_SERVICE)";
    fprintf(stderr, "port %d%s: %s\n", port, why, strerror(errno));
    return -1;
}

#endif
