/*
 * responder.h - serves http-01 challenges on a port, for the examples that have no web server.
 *
 * The response is the token of the request, a dot and the account key's thumbprint (RFC 8555 section
 * 8.3), so the server keeps no table of challenges. Pass responder_publish(),
 * responder_unpublish() and a struct responder to acme_run_options_t: the server
 * runs, on a thread of its own, while challenges are published.
 *
 * Define _POSIX_C_SOURCE as 200809L before the first #include.
 */
#ifndef RESPONDER_H
#define RESPONDER_H

#include <poll.h>
#include <pthread.h>
#include <time.h>

#include "acme_micro.h"
#include "listener.h"

#define CHALLENGES "/.well-known/acme-challenge/"

/* Maximum number of connections at a time, and timeout of each client's request: anyone may connect to port
 * 80. */
enum { VISITORS = 32, PATIENCE_MS = 5000 };

struct visitor {
    int client; /* -1: this entry is free */
    long long until;
    size_t size;
    char request[2048];
};

struct responder {
    unsigned short port;
    char thumbprint[64]; /* the account key's, from a challenge */
    int listener;  /* -1: the server does not run */
    int published; /* number of published challenges, of all orders */
    int stop[2];  /* a pipe: closing stop[1] ends the thread */
    pthread_t thread;
    struct visitor visitors[VISITORS];
};

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void leave(struct visitor *visitor)
{
    close(visitor->client);
    visitor->client = -1;
}

static void reply(int client, const char *request, const char *thumbprint)
{
    const char *token = request + strlen("GET " CHALLENGES);
    char text[1024];
    size_t length = 0;

    if (strncmp(request, "GET " CHALLENGES, strlen("GET " CHALLENGES)) == 0)
        length = strspn(token, "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz");
    if (length == 0 || length > 512 || token[length] != ' ')
        snprintf(text, sizeof text, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    else
        snprintf(text, sizeof text,
                 "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                 "Content-Length: %d\r\nConnection: close\r\n\r\n%.*s.%s",
                 (int)(length + 1 + strlen(thumbprint)), (int)length, token, thumbprint);
    send(client, text, strlen(text), MSG_NOSIGNAL); /* fits into any socket's buffer */
}

/* Reads from a client, and responds if its request is complete. */
static void listen_to(struct visitor *visitor, const char *thumbprint)
{
    size_t room = sizeof visitor->request - 1 - visitor->size;
    ssize_t got = recv(visitor->client, visitor->request + visitor->size, room, 0);

    if (got > 0) {
        visitor->size += (size_t)got;
        visitor->request[visitor->size] = 0;
        if (!strstr(visitor->request, "\r\n\r\n") && (size_t)got < room)
            return;
        reply(visitor->client, visitor->request, thumbprint);
    }
    leave(visitor);
}

static void *serve(void *user)
{
    struct responder *responder = (struct responder *)user;
    struct visitor *visitors = responder->visitors;
    struct pollfd events[VISITORS + 2];
    int i, place;

    for (i = 0; i < VISITORS; i++)
        visitors[i].client = -1;
    for (;;) {
        /* poll() ignores negative descriptors. */
        events[VISITORS] = (struct pollfd){ .fd = responder->stop[0], .events = POLLIN };
        events[VISITORS + 1] = (struct pollfd){ .fd = -1, .events = POLLIN };
        for (place = -1, i = 0; i < VISITORS; i++) {
            if (visitors[i].client >= 0 && now_ms() >= visitors[i].until)
                leave(&visitors[i]);
            if (visitors[i].client < 0)
                place = i;
            events[i] = (struct pollfd){ .fd = visitors[i].client, .events = POLLIN };
        }
        if (place >= 0)
            events[VISITORS + 1].fd = responder->listener; /* other clients wait */
        if (poll(events, VISITORS + 2, 1000) < 0 || events[VISITORS].revents)
            break;
        for (i = 0; i < VISITORS; i++)
            if (events[i].fd >= 0 && events[i].revents)
                listen_to(&visitors[i], responder->thumbprint);
        if (place >= 0 && events[VISITORS + 1].revents) {
            visitors[place].client = accept(responder->listener, NULL, NULL);
            visitors[place].until = now_ms() + PATIENCE_MS;
            visitors[place].size = 0;
        }
    }
    for (i = 0; i < VISITORS; i++)
        if (visitors[i].client >= 0)
            leave(&visitors[i]);
    return NULL;
}

/* Called for each challenge, by one thread at a time; the first one starts the server. */
static int responder_publish(const acme_challenge_t *challenge, void *user)
{
    struct responder *responder = (struct responder *)user;

    if (responder->listener >= 0) {
        responder->published++;
        return 0;
    }
    responder->listener = listen_on(responder->port);
    if (responder->listener < 0)
        return -1;
    snprintf(responder->thumbprint, sizeof responder->thumbprint, "%s",
             strchr(challenge->key_authorization, '.') + 1);
    if (pipe(responder->stop) == 0) {
        errno = pthread_create(&responder->thread, NULL, serve, responder);
        if (errno == 0) {
            responder->published = 1;
            return 0;
        }
        close(responder->stop[0]);
        close(responder->stop[1]);
    }
    close(responder->listener);
    responder->listener = -1;
    fprintf(stderr, "starting the server: %s\n", strerror(errno));
    return -1;
}

/* Called for each challenge; after the last one, the server ends. */
static int responder_unpublish(const acme_challenge_t *challenge, void *user)
{
    struct responder *responder = (struct responder *)user;

    (void)challenge;
    if (responder->listener >= 0 && --responder->published == 0) {
        close(responder->stop[1]);
        pthread_join(responder->thread, NULL);
        close(responder->stop[0]);
        close(responder->listener);
        responder->listener = -1;
    }
    return 0;
}

#endif
